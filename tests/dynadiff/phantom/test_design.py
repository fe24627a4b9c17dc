"""The synthetic design obeys what the NSD's own authors check of theirs."""

import numpy as np
import pytest

from dynadiff.phantom.design import design, design_rows
from dynadiff.recordings.nsd_facts import SESSIONS, TASK_RUNS, file_runs

PLAN = design()
ALL_RUNS = [(session, run) for session in range(1, 41) for run in range(1, TASK_RUNS + 1)]


def test_ids_are_one_based_and_each_subject_shares_its_first_thousand() -> None:
    assert PLAN.subjectim.shape == (8, 10_000)
    assert np.array_equal(np.unique(PLAN.subjectim), np.arange(1, 73_001))
    assert (PLAN.subjectim[:, :1000] == PLAN.sharedix[0]).all()
    assert len(np.unique(PLAN.subjectim[:, 1000:])) == 72_000  # no other image is seen by two subjects


def test_every_image_is_shown_three_times_sometimes_within_a_session() -> None:
    assert PLAN.masterordering.shape == (1, 30_000)
    assert (np.bincount(PLAN.masterordering[0], minlength=10_001)[1:] == 3).all()
    once, twice, thrice = PLAN.basiccnt
    assert (once + 2 * twice + 3 * thrice == 750).all()
    assert ((once > 500) & (twice > 0)).all()


def test_runs_have_63_and_62_pictures_in_turn_between_blank_ends() -> None:
    assert PLAN.stimpattern.shape == (40, 12, 75)
    assert np.array_equal(PLAN.stimpattern.sum(axis=2), np.tile([63, 62], (40, 6)))
    assert not PLAN.stimpattern[:, :, [0, 1, 2, 71, 72, 73, 74]].any()


@pytest.mark.parametrize(("session", "run"), ALL_RUNS[::7])
def test_blanks_inside_a_run_are_9_to_14_pictures_apart(session: int, run: int) -> None:
    blanks = np.flatnonzero(PLAN.stimpattern[session - 1, run - 1, 3:71] == 0)
    assert len(blanks) == (5 if run % 2 else 6)
    assert set(np.diff(blanks) - 1) <= set(range(9, 15))


def test_rows_are_the_pattern_stretched_and_the_ordering_in_sequence() -> None:
    shown = 0
    for session, run in ALL_RUNS:
        rows = design_rows(5, session, run)
        assert rows.shape == (225,)
        stretched = np.kron(PLAN.stimpattern[session - 1, run - 1], [1, 0, 0])
        assert np.array_equal(rows > 0, stretched > 0)
        ids = rows[rows > 0]
        assert np.array_equal(ids, PLAN.subjectim[4, PLAN.masterordering[0, shown : shown + len(ids)] - 1])
        shown += len(ids)
    assert shown == 30_000


def test_resting_runs_surround_the_task_runs_of_some_sessions() -> None:
    assert file_runs(2, 20) == file_runs(2, 31) == {run: run for run in range(1, 13)}
    assert file_runs(2, 21) == {1: 0, **{run: run - 1 for run in range(2, 14)}, 14: 0}
    assert len(file_runs(1, 38)) == 14  # subjects 1 and 5 rested in more sessions
    assert not PLAN.file_rows(2, 21, 1).any()
    assert not PLAN.file_rows(2, 21, 14).any()
    assert np.array_equal(PLAN.file_rows(2, 21, 2), PLAN.rows(2, 21, 1))


def test_trials_of_each_subject_are_those_of_nsd() -> None:
    trials = {subject: 750 * sessions for subject, sessions in SESSIONS.items()}
    assert trials == {1: 30_000, 2: 30_000, 3: 24_000, 4: 22_500, 5: 30_000, 6: 24_000, 7: 30_000, 8: 22_500}


def test_seed_decides_everything() -> None:
    again, other = design.__wrapped__(0), design.__wrapped__(1)
    assert np.array_equal(again.subjectim, PLAN.subjectim)
    assert np.array_equal(again.stimpattern, PLAN.stimpattern)
    assert not np.array_equal(other.subjectim, PLAN.subjectim)
    assert not np.array_equal(other.masterordering, PLAN.masterordering)
