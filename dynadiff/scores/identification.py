"""Is a reconstruction more like the picture that was seen than like others? A score for every trial.

Knows features, correlations and the names of pictures; knows no network, no file and no run. Trials that show
the same picture are never each other's distractors. What "like" means is the feature space, an argument.
"""

from collections.abc import Callable, Sequence
from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Features = Callable[[NDArray[np.uint8]], Floats]  # pictures (n, h, w, 3) to features (n, d)
ROWS = 64  # made double at a time: the features of a network are many


def correlations(reconstructed: Floats, true: Floats) -> NDArray[np.float64]:
    """R (n, n): Pearson correlation of features (n, d), rows reconstructions, columns truths.

    Features that do not vary correlate 0 with everything.
    """
    return np.asarray(standardised(reconstructed) @ standardised(true).T, np.float64)


def standardised(features: Floats) -> Floats:
    """Features (n, d) of mean 0 and length 1 in their own precision, 0 where they do not vary."""
    done = np.empty_like(features)
    for k in range(0, len(features), ROWS):
        rows = features[k : k + ROWS].astype(np.float64)
        done[k : k + ROWS] = _unit(rows - rows.mean(axis=1, keepdims=True))
    return done


def two_way(r: NDArray[np.float64], pictures: Sequence[str]) -> NDArray[np.float64]:
    """Per trial, the share of other reconstructions less like the truth than its own, (n,); chance is 1/2.

    The direction of the released Dynadiff: trial j succeeds against i when R[i, j] < R[j, j], one truth and many
    reconstructions, and a tie fails. Brain-Diffuser (Ozcelik & VanRullen, 2023), MindEye1 and MindEye2 go the other
    way, one reconstruction i and many truths, R[i, j] < R[i, i]: that is the score of the transpose of R. NaN where
    all trials show the same picture.
    """
    rivals = _differ(pictures)
    beaten = ((r < np.diag(r)) & rivals).sum(axis=0)
    count = rivals.sum(axis=0)
    return np.asarray(np.divide(beaten, count, out=np.full(len(r), np.nan), where=count > 0))


def two_way_level(r: NDArray[np.float64], pictures: Sequence[str], seed: int = 0, draws: int = 1000) -> float:
    """`dynadiff.scores.intervals.permutation_level` of `two_way`, from ranks, in a fifth of the time.

    Of two different pictures at least.
    """
    rng, truths = np.random.default_rng(seed), np.arange(len(r))
    dealt = np.stack([rng.permutation(len(r)) for _ in range(draws)])  # (draws, n): the reconstruction of each trial
    own, rivals = r[dealt, truths], _differ(pictures)
    columns = zip(r.T, np.sort(r, axis=0).T, strict=True)
    below = np.stack([np.searchsorted(ordered, values) for values, ordered in columns], axis=1)
    beaten = below[dealt, truths]  # of all others, those of the same picture among them
    for same, truth in zip(*np.nonzero(~rivals), strict=True):
        beaten[:, truth] -= r[dealt[:, same], truth] < own[:, truth]
    return float(np.quantile((beaten / rivals.sum(axis=0)).mean(axis=1), 0.95))


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


def _unit(features: NDArray[np.float64]) -> NDArray[np.float64]:
    norm = np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(np.divide(features, norm, out=np.zeros_like(features), where=norm > 1e-12))


def _differ(pictures: Sequence[str]) -> NDArray[np.bool_]:
    names = np.asarray(pictures)
    return np.asarray(names[:, None] != names[None, :])
