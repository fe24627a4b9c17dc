"""How often the category is named, how sure that is, and whether Dynadiff names it more often than each opponent.

Runs are what is independent here: windows of a block overlap, and blocks of a run share its noise and its cleaning. So
intervals resample runs, the test flips the sign of a run's difference, and chance deals the categories of a run's
blocks among them. Knows scores of folds; knows no file and no network.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dynadiff.scores.intervals import Interval, Level, interval, level
from dynadiff.studies.haxby.kept import PAINTED, Fold

UNITS = ("windows", "blocks")
DRAWS = 2000
MOST_RUNS = 20  # of which all signs are tried
SURE = 0.05  # of p


@dataclass(frozen=True)
class Ahead(Interval):
    """A difference of two shares named right, over the same windows, with its interval over runs."""

    p: float  # two-sided, of all ways to flip the signs of the runs' differences

    @property
    def verdict(self) -> str:
        """Above or below only where interval and test agree."""
        if self.p < SURE and (self.low > 0 or self.high < 0):
            return "above" if self.low > 0 else "below"
        return "undecided"


@dataclass(frozen=True)
class Figures:
    """What the study comes to."""

    runs: int
    counts: dict[str, int]  # by unit
    chance: float  # one of the categories
    rows: dict[str, dict[str, Level]]  # by who names, by unit
    ahead: dict[str, dict[str, Ahead]]  # Dynadiff minus the opponent of that name, by unit
    strengths: dict[str, tuple[float, ...]]  # of each opponent, by fold
    says: str


def figures(folds: Sequence[Fold]) -> Figures:
    """The table of folds that name the same ways. Each draws the same runs and deals, so that rows can be compared."""
    opponents = [name for name in folds[0].scores if name != PAINTED]
    rows = {name: {unit: accuracy(folds, name, unit) for unit in UNITS} for name in (PAINTED, *opponents)}
    against = {name: {unit: ahead(folds, PAINTED, name, unit) for unit in UNITS} for name in opponents}
    counts = {unit: sum(len(right(fold, PAINTED, unit)) for fold in folds) for unit in UNITS}
    strengths = {name: tuple(fold.strengths[name] for fold in folds) for name in opponents}
    chance = 1 / len(folds[0].categories)
    return Figures(len(folds), counts, chance, rows, against, strengths, conclusion(against))


def named(fold: Fold, who: str, unit: str) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Category named (u,) in each window or block, the block (u,) of each, and what each block (b,) showed.

    In a block the scores of its windows are averaged, and the highest mean names it.
    """
    scores, shown = np.array(fold.scores[who]), np.array(fold.shown)
    _, first, block = np.unique(fold.blocks, return_index=True, return_inverse=True)
    if unit == "windows":
        return scores.argmax(axis=1), block, shown[first]
    means = np.stack([scores[block == k].mean(axis=0) for k in range(len(first))])
    return means.argmax(axis=1), np.arange(len(first)), shown[first]


def right(fold: Fold, who: str, unit: str) -> NDArray[np.float64]:
    """1 or 0 for each window or block (u,) of a fold."""
    said, block, shown = named(fold, who, unit)
    return np.asarray(said == shown[block], np.float64)


def accuracy(folds: Sequence[Fold], who: str, unit: str) -> Level:
    """The share named right, its 95 % interval over runs, and the 95th percentile of chance within them."""
    each = [right(fold, who, unit) for fold in folds]
    return level(np.concatenate(each), _runs(folds, each), dealt_level(folds, who, unit))


def dealt_level(folds: Sequence[Fold], who: str, unit: str) -> float:
    """95th percentile of the share named right when the categories of a run's blocks are dealt out at random."""
    rng, hits, count = np.random.default_rng(0), np.zeros(DRAWS), 0
    for fold in folds:
        said, block, shown = named(fold, who, unit)
        dealt = rng.permuted(np.tile(shown, (DRAWS, 1)), axis=1)
        hits += (dealt[:, block] == said).sum(axis=1)
        count += len(said)
    return float(np.quantile(hits / count, 0.95))


def ahead(folds: Sequence[Fold], one: str, other: str, unit: str) -> Ahead:
    """How much more often ``one`` is right than ``other``, in pairs of the same window or block."""
    each = [right(fold, one, unit) - right(fold, other, unit) for fold in folds]
    found = interval(np.concatenate(each), _runs(folds, each))
    return Ahead(found.mean, found.low, found.high, sign_flip_p(np.array([run.sum() for run in each])))


def sign_flip_p(differences: NDArray[np.float64]) -> float:
    """Two-sided p of the sum of differences (n,), one a run: the share of all 2ⁿ flips whose sum is as far from 0.

    Exact where a difference is as likely as its opposite. Raises ValueError for more than `MOST_RUNS` runs.
    """
    if not 1 <= len(differences) <= MOST_RUNS:
        raise ValueError(f"{len(differences)} differences: 1 to {MOST_RUNS} can be flipped in every way")
    sums = np.zeros(1)
    for difference in differences:
        sums = np.concatenate([sums + difference, sums - difference])
    return float(np.mean(np.abs(sums) >= abs(differences.sum()) - 1e-9))


def conclusion(against: Mapping[str, Mapping[str, Ahead]]) -> str:
    """One sentence that says which opponents Dynadiff is above and below, and where that is undecided."""
    said = {unit: _standing({name: leads[unit].verdict for name, leads in against.items()}) for unit in UNITS}
    if len({*said.values()}) == 1:
        return f"In {' and in '.join(UNITS)}, Dynadiff is {said[UNITS[0]]}."
    windows, blocks = (said[unit] for unit in UNITS)
    return f"In {UNITS[0]}, Dynadiff is {windows}; in {UNITS[1]}, it is {blocks}."


def _standing(verdicts: Mapping[str, str]) -> str:
    words = {"above": "above", "below": "below", "undecided": "undecided against"}
    groups = {verdict: [name for name in verdicts if verdicts[name] == verdict] for verdict in words}
    said = [f"{words[verdict]} {_listed(names)}" for verdict, names in groups.items() if names]
    return ", ".join(said) if len(said) > 1 else f"{words[next(iter(verdicts.values()))]} every tuned opponent"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _runs(folds: Sequence[Fold], each: Sequence[NDArray[np.float64]]) -> tuple[str, ...]:
    """The run of every window or block: what intervals resample."""
    return tuple(fold.run for fold, values in zip(folds, each, strict=True) for _ in values)
