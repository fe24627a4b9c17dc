"""What comes with a volume is regressed out as drift is: whole runs, and volume by volume."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nilearn.signal import clean
from numpy.typing import NDArray

from dynadiff.signal.cleaning import Cleaning, Earlier, OnlineCleaner, clean_run, drift_terms, left_variance
from dynadiff.signal.components import noise_components
from dynadiff.signal.windows import OnlineWindows, WindowSpec, offline_windows, online_windows

TR, VOXELS = 4 / 3, 5
Series = NDArray[np.float32]


def a_run(n: int, k: int, seed: int, level: float = 1000.0) -> tuple[Series, Series]:
    """A run (n, voxels) into which ``k`` known courses (n, k) are mixed."""
    rng = np.random.default_rng(seed)
    known = rng.normal(0, 1, (n, k)).cumsum(axis=0) / 5 + rng.normal(0, 3, k)
    slope = np.linspace(-1, 1, n)[:, None] * rng.normal(0, 15, VOXELS)
    series = level + slope + known @ rng.normal(0, 10, (k, VOXELS)) + rng.normal(0, 10, (n, VOXELS))
    return series.astype(np.float32), known.astype(np.float32)


def pushed(cleaner: OnlineCleaner, series: Series, known: Series) -> OnlineCleaner:
    for row, (sample, beside) in enumerate(zip(series, known, strict=True)):
        cleaner.push(row, sample, beside)
    return cleaner


@settings(max_examples=15, deadline=None)
@given(n=st.integers(40, 240), k=st.integers(1, 9), seed=st.integers(0, 2**16), level=st.sampled_from([0.0, 1e4]))
def test_a_run_with_nuisance_is_cleaned_as_nilearn_cleans_it(n: int, k: int, seed: int, level: float) -> None:
    series, known = a_run(n, k, seed, level)
    theirs = clean(series.astype(float), detrend=True, standardize="zscore_sample", confounds=known.astype(float))
    np.testing.assert_allclose(clean_run(series, Cleaning(), TR, known), theirs, atol=1e-4)
    cleaner = pushed(OnlineCleaner(Cleaning(ridge=0), n, VOXELS, TR, k), series, known)
    np.testing.assert_allclose(cleaner.standardise(range(n), series, known), theirs, atol=1e-4)


@pytest.mark.parametrize("ridge", [0.0, 5.0])
@settings(max_examples=15, deadline=None)
@given(n=st.integers(12, 50), k=st.integers(1, 7), seed=st.integers(0, 2**16))
def test_every_prefix_is_least_squares_on_that_prefix(ridge: float, n: int, k: int, seed: int) -> None:
    series, known = a_run(n, k, seed)
    cleaner = OnlineCleaner(Cleaning(ridge=ridge), n, VOXELS, TR, k)
    terms = np.hstack([drift_terms(Cleaning(), n, TR), known - known[0]])
    prior = np.sqrt(ridge) * np.eye(k + 2)[1:]
    for row in range(n):
        cleaner.push(row, series[row], known[row])
        out = cleaner.standardise(range(row + 1), series[: row + 1], known[: row + 1])
        if row < (2 if ridge else k + 2):
            assert not out.any()
        elif ridge or row > k + 4:
            values = series[: row + 1].astype(float) - series[0]
            x = np.vstack([terms[: row + 1], prior])
            fit = np.linalg.lstsq(x, np.vstack([values, np.zeros((k + 1, VOXELS))]), rcond=None)[0]
            left = values - terms[: row + 1] @ fit
            np.testing.assert_allclose(out, left / np.sqrt(np.square(left).sum(axis=0) / row), atol=2e-4)


def test_nuisance_that_says_nothing_changes_nothing() -> None:
    """A head that never moved, and columns that repeat the drift or one another."""
    series, known = a_run(60, 2, 0)
    plain, once = clean_run(series, Cleaning(), TR), clean_run(series, Cleaning(), TR, known)
    still = np.hstack([np.full((60, 3), 7.0, np.float32), np.arange(60, dtype=np.float32)[:, None]])
    np.testing.assert_allclose(clean_run(series, Cleaning(), TR, still), plain, atol=1e-5)
    np.testing.assert_allclose(clean_run(series, Cleaning(), TR, still[:, :3]), plain, atol=1e-5)
    twice = np.hstack([known, known[:, ::-1], still])
    np.testing.assert_allclose(clean_run(series, Cleaning(), TR, twice), once, atol=1e-5)


def test_a_volume_and_what_comes_with_it_change_no_window_that_ended_before() -> None:
    series, known = a_run(40, 3, 1)
    spec, starts = WindowSpec(length=4), range(0, 37)
    before = online_windows(series, Cleaning(), TR, spec, starts, known)
    known[25:] += 3
    after = online_windows(series, Cleaning(), TR, spec, starts, known)
    np.testing.assert_array_equal(after[:22], before[:22])
    assert (after[22:] != before[22:]).any(axis=(1, 2)).all()


def test_windows_of_a_run_and_of_its_volumes_take_the_same_nuisance() -> None:
    series, known = a_run(40, 3, 2)
    spec, free = WindowSpec(length=4), Cleaning(ridge=0)
    online = online_windows(series, free, TR, spec, [36], known)
    np.testing.assert_allclose(online, offline_windows(series, free, TR, spec, [36], known), atol=1e-4)
    windows = OnlineWindows(free, 40, VOXELS, TR, spec, 3)
    found = [windows.push(row, series[row], known[row]) for row in range(40)]
    assert found[-1] is not None
    np.testing.assert_array_equal(found[-1].values, online[0])


@pytest.mark.parametrize("known", [(), (1.0,), (1.0, 2.0, 3.0), (1.0, np.nan)])
def test_another_number_of_numbers_is_refused(known: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="2 finite numbers"):
        OnlineCleaner(Cleaning(), 60, VOXELS, TR, 2).push(0, np.ones(VOXELS, np.float32), known)


@pytest.mark.parametrize("volumes", [0.0, 20.0])
def test_a_lent_variance_counts_for_its_volumes(volumes: float) -> None:
    """The variance is the mean of both, by degrees of freedom; the mean of the voxel is its own from the start."""
    series, _ = a_run(30, 0, 3)
    lent = np.linspace(50, 200, VOXELS).astype(np.float32)
    none = np.zeros((30, 0), np.float32)
    alone = pushed(OnlineCleaner(Cleaning("none"), 30, VOXELS, TR), series, none)
    helped = pushed(OnlineCleaner(Cleaning("none"), 30, VOXELS, TR, earlier=Earlier(lent, volumes)), series, none)
    own = series.astype(float).var(axis=0, ddof=1)
    expected = np.sqrt(own / ((29 * own + volumes * lent) / (29 + volumes)))
    ratio = helped.standardise([0], series[:1]) / alone.standardise([0], series[:1])
    np.testing.assert_allclose(ratio[0], expected, rtol=1e-5)
    constant = pushed(OnlineCleaner(Cleaning(), 30, VOXELS, TR, earlier=Earlier(lent, volumes)), series * 0 + 9, none)
    assert not constant.standardise(range(30), series * 0 + 9).any()


def test_left_variance_is_what_whole_run_cleaning_divides_by() -> None:
    series, known = a_run(80, 2, 4)
    x = np.hstack([drift_terms(Cleaning(), 80, TR), known])
    left = series - x @ np.linalg.lstsq(x, series.astype(float), rcond=None)[0]
    np.testing.assert_allclose(left_variance(series, Cleaning(), TR, known), left.var(axis=0, ddof=1), rtol=1e-4)


def outside(seed: int, courses: NDArray[np.float64], n: int = 100) -> Series:
    """Voxels (n, 60) of different gain and baseline that share courses (n, k)."""
    patterns, rng = np.random.default_rng(99).normal(0, 1, (courses.shape[1], 60)), np.random.default_rng(seed)
    gain, drift = np.linspace(1, 30, 60), np.linspace(-1, 1, n)[:, None]
    values = 1000 + gain * (courses @ patterns + 4 * drift + 0.3 * rng.normal(0, 1, (n, 60)))
    return np.asarray(values * rng.uniform(0.98, 1.02), np.float32)


def test_components_learnt_on_earlier_runs_are_the_courses_of_a_later_one() -> None:
    rng = np.random.default_rng(5)
    courses = [rng.normal(0, 1, (100, 2)) for _ in range(4)]
    runs = [outside(k, course) for k, course in enumerate(courses)]
    found = noise_components(runs[:3], Cleaning(), TR, 2)(runs[3])
    x = np.column_stack([drift_terms(Cleaning(), 100, TR), found])
    left = courses[3] - x @ np.linalg.lstsq(x, courses[3], rcond=None)[0]
    assert np.square(left).sum() < 0.02 * np.square(courses[3] - courses[3].mean(axis=0)).sum()
    again = np.concatenate([noise_components(runs[:3], Cleaning(), TR, 2)(run[None]) for run in runs[3]])
    np.testing.assert_allclose(again, found, atol=1e-4)  # a volume at a time


def test_components_are_of_one_scale_and_bear_what_is_not_finite() -> None:
    rng = np.random.default_rng(6)
    runs = [outside(k, rng.normal(0, 1, (100, 2))) for k in range(3)]
    components = noise_components(runs, Cleaning(), TR, 2)
    variances = np.mean([left_variance(components(run), Cleaning(), TR) for run in runs], axis=0)
    np.testing.assert_allclose(variances, 1, atol=0.1)
    runs[0][3, :7] = np.nan
    assert np.isfinite(components(runs[0])).all()
    with pytest.raises(ValueError, match="no 61 components"):
        noise_components(runs, Cleaning(), TR, 61)
