from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dynadiff.recordings.run import Event
from dynadiff.signal.cleaning import Cleaning, OnlineCleaner, clean_run
from dynadiff.signal.windows import RollingWindow, WindowSpec, offline_windows, online_windows

TR = 4 / 3
CLEANINGS = [Cleaning("none"), Cleaning(ridge=0), Cleaning(), Cleaning("cosine")]
each = pytest.mark.parametrize("cleaning", CLEANINGS, ids=lambda c: f"{c.drift}-{c.ridge:g}")


def bold(n: int, voxels: int = 3, seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return (1000 + rng.normal(0, 10, (n, voxels)) + rng.normal(0, 0.2, voxels) * np.arange(n)[:, None]).astype(
        np.float32
    )


@pytest.mark.parametrize(
    ("offset_s", "duration_s", "tr", "rows"),
    [
        (4.6, 8.0, 4 / 3, range(3, 9)),  # as released
        (3.0, 8.0, 4 / 3, range(2, 8)),  # a literal reading of the paper's 3 s
        (4.6, 4.0, 4 / 3, range(3, 6)),  # 8.6 s is 9 s is 6 volumes and a bit
        (4.6, 8.0, 2.0, range(2, 6)),
        (2.5, 5.0, 1.0, range(2, 8)),  # halves go to the even number
    ],
)
def test_seconds_become_rows_as_in_the_released_code(
    offset_s: float, duration_s: float, tr: float, rows: range
) -> None:
    spec = WindowSpec.from_seconds(offset_s, duration_s, tr)
    assert range(spec.offset, spec.offset + spec.length) == rows


def test_the_default_is_the_released_window() -> None:
    assert WindowSpec() == WindowSpec.from_seconds(4.6, 8.0, 4 / 3)


@pytest.mark.parametrize("length", [0, -1])
def test_an_empty_window_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="at least 1 volume"):
        WindowSpec(length=length)


def test_seconds_that_leave_no_volume_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 volume"):
        WindowSpec.from_seconds(4.6, 0.5, 4 / 3)


@pytest.mark.parametrize(
    ("row", "rows", "n_rows", "starts"),
    [
        (9, 3, 225, [12]),  # the first picture of an NSD run
        (210, 3, 225, [213]),  # the last one
        (9, 6, 225, [12]),  # as long as the window
        (9, 7, 225, [12, 13]),
        (6, 8, 156, [9, 10, 11]),  # a block of 16 s at 2 s
        (216, 3, 225, [219]),  # ends with the run
        (217, 3, 225, []),  # one row later it does not fit
        (210, 12, 225, [213, 214, 215, 216, 217, 218, 219]),
        (214, 12, 225, [217, 218, 219]),  # the rest of the block is off the end
        (400, 3, 225, []),
    ],
)
def test_windows_of_an_event(row: int, rows: int, n_rows: int, starts: list[int]) -> None:
    assert list(WindowSpec().starts(Event(row, rows, "1"), n_rows)) == starts


def test_a_window_before_the_run_is_dropped() -> None:
    assert list(WindowSpec(offset=-2).starts(Event(1, 1, "1"), 100)) == []
    assert list(WindowSpec(offset=-2).starts(Event(1, 8, "1"), 100)) == [0, 1]


@given(
    st.integers(-6, 20),
    st.integers(1, 12),
    st.integers(0, 300),
    st.integers(1, 40),
    st.integers(1, 300),
)
def test_every_window_lies_in_the_run_and_is_about_its_event(
    offset: int, length: int, row: int, rows: int, n_rows: int
) -> None:
    spec, event = WindowSpec(offset, length), Event(row, rows, "1")
    for start in spec.starts(event, n_rows):
        last = start + length - 1
        assert 0 <= start <= last < n_rows
        assert event.row <= spec.seen_row(last) < event.row + event.rows
        assert start - offset + length <= event.row + max(rows, length)


def test_a_picture_is_seen_eight_volumes_before_its_window_ends() -> None:
    assert WindowSpec().seen_row(20) == 12
    assert WindowSpec().seen_row(5) == -3


@given(st.integers(1, 9), st.lists(st.integers(0, 60), unique=True).map(sorted))
def test_a_window_is_the_newest_consecutive_rows_and_never_straddles_a_gap(length: int, rows: list[int]) -> None:
    """Each sample carries its own row, so what comes out proves which volumes went in, and in which order."""
    rolling = RollingWindow(length)
    for row in rows:
        window = rolling.push(row, np.full(2, row, np.float32))
        expected = range(row - length + 1, row + 1)
        if not set(expected) <= set(rows):
            assert window is None
        else:
            assert window is not None
            assert window[0] == expected
            np.testing.assert_array_equal(window[1], np.repeat(np.array(expected)[:, None], 2, axis=1))


@pytest.mark.parametrize(("n", "dummies"), [(225, 0), (226, 0), (226, 4), (6, 0), (5, 0)])
def test_a_run_of_n_volumes_has_n_minus_5_windows(n: int, dummies: int) -> None:
    rolling = RollingWindow(6)
    windows = [rolling.push(row, np.zeros(1, np.float32)) for row in range(dummies, n)]
    assert sum(w is not None for w in windows) == max(n - dummies - 5, 0)


def test_a_repeated_row_starts_the_window_afresh() -> None:
    rolling = RollingWindow(2)
    outcomes = [rolling.push(row, np.zeros(1, np.float32)) is not None for row in (0, 1, 1, 2)]
    assert outcomes == [False, True, False, True]


def test_a_window_stays_as_it_was_when_later_volumes_arrive() -> None:
    rolling, series = RollingWindow(3), bold(10)
    windows = [rolling.push(row, sample) for row, sample in enumerate(series)]
    for window in windows[2:]:
        assert window is not None
        np.testing.assert_array_equal(window[1], series[window[0]])


@each
def test_offline_windows_are_cut_from_the_cleaned_run(cleaning: Cleaning) -> None:
    series, spec = bold(60), WindowSpec()
    windows = offline_windows(series, cleaning, TR, spec, [0, 12, 54])
    assert windows.shape == (3, 3, 6)
    assert windows.dtype == np.float32
    cleaned = clean_run(series, cleaning, TR)
    for window, start in zip(windows, [0, 12, 54], strict=True):
        np.testing.assert_array_equal(window, cleaned[start : start + 6].T)


@each
@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(0, 54), max_size=12), st.integers(1, 6))
def test_online_windows_know_the_run_up_to_their_last_volume(
    cleaning: Cleaning, starts: list[int], length: int
) -> None:
    series = bold(60)
    windows = online_windows(series, cleaning, TR, WindowSpec(length=length), starts)
    assert windows.shape == (len(starts), 3, length)
    assert windows.dtype == np.float32
    for window, start in zip(windows, starts, strict=True):
        cleaner = OnlineCleaner(cleaning, 60, 3, TR)
        for row in range(start + length):
            cleaner.push(row, series[row])
        expected = cleaner.standardise(range(start, start + length), series[start : start + length])
        np.testing.assert_array_equal(window, expected.T)


def test_without_a_prior_the_last_online_window_is_the_offline_one() -> None:
    series, free = bold(120), Cleaning(ridge=0)
    online = online_windows(series, free, TR, WindowSpec(), [114])
    np.testing.assert_allclose(online, offline_windows(series, free, TR, WindowSpec(), [114]), atol=1e-4)


@pytest.mark.parametrize("cut", [offline_windows, online_windows])
@pytest.mark.parametrize("start", [-1, 55])
def test_a_window_that_leaves_the_run_is_refused(cut: Callable[..., NDArray[np.float32]], start: int) -> None:
    with pytest.raises(ValueError, match="leaves the run"):
        cut(bold(60), Cleaning(), TR, WindowSpec(), [0, start])
