"""The opponents: ridge classifier and shrinkage LDA, each with a strength that runs left out of the learning choose.

Knows arrays: windows in, a score of every category out. Knows no run on disk, no picture and no network. What is
judged plays no part in what is chosen or fitted, standardisation included. There are more features than windows, so
both are solved over windows, and all strengths of one together: the equations are those of scikit-learn's
``RidgeClassifier`` and ``LinearDiscriminantAnalysis`` (solvers ``lsqr`` and ``eigen``), to which tests hold them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from dynadiff.base.errors import UserError

Floats = NDArray[np.floating[Any]]
Numbers = NDArray[np.int64]
PENALTIES = tuple(np.logspace(-4, 4, 17).tolist())  # of ridge, a feature: times their number it is scikit-learn's alpha
SHRINKAGES = tuple((1 / (1 + np.logspace(3, -3, 13))).tolist())  # of LDA: 0.001 to 0.999, even in their odds

LEAST = 1e-12  # what rounding leaves of numbers around 1


@dataclass(frozen=True, eq=False)
class Discriminants:
    """Linear functions of a window, one a category: the largest names it."""

    weights: NDArray[np.float64]  # (features, categories)
    offsets: NDArray[np.float64]  # (categories,)

    def __call__(self, features: Floats) -> NDArray[np.float64]:
        """Features (n, f) to scores (n, categories)."""
        return np.asarray(features @ self.weights + self.offsets)


Solve = Callable[[Floats, Numbers, int], list[Discriminants]]  # features (n, f), categories (n,), how many: by strength


@dataclass(frozen=True, eq=False)
class Method:
    """A way to classify, and the strengths of which one is chosen, from the weakest to the strongest."""

    features: Callable[[Floats], NDArray[np.float64]]  # windows (n, voxels, volumes) to (n, f)
    solve: Solve
    strengths: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Classifier:
    """What a method has learnt."""

    method: Method
    strength: float  # as chosen
    centre: NDArray[np.float64]  # (f,)
    scale: NDArray[np.float64]  # (f,), 1 for a feature that never varies
    discriminants: Discriminants  # of standardised features

    def __call__(self, windows: Floats) -> NDArray[np.float64]:
        """Windows (n, voxels, volumes) to scores (n, categories)."""
        return self.discriminants((self.method.features(windows) - self.centre) / self.scale)


def fit(method: Method, windows: Floats, served: Floats, shown: Numbers, runs: Numbers, categories: int) -> Classifier:
    """Learn from windows (n, voxels, volumes) that show ``shown`` (n,), at the strength that ``chosen`` says.

    ``served`` are the same windows as a live run has them: of these the strength is chosen. Raises UserError where the
    windows are of one run, of which none can be left out.
    """
    features = method.features(windows)
    which = chosen(method, features, method.features(served), shown, runs, categories)
    centre, scale = _standard(features)
    discriminants = method.solve((features - centre) / scale, shown, categories)[which]
    return Classifier(method, method.strengths[which], centre, scale, discriminants)


def chosen(method: Method, features: Floats, served: Floats, shown: Numbers, runs: Numbers, categories: int) -> int:
    """Which strength, learnt from ``features``, names most of ``served`` right, each run (n,) left out in turn.

    Of several that are equally good the strongest, which assumes least of the windows.
    """
    if len(np.unique(runs)) < 2:
        raise UserError("linear classifiers leave runs out to choose how much they shrink, and have one: add runs")
    right = np.zeros(len(method.strengths))
    for run in np.unique(runs):
        out = runs == run
        centre, scale = _standard(features[~out])
        solved = method.solve((features[~out] - centre) / scale, shown[~out], categories)
        judged = (served[out] - centre) / scale
        right += [np.count_nonzero(found(judged).argmax(axis=1) == shown[out]) for found in solved]
    return len(right) - 1 - int(right[::-1].argmax())


def flattened(windows: Floats) -> NDArray[np.float64]:
    """All volumes of a window side by side: (n, voxels, volumes) to (n, voxels * volumes)."""
    return np.asarray(windows.reshape(len(windows), -1), np.float64)


def averaged(windows: Floats) -> NDArray[np.float64]:
    """The mean of a window's volumes: (n, voxels, volumes) to (n, voxels)."""
    return np.asarray(windows.mean(axis=2, dtype=np.float64))


def ridge_classifiers(x: Floats, shown: Numbers, categories: int, penalties: tuple[float, ...]) -> list[Discriminants]:
    """Least squares from standardised features (n, f) to 1 for the category shown (n,) and -1 for the others.

    A penalty is of the squared weights and in units of f, the mean eigenvalue of the Gram matrix x xᵀ (n, n).
    """
    targets = np.where(shown[:, None] == np.arange(categories), 1.0, -1.0)
    mean = targets.mean(axis=0)
    values, vectors = eigh(x @ x.T)
    rotated = vectors.T @ (targets - mean)
    dual = [vectors @ (rotated / (values + penalty * x.shape[1])[:, None]) for penalty in penalties]
    return [Discriminants(x.T @ weights, mean) for weights in dual]


def shrunk_lda(x: Floats, shown: Numbers, categories: int, shrinkages: tuple[float, ...]) -> list[Discriminants]:
    """Gaussians of one covariance: that within categories, shrunk towards its mean variance times the identity.

    For S = (1 - a) WᵀW / n + a v I, with W (n, f) the deviations from the means M of categories and v their mean
    square, S⁻¹Mᵀ follows from the eigenvalues of W Wᵀ alone (Woodbury). A category that was not shown is never named.
    """
    n, f = x.shape
    counts = np.bincount(shown, minlength=categories)
    member = (shown[:, None] == np.arange(categories)) / np.maximum(counts, 1)
    means = member.T @ x
    within = x - means[shown]
    variance = max(np.square(within).sum() / (n * f), LEAST)  # 0 where windows of a category are all the same
    values, vectors = eigh(within @ within.T)
    rotated = vectors.T @ (within @ means.T)
    with np.errstate(divide="ignore"):
        priors = np.log(counts / n)
    found = []
    for shrinkage in shrinkages:
        floor = shrinkage * variance
        dual = vectors @ (rotated / (values + n * floor / (1 - shrinkage))[:, None])
        weights = (means.T - within.T @ dual) / floor
        found.append(Discriminants(weights, priors - (means.T * weights).sum(axis=0) / 2))
    return found


def _standard(features: Floats) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean (f,) and standard deviation (f,) over windows; 1 for a feature that varies by no more than rounding."""
    centre, scale = features.mean(axis=0), features.std(axis=0)
    return centre, np.where(scale > LEAST * np.abs(centre), scale, 1)


_RIDGE, _LDA = partial(ridge_classifiers, penalties=PENALTIES), partial(shrunk_lda, shrinkages=SHRINKAGES)
OPPONENTS: Mapping[str, Method] = {
    "ridge on six volumes": Method(flattened, _RIDGE, PENALTIES),
    "ridge on their mean": Method(averaged, _RIDGE, PENALTIES),
    "LDA on six volumes": Method(flattened, _LDA, SHRINKAGES),
    "LDA on their mean": Method(averaged, _LDA, SHRINKAGES),
}
