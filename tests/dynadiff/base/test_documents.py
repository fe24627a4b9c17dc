"""A document is read as it was written, and as nothing else."""

import json
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynadiff.base.documents import read_document, read_part, write_document


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
