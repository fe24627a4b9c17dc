"""Levels of chance against every deal counted out, against many deals drawn, and where chance moves nothing."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynadiff.scores.dealing import SHIFTS, deal, dealt_level


def table(n: int, seed: int = 0, own: float = 0.0) -> np.ndarray:
    """Scores of all pairs (n, n): pictures that score high with everything, noise, and more for their own."""
    rng = np.random.default_rng(seed)
    return rng.normal(0, 2, n)[:, None] + rng.normal(0, 3, n) + rng.normal(0, 1, (n, n)) + own * np.eye(n)


def dealt(r: np.ndarray, shifts: int = SHIFTS):
    n = len(r)
    (found,) = deal(n, lambda k: k, lambda k: k, lambda a, b: (float(r[a, b]),), shifts)
    return found


def test_of_five_pictures_the_level_is_that_of_all_120_deals() -> None:
    r = table(5)
    every = [np.mean([r[order[k], k] for k in range(5)]) for order in permutations(range(5))]
    for quantile in (0.05, 0.5, 0.95):
        near = np.quantile(every, [quantile - 0.04, quantile + 0.04])
        assert near[0] <= dealt(r).level(quantile) <= near[1]
        assert dealt(r).level(quantile) == dealt_level(r, quantile)


@pytest.mark.parametrize("seed", range(5))
def test_from_a_few_shifts_the_level_is_that_of_many_deals(seed: int) -> None:
    """Though pictures differ far more from each other than pairs do, which no deal changes."""
    r = table(300, seed)
    spread = dealt_level(r, 0.95) - dealt_level(r, 0.05)  # 3.3 standard deviations
    for quantile in (0.05, 0.5, 0.95):
        assert dealt(r).level(quantile) == pytest.approx(dealt_level(r, quantile), abs=0.25 * spread)
    assert dealt(r).level(0.95) - dealt(r).level(0.05) == pytest.approx(spread, rel=0.1)


@pytest.mark.parametrize("n", [2, 5, 21, 22, 60])
@given(seed=st.integers(0, 1000))
@settings(max_examples=5, deadline=None)
def test_own_pairs_come_back_to_their_trials(n: int, seed: int) -> None:
    r = table(n, seed)
    assert dealt(r).own.tolist() == np.diag(r).tolist()
    assert dealt(r, shifts=0).own.tolist() == np.diag(r).tolist()


@pytest.mark.parametrize("n", [10, 60])
def test_without_a_pairing_the_level_is_the_score_itself(n: int) -> None:
    """A decoder that paints one picture for all has the same mean however its pictures are dealt."""
    rng = np.random.default_rng(0)
    r = np.repeat(rng.normal(size=(1, n)), n, axis=0)
    assert dealt(r).level(0.95) == pytest.approx(dealt(r).own.mean())


@pytest.mark.parametrize("n", [12, 200])
def test_chance_stays_below_its_level_19_times_of_20_and_a_pairing_goes_beyond(n: int) -> None:
    above = [found.own.mean() > found.level(0.95) for found in (dealt(table(n, seed)) for seed in range(100))]
    assert 0 <= sum(above) <= 12  # 5 expected
    assert sum(above) > 0
    assert all(found.own.mean() > found.level(0.95) for found in (dealt(table(n, k, own=2)) for k in range(20)))


def test_few_pictures_are_held_at_a_time() -> None:
    """Each is prepared once, but those that come round again."""
    prepared = []
    deal(100, lambda k: prepared.append(k) or k, lambda k: k, lambda a, b: (a + b,), 7)
    assert len(prepared) == 107
    assert len(set(prepared)) == 100
