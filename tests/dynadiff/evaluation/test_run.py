"""`dynadiff evaluate` of any model: a plain diffusers generator, several subjects, processes that paint together."""

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from statistics import median_low

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from diffusers import DDIMScheduler  # noqa: E402

from dynadiff.engines.choice import Sampler  # noqa: E402
from dynadiff.evaluation import evaluate, run  # noqa: E402
from dynadiff.evaluation.scored import load_evaluation, mean_over_subjects  # noqa: E402
from dynadiff.training.presets import PHANTOM  # noqa: E402
from dynadiff.training.recipe import train_recipe  # noqa: E402
from dynadiff.training.request import Recipe  # noqa: E402
from support.versatile import small_unet, small_vae  # noqa: E402

SHORT = replace(
    PHANTOM, width=8, batch=4, warm_start=0, anchor=0.0, steps=1, online=0.0, precision="no", sampling_steps=1,
    split="standard",
)  # fmt: skip


@pytest.fixture(scope="module")
def tree(phantom_of) -> Path:
    return phantom_of([1, 2], [1, 2], [1, 2])


@pytest.fixture(scope="module")
def shared(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two subjects with a generator as Versatile Diffusion's: no image encoder, no generator.json."""
    home = tmp_path_factory.mktemp("evaluated")
    torch.manual_seed(0)
    small_unet().save_pretrained(home / "VD" / "image_unet")
    small_vae().save_pretrained(home / "VD" / "vae")
    noise = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1)
    noise.save_config(home / "VD" / "scheduler")
    asked = Recipe("paper", SHORT, tree, (1, 2), home / "model", str(home / "VD"), sessions=(1, 2), allow_missing=True)
    train_recipe(asked)
    return home / "model"


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dynadiff.evaluation.columns.DRAWS", 5)
    monkeypatch.setattr("dynadiff.scores.ten.SHIFTS", 5)


@pytest.fixture
def no_outside_eye(monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks at 224 pixels, which takes seconds: what it sees is tested by itself."""

    monkeypatch.setattr(run, "has_lite0", lambda: False)


def test_any_generator_and_several_subjects(shared, tree, tmp_path, dynadiff, no_outside_eye) -> None:
    out = tmp_path / "out"
    asked = ("evaluate", "--model", shared, "--root", tree, "--out", out, "--seeds", "0-1")
    code, said, wrong = dynadiff(*asked)
    assert code == 0, wrong
    found = load_evaluation(out)
    assert [one.subject for one in found.subjects] == ["01", "02"]
    assert {"the judge of scenes", "pixels", "ten metrics"} == {column.space for column in found.columns}
    assert any("has no image encoder of its own" in line for line in found.missing)
    assert any("EfficientNet-Lite0, an eye from outside, is not installed" in line for line in found.missing)
    assert any("ten metrics that need networks: give --weights" in line for line in found.missing)
    assert any("mIoU: the release's segmentation" in line for line in found.missing)
    assert "not scored: the judge EfficientNet-Lite0, an eye from outside, is not installed" in said
    assert "mean ± standard error over 2 subjects" in said
    assert [row.decoder for row in found.subjects[0].rows] == [
        "Dynadiff, online", "Dynadiff, offline cleaning", "nearest neighbour, online", "ridge to VAE latents, online",
        "ceiling: the picture through the VAE", "ridge to hues, online, no picture",
    ]  # fmt: skip
    for subject in found.subjects:
        assert len(set(subject.trials)) == len(subject.trials)  # one repetition of each picture
    assert mean_over_subjects(found, "Dynadiff, online", found.columns[0].key) is not None
    page = (out / "report.html").read_text()
    assert "Subject 02" in page
    assert page.count("data:image/jpeg") > 20
    painted = {path: path.stat().st_mtime_ns for path in (out / "pictures").rglob("*.npz")}
    assert len(painted) == 2 * (2 * 2 + 3)  # what starts from noise, once a seed
    before = (out / "scores.json").read_bytes()
    assert dynadiff(*asked)[0] == 0
    assert {path: path.stat().st_mtime_ns for path in (out / "pictures").rglob("*.npz")} == painted
    assert (out / "scores.json").read_bytes() == before


def test_label_maps_of_the_pictures_it_put_out_give_miou(shared, tree, tmp_path, dynadiff, no_outside_eye) -> None:
    """Twice: once to have the pictures, and once the script of another environment has been run."""
    out, exchange = tmp_path / "out", tmp_path / "exchange"
    model = shared / "subject-01"
    asked = ("evaluate", "--model", model, "--root", tree, "--out", out, "--segmentation", exchange)
    code, said, wrong = dynadiff(*asked)
    assert code == 0, wrong
    pictures = sorted((exchange / "images").glob("*.png"))
    line = f"mIoU: {len(pictures)} pictures in {exchange / 'images'} have no label map yet"
    assert f"not scored: {line}" in " ".join(said.split())
    first = load_evaluation(out)
    assert any(one.startswith(line) for one in first.missing)
    assert "miou" not in {column.key for column in first.columns}
    for path in pictures:
        cv2.imwrite(str(exchange / "pred_label" / path.name), cv2.imread(str(path))[..., 1] // 64)
    code, said, wrong = dynadiff(*asked)
    assert code == 0, wrong
    found = load_evaluation(out)
    assert not any("mIoU" in one for one in found.missing)
    *painted, hues = found.subjects[0].rows
    assert hues.cell("miou") is None  # it paints nothing
    for row in painted:
        cell = row.cell("miou")
        assert 0 < cell.low <= cell.mean <= cell.high <= 1
        assert 0 < cell.chance < 1
    assert len(found.files["pred_label/*"]) == 64
    assert "mIoU, %" in said
    page = (out / "report.html").read_text()
    assert "mIoU,\u00a0%\u00a0↑" in page
    assert found.files["pred_label/*"] in page
    (exchange / "pred_label" / pictures[0].name).unlink()
    code, _, wrong = dynadiff(*asked)
    assert (code, wrong.count("\n"), f"and none of {pictures[0].name}" in wrong) == (2, 1, True)
    code, _, wrong = dynadiff(*asked, "--setting", "mindeye")
    assert (code, wrong.count("\n"), "leave --segmentation out" in wrong) == (2, 1, True)


def test_averaged_repetitions_are_fewer_trials_of_the_same_pictures(
    shared, tree, tmp_path, dynadiff, no_outside_eye
) -> None:
    found = {}
    for trials in ("averaged", "all"):
        model = shared / "subject-01"
        code, _, wrong = dynadiff(
            "evaluate", "--model", model, "--root", tree, "--out", tmp_path / trials, "--trials", trials
        )
        assert code == 0, wrong
        (found[trials],) = load_evaluation(tmp_path / trials).subjects
    assert len(found["averaged"].trials) == len(set(found["averaged"].trials)) <= len(found["all"].trials)
    assert set(found["averaged"].trials) == set(found["all"].trials)
    counts = Counter(found["all"].trials)
    said = found["averaged"].averaged
    assert (said.fewest, said.median, said.most) == (
        min(counts.values()),
        median_low(counts.values()),
        max(counts.values()),
    )
    assert found["all"].averaged is None


def test_a_model_against_another_of_the_same_trials(shared, tree, tmp_path, dynadiff, no_outside_eye) -> None:
    own = ("evaluate", "--model", shared / "subject-01", "--root", tree, "--out", tmp_path / "out")
    assert dynadiff(*own)[0] == 0
    code, said, wrong = dynadiff(*own, "--against", tmp_path / "out" / "scores.json")
    assert code == 0, wrong
    assert "against subject-01, Dynadiff, online, paired" in said
    (rivals,) = json.loads((tmp_path / "out" / "against.json").read_text())["rivals"]
    assert rivals["leads"]
    assert all(lead["ahead"] == {"mean": 0, "low": 0, "high": 0} for lead in rivals["leads"])  # itself
    code, said, wrong = dynadiff(*own, "--trials", "all", "--against", tmp_path / "out")
    assert (code, wrong.count("\n")) == (2, 1)
    assert "repetitions taken otherwise (one, here all)" in wrong


def test_two_processes_find_what_one_does(shared, tree, tmp_path) -> None:
    environment = os.environ | {
        "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "PYTHONPATH": os.pathsep.join(sys.path),
    }  # fmt: skip
    program = tmp_path / "program.py"
    program.write_text(
        "import dynadiff.evaluation.painting as painting\n"
        "import dynadiff.evaluation.run as run\n"
        "painting.BATCH = 4\n"  # several batches to be dealt out
        "run.has_lite0 = lambda: False\n"
        "from dynadiff.cli.main import main\nmain()\n"
    )
    two = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for launch, out in (([sys.executable], "one"), (two, "two")):
        done = subprocess.run(
            [*launch, str(program), "evaluate", "--model", str(shared / "subject-02"), "--root", str(tree), "--out",
             str(tmp_path / out)],
            capture_output=True, text=True, timeout=240, check=False, env=environment,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stdout.count("scores: ") == 1
    one, both = (json.loads((tmp_path / out / "scores.json").read_text()) for out in ("one", "two"))
    assert one == both


def test_bad_input_is_one_sentence(shared, tree, tmp_path, dynadiff, no_outside_eye) -> None:
    own = shared / "subject-01"
    (tmp_path / "file").touch()
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "swav_800ep_pretrain.pth.tar").write_bytes(b"cut short")
    for arguments, said in (
        (("--model", own, "--model", own, "--root", tree), "two models are of one subject"),
        (("--model", own, "--root", tree, "--setting", "mine"), "no setting 'mine'"),
        (("--model", own, "--root", tree, "--out", tmp_path / "file"), "is a file: give --out a folder"),
        (("--model", own, "--root", tree, "--segmentation", tmp_path / "file"), "is a file: give --segmentation a"),
        (("--model", own, "--root", tree, "--weights", tmp_path / "none"), "there is no folder"),
        (("--model", own, "--root", tree, "--weights", tmp_path / "weights"), "swav_800ep_pretrain.pth.tar"),
        (("--model", own, "--root", tree, "--seeds", "x"), "--seeds x is no list of numbers"),
    ):
        code, _, wrong = dynadiff("evaluate", *arguments)
        assert (code, said in wrong, wrong.count("\n")) == (2, True, 1), wrong


def test_noise_of_another_seed_is_another_picture(shared, tree, tmp_path, dynadiff, no_outside_eye) -> None:
    out = tmp_path / "out"
    model = shared / "subject-01"
    assert dynadiff("evaluate", "--model", model, "--root", tree, "--out", out, "--seeds", "0-1")[0] == 0
    pictures = [np.load(path)["pictures"] for path in sorted((out / "pictures").rglob("dynadiff-online-seed-*.npz"))]
    assert len(pictures) == 2
    assert not np.array_equal(*pictures)


def test_pictures_of_other_data_are_painted_anew(shared, tree, tmp_path) -> None:
    """The same model, the same trials, but a tree that was prepared otherwise."""
    given = evaluate.judged(shared / "subject-01", lambda *_: tree, evaluate.How())
    origins = {evaluate._origin(given, None)}
    for changed in ({"online": given.online + 0.5}, {"shown": given.shown[::-1]}, {"names": given.names[::-1]}):
        origins.add(evaluate._origin(replace(given, **changed), None))
    sampled = evaluate.How(sampler=Sampler(3, (1.0, 3.0, 3.0), "ays"))
    cheaper = evaluate.judged(shared / "subject-01", lambda *_: tree, sampled)
    origins.add(evaluate._origin(cheaper, None))
    assert len(origins) == 5
    assert evaluate._origin(given, None) in origins


def test_other_sampling_is_other_pictures_and_is_said(shared, tree, tmp_path, dynadiff, no_outside_eye) -> None:
    model, told = shared / "subject-01", []
    sampled = {"as set": (), "exact": ("--quality", "exact"), "listed": ("--spacing", "900,5", "--guidance", "3,1")}
    for name, options in sampled.items():
        out = tmp_path / "kept" / name
        against = () if name == "as set" else ("--against", tmp_path / "kept" / "as set" / "scores.json")
        code, said, wrong = dynadiff("evaluate", "--model", model, "--root", tree, "--out", out, *options, *against)
        assert code == 0, wrong
        (subject,) = load_evaluation(out).subjects
        told.append(subject.sampling)
        assert f"painted by {subject.sampling}" in " ".join(said.split())
        assert subject.sampling in (out / "report.html").read_text()
    assert told == ["DDIM, 1 step, guidance 5", "DDIM, 20 steps, guidance 5", "DDIM, 2 steps 900,5, guidance 3,1"]
    assert len({path.name for path in (tmp_path / "kept").rglob("dynadiff-online-seed-*.npz")}) == 3
    code, _, wrong = dynadiff("evaluate", "--model", model, "--root", tree, "--spacing", "1000,5")
    assert (code, wrong.count("\n"), "not among 1000 timesteps" in wrong) == (2, 1, True)
