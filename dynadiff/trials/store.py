"""Prepared runs of one subject on disk, and windows cut from them at batch time: training holds none in memory.

    STORE/subj01/store.json                    what was prepared and how, every run and its events, digests
                 mask.nii.gz  pictures.npy     uint8 (p, size, size, 3)
                 runs/NAME.offline.npy         float16 (rows, voxels), cleaned as a whole run
                 runs/NAME.online.npy          float16 (windows, voxels, length), cleaned as they are served

Whole-run cleaning does not depend on the window, so the cleaned run is kept and any window may be cut from it: 480 runs
× 225 × 15,724 voxels are 3.4 GB. Online, all volumes of a window are standardised by the statistics up to its last, so
no cleaned series exists that windows could be cut from. Kept are the windows themselves, of the one place and length
that were prepared: 30,000 × 6 × 15,724 are 5.7 GB. The alternative, the raw series (3.4 GB as int16) cleaned as windows
are drawn, pushes half a run through the cleaner for each: 27 ms at that size on one core, 9 s for a batch of 320.

Files are opened for one cut and closed again, so that there are never many; what is read often stays in the system's
page cache. Knows files and rows; knows no model and no torch.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dynadiff.base.documents import Plain, Versions, read_document
from dynadiff.base.errors import UserError
from dynadiff.recordings.held_out import Trial
from dynadiff.recordings.masks import MASK, mask_digest, stored_affine, stored_mask
from dynadiff.recordings.run import Event
from dynadiff.signal.cleaning import Cleaning
from dynadiff.signal.windows import WindowSpec

INDEX, PICTURES = "store.json", "pictures.npy"
KINDS = ("offline", "online")


def _without_the_plans_own(old: Plain) -> Plain:
    """In the first version the plan alone had a version; the second has one in each document of a store."""
    plan = old.get("plan")
    if not isinstance(plan, dict):
        return old
    return old | {"plan": {key: value for key, value in plan.items() if (key, value) != ("version", 1)}}


VERSIONS = Versions((_without_the_plans_own,))  # of store.json, plan.json and the records of runs


@dataclass(frozen=True)
class Plan:
    """What is prepared, and how."""

    subject: str
    mask_sha256: str
    cleaning: Cleaning
    window: WindowSpec  # of the online windows
    kinds: tuple[str, ...] = KINDS
    picture_size: int = 512  # pixels


@dataclass(frozen=True)
class StoredRun:
    """One prepared run: what was shown when, and the digests of its files."""

    name: str
    session: int
    run: int
    tr: float
    rows: int
    events: tuple[Event, ...]
    files: dict[str, str]  # kind: sha256

    def starts(self, spec: WindowSpec) -> list[tuple[int, int]]:
        """Event number and first row of the windows that lie within the rows of the design: one a trial, in order."""
        starts = ((k, event.row + spec.offset) for k, event in enumerate(self.events))
        return [(k, start) for k, start in starts if 0 <= start <= self.rows - spec.length]


@dataclass(frozen=True)
class Index:
    """What ``store.json`` says."""

    plan: Plan
    names: tuple[str, ...]
    categories: tuple[str, ...]
    shared: tuple[str, ...]
    runs: tuple[StoredRun, ...]


@dataclass(frozen=True)
class Store:
    """A finished store of one subject."""

    home: Path
    plan: Plan
    runs: tuple[StoredRun, ...]
    names: tuple[str, ...]  # (p,) of the pictures
    categories: tuple[str, ...]  # (p,), empty where unknown
    shared: frozenset[str]  # the pictures that every subject saw

    @property
    def tr(self) -> float:
        return self.runs[0].tr

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        return stored_mask(self.home)

    @cached_property
    def affine(self) -> NDArray[np.float64]:
        return stored_affine(self.home)

    @cached_property
    def pictures(self) -> NDArray[np.uint8]:
        """(p, size, size, 3), mapped."""
        pictures: NDArray[np.uint8] = np.load(self.home / PICTURES, mmap_mode="r")
        return pictures

    def map(self, run: StoredRun, kind: str) -> NDArray[np.float16]:
        """One run's array, mapped. Raises UserError for one that is missing or cut short."""
        path = array_path(self.home, run.name, kind)
        try:
            found: NDArray[np.float16] = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise UserError(f"{path} is missing or damaged ({error}): run dynadiff prepare again") from None
        return found


def array_path(home: Path, name: str, kind: str) -> Path:
    return home / "runs" / f"{name}.{kind}.npy"


def store_home(root: Path, subject: int) -> Path:
    return root / f"subj{subject:02d}"


def open_store(home: Path) -> Store:
    """The store in ``home``. Raises UserError where there is none, it is unfinished, or it is not what it says."""
    path = home / INDEX
    if not path.is_file():
        raise UserError(f"{home} holds no finished store: make one, or finish it, with dynadiff prepare")
    try:
        held = read_document(VERSIONS.current(path.read_bytes(), path), Index)
    except ValueError as error:
        raise UserError(
            f"{path} is not a store of this version ({error}): prepare it again in another folder"
        ) from None
    store = Store(home, held.plan, held.runs, held.names, held.categories, frozenset(held.shared))
    sizes = {run.tr for run in store.runs}
    if len(sizes) != 1:
        raise UserError(f"the runs of {home} differ in TR ({sorted(sizes)} s): prepare those of one TR only")
    if mask_digest(store.mask) != store.plan.mask_sha256:
        raise UserError(f"{home / MASK} is not the mask that the runs were prepared with: prepare them again")
    return store


def index_of(store: Store) -> Index:
    """What ``store.json`` is to hold."""
    return Index(store.plan, store.names, store.categories, tuple(sorted(store.shared)), store.runs)


class StoredTrials:
    """Windows of a store's single trials, each cut from its file when it is asked for (a `TrialSource`).

    ``dropped`` windows lie outside the rows of their run's design and are not among them. Raises UserError where the
    store has no windows of this place and length that were cleaned online, if ``online`` ones will be asked for.
    """

    def __init__(self, store: Store, spec: WindowSpec, offline: bool = True, online: bool = True) -> None:
        if missing := [kind for kind, asked in zip(KINDS, (offline, online), strict=True)
                       if asked and kind not in store.plan.kinds]:  # fmt: skip
            raise UserError(f"{store.home} holds no windows cleaned {missing[0]}: prepare it with --cleaning both")
        if online and spec != store.plan.window:
            raise UserError(
                f"{store.home} holds online windows of {store.plan.window} and not of {spec}: "
                "prepare another store with --shift and --length"
            )
        self._store, self._spec = store, spec
        position = {name: k for k, name in enumerate(store.names)}
        table = [
            (number, window, start, position[run.events[event].picture], run.session, (number << 16) + event)
            for number, run in enumerate(store.runs)
            for window, (event, start) in enumerate(run.starts(spec))
        ]
        columns = np.array(table, np.int64).reshape(-1, 6).T
        self.runs, self._window, self._start, self.seen, self.sessions, self.blocks = columns
        self.dropped = sum(len(run.events) for run in store.runs) - len(table)
        self.pictures, self.names, self.categories = store.pictures, store.names, store.categories
        self.run_names = tuple(run.name for run in store.runs)

    def __len__(self) -> int:
        return len(self.seen)

    def presentations(self) -> list[Trial]:
        """Which presentations they are, by the names that stay."""
        runs = self._store.runs
        places = ((runs[block >> 16], block & 0xFFFF) for block in self.blocks.tolist())
        return [Trial.of(run.name, run.events[event]) for run, event in places]

    def chosen(self, which: NDArray[np.int64]) -> "StoredTrials":
        """Only the trials ``which``, in that order."""
        some = object.__new__(StoredTrials)
        some.__dict__.update(self.__dict__)
        for name in ("runs", "_window", "_start", "seen", "sessions", "blocks"):
            setattr(some, name, getattr(self, name)[which])
        return some

    def windows(self, which: NDArray[np.int64], online: NDArray[np.bool_]) -> NDArray[np.float32]:
        """As `TrialSource` says."""
        voxels, length = int(self._store.mask.sum()), self._spec.length
        windows = np.empty((len(which), voxels, length), np.float32)
        for number in np.unique(self.runs[which]):
            run = self._store.runs[number]
            here = np.flatnonzero(self.runs[which] == number)
            for kind, members in (("offline", here[~online[here]]), ("online", here[online[here]])):
                if not len(members):
                    continue
                series = self._store.map(run, kind)
                for k in members:
                    trial, start = which[k], self._start[which[k]]
                    window = series[self._window[trial]] if kind == "online" else series[start : start + length].T
                    windows[k] = window
        return windows
