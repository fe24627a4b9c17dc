"""Cleans every run of a subject once and keeps the result as a store (`dynadiff.trials.store`); `dynadiff prepare`.

Runs are prepared side by side, each file appears under its name when it is whole, and a run that is done is done: what
was interrupted goes on where it was. Knows NSD trees and stores; knows no torch.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from rich.progress import track

from dynadiff.base.documents import read_document, write_document
from dynadiff.base.errors import UserError
from dynadiff.base.files import atomic, file_digest, new_array
from dynadiff.recordings.masks import MASK, mask_digest, masked_series, save_mask
from dynadiff.recordings.nsd import NSD
from dynadiff.recordings.nsd_facts import SESSIONS, TASK_RUNS
from dynadiff.signal.cleaning import Cleaning, clean_run
from dynadiff.signal.windows import WindowSpec, online_windows
from dynadiff.trials.store import INDEX, PICTURES, VERSIONS, Plan, Store, StoredRun, array_path, index_of, open_store

PLAN = "plan.json"
Key = tuple[int, int]  # session, file run


def wanted_runs(
    nsd: NSD, subject: int, sessions: Iterable[int] | None = None, allow_missing: bool = False
) -> tuple[list[Key], str]:
    """The task runs to prepare, and what is missing, as a clause ("" where nothing is).

    ``sessions`` are NSD's own of that subject where none are given, with twelve task runs each. Raises UserError where
    some are missing, unless ``allow_missing``, and where there is none at all.
    """
    there = {session: nsd.runs(subject, session) for session in nsd.sessions(subject)}
    asked = sorted(set(sessions)) if sessions is not None else range(1, SESSIONS.get(subject, max(there)) + 1)
    gone = [session for session in asked if session not in there]
    short = [f"{TASK_RUNS - len(there[s])} of session {s}" for s in asked if s in there and len(there[s]) < TASK_RUNS]
    clauses = [f"sessions {_list(gone)} of subject {subject}"] if gone else []
    clauses += [f"runs ({', '.join(short)}) of subject {subject}"] if short else []
    missing = " and ".join(clauses)
    if missing and not allow_missing:
        raise UserError(
            f"{nsd.root} lacks {missing}: copy them, name the sessions you want with --sessions, "
            "or add --allow-missing to go on with those that are there"
        )
    keys = [(session, run) for session in asked if session in there for run in there[session]]
    if not keys:
        raise UserError(f"{nsd.root} holds no task run of these sessions of subject {subject}: name others")
    return keys, missing


def prepare_subject(
    nsd: NSD, subject: int, keys: Sequence[tuple[int, int]], home: Path, spec: WindowSpec, kinds: tuple[str, ...],
    picture_size: int, jobs: int = -1,
) -> Store:  # fmt: skip
    """Prepare a subject's runs for windows at ``spec``, with the default cleaning."""
    digest = mask_digest(nsd.mask(subject))
    plan = Plan(f"{subject:02d}", digest, Cleaning(), spec, kinds, picture_size)
    return prepare(nsd, subject, keys, plan, home, jobs)


def prepare(nsd: NSD, subject: int, keys: Sequence[Key], plan: Plan, home: Path, jobs: int = -1) -> Store:
    """Prepare what is missing of these runs, ``jobs`` at a time (-1: all cores), and write the index.

    Raises UserError for a folder that was begun with another plan, a damaged run, runs of another TR or grid, and a
    full disk; the runs that are done stay.
    """
    check_begun(home, json.loads(write_document(plan)))
    if not (home / PLAN).exists():
        _write(home / PLAN, plan)
    mask = nsd.mask(subject)
    if (home / INDEX).exists() and _covers(store := open_store(home), keys):
        return store
    work = [delayed(prepare_run)(nsd.root, subject, key, mask, plan, home) for key in keys]
    done = Parallel(n_jobs=jobs, return_as="generator")(work)
    runs = tuple(track(done, f"preparing subject {subject}", total=len(keys)))
    if other := [run for run in runs if run.tr != runs[0].tr]:
        raise UserError(
            f"{other[0].name} has a TR of {other[0].tr:g} s and {runs[0].name} {runs[0].tr:g} s: choose one"
        )
    names = tuple(dict.fromkeys(event.picture for run in runs for event in run.events))
    if not names:
        raise UserError("no run has a picture to learn from: check that designs name the pictures shown")
    categories = tuple(nsd.category(int(name)) for name in names)
    _write_pictures(nsd, names, plan.picture_size, home)
    with atomic(home / MASK) as new:
        save_mask(new, mask, nsd.run(subject, *keys[0]).affine)
    store = Store(home, plan, runs, names, categories, frozenset(n for n in names if nsd.is_test(int(n))))
    _write(home / INDEX, index_of(store))
    return store


def prepare_run(root: Path, subject: int, key: Key, mask: NDArray[np.bool_], plan: Plan, home: Path) -> StoredRun:
    """One run: its record, from the store where its files are whole, else read, cleaned and written.

    Raises UserError naming the file of a damaged run, and the run whose volumes are of another grid.
    """
    run = NSD(root).run(subject, *key)
    record = home / "runs" / f"{run.name}.json"
    if (old := _finished(record, home)) is not None and old.events == run.events:
        return old
    if run.shape != mask.shape:
        raise UserError(f"{run.name} has volumes of {run.shape} but the mask is {mask.shape}: use the run's own mask")
    series = masked_series(run, mask, run.n_volumes)
    made = StoredRun(run.name, run.session, run.run, run.tr, run.rows, run.events, {})
    for kind in plan.kinds:
        if kind == "offline":
            values = clean_run(series[: run.rows], plan.cleaning, run.tr).astype(np.float16)
        else:
            starts = [start for _, start in made.starts(plan.window)]
            values = online_windows(series, plan.cleaning, run.tr, plan.window, starts).astype(np.float16)
        path = array_path(home, run.name, kind)
        with atomic(path) as new:
            np.save(new, values)
        made.files[kind] = file_digest(path)
    _write(record, made)
    return made


def check_begun(home: Path, plan: Mapping[str, object]) -> None:
    """UserError for a store that was begun with another plan; ``plan``, as JSON holds it, may be a part of one."""
    path = home / PLAN
    if not path.exists():
        return
    try:
        begun = json.loads(VERSIONS.current(path.read_bytes(), path))
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): prepare into another folder") from None
    if differ := [key for key in plan if begun.get(key) != plan[key]]:
        key = differ[0]
        raise UserError(
            f"{home} was begun with {key} {begun.get(key)} and not {plan[key]}: prepare into another folder, "
            "or give the options that it was begun with"
        )


def _covers(store: Store, keys: Sequence[Key]) -> bool:
    """Does a finished store hold these runs and no others, each file of the size and digest it had?"""
    return [(run.session, run.run) for run in store.runs] == list(keys) and all(
        _finished(store.home / "runs" / f"{run.name}.json", store.home) for run in store.runs
    )


def _finished(record: Path, home: Path) -> StoredRun | None:
    """The record of a run all of whose files are as they were written."""
    if not record.exists():
        return None
    try:
        run = read_document(VERSIONS.current(record.read_bytes(), record), StoredRun)
    except ValueError as error:
        raise UserError(f"{record} is damaged ({error}): delete it, and the run is prepared again") from None
    paths = {array_path(home, run.name, kind): digest for kind, digest in run.files.items()}
    return run if all(path.exists() and file_digest(path) == digest for path, digest in paths.items()) else None


def _write_pictures(nsd: NSD, names: Sequence[str], size: int, home: Path) -> None:
    """All pictures (p, size, size, 3): averaged over areas where they shrink, linear in between where they grow."""
    with atomic(home / PICTURES) as new:
        stack = new_array(new, np.uint8, (len(names), size, size, 3))
        for k, name in enumerate(track(names, "pictures")):
            picture = nsd.picture(int(name))
            how = cv2.INTER_AREA if size < len(picture) else cv2.INTER_LINEAR
            stack[k] = cv2.resize(picture, (size, size), interpolation=how)
        stack.flush()
        del stack


def _write(path: Path, value: object) -> None:
    with atomic(path) as new:
        new.write_text(VERSIONS.write(value), "utf-8")


def _list(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
