"""What a visual system measures of a picture: Gabor energy, light, colour, and where which object is.

Knows pictures of scenes; knows nothing of brains, voxels or time. The energies are those of quadrature pairs
as in Kay et al. (2008), Nature 452, 352-355; colours are opponent and rectified.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import fft

from dynadiff.phantom.scenes import CATEGORIES, draw, scene

SIZE = 64  # pixels across the picture that is looked at
GRID = 32  # cells across a feature map
PAD = 16  # pixels of mirrored surround: the edge of the picture is no contour
ORIENTATIONS = 4
PERIODS = (16.0, 8.0, 4.0)  # pixels per cycle: 4, 8 and 16 cycles per picture, low frequencies first
COLOURS = ("light", "dark", "red", "green", "yellow", "blue")


@dataclass(frozen=True)
class Features:
    """Maps over the picture, rows from the top, all 0 or more."""

    gabor: NDArray[np.float32]  # (periods × orientations, GRID, GRID), orientation runs fastest
    colour: NDArray[np.float32]  # (6, GRID, GRID)
    mask: NDArray[np.float32]  # (GRID, GRID) share of each cell that the object covers
    category: int  # index into CATEGORIES


def features(number: int) -> Features:
    """Of the scene of that number."""
    shown = scene(number)
    picture, mask = draw(shown, SIZE)
    rgb = picture.astype(np.float32) / np.float32(255)
    return Features(
        gabor=_cells(gabor_energy(rgb.mean(axis=2))),
        colour=_cells(_opponent(rgb)),
        mask=_cells(mask[None].astype(np.float32))[0],
        category=CATEGORIES.index(shown.category),
    )


def gabor_energy(luminance: NDArray[np.float32]) -> NDArray[np.float32]:
    """Amplitude of every quadrature pair at every pixel of a (SIZE, SIZE) picture: (filters, SIZE, SIZE)."""
    wide = cv2.copyMakeBorder(luminance, PAD, PAD, PAD, PAD, cv2.BORDER_REFLECT)
    pairs = fft.ifft2(fft.fft2(wide) * _FILTERS)
    return np.asarray(np.abs(pairs[:, PAD:-PAD, PAD:-PAD]), np.float32)


def _gabor_filters() -> NDArray[np.float32]:
    """One-sided Gaussians in the frequency plane, an octave wide: complex output is a quadrature pair."""
    size = SIZE + 2 * PAD
    fy, fx = np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size), indexing="ij")
    filters = []
    for period in PERIODS:
        for k in range(ORIENTATIONS):
            angle = np.pi * k / ORIENTATIONS
            across, along = np.cos(angle) * fx + np.sin(angle) * fy, np.cos(angle) * fy - np.sin(angle) * fx
            spread = 0.35 / period
            filters.append(np.exp(-((across - 1 / period) ** 2 + along**2) / (2 * spread**2)))
    return np.array(filters, np.float32)


def _opponent(rgb: NDArray[np.float32]) -> NDArray[np.float32]:
    red, green, blue = np.moveaxis(rgb, 2, 0)
    light, red_green, yellow_blue = rgb.mean(axis=2) - 0.5, red - green, (red + green) / 2 - blue
    signed = np.array([light, -light, red_green, -red_green, yellow_blue, -yellow_blue])
    return np.asarray(np.maximum(signed, 0), np.float32)


def _cells(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    step = SIZE // GRID
    return np.asarray(maps.reshape(len(maps), GRID, step, GRID, step).mean(axis=(2, 4)), np.float32)


_FILTERS = _gabor_filters()
