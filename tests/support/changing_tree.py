"""An NSD tree whose first run may be acquired again, with another future, and the rows of the trials in it."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from dynadiff.recordings.nsd import NSD
from dynadiff.recordings.run import Run
from dynadiff.signal.windows import WindowSpec
from support.look_ahead import Acquired, Emission, by_row, stacked
from support.nsd_tree import FLAT, SHAPES, picture_of, some_design, write_run, write_tree

SPEC = WindowSpec()
TRIALS = range(9, 211, 24)  # rows of the pictures of the run that changes


class ChangingTree:
    """A session of one run, and one of two to learn from; ``acquire`` replaces that run, which was ``first``."""

    def __init__(self, root: Path) -> None:
        self.root = write_tree(root, FLAT)
        func, numbers = root / FLAT["func"].format(1), set[int]()
        for path in func.rglob("*_session01_run0[23].*"):
            path.unlink()
        rest = range(9, 211, 12)
        for session, run, rows in ((1, 1, TRIALS), (2, 1, rest), (2, 2, rest)):
            shown = [number if row in rows else 0 for row, number in enumerate(some_design(10 * session + run))]
            acquired = write_run(func, session, run, shown, SHAPES[1], dtype="f4")
            numbers |= {number for number in shown if number}
            if session == 1:
                self.first: Acquired = by_row(np.moveaxis(np.asarray(acquired, np.float32), -1, 0))
        with h5py.File(root / FLAT["stimuli"] / "nsd_stimuli.hdf5", "r+") as file:
            for number in numbers:
                file["imgBrick"][number - 1] = picture_of(number)
        self._path = func / "timeseries" / "timeseries_session01_run01.nii.gz"

    def acquire(self, acquired: Acquired) -> NSD:
        """The tree with this run, every row of which must be there."""
        image = nib.Nifti1Image(np.moveaxis(stacked(acquired), 0, -1), np.diag([1.8, 1.8, 1.8, 1]))
        image.header.set_zooms((1.8, 1.8, 1.8, 4 / 3))
        image.header.set_xyzt_units("mm", "sec")
        nib.save(image, self._path)
        return NSD(self.root)

    @property
    def run(self) -> Run:
        return NSD(self.root).run(1, 1, 1)

    @property
    def mask(self) -> NDArray[np.bool_]:
        return NSD(self.root).mask(1)

    def of_trials(self, name: str, values: Sequence[object]) -> Iterator[Emission]:
        """One of each trial of the run, in order."""
        yield from ((row, name, value) for row, value in zip(self.last_rows(), values, strict=True))

    def last_rows(self) -> list[int]:
        """Of the windows of the run's trials, in order: the row at which each may be decoded."""
        return [event.row + SPEC.offset + SPEC.length - 1 for event in self.run.events]
