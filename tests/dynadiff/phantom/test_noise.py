"""The phantom's noise is as strong, as slow, as wide and as uneven as it says."""

import numpy as np
import pytest

from dynadiff.phantom.head import Head, make_head
from dynadiff.phantom.noise import MEMORY_S, NEAR_VOXELS, Fluctuation, Noise, coloured
from dynadiff.recordings.nsd_facts import TR, VOLUMES

SHAPE = (24, 28, 20)
STILL = Noise(drift=0, bend=0, spikes=0)


@pytest.fixture(scope="module")
def head() -> Head:
    return make_head(np.random.default_rng(0), SHAPE)


def drawn(head: Head, noise: Noise, runs: int = 1) -> np.ndarray:
    """(runs, 226, voxels)"""
    rng = np.random.default_rng(1)
    fluctuation = Fluctuation(rng, head, noise)
    return np.stack([fluctuation.draw(rng) for _ in range(runs)])


def test_its_strength_is_lognormal_over_voxels(head: Head) -> None:
    spread = np.log(drawn(head, STILL, 2).std(axis=(0, 1)))
    assert np.exp(np.median(spread)) == pytest.approx(STILL.deviation, rel=0.08)
    assert spread.std() == pytest.approx(STILL.spread, rel=0.12)


@pytest.mark.parametrize("volumes", [1, 2, 4])
def test_what_voxels_share_fades_with_time_as_it_should(volumes: int) -> None:
    course = coloured(np.random.default_rng(0), (VOLUMES, 4000))
    assert course.std() == pytest.approx(1, abs=0.02)
    assert course[0].std() == pytest.approx(1, abs=0.05)  # stationary from the first volume on
    found = (course[volumes:] * course[:-volumes]).mean()
    assert found == pytest.approx(np.exp(-volumes * TR / MEMORY_S), abs=0.01)


def test_white_noise_is_white(head: Head) -> None:
    series = drawn(head, Noise(near=0, region=0, whole=0, drift=0, bend=0))[0]
    assert abs((series[1:] * series[:-1]).sum() / np.square(series).sum()) < 0.01


def test_neighbours_share_their_part_and_those_far_away_do_not(head: Head) -> None:
    series = drawn(head, Noise(near=0.5, region=0, whole=0, drift=0, bend=0, spread=0))[0]
    place = np.argwhere(head.brain)
    index = np.full(SHAPE, -1)
    index[head.brain] = np.arange(len(place))
    for apart in (1, 2, 8):
        here, there = index[:-apart].ravel(), index[apart:].ravel()
        both = (here >= 0) & (there >= 0)
        pairs = np.array([here[both], there[both]])
        r = np.mean([np.corrcoef(*series[:, pair].T)[0, 1] for pair in pairs[:, ::7].T])
        assert r == pytest.approx(0.5 * np.exp(-(apart**2) / (4 * NEAR_VOXELS**2)), abs=0.03)


def test_the_whole_brain_shares_its_part(head: Head) -> None:
    series = drawn(head, Noise(near=0, region=0, whole=0.3, drift=0, bend=0, spread=0), 2)
    for run in series:
        explained = [np.corrcoef(run[:, k], run.mean(axis=1))[0, 1] ** 2 for k in range(0, run.shape[1], 50)]
        assert np.median(explained) == pytest.approx(0.3, abs=0.07)


def test_regions_keep_their_patterns_from_run_to_run(head: Head) -> None:
    """So that what is learnt of them in one run helps in the next."""
    first, second = drawn(head, Noise(near=0, region=0.6, whole=0, drift=0, bend=0, spread=0), 2)
    learnt = np.linalg.svd(first, full_matrices=False)[2][:16]
    assert np.square(second @ learnt.T).sum() / np.square(second).sum() > 0.5
    dealt = learnt[:, np.random.default_rng(0).permutation(learnt.shape[1])]
    assert np.square(second @ dealt.T).sum() / np.square(second).sum() < 0.05


def test_drift_is_a_line_and_slow_curves(head: Head) -> None:
    series = drawn(head, Noise(deviation=0, spikes=0))[0]
    t = np.linspace(0, 1, VOLUMES)
    basis = np.linalg.qr(np.stack([t, *(np.cos(np.pi * k * t) for k in (0, 2, 3, 4))], axis=1))[0]
    assert np.abs(series - basis @ (basis.T @ series)).max() < 1e-4
    ends = (series[-1] - series[0]) / 2
    assert 0.7 * Noise().drift < np.std(ends) < 1.5 * Noise().drift
