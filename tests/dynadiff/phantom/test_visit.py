"""A session moves and changes the brain a little, and no two do it alike."""

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from dynadiff.phantom.head import Head, make_head
from dynadiff.phantom.visit import DRIFT, DRIFTS, GAIN, MISREGISTRATION, VOXEL_GAIN, Visit, draw_visit

VISITS = 400


@pytest.fixture(scope="module")
def head() -> Head:
    return make_head(np.random.default_rng(0), (12, 14, 10))


@pytest.fixture(scope="module")
def visits(head: Head) -> list[Visit]:
    return [draw_visit(np.random.default_rng(k), head) for k in range(VISITS)]


def test_heads_lie_a_third_of_a_voxel_off(visits: list[Visit]) -> None:
    distance = [np.linalg.norm(one.shift) for one in visits]
    assert np.sqrt(np.mean(np.square(distance))) == pytest.approx(MISREGISTRATION, rel=0.1)


def test_gains_lie_around_one(visits: list[Visit]) -> None:
    gains = np.log([one.gain for one in visits])
    assert abs(gains.mean()) < 0.02
    assert gains.std() == pytest.approx(np.hypot(GAIN, VOXEL_GAIN), rel=0.1)
    assert np.median([np.std(gain) for gain in gains]) > 0.5 * VOXEL_GAIN  # voxel by voxel too


def test_tuning_drifts_without_growing(visits: list[Visit]) -> None:
    weights = np.array([one.tunings for one in visits])
    assert weights.shape == (VISITS, 1 + DRIFTS)
    assert np.allclose(np.square(weights).sum(axis=1), 1, atol=1e-5)
    assert np.std(weights[:, 1:] / weights[:, :1]) == pytest.approx(DRIFT, rel=0.1)


def test_a_head_in_its_place_is_as_it_was(head: Head) -> None:
    visual = head.nsdgeneral > 0
    still = Visit(np.zeros(3), np.ones(visual.sum(), np.float32), np.eye(1, 1 + DRIFTS, dtype=np.float32)[0])
    baseline, spread = still.place(head)
    assert np.array_equal(baseline, head.baseline[head.brain])
    values = np.arange(1, visual.sum() + 1, dtype=np.float32)
    there = np.zeros(visual.shape, np.float32)
    there[visual] = values
    assert np.array_equal(spread @ values, there[head.brain])


def test_what_a_shifted_voxel_shows_is_interpolated(head: Head, visits: list[Visit]) -> None:
    """Against scipy's own interpolation of the volume, zero outside the visual voxels."""
    visual = head.nsdgeneral > 0
    values = np.random.default_rng(0).standard_normal(visual.sum()).astype(np.float32)
    volume = np.zeros(np.array(visual.shape) + 4, np.float32)
    volume[2:-2, 2:-2, 2:-2][visual] = values
    for one in visits[:5]:
        wanted = map_coordinates(volume, (np.argwhere(head.brain) + one.shift + 2).T, order=1)
        assert np.allclose(one.place(head)[1] @ values, wanted, atol=1e-5)


def test_a_shift_keeps_the_brain_bright(head: Head, visits: list[Visit]) -> None:
    for one in visits[:20]:
        baseline = one.place(head)[0]
        assert baseline.min() > 0.5 * head.baseline[head.brain].min()
        assert np.corrcoef(baseline, head.baseline[head.brain])[0, 1] > 0.8
