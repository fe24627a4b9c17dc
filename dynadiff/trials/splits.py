"""Which trials are learnt from and which are decoded, by documented rules. Arithmetic on names; knows no files.

A trial is one presentation of one picture. Protocols: paper sec. 3.1 and 4; facebookresearch/dynadiff, ``data.py``.
Draws go by digest, not by a generator's sequence: SHA-256 of "seed/name" orders what is drawn from, so that a draw
depends neither on a library's version nor on what else is there.
"""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dynadiff.base.errors import UserError
from dynadiff.recordings.held_out import VALIDATED

TEST_RUNS, ALL_RUNS = 45, 480  # of a subject with 40 sessions, paper sec. 4
SHARED_HELD_OUT = ("standard", "first-session", "held-out-twice")  # rules by which no shared picture is learnt from
VALIDATION, SHARE = 300, 10  # pictures to choose by, at most: so many, and one in so many of the subject's own


@dataclass(frozen=True)
class Presentations:
    """Of each trial, in the order of time: which picture, in which run, in which session."""

    pictures: Sequence[str]
    runs: Sequence[str]
    sessions: Sequence[int]


@dataclass(frozen=True)
class Split:
    """Indices of trials; no trial is in two of them."""

    learn: NDArray[np.int64]
    test: NDArray[np.int64]
    validation: NDArray[np.int64]  # empty but for "held-out-twice"


def split(rule: str, trials: Presentations, shared: Collection[str], seed: int = 0, first_session: int = 1) -> Split:
    """Divide the trials. The rules, of which all but "time-resolved" keep every repetition of a picture on one side:

    * ``standard``: test if the picture is one of those that all subjects saw (NSD's ``sharedix``).
    * ``first-session``: test is the first session; whatever is shared or shown there is not learnt from.
    * ``held-out-twice``: nothing that is shared or shown in the first session is learnt from; test is what is shared
      and not shown there; validation is all of `validation_pictures`, of those that are neither.
    * ``time-resolved``: test runs against all others (`time_resolved_runs`). As published: a picture of a test run may
      recur in training.
    * ``time-resolved-disjoint``: the same test runs; no picture that is shown in them is learnt from.

    Raises UserError where nothing is left to learn from, to validate with or to test on, and where "held-out-twice" has
    no first session.
    """
    pictures, runs, sessions = (np.array(column) for column in (trials.pictures, trials.runs, trials.sessions))
    first, public = set(pictures[sessions == first_session].tolist()), np.isin(pictures, sorted(shared))
    validation = np.zeros(len(pictures), np.bool_)
    if rule == "standard":
        test = public
    elif rule == "first-session":
        test = sessions == first_session
    elif rule == "held-out-twice":
        check_first(rule, first, first_session)
        test = public & ~np.isin(pictures, sorted(first))
        own = set(pictures.tolist()) - first - set(shared)
        validation = np.isin(pictures, validation_pictures(own, seed))
    elif rule in ("time-resolved", "time-resolved-disjoint"):
        test = np.isin(runs, time_resolved_runs(sorted(set(trials.runs)), seed))
    else:
        raise ValueError(f"there is no split {rule!r}")
    held = test | validation
    learn = ~held & ~np.isin(pictures, sorted(secret_pictures(rule, shared, pictures[held].tolist(), first)))
    parts = {"learn from": learn, "test on": test} | ({"validate with": validation} if rule in VALIDATED else {})
    for what, mask in parts.items():
        if not mask.any():
            raise UserError(f"the split {rule} leaves no trial to {what}: add sessions, or choose another with --split")
    return Split(np.flatnonzero(learn), np.flatnonzero(test), np.flatnonzero(validation))


def check_first(rule: str, first: Collection[str], session: int) -> None:
    """UserError where a rule keeps out what the first session shows, and nobody knows what that is."""
    if rule == "held-out-twice" and not first:
        raise UserError(
            f"the split {rule} keeps out what session {session} shows, which is not there: add that session"
        )


def validation_pictures(own: Collection[str], seed: int = 0) -> list[str]:
    """Those 300 of a subject's ``own``, a tenth of them at most, whose digests come first, in the order of names."""
    count = min(VALIDATION, len(own) // SHARE)
    return sorted(sorted(own, key=lambda name: _rank(seed, name))[:count])


def secret_pictures(rule: str, shared: Collection[str], held: Collection[str], first: Collection[str] = ()) -> set[str]:
    """The pictures that nothing may be learnt from: ``held`` are shown in test or validation, ``first`` at first."""
    if rule == "time-resolved":
        return set()
    public = shared if rule in SHARED_HELD_OUT else ()
    return {*held, *public, *(first if rule == "held-out-twice" else ())}


def time_resolved_runs(names: Sequence[str], seed: int = 0) -> list[str]:
    """The test runs: those 45 in 480 (at least one) whose digests come first, in the order of their names."""
    return drawn(names, max(1, round(len(names) * TEST_RUNS / ALL_RUNS)), seed)


def drawn(names: Collection[str], count: int, seed: int = 0) -> list[str]:
    """Those ``count`` names whose digests come first, in their own order."""
    return sorted(sorted(names, key=lambda name: _rank(seed, name))[:count])


def repetitions(pictures: Sequence[str], among: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The trials of each picture, of those ``among``, pictures in the order in which they are first seen."""
    members: dict[str, list[int]] = {}
    for trial in among:
        members.setdefault(pictures[trial], []).append(int(trial))
    return [np.array(trials, np.int64) for trials in members.values()]


def one_repetition(pictures: Sequence[str], among: NDArray[np.int64], seed: int = 0) -> NDArray[np.int64]:
    """One trial of each picture, drawn by the seed and the picture's name alone."""
    groups = repetitions(pictures, among)
    return np.array([g[int(_rank(seed, pictures[g[0]]), 16) % len(g)] for g in groups], np.int64)


def _rank(seed: int, name: str) -> str:
    return hashlib.sha256(f"{seed}/{name}".encode()).hexdigest()
