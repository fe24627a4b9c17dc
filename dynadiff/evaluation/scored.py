"""What an evaluation found, as it is kept: every score of every trial, and what it is a score of. Knows no network.

``scores.json`` is this and nothing else, so that a table, a report and a comparison with another model are made of the
file alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from dynadiff.base.documents import Plain, Versions, read_document
from dynadiff.base.errors import UserError
from dynadiff.base.files import atomic
from dynadiff.recordings.held_out import Part
from dynadiff.scores.intervals import Interval, interval

SCORES = "scores.json"
Data = Literal["phantom", "nsd"]


def _of_the_test(first: Plain) -> Plain:
    """The first version knew no other trials, and did not say how many repetitions went into a mean."""
    if "on" in first:
        raise ValueError("keys on")
    if not isinstance(subjects := first.get("subjects"), list) or not all(isinstance(s, dict) for s in subjects):
        raise ValueError("no list of subjects")
    return first | {"on": "test", "subjects": [subject | {"averaged": None} for subject in subjects]}


def _sampled_as_set(second: Plain) -> Plain:
    """The second version did not say how pictures were sampled: as the model was set, whatever that was."""
    subjects = second.get("subjects")
    if not isinstance(subjects, list) or any(not isinstance(s, dict) or "sampling" in s for s in subjects):
        raise ValueError("no list of subjects, or keys sampling")
    return second | {"subjects": [subject | {"sampling": ""} for subject in subjects]}


VERSIONS = Versions((_of_the_test, _sampled_as_set))  # of scores.json


@dataclass(frozen=True)
class Column:
    """One way of scoring."""

    key: str  # unlike any other
    title: str  # "two-way"
    space: (
        str  # whose eye it is: "EfficientNet-Lite0", "the judge of scenes", "its own tokens", "pixels", "ten metrics"
    )
    times: int  # what a table multiplies a score with
    unit: str  # behind it: "%", "°" or nothing
    higher_is_better: bool


@dataclass(frozen=True)
class Cell:
    """One decoder in one column: the mean over trials, its 95 % interval over pictures, and what chance gives."""

    column: str  # the key
    mean: float
    low: float
    high: float
    chance: float | None  # the mean that is reached once in twenty times when pictures are dealt to trials at random
    per_trial: tuple[float, ...]


@dataclass(frozen=True)
class Row:
    """One decoder."""

    decoder: str
    cells: tuple[Cell, ...]

    def cell(self, column: str) -> Cell | None:
        """That of a column, if the decoder was scored in it."""
        return next((cell for cell in self.cells if cell.column == column), None)


@dataclass(frozen=True)
class Averaged:
    """How many repetitions went into the means."""

    fewest: int
    median: int
    most: int


@dataclass(frozen=True)
class Subject:
    """The decoders of one subject, all scored on the same trials."""

    subject: str
    model: str  # name of the folder
    model_sha256: str  # of its description, which holds the digests of its weights
    split: str  # rule and seed by which the trials were held out, or why they are known to be
    trials: tuple[str, ...]  # the picture of each
    averaged: Averaged | None  # None: single trials, or unsaid
    listed: int | None  # trials that the model lists as held out; None where it lists none
    learnt: int  # trials that baselines learnt from
    rows: tuple[Row, ...]
    sampling: str = ""  # sampler, steps and guidance that pictures were painted by, in words; "" where that is unsaid

    def row(self, decoder: str) -> Row | None:
        """That of a decoder, if it is there."""
        return next((row for row in self.rows if row.decoder == decoder), None)


@dataclass(frozen=True)
class Evaluation:
    """Everything that ``scores.json`` says."""

    data: Data  # NSD's trees are taken for NSD's data unless the phantom wrote them
    repetitions: Literal["one", "averaged", "all"]  # of each picture: one drawn, the mean of their windows, or all
    seeds: tuple[int, ...]  # of the noise that pictures start from; scores are means over them
    setting: str  # of the ten metrics
    columns: tuple[Column, ...]
    subjects: tuple[Subject, ...]
    files: Mapping[str, str]  # of the judges, name to sha256
    missing: tuple[str, ...]  # what could not be scored, and what it would need
    made_with: Mapping[str, str]  # libraries and their versions
    on: Part = "test"  # which of the trials that were held out: those that are reported, or those to choose by

    def column(self, key: str) -> Column:
        return next(column for column in self.columns if column.key == key)

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic(folder / SCORES) as new:
            new.write_text(VERSIONS.write(self), "utf-8")


def load_evaluation(path: Path) -> Evaluation:
    """Of a folder that `dynadiff evaluate` wrote, or of the file in it. Raises UserError where it is none."""
    path = path / SCORES if path.is_dir() else path
    try:
        return read_document(VERSIONS.current(path.read_bytes(), path), Evaluation)
    except FileNotFoundError:
        raise UserError(f"there is no {path}: make it with `dynadiff evaluate --out {path.parent}`") from None
    except ValueError as error:
        raise UserError(f"{path} is no evaluation of this version ({error}): evaluate again") from None


@dataclass(frozen=True)
class Difference:
    """By how much one decoder is ahead of another in a column, in the column's own direction, paired over pictures."""

    column: str
    decoder: str
    other: str
    ahead: Interval  # above 0: better, whichever direction that is


def differences(evaluation: Evaluation, subject: Subject, decoder: str) -> list[Difference]:
    """Of a decoder against every other of the subject, in every column that both have."""
    first, found = subject.row(decoder), []
    for other in subject.rows if first is not None else ():
        for cell in first.cells if first is not None and other is not first else ():
            if (theirs := other.cell(cell.column)) is not None:
                sign = 1 if evaluation.column(cell.column).higher_is_better else -1
                apart = sign * (np.array(cell.per_trial) - np.array(theirs.per_trial))
                found.append(Difference(cell.column, decoder, other.decoder, interval(apart, subject.trials)))
    return found


def mean_over_subjects(evaluation: Evaluation, decoder: str, column: str) -> tuple[float, float] | None:
    """Mean over subjects and its standard error, SD of the subjects by n - 1 over √n; None unless all have it.

    The paper's own tables divide the population's SD by √4 (see docs/results.md).
    """
    rows = [subject.row(decoder) for subject in evaluation.subjects]
    cells = [row.cell(column) if row is not None else None for row in rows]
    means = np.array([cell.mean for cell in cells if cell is not None])
    if len(means) < 2 or len(means) < len(cells):
        return None
    return float(means.mean()), float(means.std(ddof=1) / np.sqrt(len(means)))
