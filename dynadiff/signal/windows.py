"""Which volumes belong to a picture, and cutting them out: the window between cleaning and the decoder.

Knows rows, events and samples; knows no files and no network. A window is always (voxels, volumes).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import floor
from typing import Self

import numpy as np
from numpy.typing import NDArray

from dynadiff.recordings.run import Event
from dynadiff.signal.cleaning import NO_NUISANCE, Cleaning, Earlier, clean_run
from dynadiff.signal.screening import LIMIT, Screen


@dataclass(frozen=True)
class WindowSpec:
    """Where a window lies after its picture. The default is what the released Dynadiff is evaluated on.

    Raises ValueError when the window holds no volume.
    """

    offset: int = 3  # volumes from the picture's onset to the first volume of the window
    length: int = 6  # volumes

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ValueError(f"a window holds at least 1 volume, not {self.length}")

    @classmethod
    def from_seconds(cls, offset_s: float, duration_s: float, tr: float) -> Self:
        """Window from seconds after onset, with the rounding of the released code (its ``data.py``).

        The end goes to whole seconds, then down to whole volumes: 4.6 s and 8 s at 4/3 s are rows 3 to 8.
        """
        first = round(offset_s / tr)
        return cls(first, floor(round(offset_s + duration_s) / tr) - first)

    def starts(self, event: Event, n_rows: int) -> range:
        """First rows of the windows of ``event`` that fit into a run of ``n_rows`` volumes.

        A picture shown for no longer than a window has one. A longer block has every window that
        lies within the block, the block taken ``offset`` volumes later.
        """
        first = event.row + self.offset
        count = max(event.rows - self.length + 1, 1)
        return range(max(first, 0), min(first + count, n_rows - self.length + 1))

    def seen_row(self, last_row: int) -> int:
        """Onset row of the picture that a window ending at ``last_row`` is about; may be negative."""
        return last_row - self.length + 1 - self.offset


class RollingWindow:
    """The newest ``length`` volumes of one run, once they are consecutive.

    Volumes that must be in no window (dummies, lost ones) are not pushed: their gap starts it afresh.
    """

    def __init__(self, length: int) -> None:
        self._length = length
        self._consecutive = 0
        self._row = -1
        self._ring: NDArray[np.float32] | None = None  # (length, voxels), allocated at the first volume

    def push(self, row: int, sample: NDArray[np.float32]) -> tuple[range, NDArray[np.float32]] | None:
        """Add the raw volume (voxels,) of ``row``; give rows and copy (length, voxels) of a full window."""
        if self._ring is None:
            self._ring = np.empty((self._length, len(sample)), np.float32)
        self._consecutive = self._consecutive + 1 if row == self._row + 1 else 1
        self._row = row
        self._ring[row % self._length] = sample
        if self._consecutive < self._length:
            return None
        rows = range(row - self._length + 1, row + 1)
        return rows, self._ring[[r % self._length for r in rows]]


def offline_windows(
    series: NDArray[np.float32], cleaning: Cleaning, tr: float, spec: WindowSpec, starts: Sequence[int],
    nuisance: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:  # fmt: skip
    """Windows (n, voxels, length) that begin at ``starts``, cut from the cleaned run (volumes, voxels).

    ``nuisance`` (volumes, k) is what is known of its volumes.

    Raises ValueError for a window that leaves the run.
    """
    rows = _inside(starts, spec, len(series))[:, None] + np.arange(spec.length)
    return np.ascontiguousarray(clean_run(series, cleaning, tr, nuisance)[rows].transpose(0, 2, 1))


@dataclass(frozen=True, eq=False)
class Window:
    """What one picture is decoded from."""

    rows: range  # of the run
    values: NDArray[np.float32]  # cleaned (voxels, volumes); the nearest one's for a volume that is not believed
    marks: Mapping[int, str]  # what is wrong with which of its rows, see `dynadiff.signal.screening`
    believed: int  # volumes

    @property
    def last_row(self) -> int:
        """Of its newest volume."""
        return self.rows[-1]

    @property
    def good(self) -> bool:
        """Whether at least half of its volumes are believed, so that a picture says something."""
        return 2 * self.believed >= len(self.rows)

    def later(self, rows: int) -> Self:
        """The same window where that many rows come before the first: dummies, which statistics do not count."""
        if rows == 0:
            return self
        first, marks = self.rows.start + rows, {row + rows: mark for row, mark in self.marks.items()}
        return replace(self, rows=range(first, first + len(self.rows)), marks=marks)


class OnlineWindows:
    """The windows of one run as a decoder of the live run has them: screening, statistics, the newest few volumes.

    All volumes of a window are standardised by the statistics of the run up to its last volume. A value further than
    `LIMIT` deviations away is brought back to that.
    """

    def __init__(
        self, cleaning: Cleaning, n_planned: int, n_voxels: int, tr: float, spec: WindowSpec,
        nuisance: int = 0, earlier: Earlier | None = None,
    ) -> None:  # fmt: skip
        self.screen = Screen(cleaning, n_planned, n_voxels, tr, nuisance, earlier)
        self._rolling, self._known = RollingWindow(spec.length), RollingWindow(spec.length)

    def push(
        self, row: int, sample: NDArray[np.float32], nuisance: NDArray[np.float32] = NO_NUISANCE[0]
    ) -> Window | None:
        """Take the raw volume (voxels,) of ``row``, after the last one; give the window that it completes.

        ``nuisance`` (k,) is what else is known of it, as `OnlineCleaner` says.
        """
        self.screen.push(row, sample, nuisance)
        newest, known = self._rolling.push(row, sample), self._known.push(row, nuisance)
        if newest is None or known is None:
            return None
        rows = newest[0]
        values = self.screen.cleaner.standardise(*newest, known[1])
        np.clip(values, -LIMIT, LIMIT, out=values)
        believed = [k for k, r in enumerate(rows) if self.screen.believed(r)]
        nearest = [min(believed, key=lambda b: abs(b - k), default=k) for k in range(len(rows))]
        marks = {r: self.screen.marks[r] for r in rows if r in self.screen.marks}
        return Window(rows, np.ascontiguousarray(values[nearest].T), marks, len(believed))


def online_windows(
    series: NDArray[np.float32], cleaning: Cleaning, tr: float, spec: WindowSpec, starts: Sequence[int],
    nuisance: NDArray[np.float32] | None = None, earlier: Earlier | None = None,
) -> NDArray[np.float32]:  # fmt: skip
    """The same windows (n, voxels, length) as `OnlineWindows` gives them; ``nuisance`` (volumes, k).

    Raises ValueError for a window that leaves the run.
    """
    n_rows, n_voxels = series.shape
    wanted = _inside(starts, spec, n_rows)
    known = np.zeros((n_rows, 0), np.float32) if nuisance is None else nuisance
    online = OnlineWindows(cleaning, n_rows, n_voxels, tr, spec, known.shape[1], earlier)
    windows = np.empty((len(wanted), n_voxels, spec.length), np.float32)
    for row, (sample, beside) in enumerate(zip(series, known, strict=True)):
        newest = online.push(row, sample, beside)
        if newest is not None and (here := wanted == newest.rows.start).any():
            windows[here] = newest.values
    return windows


def _inside(starts: Sequence[int], spec: WindowSpec, n_rows: int) -> NDArray[np.int64]:
    first = np.asarray(starts, np.int64)
    if ((first < 0) | (first + spec.length > n_rows)).any():
        raise ValueError(f"a window of {spec.length} volumes leaves the run of {n_rows}")
    return first
