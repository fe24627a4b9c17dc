"""What a decoder has to beat: ridge regression and the nearest training trial. Windows in, targets out; no networks."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, eigh

from dynadiff.base.errors import UserError
from dynadiff.scores.identification import standardised

PENALTIES = np.logspace(-2, 4, 13)  # in units of the mean eigenvalue of the Gram matrix
FOLDS = 5  # every fifth run is held out and chooses the penalty

Floats = NDArray[np.floating[Any]]


def ridge(train: Floats, targets: Floats, runs: NDArray[np.int64], test: Floats) -> NDArray[np.float32]:
    """Targets (m, d) of test windows (m, ...) by ridge from training windows (n, ...) and their targets (n, d).

    All voxels of all volumes are features. Held-out runs, of the numbers (n,) of the training runs, choose the penalty.
    Raises UserError where there is but one.
    """
    return ridge_at(train, targets, test, ridge_penalty(train, targets, runs))


def ridge_penalty(train: Floats, targets: Floats, runs: NDArray[np.int64]) -> float:
    """The penalty by which every fifth run is told best from the others. Raises UserError where there is but one."""
    if len(np.unique(runs)) < 2:
        raise UserError("ridge regression leaves runs out to choose its penalty, and has one to learn from: add runs")
    x, y = _centred(train), _centred(targets)
    held = np.unique(runs, return_inverse=True)[1] % FOLDS == 0
    gram, right, project = _normal_equations(x[~held], y[~held])
    values, vectors = eigh(gram, overwrite_a=True)
    left, rotated = project(x[held]) @ vectors, vectors.T @ right
    penalties = PENALTIES * values.mean()
    fits = (left @ (rotated / (values + penalty)[:, None]) for penalty in penalties)
    return float(penalties[int(np.argmin([np.square(fit - y[held]).sum() for fit in fits]))])


def ridge_at(train: Floats, targets: Floats, test: Floats, penalty: float) -> NDArray[np.float32]:
    """`ridge` at a penalty that was chosen before."""
    x, z = _flat(train), _flat(test)
    centre, mean = x.mean(axis=0), targets.mean(axis=0)
    gram, right, project = _normal_equations(x - centre, _centred(targets))
    gram[np.diag_indices_from(gram)] += np.float32(penalty)
    return np.asarray(project(z - centre) @ cho_solve(cho_factor(gram, overwrite_a=True), right) + mean, np.float32)


def _flat(windows: Floats) -> NDArray[np.float32]:
    return windows.reshape(len(windows), -1).astype(np.float32)


def _centred(rows: Floats) -> NDArray[np.float32]:
    flat = _flat(rows)
    return np.asarray(flat - flat.mean(axis=0))


def _normal_equations(x: Floats, y: Floats) -> tuple[Floats, Floats, Callable[[Floats], Floats]]:
    """Gram matrix, right side and what windows are multiplied with: over trials or features, whichever are fewer."""
    if len(x) < x.shape[1]:
        return x @ x.T, y, lambda z: z @ x.T
    return x.T @ x, x.T @ y, lambda z: z


def nearest(train: Floats, test: Floats) -> NDArray[np.int64]:
    """Index (m,) of the training window that each test window correlates with most, over voxels and volumes.

    A window without a value that could be believed, all 0, correlates with none.
    """
    x, z = (standardised(_flat(w)) for w in (train, test))
    return np.asarray((z @ x.T).argmax(axis=1))
