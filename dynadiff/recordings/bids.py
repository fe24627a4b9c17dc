"""Runs of a BIDS data set: ``*_bold.nii.gz`` with its JSON sidecar, ``*_events.tsv`` and ``stimuli/``.

Knows names, tables and inheritance; knows no masks and no windows. Onsets count from volume 0.
"""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from dynadiff.base.errors import UserError
from dynadiff.recordings.nifti import Bold, check_tr, open_bold
from dynadiff.recordings.pictures import read_picture
from dynadiff.recordings.run import Event, Run

ON_TIME = 1e-3  # of a TR: an onset that early still belongs to the volume that begins
EMPTY = ("", "n/a")


def bids_run(
    bold_path: Path,
    events_path: Path | None = None,
    tr: float | None = None,
    stimuli_root: Path | None = None,
) -> Run:
    """One run. ``events_path`` defaults to the ``_events.tsv`` beside it; without one there are no events.

    The TR (seconds) is ``tr``, else RepetitionTime of the sidecar, else the header's. Stimuli lie in
    ``stimuli_root``, else in ``stimuli/`` of the data set. Whose brain it is says the name: one
    without entities gives an empty subject, session 1 and run 1; a session is the number that ends its label.
    Raises UserError for whatever is missing or malformed.
    """
    name = _stem(bold_path)
    bold = open_bold(bold_path, _stated_tr(bold_path) if tr is None else tr)
    if bold.tr is None:
        raise UserError(f"no TR for {bold_path}: add RepetitionTime to its JSON file, or give --tr in seconds.")
    stimuli = _dataset(bold_path) / "stimuli" if stimuli_root is None else stimuli_root
    beside = bold_path.parent / f"{name}_events.tsv"
    if events_path is None and beside.is_file():
        events_path = beside

    def picture(stim_file: str) -> NDArray[np.uint8]:
        return read_picture(_stimulus(stimuli, stim_file))

    return Run(
        name=name,
        subject=_entity(name, "sub"),
        session=_number(_entity(name, "ses")),
        run=_number(_entity(name, "run")),
        tr=bold.tr,
        shape=bold.shape,
        affine=bold.affine,
        n_volumes=bold.n_volumes,
        events=() if events_path is None else _events(events_path, bold, bold.tr),
        volumes=bold.volumes,
        picture=picture,
    )


def bids_runs(folder: Path, subject: str) -> list[Run]:
    """Every run of a subject (its label: '1' for sub-1), ordered by session, task and run number."""
    home = folder / f"sub-{subject.removeprefix('sub-')}"
    if not home.is_dir():
        there = ", ".join(sorted(p.name[4:] for p in folder.glob("sub-*") if p.is_dir())) or "none"
        raise UserError(f"subject {subject} is not in {folder}: subjects there are {there}; choose one of them.")
    paths = [p for p in home.glob("**/func/*_bold.nii*") if p.suffix in (".nii", ".gz")]
    if not paths:
        raise UserError(f"{home} holds no func/*_bold.nii.gz: copy the runs of the subject there.")
    return [bids_run(path) for path in sorted(paths, key=_in_order)]


def row_of(onset: float, tr: float) -> int:
    """The volume being acquired at ``onset`` (both in seconds), 0-based; below 0 before the first volume."""
    return math.floor(onset / tr + ON_TIME)


def _events(path: Path, bold: Bold, tr: float) -> tuple[Event, ...]:
    """The events that start during the run. With a stim_file column, only rows that name one count."""
    events = [_event(path, line, row, tr) for line, row in _table(path) if row.get("stim_file") not in EMPTY]
    within = [event for event in events if 0 <= event.row < bold.n_volumes]
    if events and not within:
        raise UserError(f"no event of {path} starts during the run: give the table of this run, in seconds.")
    return tuple(sorted(within, key=lambda event: event.row))


def _event(path: Path, line: int, row: dict[str, str], tr: float) -> Event:
    stim_file, category = row.get("stim_file"), row.get("trial_type", "")
    duration = 0.0 if row["duration"] in EMPTY else _seconds(row["duration"], path, line)
    return Event(
        row=row_of(_seconds(row["onset"], path, line), tr),
        rows=max(1, round(duration / tr)),
        picture="" if stim_file is None else str(_relative(stim_file)),
        category="" if category in EMPTY else category,
    )


def _seconds(text: str, path: Path, line: int) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"line {line} of {path} has '{text}' where seconds belong: correct the table.")
    return value


def _table(path: Path) -> list[tuple[int, dict[str, str]]]:
    """The rows of a table with their line numbers, the header being line 1. BIDS tables know no quotes."""
    if not path.is_file():
        raise UserError(f"the events {path} do not exist: give a BIDS events.tsv, or none.")
    try:
        lines = [line.split("\t") for line in path.read_text("utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text: give a BIDS events.tsv.") from error
    header = [cell.strip() for cell in lines[0]] if lines else []
    if not {"onset", "duration"} <= set(header):
        raise UserError(f"{path} has no columns onset and duration, tab separated: give a BIDS events.tsv.")
    absent = dict.fromkeys(header, "n/a")
    rows = ((number, [cell.strip() for cell in cells]) for number, cells in enumerate(lines[1:], start=2))
    return [(number, absent | dict(zip(header, cells, strict=False))) for number, cells in rows if any(cells)]


def _relative(stim_file: str) -> PurePosixPath:
    """The path of a stimulus below the stimuli folder, judged by its name alone.

    A picture may rightly be a link out of the data set (git-annex), so links are not followed.
    """
    relative = PurePosixPath(stim_file)
    if not relative.parts:
        raise UserError("this event names no picture: add a stim_file column to the table.")
    if relative.is_absolute() or ".." in relative.parts:
        raise UserError(f"the stim_file '{stim_file}' leaves the stimuli folder: write its path from there.")
    return relative


def _stimulus(stimuli: Path, stim_file: str) -> Path:
    """The file of a stimulus. BIDS counts its path from stimuli/; many tables repeat that folder's name."""
    relative = _relative(stim_file)
    path = stimuli / relative
    if relative.parts[0] == "stimuli" and not path.exists():
        return stimuli.joinpath(*relative.parts[1:])
    return path


def _stated_tr(bold_path: Path) -> float | None:
    """RepetitionTime (seconds) of the nearest, most specific sidecar that has one."""
    for sidecar in _sidecars(bold_path):
        try:
            content = json.loads(sidecar.read_text("utf-8-sig"))
        except ValueError as error:
            raise UserError(f"{sidecar} is not JSON: correct it, or give --tr in seconds.") from error
        if isinstance(content, dict) and "RepetitionTime" in content:
            tr = content["RepetitionTime"]
            if isinstance(tr, bool) or not isinstance(tr, int | float):
                raise UserError(f"RepetitionTime in {sidecar} is not a number: write it in seconds.")
            return check_tr(tr, f"RepetitionTime in {sidecar}")
    return None


def _sidecars(bold_path: Path) -> Iterator[Path]:
    """By the inheritance principle: names of parts of the run's; nearest, then longest first."""
    parts, root = {*_stem(bold_path).split("_"), "bold"}, _dataset(bold_path)
    for folder in bold_path.absolute().parents:
        matching = [p for p in folder.glob("*bold.json") if set(p.stem.split("_")) <= parts]
        yield from sorted(matching, key=lambda p: -len(p.stem.split("_")))
        if folder == root:
            return


def _dataset(bold_path: Path) -> Path:
    """The nearest folder above that holds dataset_description.json; the file's own where none does."""
    above = bold_path.absolute().parents
    return next((folder for folder in above if (folder / "dataset_description.json").is_file()), above[0])


def _stem(bold_path: Path) -> str:
    return bold_path.name.removesuffix(".gz").removesuffix(".nii").removesuffix("_bold")


def _entity(name: str, key: str) -> str:
    found = re.search(rf"(?:^|_){key}-([a-zA-Z0-9+]+)", name)
    return found[1] if found else ""


def _number(label: str) -> int:
    found = re.search(r"\d+$", label)
    return int(found[0]) if found else 1


def _in_order(path: Path) -> list[tuple[str, int]]:
    """Sort key that puts run-10 after run-9."""
    return [(text, int(digits or 0)) for text, digits in re.findall(r"(\D+)(\d*)", path.name)]
