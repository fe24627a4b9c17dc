"""Scores of one model, trial by trial, and what two of them say of an ordering. Arithmetic and one file; no network.

Two models that are judged on the same trials are compared in pairs: what makes a picture hard is hard for both, so the
interval of the difference is narrower than those of the two.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from dynadiff.base.errors import UserError
from dynadiff.base.files import atomic
from dynadiff.scores.intervals import Interval, interval
from dynadiff.studies.plan import METRICS


@dataclass(frozen=True)
class Judged:
    """How well a model's picture of each trial was identified, in each of `METRICS`: (n,) from 0 to 1."""

    model: str  # digest of its folder's description
    trials: tuple[str, ...]  # run/picture
    pictures: tuple[str, ...]
    scores: Mapping[str, NDArray[np.float64]]

    def interval(self, metric: str) -> Interval:
        return interval(self.scores[metric], self.pictures)


def difference(above: Judged, below: Judged, metric: str) -> Interval:
    """How much better the first is, over pairs of the same trial. Raises ValueError where trials differ."""
    if above.trials != below.trials:
        raise ValueError("models that were judged on different trials cannot be compared")
    return interval(above.scores[metric] - below.scores[metric], above.pictures)


def verdict(found: Interval) -> str:
    """Of a difference that should be above 0."""
    return "holds" if found.low > 0 else "reversed" if found.high < 0 else "undecided"


def save_judged(judged: Judged, path: Path) -> None:
    with atomic(path) as new:
        arrays: dict[str, Any] = {"model": judged.model, "trials": judged.trials, "pictures": judged.pictures}
        np.savez(new, allow_pickle=False, **arrays, **judged.scores)


def load_judged(path: Path) -> Judged:
    """Raises UserError for a file that is damaged."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as held:
            trials, pictures = (tuple(held[name].tolist()) for name in ("trials", "pictures"))
            scores = {metric: held[metric].astype(np.float64) for metric in METRICS}
            return Judged(str(held["model"]), trials, pictures, scores)
    except (ValueError, TypeError, KeyError, OSError, EOFError, BadZipFile) as error:
        raise UserError(f"{path} is damaged ({error}): delete it, and the model is judged again") from None
