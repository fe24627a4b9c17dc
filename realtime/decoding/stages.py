"""From a volume to a window: mask, statistics, the newest few. Knows a run and the manifest of an engine.

Pure arithmetic: no sockets, no clock, no threads and no pictures. Every volume goes through here, whether or
not its window is painted afterwards.
"""

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from dynadiff.base.errors import UserError
from dynadiff.engines.contract import Decoder, Manifest
from dynadiff.recordings.masks import Masker, check_space
from dynadiff.recordings.run import plain_subject
from dynadiff.signal.windows import OnlineWindows, Window, WindowSpec
from realtime.feed.wire import RunStart, Volume

TR_TOLERANCE = 1e-3  # seconds


class Stages:
    """Mask, statistics and window of one run. A new run gets a new object."""

    def __init__(self, start: RunStart, manifest: Manifest, mask: NDArray[np.bool_]) -> None:
        self.spec = WindowSpec(manifest.window_offset, manifest.window_length)
        self._dummies = start.dummies
        self._masked = Masker(mask)
        kept = start.n_volumes - start.dummies
        self._online = OnlineWindows(manifest.cleaning, kept, manifest.voxels, start.tr, self.spec)
        self._next = 0  # index that comes next if none is missing
        self.missing: list[int] = []  # volumes that the scanner never handed over
        self.sample: NDArray[np.float32] | None = None  # the newest volume's voxels, None if it is not believed

    @property
    def marks(self) -> dict[int, str]:
        """What is wrong with which volume. Of the first volumes of a run this may change with the next ones."""
        return {row + self._dummies: mark for row, mark in self._online.screen.marks.items()}

    @property
    def bad(self) -> dict[str, int]:
        """How many volumes were missing or marked, by what was wrong with them."""
        found = Counter(self._online.screen.marks.values())
        return dict(sorted(found.items())) | ({"missing": len(self.missing)} if self.missing else {})

    @property
    def non_finite(self) -> int:
        """Values in believed volumes that were not finite and were replaced, over all volumes and voxels."""
        return self._online.screen.cleaner.non_finite

    @property
    def limited(self) -> int:
        """Values in believed volumes that were too wild to count in full."""
        return self._online.screen.limited

    def push(self, volume: Volume) -> Window | None:
        """Take a volume into the statistics, unless it is a dummy; give the window that it completes."""
        self.missing += range(self._next, volume.index)
        self._next = volume.index + 1
        row = volume.index - self._dummies  # statistics and windows begin with the first kept volume
        if row < 0:
            return None
        sample = self._masked(volume.data)
        newest = self._online.push(row, sample)
        self.sample = sample if self._online.screen.believed(row) else None
        return None if newest is None else newest.later(self._dummies)


def check_run(start: RunStart, decoder: Decoder, any_space: bool = False) -> None:
    """UserError unless the run is of the brain, the matrix, the space and the TR that the engine was made for.

    ``any_space`` takes the user's word that the voxels are the right ones, wherever the header says they are.
    """
    manifest, mask = decoder.manifest, decoder.mask
    if plain_subject(start.subject) != plain_subject(manifest.subject):
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
    if not any_space:
        advice = "give the engine of this acquisition with --model, or --any-space if the voxels are the right ones"
        check_space(np.array(start.affine), decoder.affine, mask.shape, f"run {start.name}", advice)


def _times(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))
