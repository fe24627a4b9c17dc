"""The phantom's head: where its brain, cortex and visual areas are, and what each visual voxel is tuned to.

Knows voxels and smooth maps; knows nothing of pictures, time or files. Axes are those of NSD, RAS+: the first
index grows to the right, the second to the front, the third upwards.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from dynadiff.phantom.features import COLOURS, GRID, ORIENTATIONS, PERIODS
from dynadiff.phantom.scenes import CATEGORIES, SCRAMBLED

Shape = tuple[int, int, int]
Field = NDArray[np.float32]

# Where each visual area ends on the way from the occipital pole to the front, how large its receptive fields
# are at the fovea and grow with eccentricity (picture widths), its drive by contours, colour and objects.
AREAS = ("V1", "V2/V3", "V4", "higher")
BOUNDS = (0.3, 0.52, 0.72, 1.0)
RF_SIZE, RF_SLOPE = (0.02, 0.035, 0.06, 0.12), (0.08, 0.15, 0.25, 0.35)
DRIVES = ((0.7, 0.3, 0.0), (0.6, 0.35, 0.05), (0.25, 0.5, 0.25), (0.1, 0.1, 0.8))
FOVEA, EDGE = 0.12, 0.65  # picture widths: eccentricity grows as exp, half of the voxels see the inner fifth
CORTEX = 0.62  # where grey matter begins, as a fraction of the way from the centre to the surface


@dataclass(frozen=True)
class Head:
    """Maps of shape (x, y, z)."""

    brain: NDArray[np.bool_]
    baseline: Field  # scanner units, 0 outside the brain
    nsdgeneral: NDArray[np.int16]  # -1 outside cortex, 0 cortex, 1 visual region


@dataclass(frozen=True)
class Tuning:
    """Of the voxels of nsdgeneral in C order, V of them."""

    area: NDArray[np.int64]  # (V,) index into AREAS
    centre: Field  # (V, 2) of the receptive field in picture widths, x to the right and y downwards
    size: Field  # (V,) its standard deviation, picture widths
    pooling: Field  # (GRID * GRID, V) the receptive field itself, sums to 1
    gabor: Field  # (V, periods * orientations), sums to 1
    colour: Field  # (V, colours), sums to 1
    category: Field  # (V, categories), sums to 1
    drives: Field  # (V, 3) shares of contours, colour and objects, sums to 1


def smooth_fields(rng: np.random.Generator, n: int, shape: Shape, sigma: float) -> Field:
    """Random maps (n, x, y, z) of unit variance that vary over ``sigma`` voxels."""
    noise = gaussian_filter(rng.standard_normal((n, *shape)), (0, sigma, sigma, sigma), mode="wrap")
    axes = (1, 2, 3)
    scaled = (noise - noise.mean(axes, keepdims=True)) / noise.std(axes, keepdims=True)
    return np.asarray(scaled, np.float32)


def uneven_fields(rng: np.random.Generator, n: int, shape: Shape) -> Field:
    """Random maps (n, x, y, z) of unit variance, half of it between regions and half between neighbours."""
    return (smooth_fields(rng, n, shape, 2.5) + smooth_fields(rng, n, shape, 0.6)) / np.float32(np.sqrt(2))


def make_head(rng: np.random.Generator, shape: Shape) -> Head:
    """An ellipsoid with white matter, ventricles and a cortex whose back is the visual region."""
    x, y, z = _coordinates(shape)
    radius = np.sqrt(x**2 + y**2 + z**2)
    brain = radius < 1
    cortex = brain & (radius > CORTEX)
    tissue = np.where(radius < 0.2, 1.35, np.where(cortex, 1.0, 0.85))  # fluid, grey and white matter on a T2* image
    blurred = gaussian_filter(tissue, 0.7)
    bias = 1 + 0.2 * (radius**2 - 0.5) + 0.06 * smooth_fields(rng, 1, shape, 4.0)[0]  # surface coils
    depth = y + 0.25 * np.abs(z) + 0.06 * smooth_fields(rng, 1, shape, 3.0)[0]
    wanted = round(rng.uniform(0.18, 0.225) * brain.sum())
    visual = np.zeros(shape, bool)
    back = np.flatnonzero(cortex)[np.argsort(depth[cortex])[:wanted]]
    visual.flat[back] = True
    return Head(
        brain=brain,
        baseline=np.where(brain, 1000 * blurred * bias, 0).astype(np.float32),
        nsdgeneral=np.where(visual, 1, np.where(cortex, 0, -1)).astype(np.int16),
    )


def make_tuning(rng: np.random.Generator, head: Head) -> Tuning:
    """Retinotopy, orientation, frequency, colour and category preferences of every visual voxel."""
    shape = head.brain.shape
    visual = head.nsdgeneral > 0
    area, centre, eccentricity = _retinotopy(*(axis[visual] for axis in _coordinates(shape)))
    size = (np.take(RF_SIZE, area) + np.take(RF_SLOPE, area) * eccentricity).astype(np.float32)
    cosine, sine = smooth_fields(rng, 2, shape, 1.0)[:, visual]  # their angle winds around points, as in pinwheels
    colour = smooth_fields(rng, len(COLOURS), shape, 1.2)[:, visual].T
    category = smooth_fields(rng, len(CATEGORIES), shape, 1.5)[:, visual].T
    category[:, CATEGORIES.index(SCRAMBLED)] = -3.0  # object areas hardly respond to scrambled objects
    return Tuning(
        area=area,
        centre=centre,
        size=size,
        pooling=_receptive_fields(centre, size),
        gabor=_gabor_weights(np.arctan2(sine, cosine) / 2, np.log2(4 + 40 * eccentricity)),
        colour=_shares(1.2 * colour),
        category=_shares(1.5 * category),
        drives=np.array(DRIVES, np.float32)[area],
    )


def _coordinates(shape: Shape) -> NDArray[np.float64]:
    """Of every voxel, (3, x, y, z), with the surface of the brain at distance 1 from the middle."""
    axes = [(np.arange(n) - (n - 1) / 2) / (0.48 * n) for n in shape]
    return np.stack(np.meshgrid(*axes, indexing="ij"))


def _retinotopy(
    x: NDArray[np.float64], y: NDArray[np.float64], z: NDArray[np.float64]
) -> tuple[NDArray[np.int64], Field, Field]:
    """Area, receptive field centre and eccentricity of voxels of the occipital cortex.

    Each half of the brain sees the other half of the picture, and its upper part the lower one. Areas follow
    each other from the pole to the front; eccentricity turns around where two meet: the map has no jump.
    """
    from_pole = _ranks(np.hypot(np.hypot(np.abs(x) - 0.15, z), y + 1))
    area = np.searchsorted(BOUNDS, from_pole, side="left")
    start = np.array([0.0, *BOUNDS[:-1]])[area]
    inside = (from_pole - start) / (np.array(BOUNDS)[area] - start)
    outwards = np.where(area % 2 == 0, inside, 1 - inside)
    eccentricity = FOVEA * ((1 + EDGE / FOVEA) ** outwards - 1)
    angle = np.pi * (_ranks(np.arctan2(z, np.abs(x))) - 0.5)
    side = np.where(x < 0, 1, -1)
    centre = 0.5 + eccentricity[:, None] * np.column_stack([side * np.cos(angle), np.sin(angle)])
    return area, centre.astype(np.float32), eccentricity.astype(np.float32)


def _receptive_fields(centre: Field, size: Field) -> Field:
    cells = (np.arange(GRID, dtype=np.float32) + 0.5) / GRID
    x = np.exp(-((cells[:, None] - centre[:, 0]) ** 2) / (2 * size**2))
    y = np.exp(-((cells[:, None] - centre[:, 1]) ** 2) / (2 * size**2))
    fields = (y[:, None] * x[None]).reshape(GRID * GRID, -1)
    return np.asarray(fields / fields.sum(axis=0), np.float32)


def _gabor_weights(orientation: Field, log_period: Field) -> Field:
    """Tuned to one orientation (rad) and, with an octave's width, to one log2 period in pixels."""
    filters = np.pi * np.arange(ORIENTATIONS) / ORIENTATIONS
    turn = np.exp(1.5 * np.cos(2 * (orientation[:, None] - filters)))
    octaves = np.exp(-((log_period[:, None] - np.log2(PERIODS)) ** 2) / 2)
    weights = (octaves[:, :, None] * turn[:, None]).reshape(len(orientation), -1)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)


def _shares(preference: Field) -> Field:
    weights = np.exp(preference)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """0 to 1, uniform over the voxels."""
    return np.argsort(np.argsort(values)) / (len(values) - 1)
