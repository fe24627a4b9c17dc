"""Which trials a model may be judged on: the rule by which they were held out of its training, and their list.

The list says what was not learnt from; whatever is not on it may have been. Knows names of runs and pictures, and one
small table; knows no split's arithmetic, no window and no model.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal, Self

from dynadiff.base.errors import UserError
from dynadiff.base.files import atomic
from dynadiff.recordings.run import Event

# what each is: dynadiff.trials.splits
RULES = ("standard", "first-session", "held-out-twice", "time-resolved", "time-resolved-disjoint")
VALIDATED = ("held-out-twice",)  # those that hold out trials to choose by, beside those that are reported
Part = Literal["validation", "test"]
TEST, VALIDATION = "test-trials.tsv", "validation-trials.tsv"  # the lists, beside the model's description
FILES: Mapping[Part, str] = MappingProxyType({"validation": VALIDATION, "test": TEST})
HEADING = "run\trow\tpicture\n"


@dataclass(frozen=True, order=True)
class Trial:
    """One presentation of a picture, by names that stay."""

    run: str  # as in BIDS: sub-01_ses-nsd01_task-nsdcore_run-12
    row: int  # 0-based volume during which the picture appears
    picture: str

    @classmethod
    def of(cls, run: str, event: Event) -> Self:
        return cls(run, event.row, event.picture)


Lists = Mapping[Part, frozenset[Trial]]  # of a model; a part that it does not list is not in it


@dataclass(frozen=True)
class Listed:
    """What a model says of a list of trials in its folder."""

    trials: int
    sha256: str  # of the table


@dataclass(frozen=True)
class HeldOut:
    """What was held out of a training. Raises ValueError for an unknown rule, and where a list is needed or idle."""

    rule: str  # one of `RULES`
    seed: int  # of what the rule draws
    sessions: tuple[int, ...] | None  # that were asked for; None: all there were
    learnt_from: tuple[str, ...]  # subjects, those of the model that it was trained on from included
    test: Listed | None  # None: every trial of a shared picture, which "standard" tells without a list
    validation: Listed | None = None  # None: the rule holds none out to choose by

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ValueError(f"rule is {self.rule!r}: choose one of {', '.join(RULES)}")
        if self.test is None and self.rule != "standard":
            raise ValueError(f"what {self.rule} holds out is not told by the pictures: it needs a list")
        if (self.validation is not None) != (self.rule in VALIDATED):
            raise ValueError(f"{self.rule} {'needs' if self.rule in VALIDATED else 'has no'} list of validation trials")

    def part(self, part: Part) -> Listed | None:
        """What the model says of the list of a part."""
        return self.test if part == "test" else self.validation


def listed(trials: Iterable[Trial]) -> Listed:
    """What a model has to say of these trials, if `write_trials` is to list them."""
    table = _table(trials)
    return Listed(table.count("\n") - 1, _digest(table.encode()))


def write_trials(path: Path, trials: Iterable[Trial]) -> None:
    with atomic(path) as new:
        new.write_text(_table(trials), "utf-8")


def read_trials(path: Path, said: Listed) -> frozenset[Trial]:
    """The trials that a table lists. Raises UserError where it is missing, or not the one that the model speaks of."""
    table = path.read_bytes() if path.is_file() else b""
    if _digest(table) != said.sha256:
        raise UserError(f"{path} is missing or not the list that was saved with the model: put the original back")
    rows = (line.split("\t") for line in table.decode().splitlines()[1:])
    return frozenset(Trial(run, int(row), picture) for run, row, picture in rows)


def _table(trials: Iterable[Trial]) -> str:
    return HEADING + "".join(f"{trial.run}\t{trial.row}\t{trial.picture}\n" for trial in sorted(trials))


def _digest(table: bytes) -> str:
    return hashlib.sha256(table).hexdigest()
