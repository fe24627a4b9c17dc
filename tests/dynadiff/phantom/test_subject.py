"""The phantom behaves as the visual system and the scanner that it stands for."""

import numpy as np
import pytest

from dynadiff.phantom.design import design
from dynadiff.phantom.head import AREAS, make_head
from dynadiff.phantom.scenes import CATEGORIES, SCRAMBLED, scene
from dynadiff.phantom.subject import SHAPES, Noise, Phantom, haemodynamic_response
from dynadiff.recordings.nsd_facts import TR
from dynadiff.signal.cleaning import Cleaning, clean_run

SMALL = (12, 14, 10)
ROWS = design().rows(1, 1, 1)


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


def test_response_peaks_after_the_impulse_response_and_shifts_with_delay() -> None:
    early, middle, late = (
        haemodynamic_response(np.array([d], np.float32), np.ones(1, np.float32))[:, 0] for d in (-0.7, 0, 0.7)
    )
    centre = [(r[:9] @ np.arange(9)) * TR / r[:9].sum() for r in (early, middle, late)]
    assert centre == sorted(centre)
    assert middle[0] == 0
    assert 5.3 < np.argmax(middle) * TR < 5.3 + 3  # a picture of 3 s peaks later than an impulse does
    assert -0.3 < middle.min() < -0.05  # undershoot


def test_signal_adds_up_over_pictures(phantom: Phantom) -> None:
    onsets = np.flatnonzero(ROWS)
    first, rest = ROWS.copy(), ROWS.copy()
    first[onsets[5:]] = 0
    rest[onsets[:5]] = 0
    whole = phantom.signal(ROWS)
    assert np.allclose(whole, phantom.signal(first) + phantom.signal(rest), atol=1e-4)
    assert not whole[: onsets[0] + 1].any()


def test_no_picture_moves_a_voxel_outside_nsdgeneral() -> None:
    quiet = Noise(autoregressive=0, thermal=0, physiology=0, drift=0, spikes=0)
    volumes = Phantom(1, shape=SMALL, noise=quiet).run(1, 1)
    moving = volumes.std(axis=3) > 0
    assert np.array_equal(moving, Phantom(1, shape=SMALL).head.nsdgeneral > 0)


def test_resting_run_has_noise_only(phantom: Phantom) -> None:
    assert not phantom.signal(design().file_rows(1, 21, 1)).any()
    assert phantom.run(21, 1).shape == (*SMALL, 226)
    for other in (phantom.run(21, 14), phantom.run(22, 1)):  # no picture in either: the noise itself differs
        assert not np.array_equal(phantom.run(21, 1), other)


def test_spikes_move_a_whole_volume() -> None:
    spiky = Noise(autoregressive=0, thermal=0, physiology=0, drift=0, response=0, spikes=3, displacement=0.5)
    phantom = Phantom(1, shape=SMALL, noise=spiky)
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


def _two_way(window: np.ndarray, expected: np.ndarray) -> np.floating:
    r = np.corrcoef(window - window.mean(axis=0), expected)[: len(window), len(window) :]
    return (r < np.diag(r)[:, None])[~np.eye(len(r), dtype=bool)].mean()
