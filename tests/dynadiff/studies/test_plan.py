"""A study is consistent, and nobody in it learns from a picture that all are judged on."""

from dataclasses import replace

import numpy as np
import pytest

from dynadiff.base.errors import UserError
from dynadiff.phantom.design import design, design_rows
from dynadiff.recordings.nsd_facts import TASK_RUNS
from dynadiff.studies.ablations import FEW, STUDIES, study_named
from dynadiff.studies.plan import Comparison, Condition, Study
from dynadiff.trials.splits import Presentations, split


def presentations(subject: int, sessions: tuple[int, ...]) -> Presentations:
    """What a subject sees in these sessions, by the design alone."""
    pictures, of_session = [], []
    for session in sessions:
        for run in range(1, TASK_RUNS + 1):
            rows = design_rows(subject, session, run)
            pictures += [str(number) for number in rows[rows > 0]]
            of_session += [session] * int((rows > 0).sum())
    return Presentations(pictures, [""] * len(pictures), of_session)


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("name", STUDIES)
def test_no_picture_of_a_test_trial_is_learnt_by_any_condition_or_by_what_it_starts_from(
    name: str, quick: bool
) -> None:
    study = study_named(name, quick)
    shared = {str(number) for number in design().sharedix[0]}
    tested = set(presentations(study.subject, (1,)).pictures)
    for condition in study.conditions:
        for subject in condition.subjects:
            seen = presentations(subject, study.sessions_of(condition))
            parts = split(study.choices_of(condition).split, seen, shared, study.choices.seed)
            learnt = set(np.array(seen.pictures)[parts.learn])
            assert learnt
            assert not learnt & tested


def test_the_choices_of_the_conditions_are_what_their_names_say() -> None:
    choices = {
        f"{study.name}/{condition.name}": study.choices_of(condition)
        for study in STUDIES.values()
        for condition in study.conditions
    }
    assert choices["brain/full"] == choices["trainable/lora"]
    assert choices["brain/shared"] == replace(choices["brain/full"], timestep_layers="shared")
    assert choices["brain/in"] == replace(choices["brain/full"], aggregation="in")
    for trainable in ("lora", "cross-attention", "linear", "all", "none"):
        assert choices[f"trainable/{trainable}"] == replace(choices["brain/full"], trainable=trainable)
    assert len({c for name, c in choices.items() if name.startswith("subjects/")}) == 1
    assert {c.online for c in choices.values()} == {0.0}


def test_few_sessions_are_the_first_after_the_held_out_one() -> None:
    study = STUDIES["subjects"]
    named = {condition.name: condition for condition in study.conditions}
    for n in FEW:
        for kind in ("scratch", "tuned"):
            assert study.sessions_of(named[f"{kind}-{n}"]) == (1, *range(2, n + 2))
        assert named[f"tuned-{n}"].pretrained == "others"
    assert study.subject not in named["others"].subjects
    assert study.needs() == dict.fromkeys((1, 2, 3, 4), tuple(range(1, 10)))


def test_quick_shortens_everything_but_what_conditions_differ_in() -> None:
    for name, study in STUDIES.items():
        quick = study_named(name, True)
        assert quick.name == f"{name}-quick"
        assert set(quick.needs().values()) == {(1, 2)}
        assert (quick.choices.steps < 10, quick.trials) == (True, 64)
        if name != "subjects":
            assert [(c.name, c.changes) for c in quick.conditions] == [(c.name, c.changes) for c in study.conditions]
            assert quick.comparisons == study.comparisons


def test_conditions_that_are_the_same_when_shortened_are_trained_once() -> None:
    quick = study_named("subjects", True)
    assert [c.name for c in quick.conditions] == ["scratch-1", "multi", "others", "tuned-1"]
    pairs = [(c.above, c.below, c.metric) for c in quick.comparisons]
    assert pairs == [
        ("tuned-1", "scratch-1", "two_way"),
        ("scratch-1", "multi", "two_way"),
        ("scratch-1", "multi", "two_way_pixels"),
    ]


def test_what_a_model_follows_from_includes_what_it_starts_from() -> None:
    study = STUDIES["subjects"]
    tuned = study.conditions[-1]
    changed = replace(study.conditions[5], changes=("lr=1",))
    other = replace(study, conditions=(*study.conditions[:5], changed, *study.conditions[6:]))
    assert changed.name == "others"
    assert study.resolved(tuned) != other.resolved(tuned)
    assert study.resolved(study.conditions[0]) == other.resolved(study.conditions[0])


BASE = STUDIES["brain"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"conditions": (Condition("full", ""),) * 2}, "names of their own"),
        ({"conditions": (Condition("full", "", pretrained="later"), Condition("later", ""))}, "not trained before it"),
        ({"conditions": (Condition("full", "", sessions=(2, 3)),)}, "lacks session 1"),
        ({"conditions": (Condition("full", "", ("online=0.5",)),)}, "such as the others"),
        ({"conditions": (Condition("full", "", ("length=3",)),)}, "such as the others"),
        ({"conditions": (Condition("full", "", ("split=standard",)),)}, "such as the others"),
        ({"conditions": (Condition("full", ""),)}, "cannot be compared"),
        ({"comparisons": (Comparison("full", "in", "beauty", ""),)}, "cannot be compared"),
        ({"subject": 2}, "cannot be compared"),
    ],
)
def test_a_study_that_makes_no_sense_is_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(BASE, **changes)


def test_an_unknown_choice_is_one_sentence() -> None:
    with pytest.raises(UserError, match="names no choice"):
        Study("x", "", BASE.choices, (Condition("full", "", ("colour=red",)),), (), (1, 2))
