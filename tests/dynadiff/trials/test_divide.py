"""What a tree holds for judging a model: the trials that were held out of its training and no others, and the rest."""

from pathlib import Path

import pytest

from dynadiff.assets import EMBEDDED
from dynadiff.base.errors import UserError
from dynadiff.recordings.held_out import HeldOut, Listed, Trial
from dynadiff.recordings.nsd import NSD
from dynadiff.trials.divide import judged_on
from dynadiff.trials.source import nsd_runs

SOMETHING = Listed(1, "")


@pytest.fixture(scope="module")
def nsd(phantom_of) -> NSD:
    return NSD(phantom_of([1], [1, 2], [1, 2, 3]))


def shown(nsd: NSD, *sessions: int) -> set[Trial]:
    return {Trial.of(run.name, event) for run in nsd_runs(nsd, 1, sessions) for event in run.events}


def test_the_model_that_ships_is_judged_on_the_first_session_and_baselines_learn_what_it_learnt(nsd: NSD) -> None:
    pytest.importorskip("torch")
    from dynadiff.networks.model_folder import load_held_out

    held, listed = load_held_out(EMBEDDED)
    learn, test = judged_on(nsd, 1, held, listed)
    assert test == shown(nsd, 1)
    secret = {trial.picture for trial in listed} | {str(number) for number in nsd.shared_ids()}
    assert learn == {trial for trial in shown(nsd, 2) if trial.picture not in secret}
    assert 0 < len(learn) < len(shown(nsd, 2))


@pytest.mark.parametrize("rule", ["time-resolved", "time-resolved-disjoint"])
def test_what_is_not_on_the_list_is_not_judged_and_a_picture_recurs_only_where_the_rule_lets_it(
    rule: str, nsd: NSD
) -> None:
    there = shown(nsd, 1, 2)
    (first, *_) = sorted(trial.run for trial in there)
    listed = {trial for trial in there if trial.run == first}
    learn, test = judged_on(nsd, 1, HeldOut(rule, 0, None, ("01",), SOMETHING), listed)
    assert test == listed
    again = {trial for trial in there - listed if trial.picture in {trial.picture for trial in listed}}
    assert again
    assert learn == (there - listed if rule == "time-resolved" else there - listed - again)
    few, _ = judged_on(nsd, 1, HeldOut(rule, 0, (2,), ("01",), SOMETHING), listed)
    assert few == learn & shown(nsd, 2)


def test_shared_pictures_need_no_list(nsd: NSD) -> None:
    learn, test = judged_on(nsd, 1, HeldOut("standard", 0, None, ("01",), None), None)
    assert test | learn == shown(nsd, 1, 2)
    assert {nsd.is_test(int(trial.picture)) for trial in test} == {True}
    assert {nsd.is_test(int(trial.picture)) for trial in learn} == {False}


def test_a_tree_without_held_out_trials_or_without_others_is_refused(nsd: NSD, tmp_path: Path, phantom_of) -> None:
    held = HeldOut("first-session", 0, None, ("01",), SOMETHING)
    with pytest.raises(UserError, match="no trial that was held out of the model"):
        judged_on(nsd, 1, held, {Trial("sub-01_ses-nsd09_task-nsdcore_run-01", 9, "1")})
    with pytest.raises(UserError, match="no trial for baselines to learn from"):
        judged_on(NSD(phantom_of([1], [1], [1])), 1, held, shown(nsd, 1))
