"""Shares, intervals over runs, chance within runs and flipped signs, held against counts by hand and simulations."""

from collections.abc import Sequence
from itertools import permutations, product

import numpy as np
import pytest
from numpy.typing import NDArray

from dynadiff.scores.intervals import bootstrap_ci
from dynadiff.studies.haxby.figures import (
    PAINTED,
    UNITS,
    Ahead,
    accuracy,
    ahead,
    conclusion,
    dealt_level,
    figures,
    right,
    sign_flip_p,
)
from dynadiff.studies.haxby.kept import Fold

OTHER = "LDA"


def fold(run: str, blocks: Sequence[int], shown: Sequence[int], scores: dict[str, NDArray[np.float64]]) -> Fold:
    count = next(iter(scores.values())).shape[1]
    rows = {who: tuple(map(tuple, values.tolist())) for who, values in scores.items()}
    who, categories = [*scores], tuple("abcdefgh"[:count])
    strengths = dict.fromkeys(who[1:], 0.5)
    return Fold(run, categories, tuple(blocks), tuple(shown), rows, strengths, "", {"named by": who})


def judged(run: str, hits: dict[str, NDArray[np.bool_]]) -> Fold:
    """A block a window; who is right scores what was shown, who is wrong the next category."""
    n = len(next(iter(hits.values())))
    shown = np.arange(n) % 4
    scores = {who: np.eye(4)[np.where(found, shown, (shown + 1) % 4)] for who, found in hits.items()}
    return fold(run, range(n), shown.tolist(), scores)


def test_a_block_is_named_by_the_mean_of_its_windows() -> None:
    scores = np.array([[0.6, 0.4, 0], [0.1, 0.9, 0], [0.2, 0.3, 0.5], [0.2, 0.5, 0.3], [0, 0.45, 0.55]])
    one = fold("run", [7, 7, 3, 3, 3], [0, 0, 2, 2, 2], {PAINTED: scores})
    np.testing.assert_array_equal(right(one, PAINTED, "windows"), [1, 0, 1, 0, 1])
    # means 0.35 0.65 0 of block 7, and 0.13 0.42 0.45 of block 3, which comes first: blocks are in order of number
    np.testing.assert_array_equal(right(one, PAINTED, "blocks"), [1, 0])
    assert accuracy([one], PAINTED, "windows").mean == pytest.approx(0.6)
    assert accuracy([one], PAINTED, "blocks").mean == 0.5


def test_intervals_are_those_of_runs_where_a_run_is_right_or_wrong_as_a_whole() -> None:
    hits = np.repeat(np.arange(12) % 2 == 0, 32).reshape(12, 32)
    folds = [judged(f"run-{k}", {PAINTED: run}) for k, run in enumerate(hits)]
    found = accuracy(folds, PAINTED, "windows")
    assert found.mean == 0.5
    assert found.high - found.low == pytest.approx(2 * 1.96 * np.sqrt(0.25 / 12), rel=0.15)
    low, high = bootstrap_ci(
        hits.ravel().astype(float), [str(k) for k in range(hits.size)]
    )  # windows, as if independent
    assert found.high - found.low > 4 * (high - low)


def test_a_difference_is_covered_as_often_as_said_though_runs_differ() -> None:
    """No difference in truth, and runs in which one or the other is better: windows alone would be too sure."""
    rng, covered, by_window, p = np.random.default_rng(0), [], [], []
    for _ in range(150):
        chances = rng.uniform(0.1, 0.9, (2, 12))
        hits = rng.uniform(size=(2, 12, 32)) < chances[..., None]
        folds = [judged(f"run-{k}", {PAINTED: hits[0, k], OTHER: hits[1, k]}) for k in range(12)]
        found = ahead(folds, PAINTED, OTHER, "windows")
        assert found.mean == pytest.approx(hits[0].mean() - hits[1].mean())
        covered.append(found.low <= 0 <= found.high)
        p.append(found.p)
        differences = hits[0].astype(float) - hits[1]
        low, high = bootstrap_ci(differences.ravel(), [str(k) for k in range(differences.size)], draws=200)
        by_window.append(low <= 0 <= high)
    assert 0.85 <= np.mean(covered) <= 0.99
    assert np.mean(by_window) < 0.7
    assert np.mean(np.array(p) < 0.05) <= 0.1
    assert np.mean(np.array(p) < 0.5) == pytest.approx(0.5, abs=0.13)


def test_p_counts_the_flips_that_lead_as_far() -> None:
    assert sign_flip_p(np.ones(4)) == 2 / 16
    assert sign_flip_p(np.ones(12)) == 2 / 4096
    assert sign_flip_p(np.array([3.0, 1.0, 1.0, -1.0])) == 8 / 16  # 6 and three times 4, and their opposites
    assert sign_flip_p(np.array([2.0, -1.0, -1.0])) == 1
    assert sign_flip_p(np.zeros(5)) == 1
    values = np.random.default_rng(0).normal(0.4, 1, 9)
    sums = [abs(np.dot(signs, values)) for signs in product((1, -1), repeat=9)]
    assert sign_flip_p(values) == np.mean(np.array(sums) >= abs(values.sum()) - 1e-9)
    assert sign_flip_p(values) == sign_flip_p(-values)
    for wrong in (np.zeros(0), np.zeros(21)):
        with pytest.raises(ValueError, match="1 to 20"):
            sign_flip_p(wrong)


def test_chance_deals_the_categories_of_a_run_among_its_blocks() -> None:
    """Of one run of four blocks, named right: 24 deals, of which every one was counted."""
    one = judged("run", {PAINTED: np.ones(4, np.bool_)})
    deals = [np.mean(np.array(deal) == np.arange(4)) for deal in permutations(range(4))]
    assert dealt_level([one], PAINTED, "windows") == np.quantile(deals, 0.95) == 0.5
    always = fold("run", range(4), range(4), {PAINTED: np.tile([0.0, 1, 0, 0], (4, 1))})
    assert dealt_level([always], PAINTED, "blocks") == 0.25  # a run shows each category as often, whatever is dealt
    half = np.repeat([0, 1], 9)
    long = fold("run", half.tolist(), half.tolist(), {PAINTED: np.eye(2)[half]})
    assert dealt_level([long], PAINTED, "windows") == 1  # windows of a block are dealt together: all right or none
    many = [judged(f"run-{k}", {PAINTED: np.ones(8, np.bool_)}) for k in range(12)]
    assert 0.27 < dealt_level(many, PAINTED, "windows") < 0.34  # 1/4, and 1.64 standard deviations of 96 blocks


def lead(mean: float, low: float, high: float, p: float) -> dict[str, Ahead]:
    return dict.fromkeys(UNITS, Ahead(mean, low, high, p))


def test_it_is_above_or_below_only_where_interval_and_test_agree() -> None:
    cases = {
        "above": (0.1, 0.05, 0.2, 0.01), "below": (-0.1, -0.2, -0.05, 0.01), "no test": (0.1, 0.01, 0.2, 0.06),
        "no interval": (-0.1, -0.2, 0.0, 0.04),
    }  # fmt: skip
    assert [Ahead(*case).verdict for case in cases.values()] == ["above", "below", "undecided", "undecided"]


def test_the_sentence_follows_from_the_numbers() -> None:
    above, below, open_ = lead(0.1, 0.05, 0.2, 0.01), lead(-0.1, -0.2, -0.05, 0.01), lead(0.0, -0.1, 0.1, 1.0)
    assert conclusion({"A": above, "B": above}) == "In windows and in blocks, Dynadiff is above every tuned opponent."
    assert conclusion({"A": open_, "B": open_}) == (
        "In windows and in blocks, Dynadiff is undecided against every tuned opponent."
    )
    assert conclusion({"A": open_, "B": below, "C": above, "D": below}) == (
        "In windows and in blocks, Dynadiff is above C, below B and D, undecided against A."
    )
    mixed = {"windows": below["windows"], "blocks": open_["blocks"]}
    assert conclusion({"A": mixed, "B": below}) == (
        "In windows, Dynadiff is below every tuned opponent; in blocks, it is below B, undecided against A."
    )


def test_the_table_has_a_row_each_and_a_difference_to_each_opponent() -> None:
    rng = np.random.default_rng(0)
    hits = {PAINTED: rng.uniform(size=(12, 32)) < 0.2, "weak": rng.uniform(size=(12, 32)) < 0.2,
            "strong": rng.uniform(size=(12, 32)) < 0.9}  # fmt: skip
    folds = [judged(f"run-{k}", {who: found[k] for who, found in hits.items()}) for k in range(12)]
    found = figures(folds)
    assert (found.runs, found.counts, found.chance) == (12, {"windows": 384, "blocks": 384}, 0.25)
    assert [*found.rows] == [PAINTED, "weak", "strong"]
    for who, row in found.rows.items():
        assert row["windows"].mean == hits[who].mean()
        assert row["windows"].low < row["windows"].mean < row["windows"].high
    assert [*found.ahead] == ["weak", "strong"]
    assert found.strengths == {"weak": (0.5,) * 12, "strong": (0.5,) * 12}
    assert found.ahead["strong"]["windows"].p == 2 / 4096
    assert found.says == "In windows and in blocks, Dynadiff is below strong, undecided against weak."
