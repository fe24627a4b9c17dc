"""How like the pictures that were seen are the painted ones, pixel by pixel? For few pictures, each seen many times.

Intervals and chance levels take a picture with all its trials as the unit. Knows arrays; no network and no file.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dynadiff.scores.identification import correlations, n_way_top1, two_way
from dynadiff.scores.intervals import Level, level

DRAWS = 2000
LAB_SIDE = 16  # pixels


def pixel_features(pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Pictures (n, h, w, 3) as ``LAB_SIDE``² CIE Lab colours (n, 3 LAB_SIDE²): layout and colour only."""
    side = (LAB_SIDE, LAB_SIDE)
    small = [cv2.resize(p, side, interpolation=cv2.INTER_AREA).astype(np.float32) / 255 for p in pictures]
    lab = [cv2.cvtColor(p, cv2.COLOR_RGB2LAB) for p in small]
    return np.reshape(lab, (len(pictures), 3 * LAB_SIDE**2)).astype(np.float64)


@dataclass(frozen=True)
class PixelScores:
    """Pearson's r with the picture seen, and identification by it among the other pictures."""

    pixel_r: Level
    two_way: Level  # own reconstruction against those of the other pictures, as released; chance 1/2
    two_way_truth: Level  # own picture against the other pictures, as Brain-Diffuser counts; chance 1/2
    top1: Level  # own picture among all of them; chance 1/p


def pixel_scores(painted: NDArray[np.generic], pictures: NDArray[np.generic], seen: NDArray[np.int64]) -> PixelScores:
    """Scores of painted trials (n, ...) whose pictures were ``seen`` (n,), of ``pictures`` (p, ...) of the same size.

    A reconstruction that does not vary correlates 0 with everything.
    """
    flat = [np.reshape(x, (len(x), -1)).astype(np.float64) for x in (painted, pictures)]
    r = correlations(flat[0], flat[1])  # (n, p)
    return PixelScores(
        _level(r, seen, lambda own, names: np.diag(own)),
        _level(r, seen, two_way),
        _level(r, seen, lambda own, names: two_way(own.T, names)),
        _level(r, seen, lambda own, names: n_way_top1(own, names, r.shape[1])),
    )


def _level(
    r: NDArray[np.float64],
    seen: NDArray[np.int64],
    score: Callable[[NDArray[np.float64], list[str]], NDArray[np.float64]],
) -> Level:
    names, rng = [str(k) for k in seen], np.random.default_rng(0)
    per_trial = score(r[:, seen], names)
    dealt = [score(r[:, rng.permutation(r.shape[1])[seen]], names).mean() for _ in range(DRAWS)]
    return level(per_trial, names, float(np.quantile(dealt, 0.95)))
