"""Lists of numbers are read as they are written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynadiff.base.errors import UserError
from dynadiff.base.numbers import numbers, spelled


@given(st.sets(st.integers(0, 60), min_size=1))
def test_what_is_spelled_is_read_again(wanted: set[int]) -> None:
    assert numbers("--sessions", spelled(sorted(wanted))) == sorted(wanted)


@pytest.mark.parametrize(
    ("text", "meant"), [("1", [1]), ("1,2", [1, 2]), ("2,1,2", [1, 2]), ("1-3", [1, 2, 3]), ("4,1-2", [1, 2, 4])]
)
def test_what_people_write(text: str, meant: list[int]) -> None:
    assert numbers("--subjects", text) == meant


def test_neighbours_are_one_span() -> None:
    assert spelled([1, 2, 5, 6, 7, 9]) == "1-2,5-7,9"


@pytest.mark.parametrize("text", ["", ",", "1,", "a", "1-", "-1", "1-2-3", "4-1", "1,4-2", "1.5", "1 to 3"])
def test_anything_else_is_one_sentence(text: str) -> None:
    with pytest.raises(UserError, match=r"--subjects .* is no list of numbers: give it as 1,2 or 1-4"):
        numbers("--subjects", text)
