"""Is a reconstruction more like the picture that was seen than like others? Scores, intervals and levels.

Knows features, correlations and the names of pictures; knows no network, no file and no run. Trials that show
the same picture are never each other's distractors. What "like" means is the feature space, an argument.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import comb

import cv2
import numpy as np
from numpy.typing import NDArray

Features = Callable[[NDArray[np.uint8]], NDArray[np.float64]]  # pictures (n, h, w, 3) to features (n, d)
Score = Callable[[NDArray[np.float64], Sequence[str]], NDArray[np.float64]]  # (R, names) to a score per trial
LAB_SIDE = 16  # pixels


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


def pixel_features(pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Pictures (n, h, w, 3) as ``LAB_SIDE``² CIE Lab colours (n, 3 LAB_SIDE²): layout and colour only."""
    side = (LAB_SIDE, LAB_SIDE)
    small = [cv2.resize(p, side, interpolation=cv2.INTER_AREA).astype(np.float32) / 255 for p in pictures]
    lab = [cv2.cvtColor(p, cv2.COLOR_RGB2LAB) for p in small]
    return np.reshape(lab, (len(pictures), 3 * LAB_SIDE**2)).astype(np.float64)


def correlations(reconstructed: NDArray[np.float64], true: NDArray[np.float64]) -> NDArray[np.float64]:
    """R (n, n): Pearson correlation of features (n, d), rows reconstructions, columns truths.

    Features that do not vary correlate 0 with everything.
    """
    rows, columns = (_unit(f - f.mean(axis=1, keepdims=True)) for f in (reconstructed, true))
    return np.asarray(rows @ columns.T)


def two_way(r: NDArray[np.float64], pictures: Sequence[str]) -> NDArray[np.float64]:
    """Per trial, the share of other reconstructions less like the truth than its own, (n,); chance is 1/2.

    The direction of the released Dynadiff (and of Ozcelik & VanRullen, 2023): trial j succeeds against i when
    R[i, j] < R[j, j]. NaN where all trials show the same picture.
    """
    rivals = _differ(pictures)
    beaten = ((r < np.diag(r)) & rivals).sum(axis=0)
    count = rivals.sum(axis=0)
    return np.asarray(np.divide(beaten, count, out=np.full(len(r), np.nan), where=count > 0))


def n_way_top1(r: NDArray[np.float64], pictures: Sequence[str], n: int = 50) -> NDArray[np.float64]:
    """Per trial, the probability that its reconstruction is most like its truth among ``n`` pictures, (n,).

    The n - 1 distractors are drawn from the other pictures of ``r`` without replacement, and the probability
    over all draws is exact: with b of m other pictures at least as similar, C(m - b, n - 1) / C(m, n - 1).
    Chance is 1/n.
    Raises ValueError when there are fewer than ``n`` different pictures.
    """
    names, first = np.unique(np.asarray(pictures), return_index=True)
    m = len(names) - 1
    if not 2 <= n <= m + 1:
        raise ValueError(f"{n}-way identification needs 2 to {m + 1} pictures, as many as there are")
    others = names[None, :] != np.asarray(pictures)[:, None]
    better = ((r[:, first] >= np.diag(r)[:, None]) & others).sum(axis=1)
    table = np.array([comb(m - b, n - 1) / comb(m, n - 1) for b in range(m + 1)])
    return np.asarray(table[better])


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


def _unit(features: NDArray[np.float64]) -> NDArray[np.float64]:
    norm = np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(np.divide(features, norm, out=np.zeros_like(features), where=norm > 1e-12))


def _differ(pictures: Sequence[str]) -> NDArray[np.bool_]:
    names = np.asarray(pictures)
    return np.asarray(names[:, None] != names[None, :])
