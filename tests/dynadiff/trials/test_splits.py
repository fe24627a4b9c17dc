"""No repetition leaks between the sides of a split, and draws depend on seed and names alone."""

import hashlib
from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dynadiff.base.errors import UserError
from dynadiff.trials.splits import (
    Presentations,
    one_repetition,
    repetitions,
    split,
    time_resolved_runs,
    validation_pictures,
)

DISJOINT = ("standard", "first-session", "held-out-twice", "time-resolved-disjoint")


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


@st.composite
def designs(draw: st.DrawFn) -> tuple[Presentations, set[str]]:
    """Pictures that recur over sessions of runs, at random, of which some are shared; and which these are."""
    own, shared = draw(st.integers(30, 90)), draw(st.integers(4, 12))
    names = [f"own {k}" for k in range(own)] + [f"shared {k}" for k in range(shared)]
    shown = draw(st.permutations([name for name in names for _ in range(draw(st.integers(1, 3)))]))
    sessions = [1 + 3 * k // len(shown) for k in range(len(shown))]
    runs = [f"run {session} {k % 2}" for k, session in enumerate(sessions)]
    return Presentations(shown, runs, sessions), set(names[own:])


@given(design=designs(), seed=st.integers(0, 99))
def test_held_out_twice_parts_share_no_picture_over_all_repetitions(
    design: tuple[Presentations, set[str]], seed: int
) -> None:
    trials, shared = design
    first = {picture for picture, session in zip(trials.pictures, trials.sessions, strict=True) if session == 1}
    own = set(trials.pictures) - first - shared
    assume(len(own) >= 10)
    assume(shared - first)
    parts = split("held-out-twice", trials, shared, seed)
    learn, test, validation = (
        {trials.pictures[k] for k in side} for side in (parts.learn, parts.test, parts.validation)
    )
    assert test == shared - first
    assert validation == set(validation_pictures(own, seed))
    assert len(validation) == len(own) // 10
    assert learn == own - validation
    of = dict.fromkeys(learn, "learn") | dict.fromkeys(test, "test") | dict.fromkeys(validation, "validation")
    for part in ("learn", "test", "validation"):
        every = [k for k, picture in enumerate(trials.pictures) if of.get(picture) == part]
        assert getattr(parts, part).tolist() == every


def test_validation_pictures_are_300_by_digest_and_a_tenth_at_most() -> None:
    own = [str(number) for number in range(9000)]
    drawn = validation_pictures(own, 0)
    assert len(set(drawn)) == 300
    assert drawn == validation_pictures(own[::-1], 0)
    assert len(set(drawn) & set(validation_pictures(own, 1))) < 30
    assert max(_digest(name) for name in drawn) < min(_digest(name) for name in set(own) - set(drawn))
    assert set(validation_pictures(own[:3000], 0)) > set(drawn) & set(own[:3000])
    assert [len(validation_pictures(own[:n])) for n in (9, 10, 999, 2999, 3001)] == [0, 1, 99, 299, 300]


def _digest(name: str) -> str:
    return hashlib.sha256(f"0/{name}".encode()).hexdigest()


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
    few = Presentations([f"p{k}" for k in range(12)], ["run"] * 12, [1] + [2] * 11)
    assert [len(side) for side in vars(split("held-out-twice", few, {"p1"})).values()] == [9, 1, 1]
    for shared, said in (({"p1", "p2"}, "no trial to validate with"), (set(), "no trial to test")):
        with pytest.raises(UserError, match=f"split held-out-twice leaves {said}"):
            split("held-out-twice", few, shared)
    with pytest.raises(UserError, match="keeps out what session 1 shows, which is not there"):
        split("held-out-twice", Presentations(["p0", "p1"], ["run", "run"], [2, 2]), {"p0"})
