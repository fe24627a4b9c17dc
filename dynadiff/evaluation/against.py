"""One model against another, from what was kept of both: paired over the pictures of the same trials. Knows no network.

Two evaluations compare only where the same trials were scored by the same eyes: a pool of other pictures, or a judge
with other weights, makes another score.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dynadiff.base.documents import Versions
from dynadiff.base.errors import UserError
from dynadiff.base.files import atomic
from dynadiff.evaluation.scored import Column, Evaluation, Subject
from dynadiff.scores.intervals import Interval, interval

AGAINST = "against.json"
VERSIONS = Versions()  # of against.json


@dataclass(frozen=True)
class Lead:
    """By how much a model is ahead of the other in one column, in the column's own direction."""

    column: str  # the key
    ours: float
    theirs: float
    ahead: Interval  # above 0: better, whichever direction that is; 95 %, pictures resampled


@dataclass(frozen=True)
class Rivals:
    """The first decoder of each evaluation, on one subject."""

    subject: str
    model: str  # names of the folders
    other: str
    other_sha256: str  # of its description
    decoder: str  # what the two rows are called
    leads: tuple[Lead, ...]


@dataclass(frozen=True)
class Compared:
    """What ``against.json`` says."""

    rivals: tuple[Rivals, ...]

    def save(self, folder: Path) -> None:
        with atomic(folder / AGAINST) as new:
            new.write_text(VERSIONS.write(self), "utf-8")


def check_alike(path: Path, theirs: Evaluation, data: str, on: str, repetitions: str, setting: str) -> None:
    """UserError where the evaluation of that file was not made as one of these would be."""
    for what, here, there in (
        ("other data", data, theirs.data),
        ("other trials", on, theirs.on),
        ("repetitions taken otherwise", repetitions, theirs.repetitions),
        ("another setting of the ten metrics", setting, theirs.setting),
    ):
        if here != there:
            raise UserError(f"{path} is of {what} ({there}, here {here}): evaluate both alike")


def check_trials(path: Path, theirs: Evaluation, subject: str, trials: Sequence[str]) -> None:
    """UserError where that file has the subject's scores, but of other trials."""
    for other in theirs.subjects:
        if other.subject == subject and other.trials != tuple(trials):
            raise UserError(
                f"{path} scored other trials of subject {subject}: two models compare on the same list of "
                "held-out trials, so train both with one split and seed"
            )


def compared(ours: Evaluation, others: Sequence[tuple[Path, Evaluation]]) -> Compared:
    """Every subject that another evaluation has too, with every column that both have.

    Raises UserError, naming the file, where the two do not score the same trials in the same way.
    """
    rivals = []
    for path, theirs in others:
        check_alike(path, theirs, ours.data, ours.on, ours.repetitions, ours.setting)
        _check_eyes(ours, path, theirs)
        known = {subject.subject: subject for subject in theirs.subjects}
        both = [subject for subject in ours.subjects if subject.subject in known]
        if not both:
            raise UserError(f"{path} is of other subjects: give the evaluation of a model of the same subject")
        rivals += [_rivals(ours, theirs, subject, known[subject.subject], path) for subject in both]
    return Compared(tuple(rivals))


def _rivals(ours: Evaluation, theirs: Evaluation, subject: Subject, other: Subject, path: Path) -> Rivals:
    check_trials(path, theirs, subject.subject, subject.trials)
    row, rival = subject.rows[0], other.rows[0]
    leads = [
        lead
        for column in ours.columns
        if column in theirs.columns and (lead := _lead(column, subject, other)) is not None
    ]
    name = row.decoder if row.decoder == rival.decoder else f"{row.decoder} and {rival.decoder}"
    return Rivals(subject.subject, subject.model, other.model, other.model_sha256, name, tuple(leads))


def _lead(column: Column, subject: Subject, other: Subject) -> Lead | None:
    mine, its = (one.rows[0].cell(column.key) for one in (subject, other))
    if mine is None or its is None:
        return None
    sign = 1 if column.higher_is_better else -1
    apart = sign * (np.array(mine.per_trial) - np.array(its.per_trial))
    return Lead(column.key, mine.mean, its.mean, interval(apart, subject.trials))


def _check_eyes(ours: Evaluation, path: Path, theirs: Evaluation) -> None:
    for name in ours.files.keys() & theirs.files.keys():
        if ours.files[name] != theirs.files[name] and not name.endswith("/*"):  # maps of pictures are no judge
            raise UserError(f"{path} was judged by another {name}: evaluate both with the same weights")
