"""What a decoder has to beat: ridge regression and the nearest training trial. Windows in, targets out; no networks."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, eigh

PENALTIES = np.logspace(-2, 4, 13)  # in units of the mean eigenvalue of the kernel
FOLDS = 5  # every fifth run is held out and chooses the penalty

Floats = NDArray[np.floating[Any]]


def ridge(train: Floats, targets: Floats, runs: NDArray[np.int64], test: Floats) -> NDArray[np.float32]:
    """Targets (m, d) of test windows (m, ...) by kernel ridge from training windows (n, ...) and their targets (n, d).

    All voxels of all volumes are features. Held-out runs, of the numbers (n,) of the training runs, choose the penalty.
    """
    x, z = (w.reshape(len(w), -1).astype(np.float32) for w in (train, test))
    centre, mean = x.mean(axis=0), targets.mean(axis=0)
    x, z = x - centre, z - centre
    kernel = x @ x.T
    held = np.unique(runs, return_inverse=True)[1] % FOLDS == 0
    values, vectors = eigh(kernel[np.ix_(~held, ~held)])
    project, rotated = kernel[np.ix_(held, ~held)] @ vectors, vectors.T @ (targets - mean)[~held]
    penalties = PENALTIES * values.mean()
    fits = (project @ (rotated / (values + penalty)[:, None]) for penalty in penalties)
    penalty = penalties[int(np.argmin([np.square(fit + mean - targets[held]).sum() for fit in fits]))]
    kernel[np.diag_indices_from(kernel)] += penalty
    return np.asarray((z @ x.T) @ cho_solve(cho_factor(kernel), targets - mean) + mean, np.float32)


def nearest(train: Floats, test: Floats) -> NDArray[np.int64]:
    """Index (m,) of the training window that each test window correlates with most, over voxels and volumes."""
    x, z = (_unit(w.reshape(len(w), -1).astype(np.float32)) for w in (train, test))
    return np.asarray((z @ x.T).argmax(axis=1))


def _unit(rows: Floats) -> Floats:
    centred = rows - rows.mean(axis=1, keepdims=True)
    return np.asarray(centred / np.linalg.norm(centred, axis=1, keepdims=True), np.float32)
