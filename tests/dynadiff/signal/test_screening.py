"""A bad volume is named, and moves later windows by no more than one volume can."""

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dynadiff.signal.cleaning import Cleaning, OnlineCleaner
from dynadiff.signal.screening import LIMIT, PATIENCE, START, Screen
from dynadiff.signal.windows import OnlineWindows, WindowSpec

N, VOXELS, TR, LENGTH = 40, 200, 4 / 3, 6
Series = NDArray[np.float32]


def bold(seed: int = 0, voxels: int = VOXELS, n: int = N) -> Series:
    """Voxels of different brightness, noise and drift."""
    rng = np.random.default_rng(seed)
    brightness, noise = rng.uniform(300, 1500, voxels), rng.uniform(4, 20, voxels)
    drift = rng.normal(0, 0.3, voxels) * np.arange(n)[:, None]
    return (brightness + noise * rng.standard_normal((n, voxels)) + drift).astype(np.float32)


def striped(volume: Series, by: float) -> Series:
    """An artefact of every tenth voxel."""
    volume = volume.copy()
    volume[::10] *= by
    return volume


BAD: dict[str, tuple[str, Callable[[Series, int], Series]]] = {
    "all zero": ("flat", lambda series, k: np.zeros(VOXELS, np.float32)),
    "one value": ("flat", lambda series, k: np.full(VOXELS, 700, np.float32)),
    "no number": ("not finite", lambda series, k: np.full(VOXELS, np.nan, np.float32)),
    "infinite": ("not finite", lambda series, k: np.full(VOXELS, -np.inf, np.float32)),
    "saturated": ("clipped", lambda series, k: np.minimum(series[k] * 8, 4095)),
    "repeated": ("repeated", lambda series, k: series[k - 1]),
    "brighter": ("spike", lambda series, k: series[k] * np.float32(1.3)),
    "scrambled": ("spike", lambda series, k: np.random.default_rng(1).permutation(series[k])),
    "huge": ("spike", lambda series, k: series[k] * np.float32(1e30)),
    "stripes": ("spike", lambda series, k: striped(series[k], 1.5)),
    "upside down": ("spike", lambda series, k: -series[k]),
}
each_bad = pytest.mark.parametrize("kind", BAD)


def screened(series: Series) -> Screen:
    screen = Screen(Cleaning(), len(series), series.shape[1], TR)
    for row, sample in enumerate(series):
        screen.push(row, sample)
    return screen


def windows(series: Series, rows: list[int] | None = None) -> dict[int, Series]:
    """Every window, by its last row; ``rows`` are those of the series, where some were never acquired."""
    rows = list(range(len(series))) if rows is None else rows
    online = OnlineWindows(Cleaning(), N, series.shape[1], TR, WindowSpec(length=LENGTH))
    found = {row: online.push(row, series[row]) for row in rows}
    return {row: newest.values for row, newest in found.items() if newest is not None}


def with_bad(series: Series, k: int, bad: Series) -> Series:
    series = series.copy()
    series[k] = bad
    return series


@pytest.mark.parametrize("seed", range(5))
def test_a_good_run_is_not_touched(seed: int) -> None:
    """Statistics are those of the cleaner alone, to the bit."""
    series = bold(seed)
    alone = OnlineCleaner(Cleaning(), N, VOXELS, TR)
    for row, sample in enumerate(series):
        alone.push(row, sample)
    screen = screened(series)
    assert (screen.marks, screen.limited) == ({}, 0)
    rows = range(N)
    assert np.array_equal(screen.cleaner.standardise(rows, series), alone.standardise(rows, series))


@each_bad
@pytest.mark.parametrize("k", [1, 2, 4, 5, 6, 20, 38])
def test_a_bad_volume_is_named_wherever_it_comes(kind: str, k: int) -> None:
    mark, make = BAD[kind]
    series = bold()
    assert screened(with_bad(series, k, make(series, k))).marks == {k: mark}


@pytest.mark.parametrize("kind", [kind for kind in BAD if kind != "repeated"])
def test_so_is_a_bad_first_volume(kind: str) -> None:
    mark, make = BAD[kind]
    series = bold()
    assert screened(with_bad(series, 0, make(series, 0))).marks == {0: mark}


def test_volumes_before_the_steady_state_are_not_believed() -> None:
    series = bold()
    series[0] *= 1.3
    series[1] *= 1.1
    assert screened(series).marks == {0: "spike", 1: "spike"}


@each_bad
@pytest.mark.parametrize("k", [2, 20])
def test_statistics_are_as_if_it_had_not_been_acquired(kind: str, k: int) -> None:
    series = bold()
    bad = windows(with_bad(series, k, BAD[kind][1](series, k)))
    without = windows(series, [row for row in range(N) if row != k])
    later = [row for row in without if row >= k + LENGTH]
    assert later
    for row in later:
        assert np.array_equal(bad[row], without[row])


@each_bad
def test_in_a_window_its_nearest_neighbour_stands_for_it(kind: str) -> None:
    series, k = bold(), 20
    online = OnlineWindows(Cleaning(), N, VOXELS, TR, WindowSpec(length=LENGTH))
    for row, sample in enumerate(with_bad(series, k, BAD[kind][1](series, k))):
        newest = online.push(row, sample)
        if newest is not None and k in newest.rows:
            place = newest.rows.index(k)
            assert newest.marks == {k: BAD[kind][0]}
            assert newest.good
            assert newest.believed == LENGTH - 1
            assert np.array_equal(newest.values[:, place], newest.values[:, place - 1 if place else 1])
        elif newest is not None:
            assert newest.marks == {}


@cache
def undisturbed(seed: int) -> dict[int, Series]:
    return windows(bold(seed))


@given(
    k=st.integers(0, N - LENGTH - 1),
    share=st.sampled_from([0.01, 0.04, 0.06, 0.3, 1.0]),
    by=st.one_of(st.floats(-(2.0**100), 2.0**100, width=32), st.sampled_from([np.nan, np.inf, 0.0, 1.01, 1.1])),
    seed=st.integers(0, 3),
)
@settings(max_examples=150, deadline=None)
def test_no_volume_moves_later_windows_by_more_than_its_own_weight(k: int, share: float, by: float, seed: int) -> None:
    """Whatever one volume holds, in few voxels or many, later z-scores keep their scale.

    A value counts for at most `LIMIT` deviations, so of n volumes it moves a mean by LIMIT / n deviations (more where
    few volumes carry a slope) and a variance by LIMIT² / n of itself.
    """
    series = bold(seed)
    bad = series[k].copy()
    hit = np.random.default_rng(seed).uniform(size=VOXELS) < share
    with np.errstate(over="ignore", invalid="ignore"):
        bad[hit] *= np.float32(by)
    changed, as_it_was = windows(with_bad(series, k, bad)), undisturbed(seed)
    for row in range(max(k + LENGTH, 2 * START), N):
        z, was = changed[row], as_it_was[row]
        n = row + 1
        assert np.abs(z - was).max() < (1 + np.abs(was).max()) * (1 - 1 / np.sqrt(1 + 2 * LIMIT**2 / n)) + 6 * LIMIT / n


def test_a_single_wild_voxel_is_limited_and_counted() -> None:
    series = bold()
    wild = series[20].copy()
    wild[7] = 1e20
    screen = screened(with_bad(series, 20, wild))
    assert (screen.marks, screen.limited) == ({}, 1)
    online = OnlineWindows(Cleaning(), N, VOXELS, TR, WindowSpec(length=LENGTH))
    for row in range(21):
        newest = online.push(row, wild if row == 20 else series[row])
    assert newest is not None
    assert newest.values[7, -1] == pytest.approx(LIMIT, rel=0.6)
    assert newest.values.max() <= LIMIT


def test_forty_seconds_of_one_volume_as_in_nsd() -> None:
    """Subject 1, session 2, run 2 of NSD repeats one volume 24 times: marked, not painted, and forgotten."""
    series = bold(n=90)
    series[31:55] = series[30]
    online = OnlineWindows(Cleaning(), 90, VOXELS, TR, WindowSpec(length=LENGTH))
    good = {}
    for row, sample in enumerate(series):
        newest = online.push(row, sample)
        if newest is not None:
            good[row] = newest.good
            assert set(newest.marks) == set(newest.rows) & set(range(31, 55))
            assert np.isfinite(newest.values).all()
    assert online.screen.marks == dict.fromkeys(range(31, 55), "repeated")
    assert [row for row in good if not good[row]] == list(range(34, 57))
    without = screened(np.delete(series, range(31, 55), axis=0))
    assert online.screen.cleaner.n == without.cleaner.n == 66


def test_a_subject_who_moved_is_believed_in_the_end() -> None:
    series = bold()
    series[20:] *= 1.1
    screen = screened(series)
    spikes = range(20, 20 + PATIENCE)
    changed = [row for row, mark in screen.marks.items() if mark == "changed"]
    assert [row for row, mark in screen.marks.items() if mark == "spike"] == list(spikes)
    assert changed
    assert changed == list(range(spikes.stop, spikes.stop + len(changed)))
    assert len(changed) < 10
    assert screen.cleaner.n == N - PATIENCE


def test_a_mark_of_the_first_volumes_may_go_when_more_is_known() -> None:
    """Of three volumes nobody can say which one is the odd one out if two of them are."""
    series = bold()
    series[:2] *= 1.3
    screen = Screen(Cleaning(), N, VOXELS, TR)
    seen = []
    for row, sample in enumerate(series):
        screen.push(row, sample)
        seen.append(dict(screen.marks))
    assert seen[2] != seen[-1] == {0: "spike", 1: "spike"}


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_noise_alone_is_hardly_ever_marked(seed: int) -> None:
    assert screened(bold(seed)).marks == {}


def test_a_mask_of_few_voxels_is_not_marked_by_chance() -> None:
    for seed in range(50):
        assert screened(bold(seed, voxels=5)).marks == {}


def test_constant_voxels_and_voxels_without_numbers_are_no_reason_for_a_mark() -> None:
    series = bold()
    series[:, :60] = 0
    series[:, 60:90] = np.nan
    assert screened(series).marks == {}
