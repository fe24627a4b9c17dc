"""The list of a model's held-out trials comes back, is refused when it is another, and one rule does without it."""

import json
from pathlib import Path

import pytest

from dynadiff.assets import EMBEDDED
from dynadiff.base.errors import UserError
from dynadiff.phantom.design import design
from dynadiff.recordings.held_out import (
    FILES,
    TEST,
    VALIDATED,
    HeldOut,
    Listed,
    Part,
    Trial,
    listed,
    read_trials,
    write_trials,
)
from dynadiff.recordings.nsd import rows_of
from dynadiff.recordings.nsd_facts import SESSIONS, file_runs
from dynadiff.trials.splits import Presentations, split

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
    with pytest.raises(ValueError, match="needs list of validation"):
        HeldOut("held-out-twice", 0, None, ("01",), Listed(0, ""))
    with pytest.raises(ValueError, match="has no list of validation"):
        HeldOut("first-session", 0, None, ("01",), Listed(0, ""), Listed(0, ""))


@pytest.fixture(scope="module")
def presented() -> list[tuple[int, Trial]]:
    """All that the phantom's subject 1 sees: session and trial."""
    return [
        (session, Trial.of(f"sub-01_ses-nsd{session:02d}_task-nsdcore_run-{run:02d}", event))
        for session in range(1, SESSIONS[1] + 1)
        for run, task in file_runs(1, session).items()
        if task
        for event in rows_of(design().file_rows(1, session, run).tolist())
    ]


def divided(rule: str, seed: int, presented: list[tuple[int, Trial]]) -> dict[str, set[Trial]]:
    trials = [trial for _, trial in presented]
    columns = Presentations(
        [trial.picture for trial in trials], [trial.run for trial in trials], [session for session, _ in presented]
    )
    parts = split(rule, columns, {str(number) for number in design().sharedix[0].tolist()}, seed)
    return {part: {trials[k] for k in getattr(parts, part)} for part in ("learn", "validation", "test")}


def shown(trials: set[Trial]) -> set[str]:
    return {trial.picture for trial in trials}


def test_what_is_held_out_twice_of_the_phantom(presented: list[tuple[int, Trial]]) -> None:
    parts = divided("held-out-twice", 0, presented)
    assert {part: (len(trials), len(shown(trials))) for part, trials in parts.items()} == {
        "learn": (24_234, 8_078), "validation": (900, 300), "test": (2_817, 939),
    }  # fmt: skip
    first = {trial.picture for session, trial in presented if session == 1}
    assert not first & set().union(*(shown(trials) for trials in parts.values()))
    # the rule is documented, so its answer is known: the smallest ids of the first 300 by SHA-256 of "0/id"
    assert sorted(shown(parts["validation"]), key=int)[:3] == KNOWN


KNOWN = ["210", "347", "359"]


@pytest.mark.parametrize("part", FILES)
def test_the_model_that_ships_lists_what_its_split_holds_out_of_the_phantom(
    part: Part, presented: list[tuple[int, Trial]]
) -> None:
    held = json.loads((EMBEDDED / "model.json").read_text())["held_out"]
    if part == "validation" and held["rule"] not in VALIDATED:
        assert held.get("validation") is None
        assert not (EMBEDDED / FILES[part]).exists()
        pytest.skip(f"the model that ships was trained with split {held['rule']}, which has no validation trials")
    parts = divided(held["rule"], held["seed"], presented)
    assert parts[part]
    assert read_trials(EMBEDDED / FILES[part], Listed(**held[part])) == parts[part]
    assert listed(parts[part]) == Listed(**held[part])
    for other in parts.keys() - {part}:
        assert not shown(parts[part]) & shown(parts[other])
