"""The Natural Scenes Dataset (Allen et al., 2022) on disk: its runs, what was shown, what was measured.

Knows the prepared 1.8 mm volumes (TR 4/3 s) in the official folders and in the layout that Dynadiff's
preparation leaves (stimuli and design file in the root); knows no windows and no cleaning.

Ids are the 1-based 73k ids of the design files; the HDF5 index and the name of an extracted PNG are one less.
"""

import csv
import re
import zlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import h5py
import numpy as np
import scipy.io
from numpy.typing import NDArray
from scipy.io.matlab import MatReadError

from dynadiff.base.errors import UserError
from dynadiff.recordings.masks import read_mask
from dynadiff.recordings.nifti import open_bold
from dynadiff.recordings.nsd_facts import IMAGES, ROWS, TASK_RUNS, TR, TRIAL_ROWS, VOLUMES
from dynadiff.recordings.pictures import read_picture
from dynadiff.recordings.run import Event, Run

NO_CATEGORIES: Mapping[int, str] = MappingProxyType({})
# What NumPy and SciPy raise for a file that holds no such array, or is cut short.
NO_ARRAY = (OSError, EOFError, ValueError, KeyError, TypeError, NotImplementedError, MatReadError, zlib.error)
OBTAIN = (
    "ask for the data at naturalscenesdataset.org and give its folder with --root, "
    "or write a synthetic tree with 'realtime phantom --root DIR'"
)


def rows_of(design: Sequence[int], categories: Mapping[int, str] = NO_CATEGORIES) -> tuple[Event, ...]:
    """The pictures of a design (one 73k id or 0 per volume), in order."""
    return tuple(
        Event(row, TRIAL_ROWS, str(image), categories.get(image, "")) for row, image in enumerate(design) if image
    )


class NSD:
    """A copy of NSD under ``root``. Methods raise UserError where a file is missing or malformed."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise UserError(f"there is no folder {root}: {OBTAIN}.")
        if not self.subjects():
            raise UserError(f"{root} holds no NSD time series (nsddata_timeseries/ppdata/subj01/...): {OBTAIN}.")

    def subjects(self) -> tuple[int, ...]:
        """The subjects with time series."""
        found = [*self.root.glob("nsddata_timeseries/ppdata/subj*"), *self.root.glob("subj*")]
        named = (re.fullmatch(r"subj(\d+)", p.name) for p in found if (p / "func1pt8mm" / "timeseries").is_dir())
        return tuple(sorted({int(m[1]) for m in named if m}))

    def sessions(self, subject: int) -> tuple[int, ...]:
        """The scan sessions of a subject that hold a run."""
        return tuple(sorted({session for session, _ in self._files(subject)}))

    def runs(self, subject: int, session: int) -> tuple[int, ...]:
        """File numbers of the task runs: 1-12, or 2-13 in a session of 14 runs, less those not copied."""
        return tuple(r for r in self._file_runs(subject, session) if any(self._design(subject, session, r)))

    def task_ordinal(self, subject: int, session: int, run: int) -> int:
        """Which task run of its session (1 to 12) a file number is: by the designs, never by counting."""
        if not any(self._design(subject, session, run)):
            raise UserError(f"run {run} of session {session} is resting state: choose a task run with --run.")
        if max(self._file_runs(subject, session)) > TASK_RUNS:
            return run - 1
        return run if any(self._design(subject, session, 1)) else run - 1

    def run(self, subject: int, session: int, run: int) -> Run:
        """One run by its file number. A resting run has no events. Reads the design and the header only."""
        path = self._folder(subject) / "timeseries" / f"timeseries_session{session:02d}_run{run:02d}.nii.gz"
        if (session, run) not in self._files(subject):
            there = _ranges(self.runs(subject, session))
            raise UserError(
                f"run {run} of session {session} is not in {self.root}: "
                f"task runs there are {there}; choose one with --run."
            )
        design = self._design(subject, session, run)
        bold = open_bold(path)
        if bold.n_volumes not in (ROWS, VOLUMES):
            raise UserError(
                f"{path} holds {bold.n_volumes} volumes and not 226: copy the run prepared at 1.8 mm again."
            )
        if bold.tr is not None and abs(bold.tr - TR) > 0.01:
            raise UserError(f"{path} states a TR of {bold.tr:g} s and not 4/3 s: give the runs prepared at 1.8 mm.")
        task = "nsdcore" if any(design) else "rest"
        return Run(
            name=f"sub-{subject:02d}_ses-nsd{session:02d}_task-{task}_run-{run:02d}",
            subject=f"{subject:02d}",
            session=session,
            run=run,
            tr=TR,
            shape=bold.shape,
            affine=bold.affine,
            n_volumes=bold.n_volumes,
            events=rows_of(design, self._categories),
            volumes=bold.volumes,
            picture=self._picture_named,
            design_rows=ROWS,
        )

    def mask(self, subject: int) -> NDArray[np.bool_]:
        """The region nsdgeneral (x, y, z): value above 0, for the file holds -1, 0 and 1."""
        within = f"subj{subject:02d}/func1pt8mm"
        session, run = self._files(subject)[0]
        path = self._folder(subject) / "timeseries" / f"timeseries_session{session:02d}_run{run:02d}.nii.gz"
        roi = self._find(f"nsddata/ppdata/{within}/roi/nsdgeneral.nii.gz", f"{within}/roi/nsdgeneral.nii.gz")
        return read_mask(roi, open_bold(path).shape)

    def brain(self, subject: int) -> NDArray[np.bool_] | None:
        """The brain (x, y, z), where the copy has its mask."""
        within = f"subj{subject:02d}/func1pt8mm/brainmask.nii.gz"
        found = [path for path in (self.root / "nsddata/ppdata" / within, self.root / within) if path.is_file()]
        return read_mask(found[0], self.mask(subject).shape) if found else None

    def motion(self, subject: int, session: int, run: int) -> NDArray[np.float32] | None:
        """How the head moved, (volumes, 6): three translations, three rotations; None where the copy does not say."""
        path = self._folder(subject) / "motion" / f"motion_session{session:02d}_run{run:02d}.tsv"
        if not path.is_file():
            return None
        try:
            moved = np.loadtxt(path, np.float32, ndmin=2)
        except ValueError:
            moved = np.empty(0, np.float32)
        if moved.shape not in ((ROWS, 6), (VOLUMES, 6)) or not np.isfinite(moved).all():
            raise UserError(f"{path} is not six numbers for each of 226 volumes: copy it again.")
        return moved

    def shared_ids(self) -> frozenset[int]:
        """The 1-based ids that every subject saw: the test set."""
        return self._shared

    def is_test(self, image: int) -> bool:
        return image in self._shared

    def category(self, image: int) -> str:
        """What the picture shows, where the tree says so (a synthetic one does, NSD does not); else empty."""
        return self._categories.get(image, "")

    def picture(self, image: int) -> NDArray[np.uint8]:
        """The picture with that 1-based id: uint8 RGB (425, 425, 3)."""
        if not 1 <= image <= IMAGES:
            raise UserError(f"there is no picture {image} in NSD: ids go from 1 to {IMAGES}.")
        found = self._find("nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5", "nsd_stimuli.hdf5", "nsd_stimuli")
        return read_picture(found / f"{image - 1}.png") if found.is_dir() else _from_brick(found, image)

    def _picture_named(self, name: str) -> NDArray[np.uint8]:
        if not name.isdecimal():
            raise UserError(f"'{name}' is not the name of an NSD picture: give its 73k id.")
        return self.picture(int(name))

    @cached_property
    def _shared(self) -> frozenset[int]:
        path = self._find("nsddata/experiments/nsd/nsd_expdesign.mat", "nsd_expdesign.mat", "test_images_ids.npy")
        try:
            if path.suffix == ".npy":
                ids = np.load(path, allow_pickle=False)
            else:
                ids = scipy.io.loadmat(path, variable_names=["sharedix"])["sharedix"]
            return frozenset(np.ravel(ids).astype(np.int64).tolist())
        except NO_ARRAY as error:
            raise UserError(f"{path} does not hold the shared ids (sharedix): copy it again.") from error

    @cached_property
    def _categories(self) -> Mapping[int, str]:
        path = self.root / "nsddata/experiments/nsd/phantom_categories.tsv"
        if not path.is_file():
            return NO_CATEGORIES
        try:
            with path.open(encoding="utf-8", newline="") as file:
                return {int(row["id"]): row["category"] for row in csv.DictReader(file, delimiter="\t")}
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is not a table of id and category: write the synthetic tree again.") from error

    def _design(self, subject: int, session: int, run: int) -> tuple[int, ...]:
        path = self._folder(subject) / "design" / f"design_session{session:02d}_run{run:02d}.tsv"
        if not path.is_file():
            raise UserError(f"{path} is missing: copy the design folder of subject {subject} there.")
        try:
            design = tuple(int(line) for line in path.read_text("utf-8").splitlines() if line.strip())
        except ValueError as error:
            raise UserError(f"{path} is not one whole number per line: copy it again.") from error
        if len(design) != ROWS:
            raise UserError(f"{path} has {len(design)} rows and not {ROWS}: copy the design at 1.8 mm again.")
        if wrong := [image for image in design if not 0 <= image <= IMAGES]:
            raise UserError(f"{path} names picture {wrong[0]}, and ids go from 1 to {IMAGES}: copy it again.")
        return design

    def _folder(self, subject: int) -> Path:
        within = f"subj{subject:02d}/func1pt8mm"
        for folder in (self.root / "nsddata_timeseries" / "ppdata" / within, self.root / within):
            if (folder / "timeseries").is_dir():
                return folder
        raise UserError(
            f"subject {subject} is not in {self.root}: "
            f"subjects there are {_ranges(self.subjects())}; choose one with --subject."
        )

    def _files(self, subject: int) -> tuple[tuple[int, int], ...]:
        """(session, run) of every time series of a subject, in order."""
        folder = self._folder(subject) / "timeseries"
        named = (re.fullmatch(r"timeseries_session(\d{2})_run(\d{2})\.nii\.gz", p.name) for p in folder.iterdir())
        files = sorted((int(m[1]), int(m[2])) for m in named if m)
        if not files:
            raise UserError(f"{folder} holds no timeseries_sessionBB_runCC.nii.gz: copy the runs of the subject there.")
        return tuple(files)

    def _file_runs(self, subject: int, session: int) -> tuple[int, ...]:
        runs = tuple(r for s, r in self._files(subject) if s == session)
        if not runs:
            raise UserError(
                f"session {session} of subject {subject} is not in {self.root}: "
                f"sessions there are {_ranges(self.sessions(subject))}; choose one with --session."
            )
        return runs

    def _find(self, *places: str) -> Path:
        for place in places:
            if (self.root / place).exists():
                return self.root / place
        raise UserError(f"{self.root} holds none of {', '.join(places)}: copy one of them there.")


def _from_brick(path: Path, image: int) -> NDArray[np.uint8]:
    """One image of the HDF5 file, which is opened for it alone: nothing is held open between two pictures."""
    try:
        with h5py.File(path) as file:
            brick = file["imgBrick"]
            if brick.dtype != np.uint8 or brick.ndim != 4 or brick.shape[-1] != 3:
                raise UserError(f"imgBrick in {path} is {brick.dtype} {brick.shape} and not uint8 RGB: copy it again.")
            if image > len(brick):
                raise UserError(f"{path} holds pictures 1 to {len(brick)} and not {image}: copy the whole file.")
            if brick.chunks and not _is_stored(brick, image - 1):
                raise UserError(f"picture {image} was never written to {path}: copy or write it again.")
            return np.asarray(brick[image - 1], np.uint8)
    except (OSError, KeyError) as error:
        raise UserError(f"{path} is not an HDF5 file with imgBrick: copy it again.") from error


def _is_stored(brick: h5py.Dataset, index: int) -> bool:
    """A chunk that was never written reads as a black picture, and must not be taken for one."""
    chunk = (index - index % brick.chunks[0], 0, 0, 0)
    return brick.id.get_chunk_info_by_coord(chunk).byte_offset is not None


def _ranges(numbers: Sequence[int]) -> str:
    """1, 2, 3, 5 as '1-3, 5'; 'none' where there are none."""
    starts = [n for n in numbers if n - 1 not in numbers]
    ends = [n for n in numbers if n + 1 not in numbers]
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True)) or "none"
