"""Drift removal and z-score of voxel time series: whole run (as published), or volume by volume (as served).

Knows rows and voxels; knows no files, no windows and no pictures. Both forms are least squares on the same
drift terms, so without a prior the online one meets the offline one at the last volume. Whatever else is known of a
volume when it arrives and is no signal (how the head moved, `dynadiff.signal.components`) is regressed out beside
the drift: its nuisance, a row of numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np
from numpy.typing import ArrayLike, NDArray

# A residual this small beside the series it came from is rounding, and its voxel is constant or a pure ramp.
_ROUNDING = 1e-6
# Singular values below this share of the largest are drift that float64 cannot tell from the other terms.
_DETERMINED = 1e-12
# Those below a tenth are drift that the volumes so far have hardly seen: to extrapolate it would put a wild
# value where one is missing.
_WELL_DETERMINED = 0.1


NO_NUISANCE = np.zeros((1, 0), np.float32)


@dataclass(frozen=True)
class Cleaning:
    """How drift is modelled before the z-score. The default is the published line, with a prior when online.

    Raises ValueError when a field is out of its range.
    """

    drift: str = "linear"  # "none", "linear" or "cosine"
    high_pass: float = 0.01  # Hz, cosines slower than this are removed; cosine drift only
    ridge: float = 5.0  # prior on all terms but the mean, residual variance / theirs; 0 is none; online only

    def __post_init__(self) -> None:
        if self.drift not in ("none", "linear", "cosine"):
            raise ValueError(f"drift is none, linear or cosine, not {self.drift!r}")
        if not (isfinite(self.high_pass) and self.high_pass > 0):
            raise ValueError(f"high_pass is a frequency above 0 Hz, not {self.high_pass}")
        if not (isfinite(self.ridge) and self.ridge >= 0):
            raise ValueError(f"ridge is 0 or more, not {self.ridge}")


@dataclass(frozen=True, eq=False)
class Earlier:
    """How much each voxel varied in earlier runs, for a variance before this run has one of its own."""

    variance: NDArray[np.float32]  # (voxels,) of what cleaning left
    volumes: float  # of this run that it counts for, 0 or more


def drift_terms(cleaning: Cleaning, n_planned: int, tr: float) -> NDArray[np.float64]:
    """Regressors of a run of ``n_planned`` volumes, ``tr`` seconds apart: (n_planned, K), intercept first.

    Linear: time from -1 at the first to 1 at the last volume. Cosine: the DCT-II terms below ``high_pass``,
    as many as in SPM and nilearn, of amplitude 1 so that a prior means the same for each.
    """
    return _terms(cleaning, np.arange(n_planned), n_planned, tr)


def clean_run(
    series: NDArray[np.generic], cleaning: Cleaning, tr: float, nuisance: NDArray[np.floating] | None = None
) -> NDArray[np.float32]:
    """Whole run (volumes, voxels) with its drift regressed out, in units of its own deviation (ddof 1).

    ``nuisance`` (volumes, k) is regressed out with it. The convention of ``nilearn.signal.clean(confounds=nuisance,
    standardize="zscore_sample")``; the priors play no part. 0 stands for a constant voxel, for a value that is not
    finite (it pulls on nothing), and for every voxel of a run that has no more volumes than terms.
    """
    values, spread, total = _residual(series, cleaning, tr, nuisance)
    known = _is_more_than_rounding(spread, total)
    values *= np.sqrt(np.divide(len(series) - 1, spread, out=np.zeros_like(spread), where=known))
    return values.astype(np.float32)


def left_variance(
    series: NDArray[np.generic], cleaning: Cleaning, tr: float, nuisance: NDArray[np.floating] | None = None
) -> NDArray[np.float32]:
    """What `clean_run` divides by, squared: the variance (voxels,) that drift and nuisance leave; 0 for a constant."""
    _, spread, total = _residual(series, cleaning, tr, nuisance)
    return np.where(_is_more_than_rounding(spread, total), spread / (len(series) - 1), 0.0).astype(np.float32)


class OnlineCleaner:
    """The same cleaning with the volumes of one run so far: recursive least squares by QR.

    ``nuisance`` is how many numbers come with every volume, of a scale of 1 for the prior's sake; ``earlier`` lends the
    variance of earlier runs to the first volumes of this one.

    ``R`` (K, K) is the triangular factor of the terms pushed so far, with the prior as its first rows;
    ``Z`` (K, voxels) is the series projected onto it. A new volume is one more row under both, rotated into
    them by an orthogonal matrix that all voxels share; what is left of the row adds to the residual sum of
    squares (Golub & Van Loan, Matrix Computations, 6.5.3). Unlike the update of an inverse covariance this
    needs no large variance to start with, and stays exact while few volumes have hardly any drift to see.

    A non-finite value is replaced by what the voxel's own fit predicts: the fit stays, the count of volumes
    and ``non_finite`` go up. Before its first finite value a voxel is taken to be constant at that value.
    """

    def __init__(
        self, cleaning: Cleaning, n_planned: int, n_voxels: int, tr: float,
        nuisance: int = 0, earlier: Earlier | None = None,
    ) -> None:  # fmt: skip
        self.n = 0  # volumes in the statistics
        self.non_finite = 0  # values replaced, over all volumes and voxels
        self._cleaning, self._n_planned, self._tr = cleaning, n_planned, tr
        drift = drift_terms(cleaning, n_planned, tr).shape[1]
        terms = drift + nuisance
        self._least = drift if cleaning.ridge else terms  # volumes that say nothing of a variance yet
        self._borrowed = earlier.volumes if earlier else 0.0  # volumes
        self._lent = self._borrowed * earlier.variance if earlier else np.zeros(n_voxels)  # their sum of squares
        self._row = -1  # of the newest volume
        self._prior = np.full((terms, 1), cleaning.ridge)
        self._prior[0] = 0.0  # the mean is free
        self._r = np.diag(np.sqrt(self._prior[:, 0]))
        self._stack = np.zeros((terms + 1, n_voxels))  # Z, and the incoming volume below it
        self._rotated = np.zeros((terms + 1, n_voxels))
        self._spread = np.zeros(n_voxels)  # residual sum of squares, the prior's share included
        # Subtracted throughout, as the mean of BOLD dwarfs its changes.
        self._first = np.full(n_voxels, np.nan, np.float32)
        self._first_nuisance = np.full(nuisance, np.nan)  # likewise: the place of a head dwarfs its movement

    def push(self, row: int, sample: NDArray[np.float32], nuisance: ArrayLike = ()) -> None:
        """Take the volume (voxels,) of ``row`` into the statistics; rows rise, may skip, may pass n_planned.

        Raises ValueError for a row that is not after the last one, a sample of another size, and nuisance of another
        size or not finite.
        """
        if row <= self._row or sample.shape != self._first.shape:
            raise ValueError(f"volume {row} of shape {sample.shape} does not follow volume {self._row}")
        known = np.asarray(nuisance, np.float64)
        if known.shape != self._first_nuisance.shape or not np.isfinite(known).all():
            raise ValueError(
                f"volume {row} comes with {known}, and not with {len(self._first_nuisance)} finite numbers"
            )
        if self.n == 0:
            self._first_nuisance = known
        terms = self._at([row], known[None])
        missing = ~np.isfinite(sample)
        self.non_finite += (n_missing := int(missing.sum()))
        np.copyto(self._first, sample, where=np.isnan(self._first) & ~missing)
        np.subtract(sample, self._first, out=self._stack[-1], dtype=np.float64)
        if n_missing:
            self._stack[-1, missing] = terms[0] @ self._fit(missing, _WELL_DETERMINED)
        rotation, r = np.linalg.qr(np.vstack([self._r, terms]), mode="complete")
        np.matmul(rotation.T, self._stack, out=self._rotated)
        self._stack, self._rotated = self._rotated, self._stack
        self._spread += np.square(self._stack[-1], out=self._rotated[-1])
        self._r = r[:-1]
        self._row, self.n = row, self.n + 1

    def standardise(
        self, rows: Sequence[int], samples: NDArray[np.float32], nuisance: NDArray[np.floating] = NO_NUISANCE
    ) -> NDArray[np.float32]:
        """Raw volumes (n, voxels) of ``rows``, detrended and z-scored by the newest statistics: (n, voxels).

        ``nuisance`` (n, k) is what came with them. Zero where a voxel is constant or a value is not finite, and
        everywhere until there is a volume more than drift terms (than all terms, where they have no prior).
        """
        if self.n <= self._least:
            return np.zeros(samples.shape, np.float32)
        fit = self._fit(slice(None), _DETERMINED)
        variance = self._variance(fit)
        scale = np.sqrt(np.divide(1, variance, out=np.zeros_like(variance), where=variance > 0))
        # float64 until the end: early in a run the residual may be a thousandth of the drift.
        residual = np.subtract(samples, self._first, dtype=np.float64)
        residual -= self._at(rows, nuisance) @ fit
        residual[~np.isfinite(residual)] = 0.0
        residual *= scale
        return residual.astype(np.float32)

    def expect(self, row: int, nuisance: ArrayLike = ()) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """What the volumes so far predict for ``row``, and the deviation (ddof 1) of a new value from that: (voxels,).

        Drift that the volumes so far have hardly seen is not extrapolated. The deviation is 0 for a constant voxel and
        until `standardise` gives something; the prediction of a voxel that had no finite value yet is nan.
        """
        fit, terms = self._fit(slice(None), _WELL_DETERMINED), self._at([row], np.asarray(nuisance, np.float64)[None])
        expected = self._first + (terms @ fit)[0]
        if self.n <= self._least:
            return expected, np.zeros_like(expected)
        variance = self._variance(fit)
        leverage = float(np.square(terms @ np.linalg.pinv(self._r, _WELL_DETERMINED)).sum())
        return expected, np.sqrt(variance * (1 + leverage))

    def _variance(self, fit: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of the series about ``fit`` (K, voxels), ddof 1, with what earlier runs say: (voxels,); 0 for rounding."""
        projected = self._stack[:-1]
        # What the fit leaves of Z is residual too; what the prior's own rows leave is none of the voxel's.
        left = np.square(projected - self._r @ fit) - self._prior * np.square(fit)
        spread, total = self._spread + left.sum(axis=0), self._spread + np.square(projected).sum(axis=0)
        known = (spread + self._lent) / (self.n - 1 + self._borrowed)
        return np.where(_is_more_than_rounding(spread, total), known, 0.0)

    def _at(self, rows: Sequence[int], nuisance: NDArray[np.floating]) -> NDArray[np.float64]:
        """Terms (n, K) of rows with what came with them, (n, k)."""
        drift = _terms(self._cleaning, np.asarray(rows), self._n_planned, self._tr)
        return np.hstack([drift, np.broadcast_to(nuisance - self._first_nuisance, (len(drift), nuisance.shape[1]))])

    def _fit(self, voxels: slice | NDArray[np.bool_], rcond: float) -> NDArray[np.float64]:
        """Coefficients (K, voxels) of the terms, relative to the first volume."""
        return np.linalg.pinv(self._r, rcond) @ self._stack[:-1, voxels]


def _terms(cleaning: Cleaning, rows: NDArray[np.int64], n_planned: int, tr: float) -> NDArray[np.float64]:
    """Drift terms (rows, K) at any rows; the time scale goes on past the planned end."""
    columns = [np.ones(len(rows))]
    if cleaning.drift == "linear":
        columns.append(2 * rows / max(n_planned - 1, 1) - 1)
    if cleaning.drift == "cosine":
        order = min(n_planned - 1, int(2 * n_planned * cleaning.high_pass * tr))
        columns += [np.cos(np.pi / n_planned * (rows + 0.5) * k) for k in range(1, order + 1)]
    return np.stack(columns, axis=1)


def _residual(
    series: NDArray[np.generic], cleaning: Cleaning, tr: float, nuisance: NDArray[np.floating] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """What the terms leave of a run (volumes, voxels), its sum of squares, and that about the first volume: (voxels,).

    All 0 where there are no more volumes than terms.
    """
    n = len(series)
    terms = drift_terms(cleaning, n, tr)
    if nuisance is not None:
        terms = np.hstack([terms, _new(terms, nuisance)])
    values = series.astype(np.float64)
    if n <= terms.shape[1]:
        return np.zeros_like(values), np.zeros(values.shape[1]), np.zeros(values.shape[1])
    missing = ~np.isfinite(values)
    for voxel in np.flatnonzero(missing.any(axis=0)):
        gone = missing[:, voxel]
        fit = np.linalg.lstsq(terms[~gone], values[~gone, voxel], rcond=_WELL_DETERMINED)[0]
        values[gone, voxel] = terms[gone] @ fit
    values -= values[0]
    basis = np.linalg.qr(terms)[0]
    fitted = basis.T @ values
    values -= basis @ fitted
    values[missing] = 0.0
    spread = np.square(values).sum(axis=0)
    return values, spread, spread + np.square(fitted).sum(axis=0)


def _new(terms: NDArray[np.float64], nuisance: NDArray[np.floating]) -> NDArray[np.float64]:
    """What ``nuisance`` (volumes, k) says beyond the drift terms, as orthonormal columns, no more than it has."""
    basis = np.linalg.qr(terms)[0]
    columns = nuisance - nuisance.mean(axis=0, dtype=np.float64)
    columns = columns[:, columns.any(axis=0)]
    left = columns - basis @ (basis.T @ columns)
    beyond, values, _ = np.linalg.svd(left / np.linalg.norm(columns, axis=0), full_matrices=False)
    return np.asarray(beyond[:, values > _ROUNDING])


def _is_more_than_rounding(spread: NDArray[np.float64], total: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray(spread > _ROUNDING**2 * total)
