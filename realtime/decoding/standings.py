"""Which picture was seen, told while the run goes on: identification over the trials so far, in the time that is left.

A worker named `judge` looks at one trial after the other, some milliseconds each, and begins none while a picture is
painted, so that no picture and no volume waits for a score. It keeps features, not pictures. A feature space that
breaks costs the scores from there on and nothing else. Knows pictures by their volumes, what was seen and a feature
space; knows no engine, no feed and no screen.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event

import numpy as np
from numpy.typing import NDArray

from dynadiff.base.errors import UserError
from dynadiff.scores.identification import correlations, two_way, two_way_level
from dynadiff.scores.intervals import Level, level
from realtime.records.summary import Json, Space

LEAST = 5  # trials: a share of fewer says nothing

Read = Callable[[int], NDArray[np.uint8] | None]  # the picture (h, w, 3) of a volume, None where there is none


@dataclass(frozen=True)
class Standing:
    """Two-way identification over the first trials of a run, as `realtime.records.summary.identification` has it."""

    volume: int  # that the window of the newest of them ends with
    n_trials: int
    level: Level


@dataclass(frozen=True)
class Stop:
    """Where scoring ended before the run did."""

    volume: int
    why: str


class Standings:
    """The standing after each trial of a run. Its methods belong to one thread, scoring to another."""

    def __init__(self, space: Space, read: Read) -> None:
        self._space, self._read = space, read
        self._worker = ThreadPoolExecutor(1, "judge")  # which begins with the first trial
        self._jobs: list[Future[None]] = []
        self._free = Event()
        self._names: list[str] = []
        self._features: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []  # (d,) painted and seen, a trial
        self._found: list[Standing] = []
        self._stop: Stop | None = None

    def add(self, volume: int, seen: NDArray[np.uint8], name: str) -> None:
        """A trial: what was ``seen`` (h, w, 3), under which name, and the volume whose picture is on disk by now."""
        self._jobs.append(self._worker.submit(self._judge, volume, seen, name))

    def go_on(self, free: bool) -> None:
        """Begin another trial where nobody needs the time, else none until told."""
        if free:
            self._free.set()
        else:
            self._free.clear()

    def finish(self) -> None:
        """Score what waits. What was raised on the way is raised here, but for what `Space.look` says of its space."""
        self._free.set()
        for job in self._jobs:
            job.result()

    def close(self) -> None:
        self._free.set()
        self._worker.shutdown(cancel_futures=True)

    def said(self, volume: int | None = None) -> str:
        """The newest standing, or that at the picture of a volume, in one line; empty before there is one."""
        if self._stop is not None and (volume is None or volume >= self._stop.volume):
            return f"no score since volume {self._stop.volume}"
        known = [one for one in self._found[:] if volume is None or one.volume <= volume]
        return _said(known[-1], self._space.name) if known else ""

    def lines(self) -> list[Json]:
        """What summary.json says of them."""
        return [_line(one) for one in self._found]

    @property
    def stopped(self) -> str:
        """Why there are no more of them, in one sentence; empty where nothing went wrong."""
        return f"scoring stopped at volume {self._stop.volume}: {self._stop.why}" if self._stop else ""

    def _judge(self, volume: int, seen: NDArray[np.uint8], name: str) -> None:
        self._free.wait()
        if self._stop is not None:
            return
        try:
            painted = self._read(volume)
            if painted is None:
                return
            self._features.append((self._space.look(painted), self._space.look(seen)))
        except UserError as error:
            self._stop = Stop(volume, str(error))
            return
        self._names.append(name)
        if len(self._names) >= LEAST and len(set(self._names)) > 1:
            self._found.append(Standing(volume, len(self._names), self._level()))

    def _level(self) -> Level:
        painted, seen = (np.stack(rows) for rows in zip(*self._features, strict=True))
        r = correlations(painted, seen)
        return level(two_way(r, self._names), self._names, two_way_level(r, self._names))


def _said(one: Standing, space: str) -> str:
    mean, low, high = (f"{100 * share:.0f}" for share in (one.level.mean, one.level.low, one.level.high))
    chance = f"chance up to {100 * one.level.chance:.0f} %"
    return f"two-way {mean} % [{low}, {high}], {chance} ({one.n_trials} trials, by {space})"


def _line(one: Standing) -> Json:
    return {
        "volume": one.volume,
        "n_trials": one.n_trials,
        "two_way": round(one.level.mean, 4),
        "ci95": [round(one.level.low, 4), round(one.level.high, 4)],
        "permuted_p95": round(one.level.chance, 4),
    }
