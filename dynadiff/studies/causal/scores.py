"""How well what was seen is told from windows, by methods that take seconds. Windows in, a score a window out.

Knows no run and no cleaning. Where windows are learnt from they may be cleaned otherwise than those that are judged.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dynadiff.scores.identification import correlations, n_way_top1, two_way
from dynadiff.studies.causal.cleaners import Windows
from dynadiff.trials.baselines import ridge, ridge_at, ridge_penalty

EVERY = 3  # runs: of these the penalty is chosen, which does not depend on how many there are
N_WAY = 50
Scores = dict[str, NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class Fold:
    """Which windows are learnt from and which are judged; of which runs priors are learnt."""

    learn: NDArray[np.int64]
    test: NDArray[np.int64]
    lenders: Sequence[int]


Judge = Callable[[Windows, Windows, Fold], Scores]  # all windows to learn from, all to judge


def identified(targets: NDArray[np.float32], seen: Sequence[str], runs: NDArray[np.int64]) -> Judge:
    """Of each window, is the picture told from others by ridge regression to its tokens (n, d)?"""

    def judge(learn: Windows, test: Windows, fold: Fold) -> Scores:
        some = fold.learn[np.unique(runs[fold.learn], return_inverse=True)[1] % EVERY == 0]
        few = fold.learn if len(np.unique(runs[some])) < 2 else some
        penalty = ridge_penalty(learn[few], targets[few], runs[few])
        predicted = ridge_at(learn[fold.learn], targets[fold.learn], test[fold.test], penalty)
        r, names = correlations(predicted, targets[fold.test]), [seen[k] for k in fold.test]
        return {"two-way": two_way(r, names), "top-1": n_way_top1(r, names, min(N_WAY, len(set(names))))}

    return judge


def named(seen: Sequence[str], runs: NDArray[np.int64]) -> Judge:
    """Of each window, is the category right that ridge regression gives the highest value?"""
    names = np.array(seen)
    targets = (names[:, None] == np.unique(names)).astype(np.float32)

    def judge(learn: Windows, test: Windows, fold: Fold) -> Scores:
        predicted = ridge(learn[fold.learn], targets[fold.learn], runs[fold.learn], test[fold.test])
        return {"category": (predicted.argmax(axis=1) == targets[fold.test].argmax(axis=1)).astype(np.float64)}

    return judge


def neighboured(seen: Sequence[str]) -> Judge:
    """Of each block, is the other one that is most like it of its category? Windows averaged over their volumes."""
    names = np.array(seen)

    def judge(learn: Windows, test: Windows, fold: Fold) -> Scores:
        others, own = (windows.mean(axis=2, dtype=np.float32) for windows in (learn[fold.learn], test[fold.test]))
        r = correlations(own, others)
        r[fold.test[:, None] == fold.learn] = -np.inf
        right = names[fold.learn][r.argmax(axis=1)] == names[fold.test]
        return {"nearest block": right.astype(np.float64)}

    return judge
