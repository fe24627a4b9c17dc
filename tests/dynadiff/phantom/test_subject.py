"""The phantom behaves as the visual system and the scanner that it stands for."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from scipy.ndimage import binary_dilation
from scipy.stats import skew

from dynadiff.phantom.design import design
from dynadiff.phantom.head import AREAS, make_head
from dynadiff.phantom.noise import Noise
from dynadiff.phantom.scenes import CATEGORIES, SCRAMBLED, scene
from dynadiff.phantom.subject import (
    ADAPTATION,
    ATTENTION,
    ATTENTION_KEPT,
    EVOKED,
    SHAPES,
    Phantom,
    serial,
)
from dynadiff.recordings.nsd_facts import TR
from dynadiff.signal.cleaning import Cleaning, clean_run

SMALL = (12, 14, 10)
QUIET = Noise(deviation=0, drift=0, bend=0, spikes=0)


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return Phantom(1, shape=SMALL)


@pytest.fixture(scope="module")
def volumes(phantom: Phantom) -> np.ndarray:
    return phantom.run(1, 1)


def test_the_same_run_is_the_same_bytes_and_no_other_is(phantom: Phantom, volumes: np.ndarray) -> None:
    assert np.array_equal(volumes, phantom.run(1, 1))
    assert np.array_equal(volumes, Phantom(1, shape=SMALL).run(1, 1))
    for other in (phantom.run(1, 2), phantom.run(2, 1), Phantom(2, shape=SMALL).run(1, 1)):
        assert not np.array_equal(volumes, other)
    assert not np.array_equal(volumes, Phantom(1, seed=1, shape=SMALL).run(1, 1))


def test_a_brain_of_about_1000_in_a_volume_of_zeros(phantom: Phantom, volumes: np.ndarray) -> None:
    assert volumes.shape == (*SMALL, 226)
    assert volumes.dtype == np.int16
    assert not volumes[~phantom.head.brain].any()
    assert (volumes[phantom.head.brain] > 300).all()
    assert 800 < volumes[phantom.head.brain].mean() < 1200


@pytest.mark.parametrize("subject", SHAPES)
def test_nsdgeneral_is_1000_to_1500_voxels_at_the_back_of_the_cortex(subject: int) -> None:
    head = make_head(np.random.default_rng([0, subject]), SHAPES[subject])
    assert set(np.unique(head.nsdgeneral)) == {-1, 0, 1}
    assert 1000 <= (head.nsdgeneral == 1).sum() <= 1500
    assert head.brain[head.nsdgeneral >= 0].all()
    assert np.argwhere(head.nsdgeneral == 1)[:, 1].mean() < SHAPES[subject][1] / 3


def test_subjects_differ_in_shape_and_count() -> None:
    counts = {(make_head(np.random.default_rng([0, s]), shape).nsdgeneral > 0).sum() for s, shape in SHAPES.items()}
    assert len(set(SHAPES.values())) == len(counts) == 8


def test_receptive_fields_are_retinotopic(phantom: Phantom) -> None:
    tuning, visual = phantom.tuning, np.argwhere(phantom.head.nsdgeneral > 0)
    left = visual[:, 0] < (SMALL[0] - 1) / 2
    assert (tuning.centre[left, 0] >= 0.5).all()  # the left half sees what is on the right
    assert (tuning.centre[~left, 0] <= 0.5).all()
    height = np.corrcoef(visual[:, 2], tuning.centre[:, 1])[0, 1]
    assert height > 0.5  # upper cortex sees the lower part of the picture, whose y grows downwards
    sizes = [np.median(tuning.size[tuning.area == k]) for k in range(len(AREAS))]
    assert sizes == sorted(sizes)


def test_tuning_of_neighbours_is_alike() -> None:
    phantom = Phantom(1)
    visual = phantom.head.nsdgeneral > 0
    index = np.full(visual.shape, -1)
    index[visual] = np.arange(visual.sum())
    here, there = index[:-1].ravel(), index[1:].ravel()
    pairs = (here >= 0) & (there >= 0)
    far = np.random.default_rng(0).permutation(visual.sum())
    for preference in (phantom.tuning.gabor, phantom.tuning.colour, phantom.tuning.category):
        apart = np.abs(preference[here[pairs]] - preference[there[pairs]]).mean()
        assert apart < 0.75 * np.abs(preference - preference[far]).mean()


def test_responses_have_unit_variance_over_scenes(phantom: Phantom) -> None:
    responses = phantom.responses(np.arange(1, 151))
    assert np.median(responses.std(axis=0)) == pytest.approx(1, abs=0.12)
    assert np.median(responses.mean(axis=0)) == pytest.approx(4, abs=0.3)
    assert np.array_equal(responses[[2, 0]], phantom.responses(np.array([3, 1])))
    assert phantom.responses(np.array([], int)).shape == (0, responses.shape[1])


def test_higher_areas_prefer_objects_to_their_scrambled_pieces(phantom: Phantom) -> None:
    ids = np.arange(1, 151)
    scrambled = np.array([scene(number).category == SCRAMBLED for number in ids.tolist()])
    higher = phantom.responses(ids)[:, phantom.tuning.area == AREAS.index("higher")]
    assert higher[~scrambled].mean() > higher[scrambled].mean() + 0.5
    assert len(CATEGORIES) >= 20


def test_pictures_move_the_visual_voxels_and_their_neighbours_alone() -> None:
    """What a session shifts spreads by less than two voxels beyond where it should lie."""
    phantom = Phantom(1, shape=SMALL, noise=QUIET)
    moving = phantom.run(1, 1).std(axis=3) > 0
    visual = phantom.head.nsdgeneral > 0
    assert (moving[visual]).mean() > 0.99
    assert not moving[~binary_dilation(visual, iterations=3)].any()


def test_a_brain_that_answers_to_nothing_does_not_move() -> None:
    assert not (Phantom(1, shape=SMALL, noise=QUIET, response=0.0).run(1, 1).std(axis=3) > 0).any()


def test_runs_of_a_session_share_its_tuning_and_sessions_do_not(phantom: Phantom) -> None:
    ids = np.arange(1, 151)
    own, *sessions = (phantom.responses(ids, session) for session in (None, 1, 2, 3, 4, 5, 6))
    assert np.array_equal(sessions[0], phantom.responses(ids, 1))
    alike = [np.median(_columnwise(own, other)) for other in sessions]
    assert all(0.6 < r < 0.9999 for r in alike)
    between = np.median([np.median(_columnwise(x, y)) for x, y in combinations(sessions, 2)])
    assert 0.7 < between < 0.98


def test_strength_and_delay_differ_between_voxels() -> None:
    phantom = Phantom(1)
    assert np.log(phantom.strength).std() == pytest.approx(0.5, abs=0.06)  # lognormal
    assert abs(skew(np.log(phantom.strength))) < 0.4
    fine = np.array([np.interp(np.arange(0, 16, 0.1), np.arange(12) * TR, course[:12]) for course in phantom.hrf.T])
    assert np.ptp(fine.argmax(axis=1)) * 0.1 > 2.5  # seconds


def test_a_response_is_less_after_the_like_of_it() -> None:
    """By a share that falls off with time; the first of a run is as it would be alone."""
    calm = Calm()
    responses = np.full((4, 3), EVOKED, np.float32)
    found = serial(responses, np.array([4, 7, 10, 40]), calm)
    assert np.allclose(found[0], EVOKED)
    assert np.allclose(found[1], (1 - ADAPTATION) * EVOKED)
    assert np.allclose(found[3], EVOKED, atol=1e-2)
    unlike = responses.copy()
    unlike[0] = 0
    assert np.allclose(serial(unlike, np.array([4, 7, 10, 40]), calm)[1], EVOKED)


def test_attention_lasts_over_trials() -> None:
    onsets = np.arange(0, 4000, 40)  # far enough apart that none tires the next
    gains = [np.log(serial(np.ones((100, 1), np.float32), onsets, np.random.default_rng(k))[:, 0]) for k in range(40)]
    assert np.std(gains) == pytest.approx(ATTENTION, rel=0.15)
    lagged = np.mean([np.corrcoef(gain[1:], gain[:-1])[0, 1] for gain in gains])
    assert lagged == pytest.approx(ATTENTION_KEPT, abs=0.08)


def test_no_trials_depend_on_nothing() -> None:
    nothing = np.zeros((0, 5), np.float32)
    assert serial(nothing, np.zeros(0, int), np.random.default_rng(0)).shape == (0, 5)


def test_resting_run_has_noise_only(phantom: Phantom) -> None:
    assert not phantom.signal(design().file_rows(1, 21, 1), 21, np.random.default_rng(0)).any()
    assert phantom.run(21, 1).shape == (*SMALL, 226)
    for other in (phantom.run(21, 14), phantom.run(22, 1)):  # no picture in either: the noise itself differs
        assert not np.array_equal(phantom.run(21, 1), other)


def test_spikes_move_a_whole_volume() -> None:
    spiky = replace(QUIET, spikes=3, displacement=0.5)
    phantom = Phantom(1, shape=SMALL, noise=spiky, response=0)
    moved = []
    for run in (1, 2):
        series = phantom.run(1, run)[phantom.head.brain]
        moved.append((series != np.median(series, axis=1, keepdims=True)).mean(axis=0))
    assert all(((share == 0) | (share > 0.5)).all() for share in moved)
    assert any((share > 0.5).any() for share in moved)


def test_windows_after_the_picture_carry_its_response_and_those_before_do_not(phantom: Phantom) -> None:
    """A cleaned window tells its own picture's response from others'; the shuffled control does not."""
    visual = phantom.head.nsdgeneral > 0
    scores: dict[str, list[float]] = {"after": [], "before": [], "shuffled": []}
    for run in range(1, 5):
        rows = design().rows(1, 1, run)
        onsets = np.flatnonzero(rows)
        cleaned = clean_run(phantom.run(1, run)[visual].T[:225], Cleaning(), TR)
        expected = phantom.responses(rows[onsets])
        expected = expected - expected.mean(axis=0)
        for name, offset in (("after", 3), ("before", -6)):
            window = cleaned[onsets[:, None] + np.arange(offset, offset + 6)].mean(axis=1)
            scores[name].append(float(_two_way(window, expected)))
            if name == "after":
                scores["shuffled"].append(float(_two_way(np.roll(window, 7, axis=0), expected)))
    after, before, shuffled = (np.mean(scores[name]) for name in ("after", "before", "shuffled"))
    assert after > 0.7
    assert abs(before - 0.5) < 0.06
    assert abs(shuffled - 0.5) < 0.06


class Calm(np.random.Generator):
    """Attention that never wavers."""

    def __init__(self) -> None:
        super().__init__(np.random.PCG64(0))

    def standard_normal(self, size: object = None, dtype: object = None, out: object = None) -> np.ndarray:
        return np.zeros(size)  # type: ignore[call-overload]


def _columnwise(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    return (x * y).sum(axis=0) / np.sqrt(np.square(x).sum(axis=0) * np.square(y).sum(axis=0))


def _two_way(window: np.ndarray, expected: np.ndarray) -> np.floating:
    r = np.corrcoef(window - window.mean(axis=0), expected)[: len(window), len(window) :]
    return (r < np.diag(r)[:, None])[~np.eye(len(r), dtype=bool)].mean()
