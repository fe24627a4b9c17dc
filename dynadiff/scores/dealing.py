"""What would the mean score of pairs be if pictures were dealt to trials at random? Its quantiles: levels of chance.

Where all pairs are at hand, as with features, deals are drawn. Where a pair is dear, as with SSIM, trials stand in one
random order and every picture painted meets the `SHIFTS` pictures shown before its own: of these pairs mean and
variance over all deals are estimated (Hoeffding, 1951), and the mean of many trials is taken for normal. In that order
only a few pictures need be held at a time. Knows scores and trials; knows no picture and no network.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

SHIFTS = 20
DRAWS = 1000
A = TypeVar("A")
B = TypeVar("B")


@dataclass(frozen=True)
class Dealt:
    """Scores of pairs: ``scores[s, p]``, of what was painted in trial ``order[p + s]``, shown in ``order[p]``."""

    order: NDArray[np.int64]  # (n,) trials
    scores: NDArray[np.float64]  # (1 + shifts, n): the first row are the pairs that belong together

    @property
    def own(self) -> NDArray[np.float64]:
        """The score of each trial, (n,)."""
        found = np.empty(len(self.order))
        found[self.order] = self.scores[0]
        return found

    def level(self, quantile: float) -> float:
        """That quantile of the mean over trials when pictures are dealt to them at random."""
        shifts, n = self.scores.shape
        if shifts == n:  # all pairs
            return dealt_level(self._all_pairs(), quantile)
        own, others = self.scores[0], self.scores[1:]
        mean = (own.mean() + (n - 1) * others.mean()) / n
        # Of two painted and two shown, that stand side by side: their own levels fall out, the pairing remains.
        left, right = others, np.roll(others, -1, axis=1)
        pairing = left[1:-1] - left[2:] - right[:-2] + right[1:-1]
        variance = np.square(pairing).mean() / 4 * ((n - 1) / n) ** 2
        return float(mean + ndtri(quantile) * np.sqrt(variance / (n - 1)))

    def _all_pairs(self) -> NDArray[np.float64]:
        """(n, n), rows painted, columns shown."""
        n, place = len(self.order), np.arange(len(self.order))
        r = np.empty((n, n))
        for shift, row in enumerate(self.scores):
            r[np.roll(self.order, -shift), self.order[place]] = row
        return r


def deal(
    n: int, painted: Callable[[int], A], shown: Callable[[int], B], score: Callable[[A, B], tuple[float, ...]],
    shifts: int = SHIFTS, seed: int = 0,
) -> list[Dealt]:  # fmt: skip
    """Every kind of score that ``score`` gives, of the pairs that belong together and of ``shifts`` that do not.

    ``painted`` and ``shown`` prepare a trial's picture, up to 1 + ``shifts`` of the former are held. All n (n - 1)
    pairs are scored where there are no more than that many shifts.
    """
    shifts = min(shifts, n - 1)
    order = np.random.default_rng(seed).permutation(n)
    ring = [painted(int(order[s])) for s in range(shifts)]
    found = []
    for p in range(n):
        ring.append(painted(int(order[(p + shifts) % n])))
        beside = shown(int(order[p]))
        found.append([score(one, beside) for one in ring])
        del ring[0]
    return [Dealt(order, scores.T) for scores in np.moveaxis(np.array(found, np.float64), 2, 0)]


def dealt_level(r: NDArray[np.float64], quantile: float, seed: int = 0, draws: int = DRAWS) -> float:
    """That quantile of the mean of r[painted, shown], (n, n), when pictures are dealt to trials at random."""
    rng, trials = np.random.default_rng(seed), np.arange(len(r))
    return float(np.quantile([r[rng.permutation(len(r)), trials].mean() for _ in range(draws)], quantile))
