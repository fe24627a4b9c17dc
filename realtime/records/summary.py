"""A run in numbers: latency, identification, and how far online cleaning was from the whole run's.

Pure arithmetic on what the decode gathered. It knows no files, no sockets and no clock.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dynadiff.base.errors import UserError
from dynadiff.base.onnxruntime_errors import ERRORS
from dynadiff.scores.identification import Features, correlations, n_way_top1, two_way, two_way_level
from dynadiff.scores.intervals import bootstrap_ci, permutation_level
from dynadiff.scores.pixels import pixel_features
from dynadiff.signal.cleaning import Cleaning, clean_run

N_WAY = 50  # as published on NSD, or as many pictures as the run has
Json = dict[str, object]


@dataclass(frozen=True)
class Space:
    """A feature space in which pictures are compared, under the name by which it is told."""

    name: str
    features: Features

    def look(self, picture: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Features (d,) of one picture (h, w, 3). UserError where a network breaks, or gives what is no number."""
        try:
            (found,) = self.features(picture[None])
        except (*ERRORS, cv2.error, MemoryError, ValueError) as error:  # the latter of a picture that does not suit it
            raise UserError(f"{self.name} broke ({' '.join(str(error).split())})") from error
        if not np.isfinite(found).all():
            raise UserError(f"{self.name} gave features of a picture that are not finite")
        return np.asarray(found, np.float64)


PIXELS = Space("pixels", pixel_features)


def quantiles_ms(seconds: Sequence[float]) -> Json:
    """Quantiles of times (seconds) in milliseconds; empty where there are none."""
    if not seconds:
        return {}
    p50, p95, p99, top = np.quantile(seconds, [0.5, 0.95, 0.99, 1.0]) * 1000
    return {"p50": round(p50, 3), "p95": round(p95, 3), "p99": round(p99, 3), "max": round(top, 3)}


def identification(
    reconstructions: Sequence[NDArray[np.uint8]],
    stimuli: Sequence[NDArray[np.uint8]],
    names: Sequence[str],
    space: Space,
) -> Json | None:
    """Scores of single trials: (h, w, 3) reconstructions, what was shown, and under which name.

    None where fewer than two different pictures were shown. UserError where the space cannot say.
    """
    n_way = min(N_WAY, len(set(names)))
    if n_way < 2:
        return None
    r = correlations(_features(space, reconstructions), _features(space, stimuli))

    def top1(r: NDArray[np.float64], names: Sequence[str]) -> NDArray[np.float64]:
        return n_way_top1(r, names, n_way)

    both, best = two_way(r, names), top1(r, names)
    return {
        "two_way": round(float(both.mean()), 4),
        "top1": round(float(best.mean()), 4),
        "n_way": n_way,
        "n_trials": len(names),
        "ci95": _rounded(bootstrap_ci(both, names)),  # of two_way
        "top1_ci95": _rounded(bootstrap_ci(best, names)),
        "chance": {"two_way": 0.5, "top1": round(1 / n_way, 4)},
        "permuted_p95": {
            "two_way": round(two_way_level(r, names), 4),
            "top1": round(permutation_level(r, names, top1), 4),
        },
        "features": space.name,
    }


class CleaningAgreement:
    """Agreement of online windows, averaged over their volumes, with those of the run cleaned as a whole."""

    def __init__(self) -> None:
        self._samples: dict[int, NDArray[np.float32]] = {}
        self._windows: dict[int, NDArray[np.float32]] = {}

    def sample(self, row: int, sample: NDArray[np.float32]) -> None:
        """A raw volume (voxels,); rows count from the first kept one."""
        self._samples[row] = sample

    def window(self, last_row: int, values: NDArray[np.float32]) -> None:
        """A cleaned window (voxels, volumes) that ends with the volume of ``last_row``."""
        self._windows[last_row] = values.mean(axis=1)

    def result(self, cleaning: Cleaning, tr: float, length: int) -> Json:
        """Correlation over voxels, 1 where both agree, over the run's windows; empty where there are none."""
        if not self._windows:
            return {}
        series = np.full((max(self._samples) + 1, len(self._samples[0])), np.nan, np.float32)
        for row, sample in self._samples.items():
            series[row] = sample
        whole = clean_run(series, cleaning, tr)
        r = [_corr(w, whole[k - length + 1 : k + 1].mean(axis=0)) for k, w in self._windows.items()]
        return {"mean": round(float(np.mean(r)), 4), "min": round(min(r), 4), "last": round(r[-1], 4)}


def _features(space: Space, pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """One at a time: stimuli need not be of one size."""
    return np.stack([space.look(picture) for picture in pictures])


def _corr(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    a, b = a - a.mean(), b - b.mean()
    return float(a @ b / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-12))


def _rounded(interval: tuple[float, float]) -> list[float]:
    return [round(bound, 4) for bound in interval]
