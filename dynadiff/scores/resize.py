"""Pictures at another size, exactly as the published metrics resize them. Knows arrays; no file and no network.

Two ways, which give different scores: Pillow's, which averages over all pixels that a smaller one covers and rounds to
uint8 after each axis (equal to Pillow 13 to the bit), and that of tensors, linear between two neighbours, unrounded.
"""

from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

Floats = NDArray[np.floating[Any]]
Filter = Literal["bilinear", "bicubic"]
BITS = 22  # of the fraction of Pillow's weights, which are integers


def pillow_resize(pictures: NDArray[np.uint8], side: int, how: Filter = "bilinear") -> NDArray[np.uint8]:
    """Pictures (n, h, w, c) as Pillow makes them (n, side, side, c)."""
    for axis in (2, 1):  # rounded in between, so the order matters
        weights = _weights(pictures.shape[axis], side, how, antialias=True)
        whole = csr_array((np.rint(weights.data * (1 << BITS)).astype(np.int64), weights.indices, weights.indptr))
        sums = _along(axis, whole, pictures.astype(np.int64)) + (1 << BITS - 1)
        pictures = np.clip(sums >> BITS, 0, 255).astype(np.uint8)
    return pictures


def tensor_resize(pictures: Floats, side: int) -> NDArray[np.float64]:
    """Pictures (n, h, w, c) bilinearly, without antialiasing, as torchvision resized tensors by default up to 0.16."""
    for axis in (2, 1):
        pictures = _along(axis, _weights(pictures.shape[axis], side, "bilinear", antialias=False), pictures)
    return np.asarray(pictures, np.float64)


def _along(axis: int, weights: Any, pictures: NDArray[Any]) -> NDArray[Any]:
    first = np.moveaxis(pictures, axis, 0)
    made = (weights @ first.reshape(len(first), -1)).reshape(-1, *first.shape[1:])
    return np.moveaxis(made, 0, axis)


@lru_cache(maxsize=32)
def _weights(old: int, new: int, how: Filter, antialias: bool) -> Any:
    """What each of ``new`` pixels takes of each of ``old`` ones, (new, old), mostly zeros; rows sum to 1.

    Neighbours beyond the edge are left out, which for bilinear is the same as repeating the edge.
    """
    stretch = max(old / new, 1.0) if antialias else 1.0
    reach = (1 if how == "bilinear" else 2) * stretch
    centre = (np.arange(new)[:, None] + 0.5) * old / new
    first, last = np.maximum(np.trunc(centre - reach + 0.5), 0), np.minimum(np.trunc(centre + reach + 0.5), old)
    pixel = np.arange(old)[None]
    near = (pixel >= first) & (pixel < last)
    dense = np.where(near, _kernel((pixel - centre + 0.5) / stretch, how), 0)
    return csr_array(dense / dense.sum(axis=1, keepdims=True))


def _kernel(x: NDArray[np.float64], how: Filter) -> NDArray[np.float64]:
    x = np.abs(x)
    if how == "bilinear":
        return np.maximum(1 - x, 0)
    a = -0.5  # the cubic through the neighbours' slopes
    inner, outer = ((a + 2) * x - (a + 3)) * x * x + 1, (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, inner, np.where(x < 2, outer, 0))
