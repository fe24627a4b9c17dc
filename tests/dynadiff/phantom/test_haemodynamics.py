"""The response to a picture has the shape of a haemodynamic response, and responses add up."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynadiff.phantom.haemodynamics import EARLIEST_S, HRF_VOLUMES, LATEST_S, evoked, haemodynamic_response
from dynadiff.recordings.nsd_facts import TR, VOLUMES


def response(peak: float) -> np.ndarray:
    return haemodynamic_response(np.array([peak], np.float32), np.ones(1, np.float32))[:, 0]


@pytest.mark.parametrize("peak", [4.0, 5.5, 8.0])
def test_a_picture_of_three_seconds_peaks_later_than_an_impulse(peak: float) -> None:
    found = response(peak)
    assert found[0] == 0
    assert found.max() == 1
    assert peak - TR / 2 < np.argmax(found) * TR < peak + 3 + TR / 2
    assert -0.3 < found.min() < -0.05  # undershoot
    assert np.argmin(found) > np.argmax(found)


@given(st.floats(0, 12), st.floats(0, 12))
def test_later_peaks_make_later_responses_within_four_and_eight_seconds(one: float, other: float) -> None:
    early, late = sorted((one, other))
    assert _centre(response(early)) <= _centre(response(late)) + 1e-5
    assert np.array_equal(response(early), response(float(np.clip(early, EARLIEST_S, LATEST_S))))


@given(st.sets(st.integers(0, VOLUMES - 1), min_size=1, max_size=8), st.integers(0, 2**16))
def test_responses_add_up(onsets: set[int], seed: int) -> None:
    """The course of a run is the sum of its pictures' courses, and nothing comes before its cause."""
    rng = np.random.default_rng(seed)
    at, hrf = np.array(sorted(onsets)), rng.standard_normal((HRF_VOLUMES, 3)).astype(np.float32)
    amplitudes = rng.standard_normal((len(at), 3)).astype(np.float32)
    whole = evoked(amplitudes, at, hrf)
    parts = sum(evoked(amplitudes[[k]], at[[k]], hrf) for k in range(len(at)))
    assert whole.shape == (VOLUMES, 3)
    assert np.allclose(whole, parts, atol=1e-4)
    assert not whole[: at[0]].any()


def _centre(course: np.ndarray) -> float:
    kept = course[:10]
    return float(kept @ np.arange(10) / kept.sum())
