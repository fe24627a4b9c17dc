"""`dynadiff evaluate` scores what was held out of a model's training, whatever the split, and says what that is."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from dynadiff.evaluation.scored import load_evaluation  # noqa: E402
from dynadiff.networks.model_folder import load_config, load_held_out  # noqa: E402
from dynadiff.recordings.nsd import NSD  # noqa: E402
from dynadiff.signal.windows import WindowSpec  # noqa: E402
from dynadiff.training.presets import PHANTOM  # noqa: E402
from dynadiff.training.recipe import Recipe, train_recipe  # noqa: E402
from dynadiff.trials.prepare import prepare_subject  # noqa: E402
from dynadiff.trials.store import store_home  # noqa: E402

SHORT = replace(
    PHANTOM, width=8, batch=4, warm_start=0, anchor=0.0, steps=1, online=1.0, precision="no", sampling_steps=1,
    seed=1,
)  # fmt: skip
KEYS = [(1, 1), (1, 2), (2, 1), (2, 2)]


@pytest.fixture(scope="module")
def tree(phantom_of) -> Path:
    return phantom_of([2], [1, 2], [1, 2])


@pytest.fixture(scope="module")
def models(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Gives a model of subject 2 by its split."""
    home = tmp_path_factory.mktemp("evaluated")
    prepare_subject(NSD(tree), 2, KEYS, store_home(home / "store", 2), WindowSpec(), ("online",), 64, jobs=1)

    def of(rule: str) -> Path:
        if not (home / rule).exists():
            choices = replace(SHORT, split=rule)
            train_recipe(Recipe("phantom", choices, None, (2,), home / rule, "embedded", home / "store"))
        return home / rule

    return of


@pytest.fixture(autouse=True)
def no_outside_eye(monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks at 224 pixels, which takes long: what it sees is tested by itself."""

    monkeypatch.setattr("dynadiff.evaluation.run.has_lite0", lambda: False)
    monkeypatch.setattr("dynadiff.evaluation.columns.DRAWS", 5)
    monkeypatch.setattr("dynadiff.evaluation.columns.score_pictures", lambda *_: [])


def test_the_trials_that_the_model_lists_are_scored_and_named(
    models: Callable[[str], Path], tree: Path, dynadiff
) -> None:
    listed = load_held_out(models("time-resolved"))[1]["test"]
    learnt = sum(len(NSD(tree).run(2, *key).events) for key in KEYS) - len(listed)
    code, said, wrong = dynadiff("evaluate", "--model", models("time-resolved"), "--root", tree, "--trials", "all")
    assert code == 0, wrong
    said = " ".join(said.split())
    rule = "split time-resolved, seed 1; its pictures may recur in what was learnt"
    assert f"{len(listed)} test trials held out ({rule})" in said
    assert f"baselines learnt from {learnt} trials" in said
    assert "Dynadiff, online" in said


def test_what_is_chosen_by_and_what_is_reported_are_scored_apart(
    models: Callable[[str], Path], tree: Path, tmp_path: Path, dynadiff
) -> None:
    _, lists = load_held_out(models("held-out-twice"))
    found = {}
    for part, options in (("test", ()), ("validation", ("--on", "validation"))):
        asked = ("--model", models("held-out-twice"), "--root", tree, "--out", tmp_path / part, "--trials", "all")
        code, said, wrong = dynadiff("evaluate", *asked, *options)
        assert code == 0, wrong
        assert f"{len(lists[part])} {part} trials held out (split held-out-twice, seed 1)" in " ".join(said.split())
        assert f"{len(lists[part])} {part} trials, " in (tmp_path / part / "report.html").read_text()
        found[part] = load_evaluation(tmp_path / part)
        assert found[part].on == part
        (subject,) = found[part].subjects
        assert sorted(subject.trials) == sorted(trial.picture for trial in lists[part])
    learnt = {found[part].subjects[0].learnt for part in found}
    assert len(learnt) == 1  # baselines learn the same, whatever is judged
    assert f"{learnt.pop()} trials of subject 02" in load_config(models("held-out-twice")).trained_on
    code, _, wrong = dynadiff("evaluate", "--model", models("first-session"), "--root", tree, "--on", "validation")
    assert (code, "split first-session holds out no trials for validation" in wrong, wrong.count("\n")) == (2, True, 1)


def test_how_many_of_them_a_tree_has_is_said(
    models: Callable[[str], Path], tree: Path, tmp_path: Path, dynadiff
) -> None:
    shutil.copytree(tree, tmp_path / "tree", symlinks=True)
    (lost,) = (tmp_path / "tree").rglob("timeseries_session01_run02.nii.gz")
    lost.unlink()
    there = len(NSD(tree).run(2, 1, 1).events)
    code, said, wrong = dynadiff(
        "evaluate", "--model", models("first-session"), "--root", tmp_path / "tree", "--trials", "all"
    )
    assert code == 0, wrong
    every = len(load_held_out(models("first-session"))[1]["test"])
    assert there < every
    assert f"{there} test trials, of {every} held out (split first-session, seed 1)" in " ".join(said.split())


def test_without_a_list_that_can_be_trusted_nothing_is_scored(
    models: Callable[[str], Path], tree: Path, tmp_path: Path, dynadiff
) -> None:
    older = tmp_path / "older"
    shutil.copytree(models("time-resolved"), older, ignore=shutil.ignore_patterns("work"))
    table = (older / "test-trials.tsv").read_text()
    (older / "test-trials.tsv").write_text(table.replace("run-", "run-0"))
    code, _, wrong = dynadiff("evaluate", "--model", older, "--root", tree)
    assert (code, "not the list that was saved with the model" in wrong, wrong.count("\n")) == (2, True, 1)
    written = json.loads((older / "model.json").read_text())
    del written["held_out"], written["version"], written["spacing"]
    (older / "model.json").write_text(json.dumps(written))
    code, _, wrong = dynadiff("evaluate", "--model", older, "--root", tree)
    assert (code, "does not say what was held out of its training" in wrong, wrong.count("\n")) == (2, True, 1)
