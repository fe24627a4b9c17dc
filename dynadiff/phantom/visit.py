"""What is different in each session: how the head lies, how strongly voxels respond, and what they prefer.

Knows sessions and voxels; knows no pictures and no time within a session.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.ndimage import distance_transform_edt, map_coordinates

from dynadiff.phantom.head import Field, Head, smooth_fields

MISREGISTRATION = 0.3  # voxels, root mean square over sessions: what alignment leaves
GAIN, VOXEL_GAIN = 0.1, 0.15  # deviation of the logarithm over sessions, of the whole brain and voxel by voxel
DRIFTS = 2  # other tunings that a voxel drifts towards
DRIFT = (
    0.3  # their standard deviation beside the voxel's own tuning; r of two sessions' tuning is 1 / (1 + DRIFTS DRIFT²)
)


@dataclass(frozen=True)
class Visit:
    """One session of a subject."""

    shift: NDArray[np.float64]  # (3,) voxels between where a voxel is and where it should be
    gain: Field  # (V,) of the responses of the visual voxels, around 1
    tunings: NDArray[np.float32]  # (1 + DRIFTS,) weights of a voxel's own tuning and the others, squares sum to 1

    def place(self, head: Head) -> tuple[Field, sparse.csr_array]:
        """Baseline of the brain's voxels (brain,), and the matrix (brain, V) that spreads visual voxels over them."""
        where = np.argwhere(head.brain) + self.shift
        nearest = distance_transform_edt(~head.brain, return_distances=False, return_indices=True)
        filled = head.baseline[tuple(nearest)]  # the edge of the mask stays: only what is in it moves
        baseline = map_coordinates(filled, where.T, order=1, mode="nearest")
        return np.asarray(baseline, np.float32), _spread(where, head.nsdgeneral > 0)


def draw_visit(rng: np.random.Generator, head: Head) -> Visit:
    """A session drawn at random."""
    visual = head.nsdgeneral > 0
    gain = GAIN * rng.standard_normal() + VOXEL_GAIN * smooth_fields(rng, 1, visual.shape, 2.0)[0, visual]
    tunings = np.array([1.0, *DRIFT * rng.standard_normal(DRIFTS)])
    return Visit(
        shift=MISREGISTRATION / np.sqrt(3) * rng.standard_normal(3),
        gain=np.exp(gain).astype(np.float32),
        tunings=(tunings / np.linalg.norm(tunings)).astype(np.float32),
    )


def _spread(where: NDArray[np.float64], visual: NDArray[np.bool_]) -> sparse.csr_array:
    """Linear interpolation at ``where`` (n, 3) between visual voxels, (n, V); whatever else there is counts as 0."""
    index = np.full([n + 2 for n in visual.shape], -1)
    index[1:-1, 1:-1, 1:-1][visual] = np.arange(visual.sum())
    low = np.floor(where).astype(int)
    part = where - low
    rows, columns, weights = [], [], []
    for corner in np.ndindex(2, 2, 2):
        weight = np.prod(np.where(corner, part, 1 - part), axis=1)
        at = np.clip(low + corner + 1, 0, np.array(index.shape) - 1)
        column = index[tuple(at.T)]
        held = np.flatnonzero((column >= 0) & (weight > 0))
        rows.append(held)
        columns.append(column[held])
        weights.append(weight[held])
    entries = np.concatenate(weights).astype(np.float32), (np.concatenate(rows), np.concatenate(columns))
    return sparse.csr_array(entries, shape=(len(where), int(visual.sum())))
