"""Scores of pictures that show one object on a background: what is said of them against what is true. Arithmetic alone.

Who says it, a network or the drawing itself, is not known here. All scores have one value a picture, so that intervals
over pictures and paired differences follow.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEAST = 0.02  # share of a picture from which on something is in it: less is an edge


@dataclass(frozen=True, eq=False)
class Shown:
    """What n pictures show.

    Raises ValueError where its arrays are not of as many pictures.
    """

    category: NDArray[np.int64]  # (n,), of the object
    classes: NDArray[np.uint8]  # (n, m, m), what is where: 0 background, 1 + category an object
    hues: NDArray[np.float64]  # (n, 2), of object and background, degrees from 0 to 360

    def __post_init__(self) -> None:
        if not len(self.category) == len(self.classes) == len(self.hues):
            raise ValueError("categories, maps and hues must be of as many pictures")

    def __len__(self) -> int:
        return len(self.category)


def named(said: Shown, true: Shown) -> NDArray[np.float64]:
    """1 where the category is right, else 0, (n,)."""
    return np.asarray(said.category == true.category, np.float64)


def object_f1(said: Shown, true: Shown) -> NDArray[np.float64]:
    """F1 of the objects that are in the picture: what is found and not there costs as what is there and not found."""
    pairs = zip(said.classes, true.classes, strict=True)
    return np.array([_f1(_objects(found), _objects(there)) for found, there in pairs])


def mean_iou(said: Shown, true: Shown) -> NDArray[np.float64]:
    """Intersection over union of each class that one of the two maps has, background included, averaged, (n,)."""
    return np.array([_iou(found, there) for found, there in zip(said.classes, true.classes, strict=True)])


def hue_errors(said: Shown, true: Shown) -> NDArray[np.float64]:
    """Degrees, 0 to 180, by which the hues of object and background are off, (n, 2). Without any knowledge: 90."""
    return np.asarray(np.abs((said.hues - true.hues + 180) % 360 - 180))


def _objects(classes: NDArray[np.uint8]) -> set[int]:
    values, counts = np.unique(classes, return_counts=True)
    return {int(v) for v, count in zip(values, counts, strict=True) if v and count >= LEAST * classes.size}


def _f1(found: set[int], there: set[int]) -> float:
    return 2 * len(found & there) / (len(found) + len(there)) if found or there else 1.0


def _iou(found: NDArray[np.uint8], there: NDArray[np.uint8]) -> float:
    classes = np.union1d(found, there)
    shares = [np.sum((found == c) & (there == c)) / np.sum((found == c) | (there == c)) for c in classes]
    return float(np.mean(shares))
