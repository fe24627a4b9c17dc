"""The yardstick of the phantom measures what it says, on arrays whose answer is known."""

from pathlib import Path

import numpy as np
import pytest

from dynadiff.base.errors import UserError
from dynadiff.recordings.nsd import NSD
from dynadiff.signal.windows import WindowSpec
from dynadiff.studies.phantom import identify, load_trials, measure, noise, picture_features
from dynadiff.trials.baselines import ridge

SMALL = {1: (12, 14, 10)}


@pytest.fixture(scope="module")
def tree(phantom_of) -> Path:
    return phantom_of([1], [1], [1, 2])


def test_ridge_recovers_a_linear_code_in_other_trials() -> None:
    rng = np.random.default_rng(0)
    code = rng.standard_normal((30, 60))
    truth = rng.standard_normal((260, 30)).astype(np.float32)
    windows = (truth @ code + 0.5 * rng.standard_normal((260, 60))).astype(np.float32)
    predicted = ridge(windows[:200], truth[:200], np.arange(200) // 20, windows[200:])
    assert np.corrcoef(predicted.ravel(), truth[200:].ravel())[0, 1] > 0.9
    found = identify(predicted, truth[200:], np.arange(60))
    dealt = identify(np.roll(predicted, 1, axis=0), truth[200:], np.arange(60))
    assert found.top1 > 0.9
    assert dealt.top1 < 0.1
    assert abs(dealt.two_way - 0.5) < 0.15


def test_blocks_of_picture_features_weigh_the_same() -> None:
    ids = np.array([3, 5, 8, 3, 9, 11, 12, 20])
    space = picture_features(ids, n_known=8)
    lab, energy = 8 * 8 * 3, 12 * 16
    assert np.array_equal(space[0], space[3])
    for block in (space[:, :lab], space[:, lab : lab + energy], space[:, lab + energy :]):
        assert block.var(axis=0).sum() == pytest.approx(1, rel=1e-4)
        assert block.mean(axis=0) == pytest.approx(0, abs=1e-5)


def test_a_tree_gives_windows_and_noise_figures(tree: Path) -> None:
    nsd = NSD(tree)
    trials = load_trials(nsd, 1, [1], WindowSpec())
    assert trials.windows.shape == (125, int(nsd.mask(1).sum()) * 6)
    assert np.bincount(trials.runs).tolist() == [63, 62]
    region, brain, lag1 = noise(nsd, 1, 1)
    assert 60 < region < 110
    assert 60 < brain < 110
    assert 0.1 < lag1 < 0.5


def test_a_missing_session_is_named(tree: Path) -> None:
    with pytest.raises(UserError, match="session 2"):
        measure(tree)
