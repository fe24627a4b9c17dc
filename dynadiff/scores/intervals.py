"""How sure a mean score is, and what chance would give: intervals over pictures, levels by permutation.

Knows scores and the names of pictures; knows no picture and no network.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Score = Callable[[NDArray[np.float64], Sequence[str]], NDArray[np.float64]]  # (R, names) to a score per trial


@dataclass(frozen=True)
class Interval:
    """A mean over trials with its 95 % bootstrap interval over pictures."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Level(Interval):
    """The same beside what chance gives at most 19 of 20 times."""

    chance: float  # 95th percentile of the mean when what is compared is dealt out at random


def bootstrap_ci(
    per_trial: NDArray[np.float64], pictures: Sequence[str], seed: int = 0, draws: int = 2000
) -> tuple[float, float]:
    """95 % percentile interval of the mean score; pictures are resampled, with all trials of each."""
    _, group = np.unique(np.asarray(pictures), return_inverse=True)
    sums, counts = np.bincount(group, per_trial), np.bincount(group)
    drawn = np.random.default_rng(seed).integers(len(sums), size=(draws, len(sums)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def interval(per_trial: NDArray[np.float64], pictures: Sequence[str]) -> Interval:
    """The mean score with its interval."""
    return Interval(float(per_trial.mean()), *bootstrap_ci(per_trial, pictures))


def level(per_trial: NDArray[np.float64], pictures: Sequence[str], chance: float) -> Level:
    """The mean score with its interval and a level of chance."""
    found = interval(per_trial, pictures)
    return Level(found.mean, found.low, found.high, chance)


def permutation_level(
    r: NDArray[np.float64], pictures: Sequence[str], score: Score, seed: int = 0, draws: int = 1000
) -> float:
    """95th percentile of the mean score when reconstructions are dealt to trials at random."""
    rng = np.random.default_rng(seed)
    return float(np.quantile([score(r[rng.permutation(len(r))], pictures).mean() for _ in range(draws)], 0.95))
