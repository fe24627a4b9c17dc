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
from dynadiff.training.generator import GeneratorTraining  # noqa: E402
from dynadiff.training.presets import PHANTOM, change  # noqa: E402
from dynadiff.training.pretrained import learnt_before  # noqa: E402
from dynadiff.training.recipe import train_recipe  # noqa: E402
from dynadiff.training.request import Recipe, generator_of  # noqa: E402
from dynadiff.trials.divide import divide, divide_all  # noqa: E402
from dynadiff.trials.prepare import prepare_subject  # noqa: E402
from dynadiff.trials.store import Store, store_home  # noqa: E402

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
    assert "of subjects 01, 02, sessions 2, preset phantom, split first-session" in line
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
    """All of the first session, each subject's own in its own folder."""
    for subject in ("01", "02"):
        held, listed = load_held_out(home / "shared" / f"subject-{subject}")
        assert (held.rule, held.seed, held.sessions, held.learnt_from) == ("first-session", 0, None, ("01", "02"))
        events = NSD(home / "tree").run(int(subject), 1, 1).events
        assert listed == {Trial.of(f"sub-{subject}_ses-nsd01_task-nsdcore_run-01", event) for event in events}
        assert held.test is not None
        assert held.test.trials == len(events)


@pytest.mark.parametrize("rule", ["time-resolved", "time-resolved-disjoint"])
def test_a_picture_of_a_test_run_is_learnt_elsewhere_only_under_the_rule_that_says_so(
    rule: str, tmp_path: Path, phantom_of
) -> None:
    store = stored(phantom_of([1], [1], [1, 2, 3]), tmp_path, 1, [(1, 1), (1, 2), (1, 3)])
    (learn,), (test,) = (side.values() for side in divide_all({"01": store}, replace(TINY, split=rule).division))
    assert not set(learn.runs) & set(test.runs)
    both = {learn.names[k] for k in learn.seen} & {test.names[k] for k in test.seen}
    assert bool(both) == (rule == "time-resolved")


@pytest.mark.parametrize(
    ("before", "now", "subject", "said"),
    [
        ("first-session", "time-resolved-disjoint", 3, ""),
        ("first-session", "time-resolved-disjoint", 2, "has learnt from subject 02"),
        ("first-session", "first-session", 1, "has learnt from subject 01"),
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
            del written["held_out"], written["version"]
        else:
            written["held_out"]["rule"] = before
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
    assert f"of subject 03, sessions 2, preset phantom, split first-session, from {Path(start).name} (" in line
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
    learn, test = divide(store, replace(TINY, split="time-resolved").division, [2, 1])
    assert set(learn.sessions) | set(test.sessions) == {1, 2}
    with pytest.raises(UserError, match="leaves no trial to learn from"):
        divide(store, TINY.division, [1])


def test_what_is_tested_on_one_subject_is_learnt_from_none(tmp_path: Path, phantom_of) -> None:
    """Two stores of the same pictures, of which one lacks the other's test run."""
    tree, config = phantom_of([1], [1], [1, 2, 3]), replace(TINY, split="time-resolved-disjoint")
    keys = [(1, 1), (1, 2), (1, 3)]
    whole = stored(tree, tmp_path / "a", 1, keys)
    mine = {divide(whole, config.division)[1].run_names[k] for k in divide(whole, config.division)[1].runs}
    part = stored(tree, tmp_path / "b", 1, [key for key in keys if f"run-{key[1]:02d}" not in next(iter(mine))])
    stores = {"a": whole, "b": part}
    learn, test = divide_all(stores, config.division)
    secret = {t.names[k] for t in test.values() for k in t.seen}
    for name, store in stores.items():
        taken, alone = ({t.names[k] for k in t.seen} for t in (learn[name], divide(store, config.division)[0]))
        assert not taken & secret
        assert taken == alone - secret
    assert {
        whole.names[k] for k in divide(whole, config.division)[0].seen
    } & secret  # alone, it would have been learnt from


def test_a_short_run_is_short_in_every_stage(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = PHANTOM.at_most(20)
    assert (short.steps, short.warm_start) == (20, 20)
    assert PHANTOM.at_most(1000) == replace(PHANTOM, warm_start=1000)  # a bound, and no number to be reached

    class Begun(Exception):
        pass

    def train_generator(config: GeneratorTraining, out: Path) -> None:
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
from dynadiff.training.generator import GeneratorTraining
from dynadiff.training.presets import PHANTOM
from dynadiff.training.vae import VaeTraining
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
