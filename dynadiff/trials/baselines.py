"""What a decoder has to beat: ridge regression and the nearest training trial. Windows in, targets out; no networks."""

from collections.abc import Callable, Sequence
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
    return ridges(train, [targets], runs, test)[0]


def ridges(
    train: Floats, targets: Sequence[Floats], runs: NDArray[np.int64], test: Floats
) -> list[NDArray[np.float32]]:
    """`ridge` to targets of several kinds, each (n, d) at a penalty of its own: what they share is computed once."""
    penalties = ridge_penalties(train, targets, runs)
    fits: dict[int, NDArray[np.float32]] = {}
    for penalty in set(penalties):
        same = [k for k, other in enumerate(penalties) if other == penalty]
        fitted = ridge_at(train, np.hstack([targets[k] for k in same]), test, penalty)
        fits |= zip(same, _parted(fitted, [targets[k] for k in same]), strict=True)
    return [fits[k] for k in range(len(targets))]


def ridge_penalty(train: Floats, targets: Floats, runs: NDArray[np.int64]) -> float:
    """The penalty by which every fifth run is told best from the others. Raises UserError where there is but one."""
    return ridge_penalties(train, [targets], runs)[0]


def ridge_penalties(train: Floats, targets: Sequence[Floats], runs: NDArray[np.int64]) -> list[float]:
    """`ridge_penalty` for each of several kinds of targets."""
    if len(np.unique(runs)) < 2:
        raise UserError("ridge regression leaves runs out to choose its penalty, and has one to learn from: add runs")
    x, y = _centred(train), _centred(np.hstack(targets))
    held = np.unique(runs, return_inverse=True)[1] % FOLDS == 0
    gram, right, project = _normal_equations(x[~held], y[~held])
    values, vectors = eigh(gram, overwrite_a=True)
    left, rotated = project(x[held]) @ vectors, vectors.T @ right
    penalties = PENALTIES * values.mean()
    errors = []
    for penalty in penalties:
        off = np.square(left @ (rotated / (values + penalty)[:, None]) - y[held])
        errors.append([part.sum() for part in _parted(off, targets)])
    return [float(penalties[best]) for best in np.argmin(errors, axis=0)]


def ridge_at(train: Floats, targets: Floats, test: Floats, penalty: float) -> NDArray[np.float32]:
    """`ridge` at a penalty that was chosen before."""
    x, z = _flat(train), _flat(test)
    centre, mean = x.mean(axis=0), targets.mean(axis=0)
    gram, right, project = _normal_equations(x - centre, _centred(targets))
    gram[np.diag_indices_from(gram)] += np.float32(penalty)
    return np.asarray(project(z - centre) @ cho_solve(cho_factor(gram, overwrite_a=True), right) + mean, np.float32)


def _parted(rows: Floats, targets: Sequence[Floats]) -> list[Floats]:
    """Rows (m, ...) taken apart as the targets (n, d) lie side by side in them."""
    return np.split(rows, np.cumsum([part.shape[1] for part in targets])[:-1], axis=1)


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
