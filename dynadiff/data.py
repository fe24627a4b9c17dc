"""Runs become training pairs: cleaned windows and the pictures seen. Held in memory; knows no model and no torch."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dynadiff.cleaning import Cleaning
from dynadiff.errors import UserError
from dynadiff.nifti import masked_series
from dynadiff.nsd import NSD
from dynadiff.run import Event, Run
from dynadiff.windows import WindowSpec, offline_windows, online_windows

TEST_SESSION = 1


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

    def __len__(self) -> int:
        return len(self.seen)


def collect(
    runs: Iterable[Run], mask: NDArray[np.bool_], cleaning: Cleaning, spec: WindowSpec, size: int,
    keep: Callable[[Event], bool] = lambda _: True,
) -> Trials:  # fmt: skip
    """Cut the windows of all kept events of the runs; pictures are resized to ``size`` pixels."""
    offline, online = [], []
    seen, of_run, of_event = [], [], []
    pictures: dict[str, tuple[int, NDArray[np.uint8], str]] = {}
    events = 0
    for number, run in enumerate(runs):
        if run.shape != mask.shape:
            raise UserError(
                f"{run.name} has volumes of {run.shape} but the mask is {mask.shape}: use the run's own mask"
            )
        series = masked_series(run, mask, run.n_volumes)
        starts: list[int] = []
        for event in filter(keep, run.events):
            if event.picture not in pictures:
                small = cv2.resize(run.picture(event.picture), (size, size), interpolation=cv2.INTER_AREA)
                pictures[event.picture] = len(pictures), small.astype(np.uint8), event.category
            here = spec.starts(event, run.n_volumes)
            starts.extend(here)
            seen.extend([pictures[event.picture][0]] * len(here))
            of_run.extend([number] * len(here))
            of_event.extend([events] * len(here))
            events += 1
        if starts:
            offline.append(offline_windows(series, cleaning, run.tr, spec, starts).astype(np.float16))
            online.append(online_windows(series, cleaning, run.tr, spec, starts).astype(np.float16))
    if not seen:
        raise UserError("no run has a picture to learn from: check that designs or events name the pictures shown")
    return Trials(
        np.concatenate(offline), np.concatenate(online), np.array(seen), np.array(of_run), np.array(of_event),
        np.stack([p for _, p, _ in pictures.values()]),
        tuple(pictures), tuple(c for _, _, c in pictures.values()),
    )  # fmt: skip


def nsd_runs(nsd: NSD, subject: int, sessions: Iterable[int]) -> Iterable[Run]:
    """All task runs of the sessions, in order."""
    return (nsd.run(subject, session, run) for session in sessions for run in nsd.runs(subject, session))


def held_out(nsd: NSD, subject: int) -> Callable[[Event], bool]:
    """Is an event's picture kept from training? It is if it is shared by all subjects, or shown in the first session.

    So the whole of the first session can be decoded as new: not one of its pictures was learnt from.
    """
    first = {e.picture for run in nsd_runs(nsd, subject, [TEST_SESSION]) for e in run.events}
    return lambda event: event.picture in first or nsd.is_test(int(event.picture))
