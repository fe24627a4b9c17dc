"""From a volume to a window: mask, statistics, the newest few. Knows a run and the manifest of an engine.

Pure arithmetic: no sockets, no clock, no threads and no pictures. Every volume goes through here, whether or
not its window is painted afterwards.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dynadiff.cleaning import OnlineCleaner
from dynadiff.engine import Manifest
from dynadiff.errors import UserError
from dynadiff.windows import RollingWindow, WindowSpec
from realtime.wire import RunStart, Volume

TR_TOLERANCE = 1e-3  # seconds


@dataclass(frozen=True, eq=False)
class Window:
    """What one picture is decoded from."""

    last_row: int  # index of its newest volume in the run, dummies included
    seen_row: int  # volume during which its picture was on the screen, below 0 before the run
    values: NDArray[np.float32]  # cleaned (voxels, volumes)


class Masker:
    """Takes the voxels of a mask out of volumes, in C order of the mask, however a volume lies in memory."""

    def __init__(self, mask: NDArray[np.bool_]) -> None:
        places = np.nonzero(mask)
        self._c = np.ravel_multi_index(places, mask.shape)
        self._f = np.ravel_multi_index(places, mask.shape, order="F")

    def __call__(self, volume: NDArray[np.generic]) -> NDArray[np.float32]:
        """Volume (x, y, z) of any dtype to voxels (n,)."""
        if volume.flags.f_contiguous:
            return volume.ravel(order="F")[self._f].astype(np.float32)
        return volume.ravel()[self._c].astype(np.float32)


class Stages:
    """Mask, statistics and window of one run. A new run gets a new object."""

    def __init__(self, start: RunStart, manifest: Manifest, mask: NDArray[np.bool_]) -> None:
        self.spec = WindowSpec(manifest.window_offset, manifest.window_length)
        self._dummies = start.dummies
        self._masked = Masker(mask)
        kept = start.n_volumes - start.dummies
        self._cleaner = OnlineCleaner(manifest.cleaning, kept, manifest.voxels, start.tr)
        self._rolling = RollingWindow(self.spec.length)
        self.sample: NDArray[np.float32] | None = None  # the newest volume's voxels, None for a dummy

    @property
    def non_finite(self) -> int:
        """Values that were not finite and were replaced, over all volumes and voxels."""
        return self._cleaner.non_finite

    def push(self, volume: Volume) -> Window | None:
        """Take a volume into the statistics, unless it is a dummy; give the window that it completes."""
        row = volume.index - self._dummies  # statistics and windows begin with the first kept volume
        if row < 0:
            return None
        self.sample = self._masked(volume.data)
        self._cleaner.push(row, self.sample)
        newest = self._rolling.push(row, self.sample)
        if newest is None:
            return None
        values = np.ascontiguousarray(self._cleaner.standardise(*newest).T)
        return Window(volume.index, self.spec.seen_row(volume.index), values)


def check_run(start: RunStart, manifest: Manifest, mask: NDArray[np.bool_]) -> None:
    """UserError unless the run is of the brain, the matrix and the TR that the engine was made for."""
    if _plain(start.subject) != _plain(manifest.subject):
        raise UserError(
            f"the run is of subject {start.subject} and the engine of subject {manifest.subject}: "
            "give the engine trained on this subject with --model"
        )
    if start.shape != mask.shape:
        raise UserError(
            f"the run's volumes are {_times(start.shape)} voxels and the engine's mask {_times(mask.shape)}: "
            "give the engine made for this acquisition with --model"
        )
    if abs(start.tr - manifest.tr) > TR_TOLERANCE:
        raise UserError(
            f"the run's TR is {start.tr:g} s and the engine was trained at {manifest.tr:g} s: "
            "give the engine made for this acquisition with --model"
        )


def _plain(subject: str) -> str:
    """Subject labels of NSD and BIDS as one: subj01, sub-01, 01 and 1 are 1."""
    return subject.removeprefix("sub-").removeprefix("subj").lstrip("0")


def _times(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))
