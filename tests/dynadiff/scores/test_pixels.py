"""Pixel scores are right where the answer is known: perfect, shuffled and constant reconstructions."""

import numpy as np
import pytest

pytest.importorskip("torch")
from dynadiff.scores.pixels import pixel_scores

RNG = np.random.default_rng(0)
PICTURES = RNG.integers(0, 256, (10, 10, 10)).astype(np.uint8)
SEEN = np.repeat(np.arange(10), 8)


def test_perfect_reconstructions_score_one_and_shuffled_pictures_chance() -> None:
    s = pixel_scores(PICTURES[SEEN], PICTURES, SEEN)
    for level in (s.pixel_r, s.two_way, s.two_way_truth, s.top1):
        assert level.mean == pytest.approx(1)
        assert level.low == pytest.approx(1)
        assert level.chance < 0.85
    dealt = pixel_scores(PICTURES[(SEEN + 1) % 10], PICTURES, SEEN)
    assert dealt.top1.mean == 0
    assert dealt.two_way.mean < dealt.two_way.chance


def test_a_reconstruction_without_contrast_is_like_nothing() -> None:
    s = pixel_scores(np.full((80, 10, 10), 7.0), PICTURES, SEEN)
    assert s.pixel_r.mean == 0
    assert s.two_way.mean == 0
    assert s.top1.mean == 0


def test_both_directions_are_told_apart() -> None:
    # two reconstructions: the first is like both pictures, but more like the second; the other fits its own
    pictures = np.array([[1.0, 0, 0, 1], [1, 0, 1, 0]])
    painted = np.array([[0.9, 0, 0.6, 0.3], [1.0, 0, 1.0, 0]])
    s = pixel_scores(painted, pictures, np.array([0, 1]))
    assert s.two_way.mean == 1.0  # each picture finds its own reconstruction the likest
    assert s.two_way_truth.mean == 0.5  # but the first reconstruction is liker the second picture


def test_trials_of_a_picture_are_one_observation() -> None:
    noisy = PICTURES[SEEN] + RNG.normal(0, 400, (80, 10, 10))
    few, many = (
        pixel_scores(np.repeat(noisy[::8], n, axis=0), PICTURES, np.repeat(np.arange(10), n)).pixel_r for n in (1, 8)
    )
    assert (many.low, many.high) == pytest.approx((few.low, few.high))
    assert many.chance == pytest.approx(few.chance)
