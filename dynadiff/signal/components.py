"""What goes through voxels in which no picture is seen: breath, pulse, movement, a few numbers a volume.

The idea of aCompCor (Behzadi et al., 2007, NeuroImage 37, 90-101), as a run can have it while it goes on: where the
components lie is learnt from earlier runs, so that a volume gives its numbers as it arrives. Knows rows and voxels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from dynadiff.signal.cleaning import Cleaning, clean_run, left_variance


@dataclass(frozen=True, eq=False)
class Components:
    """Where noise components lie, most of the variance first."""

    weights: NDArray[np.float32]  # (k, voxels), per unit of the raw signal
    mean: NDArray[np.float32]  # (voxels,) of the raw signal

    def __call__(self, volumes: NDArray[np.floating]) -> NDArray[np.float32]:
        """Raw volumes (n, voxels) outside the mask to nuisance (n, k), as `OnlineCleaner.push` takes it.

        Of variance 1 about the drift of the runs that it was learnt from. A value that is not finite says nothing.
        """
        away = np.subtract(volumes, self.mean, dtype=np.float64)
        away[~np.isfinite(away)] = 0.0
        return np.asarray(away @ self.weights.T, np.float32)


def noise_components(runs: Sequence[NDArray[np.floating]], cleaning: Cleaning, tr: float, k: int) -> Components:
    """The first ``k`` principal components of earlier runs (volumes, voxels), cleaned as wholes, all voxels alike.

    Raises ValueError for fewer voxels or volumes than components.
    """
    cleaned = np.concatenate([clean_run(run, cleaning, tr) for run in runs])
    n, voxels = cleaned.shape
    if k > min(n, voxels):
        raise ValueError(f"{n} volumes of {voxels} voxels have no {k} components")
    deviation = np.sqrt(np.mean([left_variance(run, cleaning, tr) for run in runs], axis=0))
    values, courses = eigh(cleaned @ cleaned.T, subset_by_index=(n - k, n - 1))
    # Courses are of length 1, so that this makes the scores of these runs of variance 1.
    weights = (courses[:, ::-1] * np.sqrt(n) / values[::-1]).T @ cleaned
    weights = np.divide(weights, deviation, out=np.zeros_like(weights), where=deviation > 0)
    mean = np.mean([np.nan_to_num(run).mean(axis=0, dtype=np.float64) for run in runs], axis=0)
    return Components(weights.astype(np.float32), mean.astype(np.float32))
