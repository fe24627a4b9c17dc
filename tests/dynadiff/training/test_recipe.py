"""From trees to model folders: several subjects, a new one, any variant; and no test picture is learnt from."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
from dynadiff.assets import EMBEDDED, JUDGE  # noqa: E402
from dynadiff.base.errors import UserError  # noqa: E402
from dynadiff.networks.model_folder import load_config, load_held_out, load_model  # noqa: E402
from dynadiff.recordings.held_out import Trial  # noqa: E402
from dynadiff.recordings.nsd import NSD  # noqa: E402
from dynadiff.signal.windows import WindowSpec  # noqa: E402
from dynadiff.training.generator.stages import GeneratorTraining  # noqa: E402
from dynadiff.training.presets import PHANTOM, change  # noqa: E402
from dynadiff.training.pretrained import learnt_before  # noqa: E402
from dynadiff.training.recipe import train_recipe  # noqa: E402
from dynadiff.training.request import Recipe, generator_of  # noqa: E402
from dynadiff.trials.divide import divide, divide_all  # noqa: E402
from dynadiff.trials.prepare import prepare_subject  # noqa: E402
from dynadiff.trials.splits import validation_pictures  # noqa: E402
from dynadiff.trials.store import Store, StoredTrials, store_home  # noqa: E402

TINY = replace(PHANTOM, width=8, batch=6, warm_start=1, steps=1, online=1.0, precision="no")


def stored(tree: Path, home: Path, subject: int, keys: list[tuple[int, int]]) -> Store:
    where = store_home(home, subject)
    return prepare_subject(NSD(tree), subject, keys, where, WindowSpec(), ("online",), 64, jobs=1)


@pytest.fixture(scope="module")
def home(phantom_of, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stores of three subjects with two sessions of one run each, and a model of the first two of them."""
    home = tmp_path_factory.mktemp("recipes")
    (home / "tree").symlink_to(phantom_of([1, 2, 3], [1, 2], [1]))
    for subject in (1, 2, 3):
        stored(home / "tree", home / "store", subject, [(1, 1), (2, 1)])
    line = train_recipe(a_recipe(home, "shared", (1, 2)))
    assert "of subjects 01, 02, sessions 2, preset phantom, split held-out-twice" in line
    return home


def a_recipe(home: Path, out: str, subjects: tuple[int, ...], **more: object) -> Recipe:
    fields = {"choices": TINY, "generator": "embedded", "store": home / "store"} | more
    return Recipe("phantom", root=None, subjects=subjects, out=home / out, **fields)


def test_several_subjects_share_a_model_and_each_has_a_folder(home: Path) -> None:
    first, second = (load_model(home / "shared" / f"subject-{name}") for name in ("01", "02"))
    assert first.config.subject == "01"
    assert first.brain.subject.shape[0] == int(first.mask.sum()) != second.brain.subject.shape[0]
    assert torch.equal(first.brain.out.weight, second.brain.out.weight)
    assert not torch.equal(first.brain.timestep_weight, second.brain.timestep_weight)


def test_a_model_says_what_was_held_out_of_its_training(home: Path) -> None:
    """Each subject's own lists are in its own folder."""
    nsd = NSD(home / "tree")
    shared = {str(number) for number in nsd.shared_ids()}
    for subject in ("01", "02"):
        held, lists = load_held_out(home / "shared" / f"subject-{subject}")
        assert (held.rule, held.seed, held.sessions, held.learnt_from) == ("held-out-twice", 0, None, ("01", "02"))
        first, second = (nsd.run(int(subject), session, 1) for session in (1, 2))
        shown = {event.picture for event in first.events}
        later = {Trial.of(second.name, event) for event in second.events if event.picture not in shown}
        assert lists["test"] == {trial for trial in later if trial.picture in shared}
        own = {trial.picture for trial in later} - shared
        drawn = {trial.picture for trial in lists["validation"]}
        assert drawn == set(validation_pictures(own)) != set()
        assert lists["validation"] == {trial for trial in later if trial.picture in drawn}
        assert (held.test.trials, held.validation.trials) == (len(lists["test"]), len(lists["validation"]))


def test_what_is_looked_at_while_training_is_never_the_test(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Validation, or what is learnt from under a rule that has none; looking costs the same weights."""
    watched = {}

    def looked_at(model, learn, trials, *_: object) -> None:
        watched[model.config.held_out.rule] = {trials.names[k] for k in trials.seen}

    monkeypatch.setattr("dynadiff.training.recipe.warm_start", looked_at)
    monkeypatch.setattr("dynadiff.training.recipe.train", looked_at)
    for rule in ("held-out-twice", "first-session", "time-resolved-disjoint"):
        train_recipe(a_recipe(home, f"watched-{rule}", (1,), choices=replace(TINY, split=rule)))
        _, lists = load_held_out(home / f"watched-{rule}")
        pictures = {part: {trial.picture for trial in trials} for part, trials in lists.items()}
        assert watched[rule]
        assert not watched[rule] & pictures["test"]
        assert rule != "held-out-twice" or watched[rule] == pictures["validation"]


@pytest.mark.parametrize("rule", ["time-resolved", "time-resolved-disjoint"])
def test_a_picture_of_a_test_run_is_learnt_elsewhere_only_under_the_rule_that_says_so(
    rule: str, tmp_path: Path, phantom_of
) -> None:
    store = stored(phantom_of([1], [1], [1, 2, 3]), tmp_path, 1, [(1, 1), (1, 2), (1, 3)])
    (parts,) = divide_all({"01": store}, replace(TINY, split=rule).division).values()
    learn, test = parts.learn, parts.test
    assert not set(learn.runs) & set(test.runs)
    both = pictures(learn) & pictures(test)
    assert bool(both) == (rule == "time-resolved")


@pytest.mark.parametrize(
    ("before", "now", "subject", "said"),
    [
        ("first-session", "time-resolved-disjoint", 3, ""),
        ("first-session", "time-resolved-disjoint", 2, "has learnt from subject 02"),
        ("first-session", "first-session", 1, "has learnt from subject 01"),
        ("first-session", "held-out-twice", 3, ""),
        ("standard", "held-out-twice", 1, "has learnt from subject 01"),
        ("time-resolved", "held-out-twice", 3, "may have learnt pictures that split held-out-twice tests"),
        ("time-resolved", "time-resolved-disjoint", 3, "may have learnt pictures that split time-resolved-disjoint"),
        ("time-resolved-disjoint", "standard", 3, "may have learnt pictures that split standard tests"),
        ("time-resolved-disjoint", "time-resolved", 3, ""),
        ("time-resolved-disjoint", "time-resolved", 1, "has learnt from subject 01"),
        (None, "standard", 3, "does not say what was held out"),
    ],
)
def test_a_pretrained_model_that_may_know_the_test_is_refused(
    before: str | None, now: str, subject: int, said: str, home: Path, tmp_path: Path
) -> None:
    shutil.copytree(home / "shared", tmp_path / "old")
    for path in (tmp_path / "old").glob("subject-*/model.json"):
        written = json.loads(path.read_text())
        if before is None:
            del written["held_out"], written["version"], written["spacing"]
        else:
            written["held_out"] |= {"rule": before, "validation": None}
        path.write_text(json.dumps(written))
    if not said:
        assert learnt_before(tmp_path / "old", now, f"{subject:02d}") == ("01", "02")
        return
    begun = a_recipe(home, "leak", (subject,), choices=replace(TINY, split=now), pretrained=tmp_path / "old")
    with pytest.raises(UserError, match=said):
        train_recipe(begun)
    assert not (home / "leak").exists()


@pytest.mark.parametrize("start", ["shared", "shared/subject-02"])
def test_a_new_subject_starts_with_what_the_others_share(home: Path, start: str) -> None:
    still = replace(TINY, warm_start=0, lr=1e-12)  # so that what is saved is what training began with
    out = f"new-{start.replace('/', '-')}"
    line = train_recipe(a_recipe(home, out, (3,), choices=still, pretrained=home / start))
    assert f"of subject 03, sessions 2, preset phantom, split held-out-twice, from {Path(start).name} (" in line
    old, new = load_model(home / "shared" / "subject-01"), load_model(home / out)
    assert new.config.subject == "03"
    assert load_held_out(home / out)[0].learnt_from == ("01", "02", "03")
    torch.testing.assert_close(new.brain.out.weight, old.brain.out.weight, atol=1e-6, rtol=1e-3)
    assert not torch.allclose(new.brain.timestep_weight, old.brain.timestep_weight, atol=1e-2)
    assert new.brain.subject.shape[0] == int(new.mask.sum()) != int(old.mask.sum())


def test_a_model_of_drawn_scenes_has_their_judge_beside_it(home: Path) -> None:
    drawn = replace(a_recipe(home, "drawn", (1,), sessions=(1, 2), allow_missing=True), root=home / "tree")
    train_recipe(drawn)
    assert (home / "drawn" / "judge.onnx").read_bytes() == JUDGE.read_bytes()
    assert not list((home / "shared").rglob("judge.onnx"))  # of stores, which do not say whose they are


def test_a_pretrained_model_brings_its_generator_and_its_sizes(home: Path) -> None:
    assert generator_of(home / "shared") == "embedded"
    wide = replace(TINY, width=16)
    with pytest.raises(UserError, match="shared cannot be gone on from: a pretrained model can only be adapted"):
        train_recipe(a_recipe(home, "wide", (3,), choices=wide, pretrained=home / "shared"))
    with pytest.raises(UserError, match="to one subject at a time"):
        train_recipe(a_recipe(home, "both", (1, 3), pretrained=home / "shared"))


def test_a_run_goes_on_with_the_trials_and_the_model_it_was_begun_with(home: Path) -> None:
    begun = a_recipe(home, "again", (3,), pretrained=home / "shared")
    train_recipe(begun)
    train_recipe(begun)
    with pytest.raises(UserError, match=r"begun with trials \d+ trials .* from shared \(\w{12}\).* and not \d+ trials"):
        train_recipe(replace(begun, pretrained=None))
    shutil.copytree(EMBEDDED / "generator", home / "elsewhere")
    with pytest.raises(UserError, match="begun with generator embedded and not elsewhere"):
        train_recipe(replace(begun, generator=str(home / "elsewhere")))


def test_variants_are_choices(home: Path) -> None:
    words = ["timestep_layers=shared", "aggregation=in_mean", "blocks=1", "trainable=cross-attention", "warm_start=0"]
    train_recipe(a_recipe(home, "variant", (1,), choices=change(TINY, words)))
    config = load_config(home / "variant")
    assert (config.brain.timestep_layers, config.brain.aggregation, config.brain.blocks) == ("shared", "in_mean", 1)
    assert config.adaptation.trainable == "cross-attention"
    assert (home / "variant" / "unet.safetensors").exists()
    assert load_model(home / "variant").brain.timestep_weight.shape == (1, 8, 8)


def test_sessions_may_be_named_of_a_store_that_holds_more(home: Path) -> None:
    with pytest.raises(UserError, match="lacks session 4"):
        train_recipe(a_recipe(home, "few", (1,), sessions=(1, 4)))
    store = stored(home / "tree", home / "store", 1, [(1, 1), (2, 1)])
    parts = divide(store, replace(TINY, split="time-resolved").division, [2, 1])
    assert set(parts.learn.sessions) | set(parts.test.sessions) == {1, 2}
    with pytest.raises(UserError, match="leaves no trial to learn from"):
        divide(store, TINY.division, [1])
    with pytest.raises(UserError, match="keeps out what session 1 shows, which is not there: add that session"):
        divide(store, TINY.division, [2])


def pictures(*several: StoredTrials) -> set[str]:
    return {trials.names[k] for trials in several for k in trials.seen}


@pytest.mark.parametrize("rule", ["time-resolved-disjoint", "held-out-twice"])
def test_what_is_held_out_of_one_subject_is_learnt_from_none(rule: str, tmp_path: Path, phantom_of) -> None:
    """Two stores of the same pictures, of which one lacks two runs, so that the rule draws others."""
    how = replace(TINY, split=rule).division
    tree, keys = phantom_of([1], [1, 2], [1, 2, 3]), [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3)]
    stores = {
        "a": stored(tree, tmp_path / "a", 1, keys),
        "b": stored(tree, tmp_path / "b", 1, [(1, 2), (1, 3), (2, 1), (2, 3)]),
    }
    together = divide_all(stores, how)
    alone = {name: divide(store, how) for name, store in stores.items()}
    secret = pictures(*(trials for parts in alone.values() for trials in parts.held.values()))
    for name, parts in together.items():
        assert pictures(parts.learn) == pictures(alone[name].learn) - secret
        assert {k: pictures(v) for k, v in parts.held.items()} == {k: pictures(v) for k, v in alone[name].held.items()}
    assert pictures(*(parts.learn for parts in alone.values())) & secret  # alone, it would have been learnt from


def test_a_short_run_is_short_in_every_stage(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = PHANTOM.at_most(20)
    assert (short.steps, short.warm_start) == (20, 20)
    assert PHANTOM.at_most(1000) == replace(PHANTOM, warm_start=1000)  # a bound, and no number to be reached

    class Begun(Exception):
        pass

    def train_generator(config: GeneratorTraining, out: Path, listen: object) -> None:
        assert (config.steps, config.uncertain_steps, config.vae.steps, config.vae.sharpen_steps) == (20,) * 4
        assert config.scenes == 20 * config.batch
        raise Begun

    monkeypatch.setattr("dynadiff.training.recipe.train_generator", train_generator)
    with pytest.raises(Begun):
        train_recipe(a_recipe(home, "nothing", (1,), choices=short, generator="generator", at_most=20))


PROGRAM = """
import sys
from dataclasses import replace
from pathlib import Path
import dynadiff.training.recipe as recipe
from dynadiff.training.generator.stages import GeneratorTraining
from dynadiff.training.presets import PHANTOM
from dynadiff.training.generator.vae import VaeTraining
vae = VaeTraining(steps=2, batch=2, sharpen_steps=2, sharpen_batch=2)
short = GeneratorTraining(scenes=40, vae=vae, steps=2, batch=4, uncertain_steps=2)
recipe.GeneratorTraining = lambda: short
home, out = Path(sys.argv[1]), Path(sys.argv[2])
choices = replace(PHANTOM, width=8, batch=6, warm_start=1, steps=1, online=1.0, precision="no")
recipe.train_recipe(recipe.Recipe("phantom", choices, None, (1,), out, "generator", home / "store"))
"""


def test_two_processes_make_a_decoder_from_nothing_as_one_does(home: Path, tmp_path: Path) -> None:
    """The generator too, which all of them train before the first one prepares anything."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    environment = os.environ | {
        "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "PYTHONPATH": os.pathsep.join(sys.path),
    }  # fmt: skip
    two = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(program)]
    for launch, out in (([sys.executable, str(program)], "one"), (two, "two")):
        done = subprocess.run(
            [*launch, str(home), str(tmp_path / out)],
            capture_output=True, text=True, timeout=240, check=False, env=environment,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
    one, both = (load_model(tmp_path / out) for out in ("one", "two"))
    torch.testing.assert_close(both.brain.state_dict(), one.brain.state_dict(), atol=2e-3, rtol=0)
    for network in ("unet", "vae"):
        ours, theirs = (getattr(model.generator, network).state_dict() for model in (both, one))
        torch.testing.assert_close(ours, theirs, atol=5e-3, rtol=0)  # kept in half precision
