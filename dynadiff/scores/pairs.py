"""How alike are two pictures of the same size, pixel by pixel? Knows arrays; no network, no file no set.

SSIM is that of Wang et al. (2004) as the published metrics have it, in two dimensions: Gaussian window, population
covariance, mean over the picture without its border.
"""

import numpy as np
from numpy.typing import NDArray

from dynadiff.base.errors import UserError

Unit = NDArray[np.float64]  # values in [0, 1]
GREY = np.array([0.2125, 0.7154, 0.0721])  # of red, green and blue
SIGMA, RADIUS = 1.5, 5  # pixels: 11 taps
C1, C2 = 0.01**2, 0.03**2  # for a data range of 1


def pixel_correlation(a: Unit, b: Unit) -> float:
    """Pearson's r over all values of two pictures; 0 where one of them does not vary."""
    x, y = (np.ravel(p - p.mean()) for p in (a, b))
    size = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float(x @ y / size) if size > 1e-12 else 0.0


def ssim(a: Unit, b: Unit) -> float:
    """Structural similarity of two RGB pictures (h, w, 3), of their grey values.

    The 5 pixels of the border are cut, so no window reaches beyond the picture, and how it goes on there is no matter.
    """
    if min(a.shape[:2]) <= 2 * RADIUS:
        raise UserError(f"pictures of {a.shape[1]}×{a.shape[0]} pixels are too small for SSIM: it needs 11×11")
    x, y = a @ GREY, b @ GREY
    mx, my = _blurred(x), _blurred(y)
    xx, yy, xy = _blurred(x * x) - mx * mx, _blurred(y * y) - my * my, _blurred(x * y) - mx * my
    alike = (2 * mx * my + C1) * (2 * xy + C2)
    return float((alike / ((mx * mx + my * my + C1) * (xx + yy + C2))).mean())


def _blurred(grey: Unit) -> Unit:
    """Weighted means of all windows that lie within the picture, (h - 10, w - 10): rows, then columns."""
    taps = np.exp(-0.5 * (np.arange(-RADIUS, RADIUS + 1) / SIGMA) ** 2)
    taps /= taps.sum()
    h, w = grey.shape[0] - 2 * RADIUS, grey.shape[1] - 2 * RADIUS
    rows = sum((t * grey[k : k + h] for k, t in enumerate(taps)), np.zeros((h, grey.shape[1])))
    return sum((t * rows[:, k : k + w] for k, t in enumerate(taps)), np.zeros((h, w)))
