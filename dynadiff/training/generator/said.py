"""What a brain module says of a picture, learned from what ridge regression says of pictures that it has not seen.

A regression shrinks each number by how much of it voxels carry, mixes numbers that they cannot tell apart, and errs in
all of them together. So what it says is taken apart into a linear map of the picture's own tokens and the error of each
trial, whole: a generator that learns from mapped tokens plus the error of a trial at random learns from tokens as
uncertain as a brain's are, number by number. Knows windows and tokens as arrays; knows no picture and no network.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dynadiff.trials.baselines import ridge_at, ridge_penalty
from dynadiff.trials.source import TrialSource

FOLDS = 5  # of pictures: all repetitions of one are held out together
SHRINK = 0.01  # penalty of the map, in units of the mean variance of the own tokens
AT_ONCE = 2000  # trials whose windows are cut at a time


class Said(nn.Module):
    """Tokens as a brain says them: ``mean`` + ``slope`` of a picture's own tokens + the error of a trial.

    Raises ValueError where sizes do not fit.
    """

    own_mean: Tensor  # (d,), flat tokens of the pictures that were learnt from
    mean: Tensor  # (d,)
    slope: Tensor  # (d, d)
    errors: Tensor  # (trials, d), float16

    def __init__(self, own_mean: Tensor, mean: Tensor, slope: Tensor, errors: Tensor) -> None:
        super().__init__()
        d = len(mean)
        if own_mean.shape != (d,) or slope.shape != (d, d) or errors.shape[1:] != (d,):
            raise ValueError("map and errors must be of tokens of one size")
        for name, values in (("own_mean", own_mean), ("mean", mean), ("slope", slope), ("errors", errors)):
            self.register_buffer(name, values, persistent=False)

    def forward(self, own: Tensor, rngs: Sequence[np.random.Generator]) -> Tensor:
        """What is said of tokens (b, n, d), the error of each drawn by its own generator."""
        drawn = torch.tensor([int(rng.integers(len(self.errors))) for rng in rngs], device=own.device)
        flat = (own.flatten(1) - self.own_mean) @ self.slope + self.mean
        said: Tensor = (flat + self.errors[drawn].float()).unflatten(1, own.shape[1:])
        return said


def said_of(trials: TrialSource, own: Tensor, online: bool = False) -> Said:
    """What is learned from the trials of one subject, whose pictures have tokens ``own`` (p, n, d).

    Windows are those of whole runs, or as they are served ``online``. Raises UserError where they show one picture.
    """
    flat = own.flatten(1).numpy()
    targets = flat[trials.seen]
    predicted = out_of_fold(_windows(trials, online), targets, trials.seen)
    own_mean, mean = targets.mean(axis=0), predicted.mean(axis=0)
    x, y = targets - own_mean, predicted - mean
    gram = x.T @ x
    gram[np.diag_indices_from(gram)] += np.float32(SHRINK * np.trace(gram) / len(gram))
    slope = np.linalg.solve(gram, x.T @ y).astype(np.float32)
    errors = (y - x @ slope).astype(np.float16)
    return Said(*(torch.from_numpy(values) for values in (own_mean, mean, slope, errors)))


def out_of_fold(
    windows: NDArray[np.float32], targets: NDArray[np.float32], pictures: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Targets (n, d) of windows (n, ...) by ridge regression that knows no trial of the picture (n,) that was seen."""
    fold = np.unique(pictures, return_inverse=True)[1] % FOLDS
    penalty = ridge_penalty(windows, targets, pictures)
    predicted = np.empty_like(targets)
    for number in np.unique(fold):
        held = fold == number
        predicted[held] = ridge_at(windows[~held], targets[~held], windows[held], penalty)
    return predicted


def _windows(trials: TrialSource, online: bool) -> NDArray[np.float32]:
    """Those of all trials."""
    parts = np.array_split(np.arange(len(trials)), max(1, len(trials) // AT_ONCE))
    return np.concatenate([trials.windows(part, np.full(len(part), online)) for part in parts])
