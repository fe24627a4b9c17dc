"""What the study of cleanings is made on: a subject of an NSD tree, the Haxby slice, the studyforrest localizer.

Knows files and where their events are; knows no cleaning but what learning noise components takes, and no score.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dynadiff.base.errors import UserError
from dynadiff.recordings.bids import bids_run, bids_runs
from dynadiff.recordings.masks import masked_series, read_mask
from dynadiff.recordings.nsd import NSD
from dynadiff.recordings.run import Event, Run
from dynadiff.signal.cleaning import Cleaning, clean_run
from dynadiff.signal.components import Components, noise_components
from dynadiff.signal.windows import WindowSpec
from dynadiff.studies.causal.cleaners import MOST, CausalRun
from dynadiff.studies.haxby_slice import haxby_to_bids

BLOCK = WindowSpec(2, 6)  # in blocks: the first window that the response fills
BRIGHT = 0.7  # where there is no mask: voxels that are brighter than this share of all
ANSWERING = 2000  # voxels of the localizer
PAUSE = 2  # volumes without a picture that end a block of the localizer
LOCALIZER = "sub-02_task-oneback_run-1_bold.nii.gz"


def tree_runs(root: Path, subject: int, sessions: Sequence[int], spec: WindowSpec) -> tuple[list[CausalRun], list[int]]:
    """The runs of these sessions, and which of them are of the first: of these the noise components are learnt.

    A window of a shared picture is left out. There are no components where too few voxels lie outside the mask.
    """
    nsd = NSD(root)
    keys = [(session, run) for session in sessions for run in nsd.runs(subject, session)]
    first = [key for key in keys if key[0] == sessions[0]]
    inside, outside = _masks(nsd, subject, first[0])
    where, union = np.flatnonzero(inside[inside | outside]), inside | outside
    beyond = np.setdiff1d(np.arange(int(union.sum())), where)
    whole = [_series(nsd.run(subject, *key), union) for key in first]
    components, scale = None, _motion_scale(nsd, subject, first)
    if len(beyond) >= MOST:
        tr = nsd.run(subject, *first[0]).tr
        # Without the slow cosines the first components would be drift, which is regressed out as it is.
        components = noise_components([series[:, beyond] for series in whole], Cleaning("cosine"), tr, MOST)
    runs = []
    for number, key in enumerate(keys):
        run = nsd.run(subject, *key)
        series = whole[number] if number < len(first) else _series(run, union)
        own = [event for event in run.events if not nsd.is_test(int(event.picture))]
        moved = nsd.motion(subject, *key)
        motion = np.zeros((len(series), 0), np.float32) if moved is None else _as_long(moved, len(series)) / scale
        runs.append(_causal(run, series[:, where], _courses(components, series[:, beyond]), motion, own, spec))
    return runs, list(range(len(first)))


def haxby_runs(data: Path, home: Path) -> list[CausalRun]:
    """The twelve runs of the slice; no voxel of it lies outside the mask."""
    if not (home / "bids").exists():
        haxby_to_bids(data, home / "bids")
    runs = bids_runs(home / "bids", "1")
    mask = read_mask(home / "bids" / "sub-1_mask.nii.gz", runs[0].shape)
    return [_block_run(run, mask, run.events) for run in runs]


def localizer_run(data: Path) -> CausalRun:
    """The one run; a window for each of its blocks, in the voxels that answer most to any picture in the whole run.

    That looks ahead, at whether there is a picture and not at what it shows, and is the same for every cleaning.
    """
    run = bids_run(data / LOCALIZER)
    first = [run.events[0], *(b for a, b in pairwise(run.events) if b.row - a.row > PAUSE)]
    mask = _bright(next(run.volumes()))
    cleaned = clean_run(_series(run, mask), Cleaning(), run.tr)
    shown = np.zeros(len(cleaned), bool)
    for event in first:
        shown[event.row + BLOCK.offset :][: BLOCK.length] = True
    answer = cleaned[shown].mean(axis=0) - cleaned[~shown].mean(axis=0)
    mask[mask] = answer >= np.sort(answer)[-min(ANSWERING, len(answer))]
    return _block_run(run, mask, first)


def _block_run(run: Run, mask: NDArray[np.bool_], events: Sequence[Event]) -> CausalRun:
    series, none = _series(run, mask), np.zeros((run.n_volumes, 0), np.float32)
    return _causal(run, series, none, none, events, BLOCK, categories=True)


def _causal(
    run: Run, series: NDArray[np.float32], courses: NDArray[np.float32], motion: NDArray[np.float32],
    events: Sequence[Event], spec: WindowSpec, categories: bool = False,
) -> CausalRun:  # fmt: skip
    cut = [(start, event, k) for k, event in enumerate(events) for start in spec.starts(event, run.rows)]
    seen = tuple(event.category if categories else event.picture for _, event, _ in cut)
    starts, blocks = tuple(start for start, _, _ in cut), tuple(k for _, _, k in cut)
    return CausalRun(run.name, run.tr, np.ascontiguousarray(series), courses, motion, run.rows, starts, seen, blocks)


def _series(run: Run, mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    return masked_series(run, mask, run.n_volumes)


def _masks(nsd: NSD, subject: int, key: tuple[int, int]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Voxels inside the mask, and those of the brain that are not."""
    inside, brain = nsd.mask(subject), nsd.brain(subject)
    if brain is None:
        brain = _bright(next(nsd.run(subject, *key).volumes()))
    return inside, brain & ~inside


def _bright(volume: NDArray[np.generic]) -> NDArray[np.bool_]:
    values = volume.astype(np.float32)
    return np.asarray(values > np.quantile(values, BRIGHT))


def _courses(components: Components | None, outside: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.zeros((len(outside), 0), np.float32) if components is None else components(outside)


def _motion_scale(nsd: NSD, subject: int, keys: Sequence[tuple[int, int]]) -> NDArray[np.float32]:
    """How much each parameter moves within a run, of those of the first session; 1 where it never does."""
    moved = [motion.std(axis=0) for key in keys if (motion := nsd.motion(subject, *key)) is not None]
    scale = np.mean(moved, axis=0) if moved else np.ones(6)
    return np.where(scale > 0, scale, 1).astype(np.float32)


def _as_long(moved: NDArray[np.float32], volumes: int) -> NDArray[np.float32]:
    """Parameters of every volume; where they say nothing of the last, which NSD's designs do not count, it stayed."""
    if len(moved) > volumes:
        return moved[:volumes]
    return np.vstack([moved, np.repeat(moved[-1:], volumes - len(moved), axis=0)])


def sessions_of(root: Path, subject: int, most: int) -> tuple[int, ...]:
    """The first sessions of a tree. Raises UserError where there is but one: priors are learnt from the first."""
    found = NSD(root).sessions(subject)[:most]
    if len(found) < 2:
        raise UserError(f"{root} has one session of subject {subject}, and the study needs two: add sessions")
    return found
