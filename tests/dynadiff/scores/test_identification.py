"""Identification scores against counting by hand, against sampling, and at chance."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynadiff.scores.identification import correlations, n_way_top1, two_way, two_way_level
from dynadiff.scores.intervals import bootstrap_ci, permutation_level
from dynadiff.scores.pixels import pixel_features


@st.composite
def trials(draw):
    """A correlation matrix (n, n) and the picture of each trial, some shown more than once."""
    n = draw(st.integers(2, 9))
    pictures = draw(st.lists(st.sampled_from("abcdefghij"), min_size=n, max_size=n))
    features = np.random.default_rng(draw(st.integers(0, 999)))
    true = {p: features.standard_normal(5) for p in "abcdefghij"}
    return correlations(features.standard_normal((n, 5)), np.array([true[p] for p in pictures])), pictures


@given(trials())
def test_two_way_counts_the_released_direction(case):
    r, pictures = case
    for j, score in enumerate(two_way(r, pictures)):
        rivals = [i for i in range(len(r)) if pictures[i] != pictures[j]]
        if rivals:
            assert score == pytest.approx(np.mean([r[i, j] < r[j, j] for i in rivals]))
        else:
            assert np.isnan(score)


@given(trials())
def test_the_transpose_counts_the_direction_of_brain_diffuser_and_mindeye(case):
    r, pictures = case
    for i, score in enumerate(two_way(r.T, pictures)):
        rivals = [j for j in range(len(r)) if pictures[j] != pictures[i]]
        assert score == pytest.approx(np.mean([r[i, j] < r[i, i] for j in rivals])) if rivals else np.isnan(score)


def test_two_way_compares_reconstructions_for_one_truth_and_not_truths_for_one_reconstruction():
    r = np.array([[0.9, 0.1], [0.95, 0.2]])  # row 1 is the better likeness of both truths
    assert two_way(r, ["a", "b"]).tolist() == [0.0, 1.0]


@given(trials(), st.integers(2, 5))
def test_n_way_is_the_share_of_all_draws_of_distractors(case, n):
    r, pictures = case
    first = {p: pictures.index(p) for p in pictures}
    if len(first) < n:
        with pytest.raises(ValueError, match="needs 2 to"):
            n_way_top1(r, pictures, n)
        return
    for i, score in enumerate(n_way_top1(r, pictures, n)):
        others = [first[p] for p in first if p != pictures[i]]
        wins = [all(r[i, j] < r[i, i] for j in drawn) for drawn in combinations(others, n - 1)]
        assert score == pytest.approx(np.mean(wins))


def test_repeats_of_a_picture_are_no_distractors():
    r = np.array([[0.5, 0.5, 0.1], [0.9, 0.9, 0.1], [0.1, 0.1, 0.8]])  # trials 0 and 1 show the same picture
    assert two_way(r, ["a", "a", "b"]).tolist() == [1.0, 1.0, 1.0]
    assert n_way_top1(r, ["a", "a", "b"], 2).tolist() == [1.0, 1.0, 1.0]


def test_noise_is_at_chance_and_below_its_own_permutation_level():
    rng = np.random.default_rng(0)
    pictures = [str(i) for i in range(63)]
    r = correlations(rng.standard_normal((63, 40)), rng.standard_normal((63, 40)))
    for score, chance in ((two_way, 0.5), (n_way_top1, 1 / 50)):
        values = score(r, pictures)
        assert values.mean() == pytest.approx(chance, abs=0.06)
        level = permutation_level(r, pictures, score, draws=200)
        assert chance < level < chance + 0.12
        assert values.mean() < level
    perfect = correlations(rng.standard_normal((63, 40)), rng.standard_normal((63, 40)))
    perfect[np.diag_indices(63)] = 1.0
    assert two_way(perfect, pictures).mean() == n_way_top1(perfect, pictures).mean() == 1.0


def test_an_interval_holds_the_mean_and_widens_when_trials_share_pictures():
    scores = np.random.default_rng(1).uniform(size=60)
    scores[::2] = scores[1::2]  # the two trials of each picture succeed together
    apart = bootstrap_ci(scores, [str(i) for i in range(60)])
    together = bootstrap_ci(scores, [str(i // 2) for i in range(60)])
    assert apart[0] < scores.mean() < apart[1]
    assert together[1] - together[0] > 1.2 * (apart[1] - apart[0])
    assert bootstrap_ci(scores, [str(i) for i in range(60)]) == apart


def test_pixel_features_know_colour_and_place_and_not_size():
    red, blue = np.zeros((2, 64, 64, 3), np.uint8)
    red[:32], blue[:32] = (200, 20, 20), (20, 20, 200)
    upside_down = red[::-1]
    large = np.repeat(np.repeat(red, 2, axis=0), 2, axis=1)
    features = pixel_features(np.stack([red, blue, upside_down]))
    r = correlations(pixel_features(large[None]), features)
    assert features.shape == (3, 768)
    assert r[0, 0] == pytest.approx(1, abs=1e-6)
    assert r[0, 0] > r[0, 1] > r[0, 2]


def test_features_that_do_not_vary_correlate_with_nothing():
    assert correlations(np.ones((2, 4)), np.arange(8.0).reshape(2, 4)).tolist() == [[0, 0], [0, 0]]


@given(trials())
def test_the_level_of_two_way_from_ranks_is_that_of_its_permutations(drawn):
    r, pictures = drawn
    if len(set(pictures)) > 1:
        assert two_way_level(r, pictures, 3, 200) == pytest.approx(permutation_level(r, pictures, two_way, 3, 200))
