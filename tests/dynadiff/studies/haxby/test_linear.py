"""The opponents are scikit-learn's, and what they are judged on chooses nothing."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dynadiff.base.errors import UserError
from dynadiff.recordings.bids import bids_runs
from dynadiff.recordings.masks import read_mask
from dynadiff.signal.cleaning import Cleaning
from dynadiff.signal.windows import WindowSpec
from dynadiff.studies.haxby.linear import (
    OPPONENTS,
    PENALTIES,
    SHRINKAGES,
    averaged,
    chosen,
    fit,
    flattened,
    ridge_classifiers,
    shrunk_lda,
)
from dynadiff.studies.haxby_slice import haxby_to_bids
from dynadiff.trials.source import collect
from support.real_data import recording

CATEGORIES, RUNS, EACH = 4, 5, 3  # windows of a category in a run
Data = tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]


def data(seed: int, signal: float, voxels: int = 20, volumes: int = 3) -> Data:
    """Windows, what they show and their runs; each run has its own offset and scale, as runs do."""
    rng = np.random.default_rng(seed)
    shown = np.tile(np.repeat(np.arange(CATEGORIES), EACH), RUNS)
    runs = np.repeat(np.arange(RUNS), CATEGORIES * EACH)
    patterns = signal * rng.standard_normal((CATEGORIES, voxels, 1))
    windows = patterns[shown] + rng.standard_normal((len(shown), voxels, volumes)) * rng.uniform(0.5, 3, (voxels, 1))
    drift = rng.standard_normal((RUNS, voxels, 1))
    return (windows + drift[runs]) * rng.uniform(0.5, 2, RUNS)[runs, None, None], shown, runs


def learners(name: str, strength: float, features: int):
    """Scikit-learn's pipeline of the same method."""
    linear_model = pytest.importorskip("sklearn.linear_model")
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    method = (
        linear_model.RidgeClassifier(alpha=strength * features)
        if name.startswith("ridge")
        else LinearDiscriminantAnalysis(solver="lsqr", shrinkage=strength)
    )
    return make_pipeline(StandardScaler(), method)


@pytest.mark.parametrize("features", [5, 200], ids=["fewer than windows", "more than windows"])
def test_scores_are_those_of_scikit_learn_at_every_strength(features: int) -> None:
    windows, shown, _ = data(0, 0.5, features, 1)
    x, z = windows[:40, :, 0], windows[40:, :, 0]
    centre, scale = x.mean(axis=0), x.std(axis=0)
    ways = {
        "ridge": (ridge_classifiers((x - centre) / scale, shown[:40], CATEGORIES, PENALTIES), PENALTIES),
        "LDA": (shrunk_lda((x - centre) / scale, shown[:40], CATEGORIES, SHRINKAGES), SHRINKAGES),
    }
    for name, (found, strengths) in ways.items():
        assert len(found) == len(strengths)
        for ours, strength in zip(found, strengths, strict=True):
            theirs = learners(name, strength, features).fit(x, shown[:40]).decision_function(z)
            np.testing.assert_allclose(ours((z - centre) / scale), theirs, rtol=1e-6, atol=1e-8 * np.abs(theirs).max())


def test_features_are_all_volumes_or_their_mean() -> None:
    windows = np.random.default_rng(0).standard_normal((7, 4, 6)).astype(np.float16)
    assert flattened(windows).shape == (7, 24)
    np.testing.assert_allclose(averaged(windows), flattened(windows).reshape(7, 4, 6).mean(axis=2))
    assert {method.features(windows).shape for method in OPPONENTS.values()} == {(7, 24), (7, 4)}


def test_strengths_span_decades() -> None:
    odds = np.array(SHRINKAGES) / (1 - np.array(SHRINKAGES))
    assert max(PENALTIES) / min(PENALTIES) >= 1e8
    assert max(odds) / min(odds) >= 1e5
    assert all(tuple(sorted(strengths)) == strengths for strengths in (PENALTIES, SHRINKAGES))


@pytest.mark.parametrize("name", OPPONENTS)
def test_runs_left_out_choose_standardised_by_the_others(name: str) -> None:
    """The same by scikit-learn, run by run, of windows as served.

    The weakest, which names what is learnt from best, is seldom chosen.
    """
    method, picked = OPPONENTS[name], []
    for seed in range(4):
        windows, shown, runs = data(seed, 0.4)
        rough = np.random.default_rng(seed).standard_normal(windows.shape)
        features, served, right = method.features(windows), method.features(windows + 0.5 * rough), []
        for strength in method.strengths:
            hits = 0
            for run in range(RUNS):
                out = runs == run
                learner = learners(name, strength, features.shape[1]).fit(features[~out], shown[~out])
                hits += int((learner.predict(served[out]) == shown[out]).sum())
            right.append(hits)
        best = max(k for k, hits in enumerate(right) if hits == max(right))
        picked.append(chosen(method, features, served, shown, runs, CATEGORIES))
        assert picked[-1] == best
    assert max(picked) > 0


@pytest.mark.parametrize("name", OPPONENTS)
def test_what_is_fitted_is_scikit_learns_at_the_strength_chosen(name: str) -> None:
    windows, shown, runs = data(1, 0.4)
    learn = runs != 2
    found = fit(OPPONENTS[name], windows[learn], windows[learn], shown[learn], runs[learn], CATEGORIES)
    x, z = (OPPONENTS[name].features(windows[part]) for part in (learn, ~learn))
    theirs = learners(name, found.strength, x.shape[1]).fit(x, shown[learn]).decision_function(z)
    np.testing.assert_allclose(found(windows[~learn]), theirs, rtol=1e-6, atol=1e-8 * np.abs(theirs).max())


def accuracy(name: str, windows: NDArray[np.float64], shown: NDArray[np.int64], runs: NDArray[np.int64]) -> float:
    right = []
    for run in range(RUNS):
        out = runs == run
        found = fit(OPPONENTS[name], windows[~out], windows[~out], shown[~out], runs[~out], CATEGORIES)
        right += (found(windows[out]).argmax(axis=1) == shown[out]).tolist()
    return float(np.mean(right))


@pytest.mark.parametrize("name", OPPONENTS)
def test_categories_are_named_where_there_is_signal_and_only_there(name: str) -> None:
    told, noise = [], []
    for seed in range(6):
        windows, shown, runs = data(seed, 1.5)
        rng = np.random.default_rng(seed)
        shuffled = np.concatenate([rng.permutation(shown[runs == run]) for run in range(RUNS)])
        told.append(accuracy(name, windows, shown, runs))
        noise.append(accuracy(name, windows, shuffled, runs))
    assert np.mean(told) > 0.7
    assert abs(np.mean(noise) - 1 / CATEGORIES) < 0.08  # 3 standard errors of 360 windows, which share a little


@pytest.mark.parametrize("name", OPPONENTS)
def test_of_equally_good_strengths_the_strongest_is_chosen(name: str) -> None:
    """Nothing but the categories is in these windows, which any strength tells apart; in blank ones, none does."""
    patterns = np.random.default_rng(0).standard_normal((CATEGORIES, 20, 3))
    _, shown, runs = data(0, 0.0)
    windows = patterns[shown] + 1e-3 * np.random.default_rng(1).standard_normal((len(shown), 20, 3))
    for told in (windows, np.full_like(windows, 0.1)):
        found = fit(OPPONENTS[name], told, told, shown, runs, CATEGORIES)
        assert found.strength == OPPONENTS[name].strengths[-1]
        assert np.isfinite(found(told)).all()
    right = fit(OPPONENTS[name], windows, windows, shown, runs, CATEGORIES)(windows).argmax(axis=1) == shown
    assert right.all()


@pytest.mark.parametrize("name", OPPONENTS)
def test_voxels_that_never_vary_and_categories_of_one_run_break_nothing(name: str) -> None:
    windows, shown, runs = data(0, 1.5)
    windows[:, 3] = 0.1  # of which sums are not exact
    shown[(runs > 0) & (shown == 2)] = 1  # left out with run 0, the third category is not learnt
    found = fit(OPPONENTS[name], windows, windows, shown, runs, CATEGORIES)
    assert np.isfinite(found(windows)).all()
    other = windows.copy()
    other[:, 3] = 1e6
    assert not np.isnan(found(other)).any()
    np.testing.assert_array_equal(found(other).argmax(axis=1), found(windows).argmax(axis=1))


def test_one_run_leaves_none_out() -> None:
    windows, shown, runs = data(0, 1.5)
    with pytest.raises(UserError, match="add runs"):
        fit(OPPONENTS["LDA on their mean"], windows, windows, shown, 0 * runs, CATEGORIES)


def test_on_the_real_slice_they_are_well_above_chance(tmp_path: Path) -> None:
    haxby_to_bids(recording("haxby_slice"), tmp_path)
    runs = bids_runs(tmp_path, "1")
    mask = read_mask(tmp_path / "sub-1_mask.nii.gz", runs[0].shape)
    trials = collect(runs, mask, Cleaning(), WindowSpec(2, 6), 8)
    _, shown = np.unique([trials.categories[k] for k in trials.seen], return_inverse=True)
    for name in ("ridge on their mean", "LDA on their mean"):
        right = []
        for run in range(12):
            out = trials.runs == run
            found = fit(OPPONENTS[name], trials.offline[~out], trials.online[~out], shown[~out], trials.runs[~out], 8)
            right.append(np.mean(found(trials.online[out]).argmax(axis=1) == shown[out]))
        assert 0.40 < np.mean(right) < 0.65
