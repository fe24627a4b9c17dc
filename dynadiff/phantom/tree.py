"""Writes phantom subjects as an NSD tree: the folders, names, dtypes and ids that a reader of NSD expects.

Knows files; volumes come from `dynadiff.phantom.subject`, pictures from `dynadiff.phantom.scenes`, ids from the design.
A tree may be extended at any time. Every file appears under its name only when it is complete, and stays.
"""

import csv
import json
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy.io import savemat

from dynadiff.base.errors import UserError
from dynadiff.base.files import atomic, locked, sweep, unfinished
from dynadiff.phantom.design import Design, design
from dynadiff.phantom.head import Shape
from dynadiff.phantom.scenes import draw, scene
from dynadiff.phantom.subject import RESPONSE, SHAPES, VERSION, Phantom
from dynadiff.recordings.nsd_facts import IMAGES, REPEATS, SESSIONS, TASK_RUNS, TR, file_runs

VOXEL_MM = 1.8
PICTURE = 425  # pixels, as NSD's
PREPARED = "func1pt8mm"
EXPERIMENT = "nsddata/experiments/nsd"
STIMULI = "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5"
LOCK = ".lock"
README = """\
This folder is synthetic. It holds the file layout of the Natural Scenes Dataset (NSD) and none of its data.

A program (dynadiff-realtime, phantom version {version}, seed {seed}) drew the pictures and computed the brain
volumes of subjects that do not exist. {experiment}/phantom_categories.tsv names the object of each picture.
"""
NULL = "\nIt is a null phantom: no brain in it answers to any picture; whoever decodes one has found a mistake.\n"

Progress = Callable[[int, int, str], None]  # how many are done, how many in all, name of the one just done
RunKey = tuple[int, int, int]  # subject, session, file run


NOTE = "phantom.json"  # says which phantom a folder holds


def is_phantom(root: Path) -> bool:
    """Whether the pictures of a tree are drawn scenes, named by their numbers."""
    return (root / NOTE).exists()


def cache_root() -> Path:
    """Where the phantom of this version is kept for this user."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "dynadiff-realtime" / f"phantom-{VERSION}"


def ensure_phantom(
    subject: int = 1,
    sessions: Collection[int] = (1,),
    runs: Collection[int] = range(1, TASK_RUNS + 1),
    progress: Progress | None = None,
) -> Path:
    """The root of the cached phantom, after making what it lacks. Raises UserError as `write_tree` does."""
    root = cache_root()
    write_tree(root, [subject], sessions, runs, progress=progress)
    return root


def write_tree(
    root: Path,
    subjects: Collection[int],
    sessions: Collection[int],
    runs: Collection[int] = range(1, TASK_RUNS + 1),
    seed: int = 0,
    progress: Progress | None = None,
    shapes: Mapping[int, Shape] = SHAPES,
    null: bool = False,
) -> None:
    """Write what is missing of these sessions and task runs (1 to 12); resting runs come with their session.

    ``shapes`` gives each subject's volume; the brains of a ``null`` tree answer to no picture. Two writers of a tree
    wait for each other. Raises UserError for a subject, session or run that NSD has not, for a tree of another kind,
    seed or version or a folder that holds something else, and where it cannot be written.
    """
    check_wanted(subjects, sessions, runs, seed)
    wanted = [
        (subject, session, file_run)
        for subject, session in product(sorted(set(subjects)), sorted(set(sessions)))
        for file_run, task_run in file_runs(subject, session).items()
        if task_run in runs or task_run == 0
    ]
    plan, response = design(seed), 0.0 if null else RESPONSE
    ids = np.unique(np.concatenate([plan.file_rows(*run) for run in wanted]))
    try:
        root.mkdir(parents=True, exist_ok=True)
        with locked(root / LOCK):
            _claim(root, seed, null)
            sweep(root)
            _write_experiment(root, seed, null)
            write_pictures(root, ids[ids > 0], progress)
            _write_runs(root, wanted, seed, lambda one: Phantom(one, seed, shapes[one], response=response), progress)
    except OSError as error:
        raise UserError(
            f"the phantom cannot be written to {root} ({error.strerror or error}): "
            "give a folder that is writable and has free space."
        ) from error


def write_pictures(root: Path, ids: NDArray[np.integer], progress: Progress | None = None) -> None:
    """Draw the pictures of these 73k ids that the stimulus file lacks; ids it does not hold read as black."""
    path, categories = root / STIMULI, root / EXPERIMENT / "phantom_categories.tsv"
    stored = stored_ids(path)
    missing = sorted(set(ids.tolist()) - stored)
    if missing or not categories.exists():
        lines = [f"{number}\t{scene(number).category}\n" for number in sorted(stored | set(missing))]
        _write_text(categories, "id\tcategory\n" + "".join(lines))
    if missing:
        with atomic(path) as partial, _stimuli(path, partial) as bricks:
            for done, number in enumerate(missing, 1):
                bricks[number - 1] = draw(scene(number), PICTURE)[0]
                if progress:
                    progress(done, len(missing), f"picture {number}")


def stored_ids(path: Path) -> set[int]:
    """73k ids of the pictures that a phantom's stimulus file holds; none where there is no file."""
    stored: set[int] = set()
    if path.exists():
        try:
            with h5py.File(path, "r") as file:
                file["imgBrick"].id.chunk_iter(lambda chunk: stored.add(chunk.chunk_offset[0] + 1))
        except (OSError, KeyError) as error:
            raise UserError(f"{path} is no stimulus file of a phantom: delete it and try again.") from error
    return stored


def check_wanted(
    subjects: Collection[int], sessions: Collection[int], runs: Collection[int] = (1,), seed: int = 0
) -> None:
    """UserError for a subject, a session or a run that NSD has not, and for no seed."""
    if seed < 0:
        raise UserError(f"the seed of a phantom is 0 or more, not {seed}: give another one.")
    if not (subjects and sessions and runs):
        raise UserError("a phantom needs a subject, a session and a run at least: name them.")
    for subject, session in product(subjects, sessions):
        if subject not in SESSIONS:
            raise UserError(f"there is no subject {subject}: name subjects from 1 to {len(SESSIONS)}.")
        if not 1 <= session <= SESSIONS[subject]:
            raise UserError(f"subject {subject} has no session {session}: name sessions from 1 to {SESSIONS[subject]}.")
    for run in runs:
        if not 1 <= run <= TASK_RUNS:
            raise UserError(f"there is no task run {run}: name runs from 1 to {TASK_RUNS}.")


def _claim(root: Path, seed: int, null: bool) -> None:
    """phantom.json says which phantom a folder holds; a folder without it must be empty."""
    identity = json.dumps({"phantom": VERSION, "seed": seed} | ({"null": True} if null else {})) + "\n"
    note = root / NOTE
    if not note.exists():
        if any(path.name != LOCK and not unfinished(path) for path in root.iterdir()):
            raise UserError(f"{root} holds something else: give a new or an empty folder for the phantom.")
        _write_text(note, identity)
    if note.read_text(encoding="utf-8") != identity:
        raise UserError(f"{root} holds a phantom of another kind, seed or version: give another folder or delete it.")


def _write_experiment(root: Path, seed: int, null: bool) -> None:
    """What depends on neither subject nor session."""
    plan, folder = design(seed), root / EXPERIMENT
    if not (root / "README.txt").exists():
        text = README.format(version=VERSION, seed=seed, experiment=EXPERIMENT) + (NULL if null else "")
        _write_text(root / "README.txt", text)
    if not (folder / "nsd_expdesign.mat").exists():
        with atomic(folder / "nsd_expdesign.mat") as partial:
            savemat(partial, {name: getattr(plan, name) for name in Design.__dataclass_fields__})
    if not (folder / "nsd_stim_info_merged.csv").exists():
        with atomic(folder / "nsd_stim_info_merged.csv") as partial:
            _write_stim_info(partial, plan)


def _write_stim_info(path: Path, plan: Design) -> None:
    """One line for each of the 73,000 images; nsdId counts from 0, trials from 1, and 0 is "never"."""
    seen = np.zeros((IMAGES, len(SESSIONS)), int)
    trials = np.zeros((IMAGES, len(SESSIONS), REPEATS), int)
    occurrences = np.argsort(plan.masterordering[0], kind="stable").reshape(-1, REPEATS) + 1
    for k, ids in enumerate(plan.subjectim):
        seen[ids - 1, k], trials[ids - 1, k] = 1, occurrences
    shared = np.isin(np.arange(1, IMAGES + 1), plan.sharedix).tolist()
    fixed = ["cocoId", "cocoSplit", "cropBox", "loss", "nsdId", "flagged", "BOLD5000", "shared1000"]
    repeats = [f"subject{s}_rep{r}" for s in SESSIONS for r in range(REPEATS)]
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["", *fixed, *(f"subject{s}" for s in SESSIONS), *repeats])
        for k, (by, when) in enumerate(zip(seen.tolist(), trials.reshape(IMAGES, -1).tolist(), strict=True)):
            table.writerow([k, 0, "phantom", "(0, 0, 0, 0)", 0.0, k, False, False, shared[k], *by, *when])


def _write_runs(
    root: Path, wanted: list[RunKey], seed: int, subject_of: Callable[[int], Phantom], progress: Progress | None
) -> None:
    phantom: Phantom | None = None
    for done, (subject, session, run) in enumerate(wanted, 1):
        anatomy = root / f"nsddata/ppdata/subj{subject:02}" / PREPARED
        folder = root / f"nsddata_timeseries/ppdata/subj{subject:02}" / PREPARED
        name = f"session{session:02}_run{run:02}"
        table, series = folder / f"design/design_{name}.tsv", folder / f"timeseries/timeseries_{name}.nii.gz"
        maps = anatomy / "brainmask.nii.gz", anatomy / "roi/nsdgeneral.nii.gz"
        if not table.exists():
            rows = design(seed).file_rows(subject, session, run)
            _write_text(table, "".join(f"{number}\n" for number in rows.tolist()))
        if not all(path.exists() for path in (series, *maps)):
            if phantom is None or phantom.subject != subject:
                phantom = subject_of(subject)
                _write_maps(phantom, *maps)
            if not series.exists():
                _write_nifti(series, phantom.run(session, run))
        if progress:
            progress(done, len(wanted), f"subject {subject} session {session} run {run}")


def _write_maps(phantom: Phantom, brainmask: Path, nsdgeneral: Path) -> None:
    shape = phantom.head.brain.shape
    if nsdgeneral.exists() and nib.load(nsdgeneral).shape != shape:
        raise UserError(f"{nsdgeneral} is of a phantom whose volume is not {shape}: give another folder.")
    for path, volume in ((brainmask, phantom.head.brain), (nsdgeneral, phantom.head.nsdgeneral)):
        if not path.exists():
            _write_nifti(path, volume.astype(np.int16))


def _write_nifti(path: Path, volumes: NDArray[np.int16]) -> None:
    """3-D or 4-D, 1.8 mm, world origin in the middle, RAS+; in 4-D a volume every 4/3 s."""
    affine = np.diag([VOXEL_MM, VOXEL_MM, VOXEL_MM, 1.0])
    affine[:3, 3] = -VOXEL_MM * (np.array(volumes.shape[:3]) - 1) / 2
    image = nib.Nifti1Image(volumes, affine)
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_zooms((VOXEL_MM, VOXEL_MM, VOXEL_MM, TR)[: volumes.ndim])
    with atomic(path) as partial:
        nib.save(image, partial)  # nibabel compresses at level 1


@contextmanager
def _stimuli(path: Path, partial: Path) -> Iterator[h5py.Dataset]:
    """imgBrick of a copy of the stimulus file, or of a new one; a picture takes space once it is written."""
    if path.exists():
        shutil.copyfile(path, partial)
    with h5py.File(partial, "a" if path.exists() else "w") as file:
        yield file.require_dataset(
            "imgBrick",
            (IMAGES, PICTURE, PICTURE, 3),
            np.uint8,
            exact=True,
            chunks=(1, PICTURE, PICTURE, 3),
            compression="gzip",
            compression_opts=1,
            track_times=False,
        )


def _write_text(path: Path, text: str) -> None:
    with atomic(path) as partial:
        partial.write_text(text, encoding="utf-8")
