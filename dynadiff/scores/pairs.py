"""How alike are two pictures of the same size, pixel by pixel? Knows arrays; no network, no file, no set.

What a comparison needs of one picture alone is made once, for a picture is compared with many when chance is asked for.
SSIM is that of Wang et al. (2004) as the published metrics have it, in two dimensions: Gaussian window, population
covariance, mean over the picture without its border.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dynadiff.base.errors import UserError

Unit = NDArray[np.float64]  # values in [0, 1]
Labels = NDArray[np.uint8]
GREY = np.array([0.2125, 0.7154, 0.0721])  # of red, green and blue
SIGMA, RADIUS = 1.5, 5  # pixels: 11 taps
C1, C2 = 0.01**2, 0.03**2  # for a data range of 1
TAPS = np.exp(-0.5 * (np.arange(-RADIUS, RADIUS + 1) / SIGMA) ** 2)


@dataclass(frozen=True)
class Prepared:
    """One picture (h, w, 3), ready to be compared."""

    pattern: NDArray[np.float64]  # (h * w * 3,): of mean 0 and length 1, or 0 where the picture does not vary
    grey: Unit  # (h, w)
    mean: Unit  # (h - 10, w - 10): of each window
    variance: NDArray[np.float64]  # likewise


def prepared(picture: Unit) -> Prepared:
    """A picture (h, w, 3) as `correlation_of` and `ssim_of` take it.

    Raises UserError where it is smaller than SSIM's window.
    """
    if min(picture.shape[:2]) <= 2 * RADIUS:
        raise UserError(
            f"pictures of {picture.shape[1]}×{picture.shape[0]} pixels are too small for SSIM: it needs 11×11"
        )
    centred = np.ravel(picture - picture.mean())
    size = float(np.linalg.norm(centred))
    grey = picture @ GREY
    mean = _blurred(grey)
    pattern = centred / size if size > 1e-12 else np.zeros_like(centred)
    return Prepared(pattern, grey, mean, _blurred(grey * grey) - mean * mean)


def correlation_of(a: Prepared, b: Prepared) -> float:
    """Pearson's r over all values of two pictures; 0 where one of them does not vary."""
    return float(a.pattern @ b.pattern)


def ssim_of(a: Prepared, b: Prepared) -> float:
    """Structural similarity of two pictures, of their grey values.

    The 5 pixels of the border are cut, so no window reaches beyond the picture, and how it goes on there is no matter.
    """
    both = a.mean * b.mean
    alike = (2 * both + C1) * (2 * (_blurred(a.grey * b.grey) - both) + C2)
    unlike = (a.mean * a.mean + b.mean * b.mean + C1) * (a.variance + b.variance + C2)
    return float((alike / unlike).mean())


def pixel_correlation(a: Unit, b: Unit) -> float:
    """`correlation_of` two pictures (h, w, 3)."""
    return correlation_of(prepared(a), prepared(b))


def ssim(a: Unit, b: Unit) -> float:
    """`ssim_of` two pictures (h, w, 3)."""
    return ssim_of(prepared(a), prepared(b))


def mean_overlap(painted: Labels, shown: Labels) -> float:
    """Intersection over union of two label maps (h, w), mean over the classes in that of what is shown."""
    size = 1 + int(max(painted.max(), shown.max()))
    counts = np.bincount(np.ravel(shown.astype(np.intp) * size + painted), minlength=size * size).reshape(size, size)
    common, in_shown = np.diag(counts), counts.sum(axis=1)
    there = in_shown > 0
    return float((common[there] / (in_shown + counts.sum(axis=0) - common)[there]).mean())


def _blurred(grey: Unit) -> Unit:
    """Weighted means of all windows that lie within the picture, (h - 10, w - 10)."""
    taps = TAPS / TAPS.sum()
    return np.asarray(cv2.sepFilter2D(grey, -1, taps, taps)[RADIUS:-RADIUS, RADIUS:-RADIUS], np.float64)
