"""Which windows a stored run has: the rows of the design are the border, to the row."""

from hypothesis import given
from hypothesis import strategies as st

from dynadiff.recordings.run import Event
from dynadiff.signal.windows import WindowSpec
from dynadiff.trials.store import StoredRun


def a_run(*rows: int) -> StoredRun:
    return StoredRun("run", 1, 1, 4 / 3, 225, tuple(Event(row, 3, "1") for row in rows), {})


def test_a_window_may_end_with_the_last_row_and_begin_with_the_first() -> None:
    assert a_run(215, 216, 217).starts(WindowSpec(3, 6)) == [(0, 218), (1, 219)]
    assert a_run(2, 3, 4).starts(WindowSpec(-3, 6)) == [(1, 0), (2, 1)]


@given(row=st.integers(0, 224), offset=st.integers(-9, 20), length=st.integers(1, 9))
def test_a_trial_has_one_window_or_none(row: int, offset: int, length: int) -> None:
    inside = set(range(row + offset, row + offset + length)) <= set(range(225))
    assert a_run(row).starts(WindowSpec(offset, length)) == ([(0, row + offset)] if inside else [])
