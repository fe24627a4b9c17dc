"""A study trains and judges what is missing, once, all on the same trials, and goes on with nothing else."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
from dynadiff.assets import EMBEDDED  # noqa: E402
from dynadiff.base.errors import UserError  # noqa: E402
from dynadiff.base.files import file_digest  # noqa: E402
from dynadiff.signal.windows import WindowSpec  # noqa: E402
from dynadiff.studies.ablations import QUICK, STUDIES, study_named  # noqa: E402
from dynadiff.studies.judged import Judged  # noqa: E402
from dynadiff.studies.plan import METRICS, Condition, Study  # noqa: E402
from dynadiff.studies.report import print_study  # noqa: E402
from dynadiff.studies.running import (  # noqa: E402
    held_out_trials,
    judge,
    pictures_of,
    prepare_stores,
    run_study,
    trials_of,
)
from dynadiff.training.request import Recipe  # noqa: E402
from dynadiff.trials.divide import divide_all  # noqa: E402
from dynadiff.trials.store import StoredTrials, open_store, store_home  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def one_run_a_session():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dynadiff.trials.prepare.TASK_RUNS", 1)
        yield


@pytest.fixture(scope="module")
def tree(phantom_of) -> Path:
    return phantom_of([1, 2, 3, 4], [1, 2], [1])


class Workshop:
    """Trains and judges nothing: notes what it was asked for, and leaves a model.json that says so."""

    def __init__(self, stop_at: str | None = None) -> None:
        self.recipes: list[Recipe] = []
        self.judged: list[tuple[Path, tuple[str, ...]]] = []
        self._stop_at = stop_at

    def train(self, recipe: Recipe) -> None:
        if recipe.out.name == self._stop_at:
            raise KeyboardInterrupt
        self.recipes.append(recipe)
        several = len(recipe.subjects) > 1
        for subject in recipe.subjects:
            home = recipe.out / f"subject-{subject:02d}" if several else recipe.out
            home.mkdir(parents=True, exist_ok=True)
            (home / "model.json").write_text(str(recipe))

    def judge(self, folder: Path, trials: StoredTrials) -> Judged:
        self.judged.append((folder, trials_of(trials)))
        scores = dict.fromkeys(METRICS, np.full(len(trials), len(self.judged) / 100))
        return Judged(file_digest(folder / "model.json"), trials_of(trials), pictures_of(trials), scores)

    def run(self, study: Study, tree: Path, home: Path) -> dict[str, Judged]:
        return run_study(study, tree, home, lambda _: None, self.train, self.judge)


SUBJECTS = replace(study_named("subjects", True), comparisons=())
SMALL = replace(study_named("brain", True), comparisons=())


@pytest.fixture(scope="module")
def stores(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All that any study reads of the tree, which is what a study prepares first and what stays where it is there."""
    home = tmp_path_factory.mktemp("stores")
    prepare_stores(SUBJECTS, tree, home)
    return home


@pytest.fixture
def home(stores: Path, tmp_path: Path) -> Path:
    """The folder of a study that was stopped when its stores were prepared."""
    shutil.copytree(stores, tmp_path / "store")
    return tmp_path


def test_what_is_done_is_neither_trained_nor_judged_again(tree: Path, home: Path) -> None:
    first = Workshop(stop_at="multi")
    with pytest.raises(KeyboardInterrupt):
        first.run(SUBJECTS, tree, home)
    assert len(first.recipes) == len(first.judged) == 1
    second = Workshop()
    found = second.run(SUBJECTS, tree, home)
    assert [r.out.name for r in second.recipes] == ["multi", "others", "tuned-1"]
    assert len(second.judged) == 2
    third = Workshop()
    again = third.run(SUBJECTS, tree, home)
    assert (third.recipes, third.judged) == ([], [])
    for name, judged in found.items():
        np.testing.assert_array_equal(again[name].scores["top1"], judged.scores["top1"])


def test_all_are_judged_on_the_same_trials_of_one_subject_from_which_nobody_learns(tree: Path, home: Path) -> None:
    workshop = Workshop()
    found = workshop.run(SUBJECTS, tree, home)
    assert set(found) == {c.name for c in SUBJECTS.conditions} - {"others"}
    assert {folder.relative_to(home).as_posix() for folder, _ in workshop.judged} == {
        name if name != "multi" else "multi/subject-01" for name in found
    }
    ((trials),) = {trials for _, trials in workshop.judged}
    assert all("sub-01_ses-nsd01" in trial for trial in trials)
    tested = {trial.split("/")[1] for trial in trials}
    assert len(tested) == len(trials) >= 50
    for recipe in workshop.recipes:
        assert recipe.store is not None
        stores = {f"{s:02d}": open_store(store_home(recipe.store, s)) for s in recipe.subjects}
        for part in divide_all(stores, recipe.choices.division, recipe.sessions).values():
            assert len(part.learn)
            assert not {part.learn.names[k] for k in part.learn.seen} & tested


def test_what_starts_from_another_is_given_its_model(tree: Path, home: Path) -> None:
    workshop = Workshop()
    workshop.run(SUBJECTS, tree, home)
    starts = {recipe.out.name: recipe.pretrained for recipe in workshop.recipes}
    assert starts["tuned-1"] == home / "others" / "subject-02"
    assert (starts["tuned-1"] / "model.json").exists()
    assert starts["scratch-1"] is None
    assert starts["multi"] is None


def test_other_choices_are_an_error_before_anything_is_trained(tree: Path, home: Path) -> None:
    Workshop().run(SMALL, tree, home)
    changed = replace(SMALL.conditions[2], changes=("aggregation=in_mean",))
    workshop = Workshop()
    more = replace(SMALL, conditions=(Condition("new", ""), *SMALL.conditions[:2], changed))
    with pytest.raises(UserError, match=r"in was begun with other choices \(aggregation\)"):
        workshop.run(more, tree, home)
    with pytest.raises(UserError, match=r"other choices \(lr\)"):
        workshop.run(replace(SMALL, choices=replace(QUICK, lr=0.5)), tree, home)
    with pytest.raises(UserError, match=r"other choices \(sessions\)"):
        workshop.run(replace(SMALL, sessions=(1, 2, 3)), tree, home)
    assert workshop.recipes == []
    (home / "full" / "condition.json").unlink()
    with pytest.raises(UserError, match="what this study did not put there"):
        workshop.run(SMALL, tree, home)


def test_another_model_or_other_trials_are_judged_anew(tree: Path, home: Path) -> None:
    Workshop().run(SMALL, tree, home)
    (home / "shared" / "model.json").write_text("trained again")
    workshop = Workshop()
    workshop.run(SMALL, tree, home)
    assert [folder.name for folder, _ in workshop.judged] == ["shared"]
    fewer = Workshop()
    found = fewer.run(replace(SMALL, trials=52), tree, home)
    assert [folder.name for folder, _ in fewer.judged] == ["full", "shared", "in"]
    assert {len(judged.trials) for judged in found.values()} == {52}


@pytest.mark.parametrize("name", STUDIES)
def test_it_runs_from_the_tree_to_the_table(
    name: str, tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = study_named(name, True)
    few = replace(QUICK, batch=2, warm_start=1, steps=1, sampling_steps=1, width=8)
    said: list[str] = []
    study = replace(study, choices=few, trials=50)
    found = run_study(study, tree, tmp_path, said.append)
    assert len(said) == len(study.conditions) + len(found)
    assert len({judged.model for judged in found.values()}) == len(found)
    assert len({judged.scores["two_way"].tobytes() for judged in found.values()}) == len(found)
    assert sum(1 for _ in (tmp_path / "latents").iterdir()) == len(study.needs())  # of each subject's pictures, once
    for judged in found.values():
        assert all(((scores >= 0) & (scores <= 1)).all() for scores in judged.scores.values())
    capsys.readouterr()
    print_study(study, found)
    table = capsys.readouterr().out
    assert all(condition.name in table for condition in study.conditions if condition.name in found)
    assert table.count("holds") + table.count("reversed") + table.count("undecided") == len(study.comparisons)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dynadiff.training.recipe.train", None)
        patch.setattr("dynadiff.studies.running.load_model", None)
        again = run_study(study, tree, tmp_path, said.append)
    assert {n: j.model for n, j in again.items()} == {n: j.model for n, j in found.items()}


def test_a_model_is_judged_by_what_it_paints_of_the_windows_as_a_live_decoder_has_them(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare_stores(SMALL, tree, tmp_path / "store")
    trials = held_out_trials(SMALL, tmp_path / "store")
    shown, given = trials.pictures[trials.seen], []

    def paints(pictures: np.ndarray) -> Judged:
        monkeypatch.setattr(
            "dynadiff.studies.running.decoded", lambda model, windows: given.append(windows) or pictures
        )
        return judge(EMBEDDED, trials)

    right, wrong = paints(shown), paints(np.roll(shown, 1, axis=0))
    assert all(right.scores[metric].min() == 1 for metric in METRICS)
    assert all(wrong.scores[metric].mean() < 0.6 for metric in METRICS)
    online = StoredTrials(open_store(store_home(tmp_path / "store", 1)), WindowSpec(), False, True)
    first = [k for k in range(len(online)) if online.names[online.seen[k]] == right.pictures[0]]
    own = online.windows(np.array(first), np.ones(len(first), np.bool_))
    assert any(np.array_equal(given[0][0], window) for window in own)
    monkeypatch.setattr("dynadiff.studies.running.likeness", lambda *_: (np.eye(len(trials)), -np.eye(len(trials))))
    told = paints(shown)
    assert [told.scores[metric].mean() for metric in ("two_way", "top1", "two_way_pixels")] == [1, 1, 0]
