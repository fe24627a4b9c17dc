"""Items of training: a window of a random trial, and what was seen; of one subject or of several at once.

Knows trials, latents and tokens as arrays; knows no network, no loss and no file.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dynadiff.trials.source import TrialSource

TrialSources = TrialSource | Mapping[str, TrialSource]  # of one subject, or of several by their names
Batch = Tensor | dict[str, Tensor]  # windows (b, voxels, volumes) of one subject, or of each of several


class ItemSource(Protocol):
    """Where items come from."""

    def draw(self, rngs: Sequence[np.random.Generator]) -> tuple[NDArray[np.int64], dict[str, Any]]:
        """One trial for each generator: which ones, and what the objective is called with, the generators included.

        A source may change the order of the items; all that it returns is in the same one.
        """

    def runs_of(self, trials: NDArray[np.int64]) -> list[str]:
        """Names of the runs that these trials are from, for a message."""


class ItemsOfOne:
    """Items of one subject. Each comes from a generator of its own.

    ``latents`` (2, p, c, h, w) are posterior means and deviations of the pictures, ``tokens`` (p, n, d) their own;
    what is None is not given to the objective. ``online`` is the share of windows that are cleaned online.
    """

    def __init__(
        self, trials: TrialSource, online: float, latents: NDArray[np.float16] | None, tokens: Tensor | None
    ) -> None:
        self.trials, self._online, self._latents, self._tokens = trials, online, latents, tokens

    def draw(self, rngs: Sequence[np.random.Generator]) -> tuple[NDArray[np.int64], dict[str, Any]]:
        """As `ItemSource` says, in the order of the generators."""
        picked = np.array([rng.integers(len(self.trials)) for rng in rngs], np.int64)
        online = np.array([rng.random() < self._online for rng in rngs], np.bool_)
        inputs: dict[str, Any] = {"windows": torch.from_numpy(self.trials.windows(picked, online)), "rngs": list(rngs)}
        seen = self.trials.seen[picked]
        if self._latents is not None:
            mean, deviation = np.asarray(self._latents[:, seen], np.float32)
            inputs |= {"mean": torch.from_numpy(mean), "deviation": torch.from_numpy(deviation)}
        if self._tokens is not None:
            inputs["targets"] = self._tokens[torch.from_numpy(seen)]
        return picked, inputs

    def runs_of(self, trials: NDArray[np.int64]) -> list[str]:
        return [self.trials.run_names[k] for k in np.unique(self.trials.runs[trials])]


class ItemsOfSeveral:
    """Items of several subjects: the subject is drawn first, each as often as any other, then a trial of that subject.

    A batch is grouped by subject. One who was not drawn has an empty group, so that every process computes a gradient,
    if of zeros, for every weight. Trials are numbered through all the subjects.
    """

    def __init__(self, subjects: Mapping[str, ItemsOfOne]) -> None:
        self._subjects = dict(subjects)
        self._first = [0, *accumulate(len(source.trials) for source in self._subjects.values())]

    def draw(self, rngs: Sequence[np.random.Generator]) -> tuple[NDArray[np.int64], dict[str, Any]]:
        """As `ItemSource` says, grouped by subject; ``windows`` are a mapping."""
        whose = [int(rng.integers(len(self._subjects))) for rng in rngs]
        picked, groups = [], []
        for number, source in enumerate(self._subjects.values()):
            trials, inputs = source.draw([rng for rng, k in zip(rngs, whose, strict=True) if k == number])
            picked.append(trials + self._first[number])
            groups.append(inputs)
        joined: dict[str, Any] = {
            key: torch.cat([group[key] for group in groups]) for key in groups[0] if key not in ("windows", "rngs")
        }
        joined["windows"] = dict(zip(self._subjects, (group["windows"] for group in groups), strict=True))
        joined["rngs"] = [rng for group in groups for rng in group["rngs"]]
        return np.concatenate(picked), joined

    def runs_of(self, trials: NDArray[np.int64]) -> list[str]:
        ends = zip(self._subjects.values(), self._first[:-1], self._first[1:], strict=True)
        inside = ((source, trials[(trials >= low) & (trials < high)] - low) for source, low, high in ends)
        return [name for source, mine in inside for name in source.runs_of(mine)]


@dataclass(frozen=True)
class Look:
    """A few trials of one subject that are only looked at: windows, what was shown (b, s, s, 3), their numbers."""

    windows: Batch
    shown: NDArray[np.uint8]
    numbers: range


def looks(trials: TrialSources, online: bool, most: int, batch: int) -> Iterator[list[Look]]:
    """Of every subject, the first trials in batches: ``most`` of them over all subjects."""
    subjects = trials if isinstance(trials, Mapping) else {"": trials}
    for name, source in subjects.items():
        few = np.arange(min(len(source), most // len(subjects)))
        windows = torch.from_numpy(source.windows(few, np.full(len(few), online)))
        yield [
            Look(
                {name: part} if isinstance(trials, Mapping) else part,
                np.asarray(source.pictures[source.seen[numbers]]),
                range(numbers[0], numbers[-1] + 1),
            )
            for part, numbers in zip(windows.split(batch), np.split(few, range(batch, len(few), batch)), strict=True)
        ]


class RandomPictures:
    """Items that are pictures, each with what else belongs to it: ``columns`` (p, ...) of tensors, by name."""

    def __init__(self, columns: Mapping[str, Tensor]) -> None:
        self._columns = dict(columns)
        self._count = len(next(iter(self._columns.values())))

    def draw(self, rngs: Sequence[np.random.Generator]) -> tuple[NDArray[np.int64], dict[str, Any]]:
        """As `ItemSource` says, in the order of the generators."""
        picked = np.array([rng.integers(self._count) for rng in rngs], np.int64)
        which = torch.from_numpy(picked)
        return picked, {name: values[which] for name, values in self._columns.items()} | {"rngs": list(rngs)}

    def runs_of(self, trials: NDArray[np.int64]) -> list[str]:
        return [f"picture {k}" for k in trials]
