"""What a tree holds for judging a model: the trials that were held out of its training and no others, and the rest."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest

from dynadiff.assets import EMBEDDED
from dynadiff.base.errors import UserError
from dynadiff.recordings.held_out import HeldOut, Listed, Part, Trial
from dynadiff.recordings.nsd import NSD
from dynadiff.trials.divide import judged_on
from dynadiff.trials.source import nsd_runs
from dynadiff.trials.splits import Presentations, split

SOMETHING = Listed(1, "")


@pytest.fixture(scope="module")
def nsd(phantom_of) -> NSD:
    return NSD(phantom_of([1], [1, 2], [1, 2, 3]))


def shown(nsd: NSD, *sessions: int) -> set[Trial]:
    return {Trial.of(run.name, event) for run in nsd_runs(nsd, 1, sessions) for event in run.events}


def pictures(trials: Iterable[Trial]) -> set[str]:
    return {trial.picture for trial in trials}


def shared_of(nsd: NSD) -> set[str]:
    return {str(number) for number in nsd.shared_ids()}


def test_the_model_that_ships_is_judged_on_its_lists_and_baselines_learn_what_it_learnt(nsd: NSD) -> None:
    """Whichever of the two rules it was trained with: neither learns from the first session or a shared picture."""
    pytest.importorskip("torch")
    from dynadiff.networks.model_folder import load_held_out

    held, lists = load_held_out(EMBEDDED)
    secret = pictures(set().union(*lists.values()) | shown(nsd, 1)) | shared_of(nsd)
    for part, listed in lists.items():
        learn, judged = judged_on(nsd, 1, held, lists, part)
        assert judged == shown(nsd, 1, 2) & listed != set()
        assert learn == {trial for trial in shown(nsd, 2) if trial.picture not in secret}
        assert 0 < len(learn) < len(shown(nsd, 2))


def twice(nsd: NSD) -> tuple[HeldOut, dict[Part, frozenset[Trial]]]:
    """What a model that learnt from this tree would list."""
    trials = sorted(shown(nsd, 1, 2))
    columns = Presentations(
        [trial.picture for trial in trials], [trial.run for trial in trials], [1 + ("nsd02" in t.run) for t in trials]
    )
    parts = split("held-out-twice", columns, shared_of(nsd))
    lists: dict[Part, frozenset[Trial]] = {
        "validation": frozenset(trials[k] for k in parts.validation), "test": frozenset(trials[k] for k in parts.test),
    }  # fmt: skip
    return HeldOut("held-out-twice", 0, None, ("01",), SOMETHING, SOMETHING), lists


def test_validation_test_and_what_is_learnt_from_share_no_picture(nsd: NSD) -> None:
    held, lists = twice(nsd)
    learn, test = judged_on(nsd, 1, held, lists)
    again, validation = judged_on(nsd, 1, held, lists, "validation")
    assert (test, validation, again) == (lists["test"], lists["validation"], learn)
    for a, b in combinations((learn, test, validation, shown(nsd, 1)), 2):
        assert a
        assert not pictures(a) & pictures(b)


def test_what_is_on_no_list_or_may_have_been_learnt_is_not_judged(nsd: NSD, tmp_path: Path) -> None:
    held, lists = twice(nsd)
    learn, _ = judged_on(nsd, 1, held, lists)
    learnt, other = next(iter(learn)), Trial("sub-01_ses-nsd09_task-nsdcore_run-01", 9, "1")
    with pytest.raises(UserError, match=f"picture {learnt.picture} is on a list of the model where its split"):
        judged_on(nsd, 1, held, {**lists, "test": lists["test"] | {learnt}})
    with pytest.raises(UserError, match="on a list of the model where its split does not put it"):
        judged_on(nsd, 1, held, {**lists, "validation": lists["validation"] | lists["test"]}, "validation")
    elsewhere = replace(other, picture=next(iter(lists["test"])).picture)
    assert judged_on(nsd, 1, held, {**lists, "test": frozenset({*lists["test"], elsewhere})})[1] == lists["test"]
    without = HeldOut("standard", 0, None, ("01",), None)
    with pytest.raises(UserError, match=r"split standard holds out no trials for validation.*--split held-out-twice"):
        judged_on(nsd, 1, without, {}, "validation")


def test_what_the_first_session_shows_must_be_known(nsd: NSD, phantom_of) -> None:
    with pytest.raises(UserError, match="keeps out what session 1 shows, which is not there: add that session"):
        judged_on(NSD(phantom_of([1], [2], [1])), 1, *twice(nsd))


@pytest.mark.parametrize("rule", ["time-resolved", "time-resolved-disjoint"])
def test_what_is_not_on_the_list_is_not_judged_and_a_picture_recurs_only_where_the_rule_lets_it(
    rule: str, nsd: NSD
) -> None:
    there = shown(nsd, 1, 2)
    (first, *_) = sorted(trial.run for trial in there)
    listed = {trial for trial in there if trial.run == first}
    learn, test = judged_on(nsd, 1, HeldOut(rule, 0, None, ("01",), SOMETHING), {"test": frozenset(listed)})
    assert test == listed
    again = {trial for trial in there - listed if trial.picture in {trial.picture for trial in listed}}
    assert again
    assert learn == (there - listed if rule == "time-resolved" else there - listed - again)
    few, _ = judged_on(nsd, 1, HeldOut(rule, 0, (2,), ("01",), SOMETHING), {"test": frozenset(listed)})
    assert few == learn & shown(nsd, 2)


def test_shared_pictures_need_no_list(nsd: NSD) -> None:
    learn, test = judged_on(nsd, 1, HeldOut("standard", 0, None, ("01",), None), {})
    assert test | learn == shown(nsd, 1, 2)
    assert {nsd.is_test(int(trial.picture)) for trial in test} == {True}
    assert {nsd.is_test(int(trial.picture)) for trial in learn} == {False}


def test_a_tree_without_held_out_trials_or_without_others_is_refused(nsd: NSD, tmp_path: Path, phantom_of) -> None:
    held = HeldOut("first-session", 0, None, ("01",), SOMETHING)
    with pytest.raises(UserError, match="no trial that was held out of the model"):
        judged_on(nsd, 1, held, {"test": frozenset({Trial("sub-01_ses-nsd09_task-nsdcore_run-01", 9, "1")})})
    with pytest.raises(UserError, match="no trial for baselines to learn from"):
        judged_on(NSD(phantom_of([1], [1], [1])), 1, held, {"test": frozenset(shown(nsd, 1))})
