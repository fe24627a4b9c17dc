"""Which subjects, sessions and runs an NSD tree holds, and which task run each is; a wrong choice is answered."""

from pathlib import Path

import pytest

from dynadiff.base.errors import UserError
from dynadiff.recordings.nsd import NSD
from support.nsd_tree import some_design, write_run


def test_subjects_sessions_and_runs_are_those_on_disk(tree: Path) -> None:
    nsd = NSD(tree)
    assert nsd.subjects() == (1, 2)
    assert nsd.sessions(1) == (1,)
    assert nsd.runs(2, 1) == (1, 2, 3)
    assert [nsd.task_ordinal(1, 1, run) for run in (1, 2, 3)] == [1, 2, 3]


@pytest.fixture
def long_session(func: Path, tmp_path: Path) -> Path:
    """Session 21 of 14 runs, resting state first and last; session 1 of 12."""
    for run in range(1, 13):
        write_run(func, 1, run, some_design(run), (2, 2, 2))
    for run in range(1, 15):
        write_run(func, 21, run, [0] * 225 if run in (1, 14) else some_design(run), (2, 2, 2))
    return tmp_path


def test_in_a_session_of_14_runs_the_task_runs_are_2_to_13(long_session: Path) -> None:
    nsd = NSD(long_session)
    assert nsd.sessions(1) == (1, 21)
    assert nsd.runs(1, 1) == tuple(range(1, 13))
    assert nsd.runs(1, 21) == tuple(range(2, 14))
    assert [nsd.task_ordinal(1, 21, run) for run in nsd.runs(1, 21)] == list(range(1, 13))
    assert nsd.run(1, 21, 13).name == "sub-01_ses-nsd21_task-nsdcore_run-13"
    with pytest.raises(UserError, match="resting state"):
        nsd.task_ordinal(1, 21, 14)


def test_a_resting_run_is_legal_and_shows_nothing(long_session: Path) -> None:
    run = NSD(long_session).run(1, 21, 14)
    assert run.events == ()
    assert run.name == "sub-01_ses-nsd21_task-rest_run-14"
    assert sum(1 for _ in run.volumes()) == 226


def test_missing_runs_never_shift_the_ordinal_of_the_others(long_session: Path, func: Path) -> None:
    def drop(session: int, run: int) -> None:
        (func / "timeseries" / f"timeseries_session{session:02d}_run{run:02d}.nii.gz").unlink()

    for run in (1, 2, 5):
        drop(21, run)
        drop(1, run)
    nsd = NSD(long_session)
    assert nsd.runs(1, 21) == (3, 4, 6, 7, 8, 9, 10, 11, 12, 13)
    assert [nsd.task_ordinal(1, 21, run) for run in (3, 6, 13)] == [2, 5, 12]
    assert [nsd.task_ordinal(1, 1, run) for run in (3, 6, 12)] == [3, 6, 12]
    for run in (13, 14):
        drop(21, run)
    assert NSD(long_session).task_ordinal(1, 21, 3) == 2


def test_the_ordinal_is_never_guessed(long_session: Path, func: Path) -> None:
    (func / "design" / "design_session21_run01.tsv").unlink()
    assert NSD(long_session).task_ordinal(1, 21, 3) == 2  # run 14 is there
    for run in (13, 14):
        (func / "timeseries" / f"timeseries_session21_run{run}.nii.gz").unlink()
    with pytest.raises(UserError, match=r"design_session21_run01\.tsv is missing"):
        NSD(long_session).task_ordinal(1, 21, 3)


def test_a_wrong_choice_is_answered_with_what_there_is(tree: Path) -> None:
    nsd = NSD(tree)
    with pytest.raises(UserError, match=r"subject 3 is not in .*: subjects there are 1-2; choose one with --subject"):
        nsd.run(3, 1, 1)
    with pytest.raises(UserError, match=r"session 2 of subject 1 .*: sessions there are 1; choose one with --session"):
        nsd.run(1, 2, 1)
    with pytest.raises(UserError, match=r"run 13 of session 1 .*: task runs there are 1-3; choose one with --run"):
        nsd.run(1, 1, 13)


def test_gaps_are_shown_in_the_answer(func: Path, tmp_path: Path) -> None:
    for run in (1, 2, 3, 6, 8, 9):
        write_run(func, 1, run, some_design(run), (2, 2, 2))
    with pytest.raises(UserError, match="task runs there are 1-3, 6, 8-9;"):
        NSD(tmp_path).run(1, 1, 4)


def test_without_nsd_the_user_learns_how_to_get_it_or_do_without(tmp_path: Path) -> None:
    for root in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(UserError, match=r"naturalscenesdataset\.org.*realtime phantom --root DIR"):
            NSD(root)


def test_a_subject_without_runs_is_named(func: Path, tmp_path: Path) -> None:
    (func / "timeseries").mkdir(parents=True)
    (func / "timeseries" / "._timeseries_session01_run01.nii.gz").touch()
    with pytest.raises(UserError, match="holds no timeseries_sessionBB_runCC"):
        NSD(tmp_path).sessions(1)
