"""Runs become training pairs: cleaned windows and the pictures seen. Knows no model and no torch."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from dynadiff.base.errors import UserError
from dynadiff.recordings.held_out import Trial
from dynadiff.recordings.masks import masked_series
from dynadiff.recordings.nsd import NSD
from dynadiff.recordings.run import Run
from dynadiff.signal.cleaning import Cleaning
from dynadiff.signal.windows import WindowSpec, offline_windows, online_windows

TEST_SESSION = 1


class TrialSource(Protocol):
    """Windows of single trials with what was seen, wherever they are kept. n trials, p different pictures."""

    @property
    def seen(self) -> NDArray[np.int64]:
        """(n,) index into pictures."""

    @property
    def runs(self) -> NDArray[np.int64]:
        """(n,) index into run_names."""

    @property
    def run_names(self) -> tuple[str, ...]: ...

    @property
    def pictures(self) -> NDArray[np.uint8]:
        """(p, size, size, 3), perhaps mapped from a file."""

    def __len__(self) -> int: ...

    def windows(self, which: NDArray[np.int64], online: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Windows (k, voxels, volumes) of trials ``which`` (k,), cleaned online where ``online`` (k,) says so."""


@dataclass(frozen=True)
class Trials:
    """Windows of single trials, cleaned both ways, with what was seen. n trials, p different pictures."""

    offline: NDArray[np.float16]  # (n, voxels, volumes), statistics of the whole run
    online: NDArray[np.float16]  # (n, voxels, volumes), statistics of the run up to the window's last volume
    seen: NDArray[np.int64]  # (n,) index into pictures
    runs: NDArray[np.int64]  # (n,) which of the runs, counted from 0
    blocks: NDArray[np.int64]  # (n,) which of the events: a long one gives several windows
    pictures: NDArray[np.uint8]  # (p, size, size, 3)
    names: tuple[str, ...]  # (p,)
    categories: tuple[str, ...]  # (p,), empty where unknown
    run_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.seen)

    def windows(self, which: NDArray[np.int64], online: NDArray[np.bool_]) -> NDArray[np.float32]:
        """As `TrialSource` says."""
        return np.where(online[:, None, None], self.online[which], self.offline[which]).astype(np.float32)


class Averaged:
    """Repetitions of a picture as one trial: its window is the mean of theirs (`TrialSource`)."""

    def __init__(self, trials: TrialSource, repetitions: Sequence[NDArray[np.int64]]) -> None:
        self._trials, self._repetitions = trials, repetitions
        first = np.array([group[0] for group in repetitions], np.int64)
        self.seen, self.runs = trials.seen[first], trials.runs[first]
        self.run_names, self.pictures = trials.run_names, trials.pictures

    def __len__(self) -> int:
        return len(self._repetitions)

    def windows(self, which: NDArray[np.int64], online: NDArray[np.bool_]) -> NDArray[np.float32]:
        """As `TrialSource` says."""
        groups = [self._repetitions[k] for k in which]
        cut = (self._trials.windows(g, np.full(len(g), o)) for g, o in zip(groups, online, strict=True))
        return np.stack([windows.mean(axis=0) for windows in cut])


def collect(
    runs: Iterable[Run], mask: NDArray[np.bool_], cleaning: Cleaning, spec: WindowSpec, size: int,
    keep: Callable[[Trial], bool] = lambda _: True, single: bool = False,
) -> Trials:  # fmt: skip
    """Cut the windows of all kept events of the runs; pictures are resized to ``size`` pixels.

    ``single`` is one window an event, the first, even where it is shorter than the picture was shown.
    """
    offline, online = [], []
    seen, of_run, of_event = [], [], []
    shown: dict[str, tuple[int, NDArray[np.uint8], str]] = {}  # by name: which, picture, category
    names, events = [], 0
    for number, run in enumerate(runs):
        names.append(run.name)
        if run.shape != mask.shape:
            raise UserError(
                f"{run.name} has volumes of {run.shape} but the mask is {mask.shape}: use the run's own mask"
            )
        starts: list[int] = []
        for event in (event for event in run.events if keep(Trial.of(run.name, event))):
            if event.picture not in shown:
                shown[event.picture] = len(shown), _resized(run.picture(event.picture), size), event.category
            here = spec.starts(replace(event, rows=1) if single else event, run.rows)
            starts += here
            seen += [shown[event.picture][0]] * len(here)
            of_run += [number] * len(here)
            of_event += [events] * len(here)
            events += 1
        if starts:
            series = masked_series(run, mask, run.n_volumes)
            offline.append(offline_windows(series[: run.rows], cleaning, run.tr, spec, starts).astype(np.float16))
            online.append(online_windows(series, cleaning, run.tr, spec, starts).astype(np.float16))
    if not seen:
        raise UserError("no run has a picture to learn from: check that designs or events name the pictures shown")
    _, pictures, categories = zip(*shown.values(), strict=True)
    return Trials(
        np.concatenate(offline), np.concatenate(online), np.array(seen), np.array(of_run), np.array(of_event),
        np.stack(pictures), tuple(shown), categories, tuple(names),
    )  # fmt: skip


def _resized(picture: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA), np.uint8)


def nsd_runs(nsd: NSD, subject: int, sessions: Iterable[int]) -> Iterable[Run]:
    """All task runs of the sessions, in order."""
    return (nsd.run(subject, session, run) for session in sessions for run in nsd.runs(subject, session))
