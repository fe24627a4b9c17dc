"""The list of a model's held-out trials comes back, is refused when it is another, and one rule does without it."""

from pathlib import Path

import pytest

from dynadiff.assets import EMBEDDED
from dynadiff.base.errors import UserError
from dynadiff.phantom.design import design
from dynadiff.recordings.held_out import TEST, HeldOut, Listed, Trial, listed, read_trials, write_trials
from dynadiff.recordings.nsd import rows_of
from dynadiff.recordings.nsd_facts import TASK_RUNS

SOME = [Trial("run two", 9, "7"), Trial("run one", 12, "8"), Trial("run one", 9, "7")]


def test_a_list_comes_back_whatever_its_order(tmp_path: Path) -> None:
    write_trials(tmp_path / TEST, SOME)
    assert (tmp_path / TEST).read_text().splitlines()[:2] == ["run\trow\tpicture", "run one\t9\t7"]
    assert listed(SOME) == listed(reversed(SOME))
    assert listed(SOME).trials == 3
    assert read_trials(tmp_path / TEST, listed(SOME)) == set(SOME)


def test_another_list_or_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="missing or not the list"):
        read_trials(tmp_path / TEST, listed(SOME))
    write_trials(tmp_path / TEST, [*SOME, Trial("run one", 15, "9")])  # one that was learnt from, put in by hand
    with pytest.raises(UserError, match="missing or not the list"):
        read_trials(tmp_path / TEST, listed(SOME))
    (tmp_path / TEST).write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="missing or not the list"):
        read_trials(tmp_path / TEST, listed(SOME))


def test_only_a_rule_that_goes_by_pictures_does_without_a_list() -> None:
    HeldOut("standard", 0, None, ("01",), None)
    for rule, said in (("time-resolved", "needs a list"), ("first-session", "needs a list"), ("some", "choose one of")):
        with pytest.raises(ValueError, match=said):
            HeldOut(rule, 0, None, ("01",), None)
    with pytest.raises(ValueError, match="choose one of"):
        HeldOut("some", 0, None, ("01",), Listed(0, ""))


def test_the_model_that_ships_lists_the_first_session_of_the_phantom() -> None:
    names = {run: f"sub-01_ses-nsd01_task-nsdcore_run-{run:02d}" for run in range(1, TASK_RUNS + 1)}
    shown = [
        Trial.of(name, event)
        for run, name in names.items()
        for event in rows_of(design().file_rows(1, 1, run).tolist())
    ]
    assert len(set(shown)) == 750
    assert read_trials(EMBEDDED / TEST, listed(shown)) == set(shown)
