"""The harness that says whether something looks ahead sees it where it does, and is silent where it does not."""

from collections.abc import Callable, Iterator
from dataclasses import fields
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dynadiff.signal.cleaning import Cleaning, OnlineCleaner, clean_run
from dynadiff.signal.screening import Screen
from dynadiff.signal.windows import OnlineWindows, WindowSpec, online_windows
from support.look_ahead import (
    CLEANINGS,
    FUTURES,
    OTHER_ROWS,
    SAME_ROWS,
    Acquired,
    Emission,
    Leak,
    LookAhead,
    by_row,
    check_no_look_ahead,
    emitted,
    leak_into,
    stacked,
)

N, VOXELS, TR, LENGTH = 24, 40, 4 / 3, 6


def bold(n: int = N, seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    drift = rng.normal(0, 0.3, VOXELS) * np.arange(n)[:, None]
    return (rng.uniform(300, 1500, VOXELS) + rng.normal(0, 10, (n, VOXELS)) + drift).astype(np.float32)


def running_mean(acquired: Acquired) -> Iterator[Emission]:
    total, n = np.zeros(VOXELS), 0
    for row, volume in acquired.items():
        total, n = total + volume, n + 1
        yield row, "mean", total / n


def looking(ahead: int) -> Callable[[Acquired], Iterator[Emission]]:
    """Gives the volume so many rows later, where there is one."""

    def emit(acquired: Acquired) -> Iterator[Emission]:
        for row, volume in acquired.items():
            yield row, "volume", acquired.get(row + ahead, volume)

    return emit


def whole_run_statistics(acquired: Acquired) -> Iterator[Emission]:
    """Leak 1: a cleaner that knows mean and deviation of the whole run."""
    series = stacked(acquired)
    cleaned = clean_run(series, Cleaning(), TR)
    for row in range(LENGTH - 1, len(series)):
        yield row, "window", cleaned[row - LENGTH + 1 : row + 1]


def whole_run_scale(acquired: Acquired) -> Iterator[Emission]:
    """Leak 1, harder to see: all statistics are of the run so far, but for one number that scales all of it."""
    cleaner = OnlineCleaner(Cleaning(), N, VOXELS, TR)
    scale = max(np.abs(volume).max(initial=0, where=np.isfinite(volume)) for volume in acquired.values())
    for row, volume in acquired.items():
        cleaner.push(row, volume)
        yield row, "volume", cleaner.standardise([row], volume[None]) / scale


def a_volume_too_late(acquired: Acquired) -> Iterator[Emission]:
    """Leak 2: a trial's window is cut one volume later than it is said to end."""
    starts = range(3, len(acquired) - LENGTH, 3)
    cut = online_windows(stacked(acquired), Cleaning(), TR, WindowSpec(length=LENGTH), [start + 1 for start in starts])
    for start, window in zip(starts, cut, strict=True):
        yield start + LENGTH - 1, "window", window


def judged_with_the_next_one(acquired: Acquired) -> Iterator[Emission]:
    """Leak 3: a volume is believed or not once the next one is known, and that is said of the volume itself."""
    screen = Screen(Cleaning(), N, VOXELS, TR)
    for row, following in pairwise(acquired):
        screen.push(row, acquired[row])
        jump = np.median(np.abs(acquired[following] - acquired[row]))
        yield row, "believed", screen.believed(row) and not jump > 100


def marks_that_are_rewritten(acquired: Acquired) -> Iterator[Emission]:
    """Leak 4: a window is handed out with the marks of the screen itself, to which later volumes write."""
    online = OnlineWindows(Cleaning(), N, VOXELS, TR, WindowSpec(length=LENGTH))
    for row, volume in acquired.items():
        if (newest := online.push(row, volume)) is not None:
            yield row, "marks", online.screen.marks
            yield row, "values", newest.values


def a_buffer_that_is_used_again(acquired: Acquired) -> Iterator[Emission]:
    """Leak 5: what is handed out is a view of the ring in which the next volume will lie."""
    ring = np.zeros((LENGTH, VOXELS), np.float32)
    for row, volume in acquired.items():
        ring[row % LENGTH] = volume
        yield row, "window", ring


PLANTED = {
    whole_run_statistics: SAME_ROWS,
    whole_run_scale: FUTURES,
    a_volume_too_late: SAME_ROWS,
    judged_with_the_next_one: FUTURES,
    marks_that_are_rewritten: FUTURES,
    a_buffer_that_is_used_again: FUTURES,
}


@pytest.mark.parametrize("leak", PLANTED, ids=lambda leak: leak.__name__)
def test_a_planted_leak_is_found(leak: Callable[[Acquired], Iterator[Emission]]) -> None:
    with pytest.raises(LookAhead, match="it has looked ahead"):
        check_no_look_ahead(leak, by_row(bold()), PLANTED[leak])


@pytest.mark.parametrize("leak", [whole_run_statistics, a_volume_too_late], ids=lambda leak: leak.__name__)
@pytest.mark.parametrize("future", [name for name in SAME_ROWS if name != "a scanner that is stuck"])
def test_each_future_finds_it_by_itself(leak: Callable[[Acquired], Iterator[Emission]], future: str) -> None:
    with pytest.raises(LookAhead, match=future):
        check_no_look_ahead(leak, by_row(bold()), {future: SAME_ROWS[future]})


def test_what_knows_the_past_alone_passes() -> None:
    check_no_look_ahead(running_mean, by_row(bold()))
    check_no_look_ahead(looking(0), by_row(bold()))
    check_no_look_ahead(looking(-1), by_row(bold()))


EVERY_LATER_ONE = sorted({*SAME_ROWS, "stopped"} - {"one spike"})  # changes in these


@given(st.integers(1, 4), st.integers(0, N - 6), st.sampled_from(EVERY_LATER_ONE))
@settings(max_examples=60, deadline=None)
def test_the_first_row_that_looked_is_told(ahead: int, k: int, future: str) -> None:
    with pytest.raises(LookAhead) as found:
        check_no_look_ahead(looking(ahead), by_row(bold()), {future: FUTURES[future]}, [k])
    row = max(k + 1 - ahead, 0)
    assert found.value.args == (Leak(row, "volume", k, future),)
    said = f"volume of row {row} changes with the volumes after row {k} ({future}): it has looked ahead"
    assert str(found.value) == said
    assert leak_into(looking(ahead), by_row(bold()), k, future) == found.value.args[0]
    assert leak_into(looking(0), by_row(bold()), k, future) is None


def test_a_last_bit_is_a_difference() -> None:
    def emit(acquired: Acquired) -> Iterator[Emission]:
        ahead = float(np.isfinite(acquired.get(8, np.ones(1))).all())
        yield 3, "value", np.float64(1) if ahead else np.nextafter(1, 2)
        yield 9, "later", acquired.get(8, 0)

    with pytest.raises(LookAhead, match=r"value of row 3 changes with the volumes after row 5 \(no numbers\)"):
        check_no_look_ahead(emit, by_row(bold()), after=[5])


@pytest.mark.parametrize("kind", ["appears", "is gone"])
def test_so_is_what_comes_or_stays_away(kind: str) -> None:
    def emit(acquired: Acquired) -> Iterator[Emission]:
        yield from running_mean(acquired)
        if (len(acquired) < N) == (kind == "appears"):
            yield 4, "extra", "word"

    with pytest.raises(LookAhead, match="extra of row 4"):
        check_no_look_ahead(emit, by_row(bold()), OTHER_ROWS, [10])


def test_what_would_prove_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no future after row 6 changes anything"):
        check_no_look_ahead(lambda acquired: ((row, "row", row) for row in range(N)), by_row(bold()), after=[6])
    with pytest.raises(ValueError, match="nothing is emitted by row 1"):
        check_no_look_ahead(
            lambda acquired: ((row, "v", acquired[row]) for row in range(5, 9)), by_row(bold()), {}, [1]
        )
    with pytest.raises(ValueError, match="fewer than two rows"):
        check_no_look_ahead(lambda acquired: [], by_row(bold()))
    with pytest.raises(ValueError, match="emitted twice"):
        emitted([(0, "one", 1), (0, "one", 1)])
    with pytest.raises(TypeError, match="object cannot be compared to the bit"):
        emitted([(0, "one", object())])
    with pytest.raises(ValueError, match="rows are missing"):
        stacked({0: np.zeros(1, np.float32), 2: np.zeros(1, np.float32)})


@pytest.mark.parametrize("future", FUTURES)
def test_a_future_leaves_the_past_alone_and_changes_what_comes_next(future: str) -> None:
    series = bold()
    kept = series.copy()
    changed = FUTURES[future](by_row(series), 10)
    assert np.array_equal(series, kept)
    assert all(np.array_equal(changed[row], series[row]) for row in range(11))
    assert emitted((row, "v", v) for row, v in changed.items()) != emitted(
        (row, "v", v) for row, v in enumerate(series)
    )
    assert (set(changed) == set(range(N))) == (future in SAME_ROWS)
    assert list(changed) == sorted(changed)


def test_no_way_of_cleaning_is_forgotten() -> None:
    """Each field takes two values at least among those that are put to the test."""
    for field in fields(Cleaning):
        assert len({getattr(cleaning, field.name) for cleaning in CLEANINGS}) > 1, f"{field.name}: add a line"
