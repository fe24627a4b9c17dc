"""No repetition leaks between the sides of a split, and draws depend on seed and names alone."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynadiff.base.errors import UserError
from dynadiff.trials.splits import Presentations, one_repetition, repetitions, split, time_resolved_runs

DISJOINT = ("standard", "first-session", "time-resolved-disjoint")


@st.composite
def presentations(draw: st.DrawFn) -> Presentations:
    n = draw(st.integers(20, 80))
    pictures = draw(st.lists(st.integers(0, 25), min_size=n, max_size=n))
    runs = sorted(draw(st.lists(st.integers(0, 5), min_size=n, max_size=n)))
    return Presentations([f"p{k}" for k in pictures], [f"run {k}" for k in runs], [1 + k // 2 for k in runs])


SHARED = {"p0", "p1", "p2", "p3"}


@given(trials=presentations(), rule=st.sampled_from([*DISJOINT, "time-resolved"]), seed=st.integers(0, 9))
def test_no_trial_and_no_repetition_is_on_both_sides(trials: Presentations, rule: str, seed: int) -> None:
    try:
        parts = split(rule, trials, SHARED, seed)
    except UserError:
        return
    learn, test = ({trials.pictures[k] for k in side} for side in (parts.learn, parts.test))
    assert not set(parts.learn) & set(parts.test)
    if rule in DISJOINT:
        assert not learn & test
    if rule == "standard":
        assert test <= SHARED
        assert len(parts.learn) + len(parts.test) == len(trials.pictures)
    if rule == "first-session":
        assert not learn & SHARED
        assert {trials.sessions[k] for k in parts.test} == {1}
    if rule.startswith("time-resolved"):
        runs = {trials.runs[k] for k in parts.test}
        assert runs == set(time_resolved_runs(sorted(set(trials.runs)), seed))
        assert not runs & {trials.runs[k] for k in parts.learn}
    if rule == "time-resolved":
        assert len(parts.learn) + len(parts.test) == len(trials.pictures)


def test_the_time_resolved_rule_draws_45_of_480_by_the_seed() -> None:
    names = [f"sub-01_ses-nsd{s:02d}_task-nsdcore_run-{r:02d}" for s in range(1, 41) for r in range(1, 13)]
    runs = time_resolved_runs(names, 0)
    assert len(set(runs)) == 45
    assert set(runs) <= set(names)
    assert runs == time_resolved_runs(names[::-1], 0)
    assert len(set(runs) & set(time_resolved_runs(names, 1))) < 15
    # the rule is documented, so its answer is known: the first by SHA-256 of "0/name"
    assert runs[:3] == KNOWN
    fewer = time_resolved_runs([n for n in names if n != runs[0]], 0)
    assert set(runs[1:]) <= set(fewer)


KNOWN = [
    "sub-01_ses-nsd01_task-nsdcore_run-01",
    "sub-01_ses-nsd02_task-nsdcore_run-03",
    "sub-01_ses-nsd02_task-nsdcore_run-11",
]


@given(trials=presentations(), seed=st.integers(0, 5))
def test_one_repetition_of_each_picture_whatever_the_others_are(trials: Presentations, seed: int) -> None:
    every = np.arange(len(trials.pictures))
    chosen = one_repetition(trials.pictures, every, seed)
    assert [trials.pictures[k] for k in chosen] == list(dict.fromkeys(trials.pictures))
    some = np.flatnonzero(np.isin(trials.pictures, trials.pictures[:5]))
    few = one_repetition(trials.pictures, some, seed)
    assert set(few) <= set(chosen)


def test_every_repetition_is_drawn_about_as_often() -> None:
    pictures = [f"p{k}" for k in range(1000)] * 3
    drawn = Counter((one_repetition(pictures, np.arange(3000), 0) // 1000).tolist())
    assert all(280 < drawn[k] < 390 for k in range(3))


def test_repetitions_are_the_trials_of_a_picture() -> None:
    groups = repetitions(["a", "b", "a", "c", "b"], np.array([0, 1, 2, 4]))
    assert [g.tolist() for g in groups] == [[0, 2], [1, 4]]


def test_a_split_that_leaves_nothing_is_refused() -> None:
    one = Presentations(["p0", "p9"], ["run", "run"], [1, 1])
    with pytest.raises(UserError, match="no trial to learn from"):
        split("first-session", one, {"p0"})
    with pytest.raises(UserError, match="no trial to test on"):
        split("standard", one, set())
