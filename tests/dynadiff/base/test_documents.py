"""A document is read as it was written, and as nothing else."""

import json
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynadiff.base.documents import Versions, read_document, read_part, write_document
from dynadiff.base.errors import UserError


@dataclass(frozen=True)
class Part:
    number: float = 0.0
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Whole:
    name: str
    parts: dict[str, Part] = field(default_factory=dict)
    listed: tuple[Part, ...] = ()
    maybe: int | None = None


numbers = st.floats(allow_nan=False, allow_infinity=False)
some_parts = st.builds(Part, numbers, st.lists(st.text()).map(tuple))
wholes = st.builds(
    Whole,
    st.text(),
    st.dictionaries(st.text(), some_parts),
    st.lists(some_parts).map(tuple),
    st.none() | st.integers(0, 9),
)


@given(wholes)
def test_what_is_written_is_read(whole: Whole) -> None:
    assert read_document(write_document(whole), Whole) == whole


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}", "name"),
        ('{"name": 1, "parts": {}, "listed": [], "maybe": null}', "name"),
        ('{"name": "", "parts": {}, "listed": []}', "keys maybe"),
        ('{"name": "", "parts": {}, "listed": [], "maybe": null, "more": 1}', "keys more"),
        ('{"name": "", "parts": {"a": {"number": 1}}, "listed": [], "maybe": null}', "keys words"),
        ('{"name": "", "parts": {}, "listed": [{"number": 1, "words": [], "other": 0}], "maybe": null}', "keys other"),
        ('{"name": "", "parts": {}, "listed": [], "maybe": true}', "maybe"),
        ('{"name": "', "truncated"),
        ("[" * 100_000, "Expected|deep"),
    ],
)
def test_what_is_of_another_kind_has_too_much_or_too_little_is_not_read(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_document(text, Whole)


def test_a_part_may_have_more_around_it_but_nothing_else_in_it() -> None:
    assert read_part(json.dumps({"number": 2, "words": ["a"], "date": "now"}), Part) == Part(2.0, ("a",))
    with pytest.raises(ValueError, match="number"):
        read_part(json.dumps({"number": "2"}), Part)


FORMAT = Versions(
    (  # the first version had one word, the second no name
        lambda old: {key: value for key, value in old.items() if key != "word"} | {"words": [old["word"]]},
        lambda old: old | {"name": "nameless"},
    )
)


@pytest.mark.parametrize(
    "text",
    [
        '{"word": "a"}',
        '{"word": "a", "version": 1}',
        '{"version": 2, "words": ["a"]}',
        '{"version": 3, "words": ["a"], "name": "nameless"}',
    ],
)
def test_a_document_of_any_version_is_read_as_the_newest(text: str) -> None:
    assert json.loads(FORMAT.current(text, "x.json")) == {"words": ["a"], "name": "nameless"}


@given(wholes)
def test_what_is_written_with_a_version_is_read(whole: Whole) -> None:
    written = FORMAT.write(whole)
    assert next(iter(json.loads(written).items())) == ("version", 3)
    assert read_document(FORMAT.current(written, "x.json"), Whole) == whole


def test_a_version_yet_to_come_is_one_sentence_whatever_else_it_says() -> None:
    with pytest.raises(
        UserError, match=r"^x\.json is of version 4 .* newest known here is 3: install a newer dynadiff-"
    ):
        FORMAT.current('{"version": 4, "shape": "unheard of"}', "x.json")


@pytest.mark.parametrize(
    "text", ["[]", "null", '{"version": 0}', '{"version": "2"}', '{"version": true}', "{", "[" * 10**5]
)
def test_what_is_of_no_version_is_no_document(text: str) -> None:
    with pytest.raises(ValueError, match=r"version|Expected|truncated|deep"):
        FORMAT.current(text, "x.json")
