"""The experiment design of an NSD-like tree: which picture appears when, for 8 subjects and 40 sessions.

Knows ids, sessions, runs and rows; knows nothing of pictures, brains or files. Everything is synthetic and
follows from a seed; counts and identities are those of Allen et al. (2022), Nature Neuroscience 25, 116-126.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dynadiff.recordings.nsd_facts import (
    IMAGES,
    OWN,
    REPEATS,
    ROWS,
    SESSION_TRIALS,
    SESSIONS,
    SHARED,
    SUBJECTS,
    TASK_RUNS,
    TRIAL_ROWS,
    file_runs,
)

SLOTS, LEADING, TRAILING = 75, 3, 4  # slots of a run; the first and the last ones are blank
BLANK_GAP = (9, 14)  # fewest and most stimulus trials between two blanks inside a run
CLUSTERED, CLUSTER_SESSIONS = 0.4, 0.4  # share of presentations near the image's own date, and how near


@dataclass(frozen=True)
class Design:
    """The variables of ``nsd_expdesign.mat``. 73k and 10k ids count from 1. Arrays are read only."""

    masterordering: NDArray[np.int32]  # (1, 30000) 10k ids as presented, the same for all subjects
    subjectim: NDArray[np.int32]  # (8, 10000) 73k id of each 10k id; the first 1,000 columns are sharedix
    sharedix: NDArray[np.int32]  # (1, 1000) 73k ids
    stimpattern: NDArray[np.uint8]  # (40, 12, 75) 1 where a slot of a task run holds a picture
    basiccnt: NDArray[np.int32]  # (3, 40) how many images a session shows once, twice and three times

    def rows(self, subject: int, session: int, task_run: int) -> NDArray[np.int32]:
        """The design file of a task run, (225,): the 73k id at the row where a picture starts, else 0."""
        stimulus = self.stimpattern[session - 1, task_run - 1] > 0
        first = (session - 1) * SESSION_TRIALS + int(self.stimpattern[session - 1, : task_run - 1].sum())
        trials = self.masterordering[0, first : first + int(stimulus.sum())]
        rows = np.zeros(ROWS, np.int32)
        rows[np.flatnonzero(stimulus) * TRIAL_ROWS] = self.subjectim[subject - 1, trials - 1]
        return rows

    def file_rows(self, subject: int, session: int, file_run: int) -> NDArray[np.int32]:
        """The same by the run number of the file name; all zero in a resting run."""
        task_run = file_runs(subject, session)[file_run]
        return self.rows(subject, session, task_run) if task_run else np.zeros(ROWS, np.int32)


@lru_cache(maxsize=2)
def design(seed: int = 0) -> Design:
    """The design that follows from a seed, the same on every machine."""
    rng = np.random.default_rng([seed, 73_000])
    ids = rng.permutation(np.arange(1, IMAGES + 1, dtype=np.int32))
    shared = np.sort(ids[:SHARED])
    own = ids[SHARED:].reshape(SUBJECTS, OWN)
    ordering = _ordering(rng)
    sessions = max(SESSIONS.values())
    pattern = np.array([[_run_pattern(63 - run % 2, rng) for run in range(TASK_RUNS)] for _ in range(sessions)])
    return Design(
        masterordering=ordering[None],
        subjectim=np.hstack([np.tile(shared, (SUBJECTS, 1)), own]),
        sharedix=shared[None],
        stimpattern=pattern,
        basiccnt=_repeats_per_session(ordering),
    )


def design_rows(subject: int, session: int, task_run: int, seed: int = 0) -> NDArray[np.int32]:
    """`Design.rows` of the design of a seed."""
    return design(seed).rows(subject, session, task_run)


def _ordering(rng: np.random.Generator) -> NDArray[np.int32]:
    """10k ids in order of presentation: each image three times, some close together, others anywhere."""
    images, sessions = SHARED + OWN, max(SESSIONS.values())
    own_date = rng.uniform(0, sessions, (images, 1)) + rng.normal(0, CLUSTER_SESSIONS, (images, REPEATS))
    any_date = rng.uniform(0, sessions, (images, REPEATS))
    clustered = rng.uniform(size=(images, REPEATS)) < CLUSTERED
    dates = np.where(clustered, own_date % sessions, any_date)
    return (np.argsort(dates, axis=None) // REPEATS + 1).astype(np.int32)


def _run_pattern(stimuli: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Slots of a run (75,): blanks are 9 to 14 stimulus trials apart, at most 14 from the ends."""
    fewest, most = BLANK_GAP
    blanks = SLOTS - LEADING - TRAILING - stimuli
    while True:
        gaps = [int(rng.integers(1, most + 1)), *rng.integers(fewest, most + 1, blanks - 1).tolist()]
        if 1 <= stimuli - sum(gaps) <= most:
            break
    pattern = np.ones(SLOTS, np.uint8)
    pattern[:LEADING] = pattern[SLOTS - TRAILING :] = 0
    pattern[LEADING + np.cumsum(gaps) + np.arange(blanks)] = 0
    return pattern


def _repeats_per_session(ordering: NDArray[np.int32]) -> NDArray[np.int32]:
    sessions = ordering.reshape(-1, SESSION_TRIALS)
    times = np.array([np.bincount(ids, minlength=SHARED + OWN + 1) for ids in sessions])
    return np.array([(times == n).sum(axis=1) for n in range(1, REPEATS + 1)], np.int32)
