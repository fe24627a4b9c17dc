"""What a run is: volumes in acquisition order, and the pictures that were seen. Knows no files and no format."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


def plain_subject(label: str) -> str:
    """Subject labels of NSD and BIDS as one: subj01, sub-01, 01 and 1 are 1."""
    return label.removeprefix("sub-").removeprefix("subj").lstrip("0")


@dataclass(frozen=True)
class Event:
    """One picture on the screen of the scanner."""

    row: int  # 0-based volume during which the picture appears
    rows: int  # how many volumes it stays, at least 1
    picture: str  # its name: the 1-based 73k id for NSD, the stim_file for BIDS
    category: str = ""  # what it shows, where that is known


@dataclass(frozen=True)
class Run:
    """One run of a scan session, read lazily.

    ``volumes()`` starts a new pass over the file and yields arrays of shape ``shape`` in the file's own dtype,
    one at a time and in acquisition order. ``picture(name)`` gives uint8 RGB of shape (height, width, 3).
    """

    name: str  # as in BIDS: sub-01_ses-nsd01_task-nsdcore_run-12
    subject: str
    session: int
    run: int  # file run number, from 1
    tr: float  # seconds
    shape: tuple[int, int, int]
    affine: NDArray[np.float64]  # (4, 4), voxel to scanner space in mm, RAS+
    n_volumes: int
    events: tuple[Event, ...]
    volumes: Callable[[], Iterator[NDArray[np.generic]]]
    picture: Callable[[str], NDArray[np.uint8]]
    design_rows: int | None = None  # volumes that the design speaks of, where they are fewer: NSD has 225 of 226

    @property
    def rows(self) -> int:
        """Volumes that may be in a window of training; whole-run cleaning is of these."""
        return self.design_rows or self.n_volumes
