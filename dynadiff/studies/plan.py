"""What a study trains, and what it compares: conditions, and orderings of the paper. Knows no network and no file.

A condition is one model. All of a study's are judged on the same trials: single presentations of the first session of
the study's subject, whose pictures none of them has learnt from.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any

from dynadiff.training.presets import Training, change
from dynadiff.trials.source import TEST_SESSION

METRICS = {"two_way": "two-way", "top1": "50-way top-1", "two_way_pixels": "two-way, pixels"}


@dataclass(frozen=True)
class Condition:
    """One model of a study: in what it differs from the others."""

    name: str  # of its folder, and in comparisons
    row: str  # of the table
    changes: tuple[str, ...] = ()  # key=value, of the study's choices
    subjects: tuple[int, ...] = (1,)
    sessions: tuple[int, ...] = ()  # scan sessions, the held-out first one among them; (): the study's
    pretrained: str | None = None  # another condition, of other subjects, that this one starts from


@dataclass(frozen=True)
class Comparison:
    """That one condition is above another in a metric, as the paper has it."""

    above: str
    below: str
    metric: str  # one of `METRICS`
    paper: str  # the paper's values, and where they stand


@dataclass(frozen=True)
class Study:
    """Conditions in the order in which they are trained.

    Raises ValueError for two conditions of one name, for one that starts from a later one, for a comparison of a
    condition that is not judged or in an unknown metric, for one that lacks the held-out session, and for windows or
    a split that the others do not have.
    """

    name: str  # of its folder
    title: str  # of its table
    choices: Training
    conditions: tuple[Condition, ...]
    comparisons: tuple[Comparison, ...]
    sessions: tuple[int, ...]
    subject: int = 1  # whose trials are judged
    trials: int | None = None  # how many of them; None: one of every picture

    def __post_init__(self) -> None:
        names = [condition.name for condition in self.conditions]
        if len(set(names)) < len(names):
            raise ValueError(f"the conditions of {self.name} do not have names of their own")
        for k, condition in enumerate(self.conditions):
            if condition.pretrained is not None and condition.pretrained not in names[:k]:
                raise ValueError(f"{condition.name} starts from {condition.pretrained}, which is not trained before it")
            if TEST_SESSION not in self.sessions_of(condition):
                raise ValueError(f"{condition.name} lacks session {TEST_SESSION}, which is held out")
            own, base = self.choices_of(condition), self.choices
            if own.division != replace(base.division, seed=own.seed) or own.split != "first-session":
                raise ValueError(f"{condition.name} does not learn from windows such as the others do")
        judged = {condition.name for condition in self.conditions if self.judges(condition)}
        for c in self.comparisons:
            if not {c.above, c.below} <= judged or c.metric not in METRICS:
                raise ValueError(f"{c.above} and {c.below} cannot be compared in {c.metric}")

    def judges(self, condition: Condition) -> bool:
        """Does it decode the subject whose trials are judged? What others are pretrained on need not."""
        return self.subject in condition.subjects

    def sessions_of(self, condition: Condition) -> tuple[int, ...]:
        return condition.sessions or self.sessions

    def choices_of(self, condition: Condition) -> Training:
        return change(self.choices, condition.changes)

    def needs(self) -> dict[int, tuple[int, ...]]:
        """The scan sessions that the study reads, by subject."""
        read: dict[int, set[int]] = {self.subject: {TEST_SESSION}}
        for condition in self.conditions:
            for subject in condition.subjects:
                read.setdefault(subject, set()).update(self.sessions_of(condition))
        return {subject: tuple(sorted(sessions)) for subject, sessions in sorted(read.items())}

    def resolved(self, condition: Condition) -> dict[str, Any]:
        """All that a condition's model follows from, as JSON holds it, that of the one it starts from included."""
        before = next((c for c in self.conditions if c.name == condition.pretrained), None)
        return {
            "choices": asdict(self.choices_of(condition)),
            "subjects": list(condition.subjects),
            "sessions": list(self.sessions_of(condition)),
            "pretrained": None if before is None else self.resolved(before),
        }


def shortened(study: Study, choices: Training, sessions: tuple[int, ...], trials: int) -> Study:
    """With these choices, sessions and test trials at most: to see that it runs, and no more.

    Of conditions that are the same then, the first stands for all.
    """
    short = replace(
        study, name=f"{study.name}-quick", title=f"{study.title}; quick: these figures mean nothing", choices=choices,
        conditions=tuple(replace(c, sessions=tuple(s for s in c.sessions if s in sessions)) for c in study.conditions),
        sessions=sessions, trials=trials,
    )  # fmt: skip
    kept: list[Condition] = []
    stands: dict[str, str] = {}
    for condition in short.conditions:
        same = next((c for c in kept if short.resolved(c) == short.resolved(condition)), None)
        stands[condition.name] = (same or condition).name
        kept += [] if same else [condition]
    pairs = (replace(c, above=stands[c.above], below=stands[c.below]) for c in short.comparisons)
    once = {(c.above, c.below, c.metric): c for c in pairs}
    return replace(short, conditions=tuple(kept), comparisons=tuple(once.values()))
