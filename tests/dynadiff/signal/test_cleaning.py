import json
from collections.abc import Sequence
from dataclasses import asdict

import nibabel as nib
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from nilearn.signal import clean
from numpy.typing import NDArray

from dynadiff.signal.cleaning import Cleaning, OnlineCleaner, clean_run, drift_terms
from support.real_data import recording

TR = 4 / 3
FREE = [Cleaning("none", ridge=0), Cleaning(ridge=0), Cleaning("cosine", high_pass=0.02, ridge=0)]
EVERY = [*FREE, Cleaning(), Cleaning("cosine", high_pass=0.02)]
each_free = pytest.mark.parametrize("cleaning", FREE, ids=lambda c: c.drift)
each = pytest.mark.parametrize("cleaning", EVERY, ids=lambda c: f"{c.drift}-{c.ridge:g}")


def bold(n: int, voxels: int = 4, seed: int = 0, level: float = 1000) -> NDArray[np.float32]:
    """BOLD-like series (n, voxels): a large mean, a slope, a slow wave and noise."""
    rng = np.random.default_rng(seed)
    time = np.arange(n)[:, None] / 100
    mean, slope, wave = (
        rng.uniform(0.5, 1.5, voxels) * level,
        rng.normal(0, 20, voxels),
        rng.normal(0, 8, voxels),
    )
    return (mean + slope * time + wave * np.sin(3 * time) + rng.normal(0, 10, (n, voxels))).astype(np.float32)


def emitted(
    series: NDArray[np.float32],
    cleaning: Cleaning,
    n_planned: int | None = None,
    rows: Sequence[int] | None = None,
) -> NDArray[np.float32]:
    """Each volume as it is standardised the moment it has been pushed."""
    rows = range(len(series)) if rows is None else rows
    cleaner = OnlineCleaner(cleaning, n_planned or len(series), series.shape[1], TR)
    out = []
    for row, sample in zip(rows, series, strict=True):
        cleaner.push(row, sample)
        out.append(cleaner.standardise([row], sample[None])[0])
    return np.array(out)


def fully_pushed(series: NDArray[np.float32], cleaning: Cleaning, rows: Sequence[int] | None = None) -> OnlineCleaner:
    cleaner = OnlineCleaner(cleaning, len(series), series.shape[1], TR)
    for row, sample in zip(range(len(series)) if rows is None else rows, series, strict=True):
        cleaner.push(row, sample)
    return cleaner


def least_squares(series: NDArray[np.float32], terms: NDArray[np.float64], ridge: float = 0) -> NDArray[np.float64]:
    """Closed form: residuals of the fit with a prior on all but the mean, over their deviation (ddof 1)."""
    values = series.astype(np.float64)
    prior = np.sqrt(ridge) * np.eye(terms.shape[1])[1:]
    rows = np.vstack([terms, prior])
    fit = np.linalg.lstsq(rows, np.vstack([values, np.zeros((len(prior), values.shape[1]))]), rcond=None)[0]
    residual = values - terms @ fit
    return residual / np.sqrt((residual**2).sum(axis=0) / (len(values) - 1))


def published(series: NDArray[np.float32], cleaning: Cleaning, tr: float = TR) -> NDArray[np.float64]:
    """What nilearn makes of the run."""
    how = {
        "none": {"detrend": False, "filter": False},
        "linear": {"detrend": True, "high_pass": None, "t_r": tr},
        "cosine": {"detrend": False, "filter": "cosine", "high_pass": cleaning.high_pass, "t_r": tr},
    }[cleaning.drift]
    return clean(series.astype(np.float64), standardize="zscore_sample", **how)


@each_free
@settings(max_examples=12, deadline=None)
@given(n=st.integers(60, 240), seed=st.integers(0, 2**16), level=st.sampled_from([0.0, 1e2, 1e4]))
def test_a_run_is_cleaned_as_nilearn_cleans_it(cleaning: Cleaning, n: int, seed: int, level: float) -> None:
    series = bold(n, seed=seed, level=level)
    np.testing.assert_allclose(clean_run(series, cleaning, TR), published(series, cleaning), atol=1e-4)


@each_free
@settings(max_examples=12, deadline=None)
@given(n=st.integers(60, 240), seed=st.integers(0, 2**16), level=st.sampled_from([0.0, 1e2, 1e4]))
def test_online_without_a_prior_is_nilearn_at_the_last_volume(
    cleaning: Cleaning, n: int, seed: int, level: float
) -> None:
    series = bold(n, seed=seed, level=level)
    cleaner = fully_pushed(series, cleaning)
    np.testing.assert_allclose(cleaner.standardise(range(n), series), published(series, cleaning), atol=1e-4)


@each
@settings(max_examples=10, deadline=None)
@example(n=12, extra=0, seed=6898)  # three volumes almost on a line: rounding is large beside the residual
@given(n=st.integers(12, 60), extra=st.integers(-20, 60), seed=st.integers(0, 2**16))
def test_every_prefix_is_least_squares_on_that_prefix(cleaning: Cleaning, n: int, extra: int, seed: int) -> None:
    series, n_planned = bold(n, seed=seed), max(n + extra, 10)
    terms = np.vstack([drift_terms(cleaning, n_planned, TR), beyond(cleaning, n_planned, n)])
    cleaner = OnlineCleaner(cleaning, n_planned, series.shape[1], TR)
    for row, sample in enumerate(series):
        cleaner.push(row, sample)
        out = cleaner.standardise(range(row + 1), series[: row + 1])
        if row < terms.shape[1]:
            assert not out.any()
        elif np.linalg.cond(terms[: row + 1]) < 1e10 or cleaning.ridge:  # else no float64 fit is exact
            expected = least_squares(series[: row + 1], terms[: row + 1], cleaning.ridge)
            np.testing.assert_allclose(out, expected, atol=1e-4)
        assert np.abs(out).max() <= np.sqrt(row) + 1e-4  # no z-score of row + 1 values is larger


def beyond(cleaning: Cleaning, n_planned: int, n: int) -> NDArray[np.float64]:
    """Terms of the rows that a run has beyond its planned length: the same formulas with a later time."""
    rows = np.arange(n_planned, max(n, n_planned))[:, None]
    if cleaning.drift == "linear":
        return np.hstack([rows**0, 2 * rows / (n_planned - 1) - 1])
    order = drift_terms(cleaning, n_planned, TR).shape[1]
    return np.cos(np.pi / n_planned * (rows + 0.5) * np.arange(order))


@pytest.mark.parametrize("ridge", [0.23, 5.0, 20.0])
def test_ridge_is_worth_its_units(ridge: float) -> None:
    """A prior of one residual variance per slope variance shrinks a slope as Bayes' rule would."""
    n, slope = 400, 0.5
    time = np.linspace(-1, 1, n)
    noise = np.random.default_rng(0).normal(0, 1, n)
    noise -= np.polyval(np.polyfit(time, noise, 1), time)
    series = (slope * time + noise)[:, None].astype(np.float32)
    cleaner = fully_pushed(series, Cleaning(ridge=ridge))
    left = slope * ridge / ((time**2).sum() + ridge)
    residual = left * time + noise
    np.testing.assert_allclose(cleaner.standardise(range(n), series)[:, 0], residual / residual.std(ddof=1), atol=1e-4)


@pytest.mark.parametrize("tr", [4 / 3, 2.0, 2.5, 1.6])
@pytest.mark.parametrize("n", [156, 225, 226, 300])
def test_cosines_are_those_of_nilearn(n: int, tr: float) -> None:
    from nilearn.glm.first_level.design_matrix import create_cosine_drift

    theirs = create_cosine_drift(0.01, np.arange(n) * tr)
    ours = drift_terms(Cleaning("cosine"), n, tr)
    np.testing.assert_allclose(ours[:, 0], 1)
    np.testing.assert_allclose(ours[:, 1:], theirs[:, :-1] / np.sqrt(2 / n), atol=1e-12)


@each
@settings(max_examples=10, deadline=None)
@given(gain=st.floats(1e-2, 1e3), negative=st.booleans(), shift=st.floats(-1e3, 1e3), seed=st.integers(0, 2**16))
def test_gain_and_baseline_of_a_voxel_do_not_matter(
    cleaning: Cleaning, gain: float, negative: bool, shift: float, seed: int
) -> None:
    series = np.random.default_rng(seed).normal(0, 1, (60, 1))
    sign = -1 if negative else 1
    both = np.hstack([series, (sign * gain * (series + shift))]).astype(np.float64)
    out = emitted(both, cleaning)  # float64 in, so that the shift itself rounds nothing away
    np.testing.assert_allclose(out[:, 1], sign * out[:, 0], atol=1e-4)
    out = clean_run(both, cleaning, TR)
    np.testing.assert_allclose(out[:, 1], sign * out[:, 0], atol=1e-4)


def test_running_statistics_count_each_volume_once_and_start_from_nothing() -> None:
    """A variance that starts at 1, or counts a volume it has dropped, makes -2 deviations into -0.1."""
    series = np.random.default_rng(0).normal(1000, 10, (100, 1)).astype(np.float32)
    out = emitted(series, Cleaning("none"))
    for n in range(2, 101):
        seen = series[:n, 0].astype(np.float64)
        assert out[n - 1, 0] == pytest.approx((seen[-1] - seen.mean()) / seen.std(ddof=1), abs=1e-5)


@each
def test_a_missing_value_is_zero_and_poisons_nothing(cleaning: Cleaning) -> None:
    series = bold(120, voxels=6)
    damaged = series.copy()
    damaged[0, 0], damaged[1, 1], damaged[9, 2], damaged[40, 3], damaged[:3, 4] = (
        np.nan,
        np.inf,
        -np.inf,
        np.nan,
        np.nan,
    )
    cleaner = fully_pushed(damaged, cleaning)
    out = cleaner.standardise(range(120), damaged)
    missing = ~np.isfinite(damaged)
    assert cleaner.non_finite == missing.sum() == 7
    assert not out[missing].any()
    whole = fully_pushed(series, cleaning).standardise(range(120), series)
    np.testing.assert_array_equal(out[:, 5], whole[:, 5])
    assert np.abs(out - whole)[~missing].max() < 0.5  # deviations; most where a run begins with missing ones
    assert np.isfinite(emitted(damaged, cleaning)).all()


@each
def test_a_missing_value_pulls_on_nothing(cleaning: Cleaning) -> None:
    """The fit stays as it is; only the count of volumes goes up."""
    series = bold(120)
    cleaner = OnlineCleaner(cleaning, 120, 4, TR)
    for row in range(115):
        cleaner.push(row, series[row])
    before = cleaner.standardise(range(120), series)
    cleaner.push(115, np.full(4, np.nan, np.float32))
    after = cleaner.standardise(range(120), series)
    np.testing.assert_allclose(after, before * np.sqrt(115 / 114), atol=1e-4)


@each
def test_one_kind_of_missing_value_is_as_good_as_another(cleaning: Cleaning) -> None:
    """NaN or infinite, the rest comes out the same."""
    nan, inf = bold(60), bold(60)
    nan[30], inf[30] = np.nan, np.inf
    np.testing.assert_array_equal(emitted(nan, cleaning), emitted(inf, cleaning))
    np.testing.assert_array_equal(clean_run(nan, cleaning, TR), clean_run(inf, cleaning, TR))


@each_free
def test_a_whole_run_with_gaps_is_fitted_to_the_rest(cleaning: Cleaning) -> None:
    series = bold(120)
    damaged = series.copy()
    damaged[[3, 50, 51], 0] = np.nan
    damaged[:, 1] = np.nan
    out = clean_run(damaged, cleaning, TR)
    assert not out[[3, 50, 51], 0].any()
    assert not out[:, 1].any()
    np.testing.assert_array_equal(out[:, 2:], clean_run(series, cleaning, TR)[:, 2:])
    known = np.isfinite(damaged[:, 0])
    expected = least_squares(series[known, :1], drift_terms(cleaning, 120, TR)[known])[:, 0]
    np.testing.assert_allclose(out[known, 0], expected * np.sqrt(119 / 116), atol=1e-4)


@each
def test_a_voxel_without_a_signal_is_zero(cleaning: Cleaning) -> None:
    series = np.stack([np.zeros(60), np.full(60, 1234.5), np.full(60, np.nan)], axis=1).astype(np.float32)
    assert not emitted(series, cleaning).any()
    assert not clean_run(series, cleaning, TR).any()


def test_a_pure_ramp_is_zero_without_a_prior() -> None:
    ramp = (1000 + np.arange(60.0))[:, None].astype(np.float32)
    assert not emitted(ramp, Cleaning(ridge=0)).any()
    assert not clean_run(ramp, Cleaning(), TR).any()


@each
@pytest.mark.parametrize("at", [0, 30, 60])
def test_a_stuck_scanner_leaves_finite_values(cleaning: Cleaning, at: int) -> None:
    """The same volume 25 times over, at the start, in the middle or at the end of the run."""
    series = bold(60)
    stuck = np.insert(series, at, np.repeat(series[[min(at, 59)]], 25, axis=0), axis=0)
    out = emitted(stuck, cleaning)
    assert np.isfinite(out).all()
    if at == 0:
        assert not out[:25].any()


@each
def test_a_lost_volume_leaves_the_time_of_the_others(cleaning: Cleaning) -> None:
    series = bold(120)
    rows = np.delete(np.arange(120), [20, 21, 70])
    cleaner = OnlineCleaner(cleaning, 120, 4, TR)
    for row in rows:
        cleaner.push(int(row), series[row])
    expected = least_squares(series[rows], drift_terms(cleaning, 120, TR)[rows], cleaning.ridge)
    assert cleaner.n == 117
    np.testing.assert_allclose(cleaner.standardise(list(rows), series[rows]), expected, atol=1e-4)


def test_standardising_is_a_question_not_an_event() -> None:
    series = bold(60)
    asked, silent = OnlineCleaner(Cleaning(), 60, 4, TR), OnlineCleaner(Cleaning(), 60, 4, TR)
    for row, sample in enumerate(series):
        asked.push(row, sample)
        asked.standardise([row, row + 3], bold(2, seed=row))
        silent.push(row, sample)
    np.testing.assert_array_equal(asked.standardise(range(60), series), silent.standardise(range(60), series))


@pytest.mark.parametrize("row", [-1, 4, 5])
def test_a_volume_out_of_order_is_refused(row: int) -> None:
    cleaner = OnlineCleaner(Cleaning(), 60, 4, TR)
    cleaner.push(5, bold(1)[0])
    with pytest.raises(ValueError, match="follow"):
        cleaner.push(row, bold(1)[0])


def test_a_volume_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        OnlineCleaner(Cleaning(), 60, 4, TR).push(0, np.ones(1, np.float32))


@pytest.mark.parametrize(
    "fields",
    [
        {"drift": "quadratic"},
        {"high_pass": 0.0},
        {"high_pass": float("nan")},
        {"ridge": -1.0},
        {"ridge": float("inf")},
    ],
)
def test_a_cleaning_out_of_range_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(fields))):
        Cleaning(**fields)  # type: ignore[arg-type]


@each
def test_a_cleaning_travels_as_json(cleaning: Cleaning) -> None:
    assert Cleaning(**json.loads(json.dumps(asdict(cleaning)))) == cleaning


@pytest.fixture(scope="module")
def localizer() -> NDArray[np.float32]:
    """2,000 of the bright voxels of a 3 T run (studyforrest, sub-02, object localizer): (156, 2000)."""
    path = recording("studyforrest_localizer") / "sub-02_task-oneback_run-1_bold.nii.gz"
    data = np.asanyarray(nib.load(path).dataobj)
    mean = data.mean(axis=3)
    bright = np.argwhere(mean > np.quantile(mean, 0.7))[::30][:2000]
    return np.ascontiguousarray(data[tuple(bright.T)].T.astype(np.float32))


@each_free
def test_a_real_run_ends_as_nilearn_cleans_it(cleaning: Cleaning, localizer: NDArray[np.float32]) -> None:
    cleaner = fully_pushed(localizer, cleaning)
    expected = published(localizer, cleaning)
    assert localizer.shape == (156, 2000)
    np.testing.assert_allclose(cleaner.standardise(range(156), localizer), expected, atol=1e-4)
    np.testing.assert_allclose(clean_run(localizer, cleaning, TR), expected, atol=1e-4)


@pytest.mark.parametrize("n", [40, 75])  # enough to see the drift: it is not extrapolated before
def test_what_is_expected_is_the_textbooks_prediction_and_its_standard_error(n: int) -> None:
    """Ordinary least squares on the volumes so far: x'b, and s sqrt(1 + x'(X'X)⁻¹x) with s of ddof 1."""
    rng = np.random.default_rng(n)
    cleaning, planned = Cleaning(ridge=0), 80
    series = (1000 + rng.normal(0, 10, (n, 5)) + 0.5 * np.arange(n)[:, None]).astype(np.float32)
    cleaner = OnlineCleaner(cleaning, planned, 5, TR)
    for row, sample in enumerate(series):
        cleaner.push(row, sample)
    terms = drift_terms(cleaning, planned, TR)
    x, new = terms[:n], terms[n + 2]
    fit, residual = np.linalg.lstsq(x, series.astype(np.float64), rcond=None)[:2]
    expected, deviation = cleaner.expect(n + 2)
    assert expected == pytest.approx(new @ fit, rel=1e-6)
    assert deviation == pytest.approx(np.sqrt(residual / (n - 1) * (1 + new @ np.linalg.inv(x.T @ x) @ new)), rel=1e-4)


def test_nothing_is_expected_of_volumes_too_few_or_voxels_that_never_change() -> None:
    cleaner = OnlineCleaner(Cleaning(), 80, 2, TR)
    for row in range(10):
        cleaner.push(row, np.array([500, 500 + row % 3], np.float32))
        deviation = cleaner.expect(row + 1)[1]
        assert (deviation > 0).tolist() == [False, row >= 2]
