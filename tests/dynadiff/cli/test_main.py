"""The training command line: quick help, and one sentence with exit code 2 for what cannot be done."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dynadiff.assets import EMBEDDED
from dynadiff.networks.choices import Between, Sampling

HEAVY = {"torch", "diffusers", "numpy", "scipy", "h5py", "nibabel", "cv2", "onnxruntime"}
HELP = """
import runpy, sys
try:
    runpy.run_module("dynadiff", run_name="__main__", alter_sys=True)
except SystemExit as end:
    assert end.code == 0
sys.stderr.write(" ".join(sys.modules))
"""


def test_help_imports_nothing_heavy_and_the_package_is_a_command() -> None:
    """A process of its own, as ``python -m dynadiff``; every other test runs its command in this one."""
    done = subprocess.run([sys.executable, "-c", HELP, "--help"], capture_output=True, text=True, check=True)
    assert "Usage: python -m dynadiff" in done.stdout
    assert {"train", "prepare", "evaluate", "export", "sampler", "study", "import"} <= set(done.stdout.split())
    assert not HEAVY & set(done.stderr.split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("export", "tflite", "--out", "x"), "choose onnx, trt or trt-rtx"),
        (("export", "onnx", "--targets", "8.9", "--out", "x"), "--targets belongs to trt-rtx"),
        (("train", "--out", "x", "--subjects", "one"), "--subjects one is no list of numbers"),
        (("study", "astrology"), "choose phantom, brain, trainable, subjects, causal, haxby or miyawaki"),
        (("study", "haxby"), "give its folder with --data"),
        (("study", "miyawaki"), "give its folder with --data"),
    ],
)
def test_a_wrong_word_is_one_sentence(arguments: tuple[str, ...], said: str, dynadiff) -> None:
    code, _, wrong = dynadiff(*arguments)
    assert code == 2
    assert wrong.startswith("error: ")
    assert said in wrong
    assert wrong.count("\n") == 1


def test_training_refuses_a_folder_in_use_an_empty_tree_and_an_unknown_preset(tmp_path: Path, dynadiff) -> None:
    pytest.importorskip("diffusers")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").touch()
    code, _, wrong = dynadiff("train", "--out", tmp_path / "out")
    assert (code, "--resume" in wrong) == (2, True)
    code, _, wrong = dynadiff("train", "--out", tmp_path / "new", "--root", tmp_path, "--generator", "embedded")
    assert (code, wrong.count("\n")) == (2, 1)
    code, _, wrong = dynadiff("train", "--out", tmp_path / "new", "--root", tmp_path, "--preset", "magic")
    assert (code, "choose one of" in wrong) == (2, True)


WRONG = [
    ("evaluate --model none", "no model in none: make one with `dynadiff train --out none`"),
    ("evaluate --root none", "there is no folder none"),
    ("export onnx --model none --out x", "no model in none"),
    ("export onnx --out shared", "is no engine folder: give --out another name"),
    ("export onnx --out x --precision quarter", "there is no precision 'quarter'"),
    ("export onnx --out x --opset 7", "opset 7 is not offered"),
    (
        "export onnx --out x --spacing karras",
        "a list of timesteps as 999,700,300, not karras",
    ),
    ("export onnx --out x --spacing 5,900", "timesteps fall from step to step"),
    ("export onnx --out x --guidance strong", "'strong' is no list of numbers"),
    ("export trt --out x --steps 3", "--guidance, --spacing and --root belong to onnx: export that first"),
    ("sampler --model none", "no model in none"),
    ("sampler --model none --guidance 5@9-1", "between two timesteps, the smaller first, not 5@9-1"),
    ("evaluate --quality best", "--quality is exact, or left out"),
    ("evaluate --quality exact --steps 3", "leave --steps, --guidance and --spacing out"),
    ("evaluate --guidance 5,-1", "guidance is a number from 0 on"),
    ("export onnx --out x --root none", "--root is where --precision half gets windows"),
    ("export onnx --out x --precision half --root none", "there is no folder none"),
    ("export trt --model none --out x", "no model in none"),
    ("export trt-rtx --out x --targets ampere", "--targets ampere is no list of compute capabilities"),
    ("study brain --data .", "--data says nothing to the brain study"),
    ("study phantom --quick", "--quick says nothing to the phantom study, which takes --root and --subject"),
    ("study phantom --subject 9", "there is no subject 9"),
    ("study causal --data .", ". holds neither haxby_slice nor studyforrest_localizer"),
    ("study causal --subject 9", "there is no subject 9"),
    ("study brain --root none", "there is no folder none"),
    ("study haxby --data none", "there is no folder none"),
    ("prepare --store x --generator none", "none is no generator folder"),
    ("prepare --store file --generator embedded", "file is a file: give --store a folder"),
    ("prepare --store x --generator embedded --jobs 0", "--jobs 0 prepares nothing"),
    ("prepare --store x --generator embedded --subjects 1,9", "there is no subject 9"),
    ("prepare --store x --generator embedded --sessions 40-41", "subject 1 has no session 41"),
    ("prepare --store x --generator embedded --root none", "there is no folder none"),
    ("prepare --store begun --generator embedded", "begun/subj01 was begun with picture_size 512 and not 64"),
    ("import none --out x --generator embedded --mask file", "none does not exist: give the consolidated weights"),
    ("import file --out x --generator embedded --mask file --preset phantom", "choose paper or released"),
    ("import file --out shared --generator embedded --mask file", "shared is not empty: give --out another name"),
    ("import file --out x --generator none --mask file", "none is no generator folder"),
    ("import file --out x --generator embedded --mask none", "none does not exist"),
    ("import file --out x --generator embedded --root none", "there is no folder none"),
    ("train --out file", "file is a file"),
    ("train --out shared", "shared is not empty: add --resume"),
    ("train --out x --preset magic", "choose one of paper, released, phantom"),
    ("train --out x --set colour=red", "names no choice of a training run"),
    ("train --out x --set spacing=karras", "spacing is leading, ays or a list of timesteps"),
    ("train --out x --set spacing=900,5", "spacing lists 2 timesteps for 20 steps"),
    ("train --out x --set spacing=1000,5 --set sampling_steps=2", "are not among 1000 timesteps"),
    ("train --out x --set guidance=5,1", "guidance has 2 values for 20 steps"),
    ("train --out x --set guidance=strong", "'strong' is no list of numbers"),
    ("train --out x --set sampler=ddpm --set spacing=ays", "ddpm has leading timesteps, not ays"),
    ("train --out x --preset paper", "preset paper needs a generator"),
    ("train --out x --generator none", "none is no generator folder"),
    ("train --out x --generator plain", "plain has no image encoder: choose another"),
    ("train --out x --generator plain --set warm_start=0 --set anchor=0 --set low_level=true", "plain takes no layout"),
    ("train --out x --store none --generator embedded", "none/subj01 holds no finished store"),
    ("train --out x --store none --root none", "--root and --store are two sources"),
    ("train --out x --pretrained none", "no model in none"),
    ("train --out x --pretrained shared --subjects 1,2", "to one subject at a time"),
    ("train --out x --root none", "there is no folder none"),
    ("train --out x --subjects 9", "there is no subject 9"),
    ("train --out x --sessions 41", "subject 1 has no session 41"),
    ("train --out x --deepspeed", "deepspeed is not installed"),
    ("train --out x --betas none", "betas need a generator that is there"),
    ("train --out x --betas none --generator embedded", "none does not exist: give an npz of betas"),
    ("train --out x --betas . --generator embedded", "by --root"),
    ("train --out x --betas b --generator embedded --sessions 1", "--sessions says nothing of them"),
    ("train --out x --betas b --generator embedded --split standard", "--split says nothing of them"),
    ("train --out x --betas b --generator embedded --store s", "--store says nothing of them"),
    ("train --out x --betas b --generator embedded --tensorboard", "--tensorboard says nothing of them"),
    ("train --out x --betas b --generator embedded --set rank=8", "--set rank=8 says nothing of them"),
]
SAY = """
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout
from dynadiff.cli.main import main
for words in sys.argv[1:]:
    sys.argv[1:] = words.split()
    with redirect_stderr(io.StringIO()) as wrong, redirect_stdout(io.StringIO()):
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code
    print(json.dumps([code, wrong.getvalue(), "torch" in sys.modules]))
"""


def test_a_mistake_is_said_before_anything_is_made_written_or_imported(tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    (tmp_path / "file").touch()
    (tmp_path / "shared" / "subject-01").mkdir(parents=True)
    (tmp_path / "shared" / "subject-01" / "model.json").write_text('{"generator": "embedded"}')
    (tmp_path / "begun" / "subj01").mkdir(parents=True)
    window = {"offset": 3, "length": 6}
    plan = {"window": window, "kinds": ["offline", "online"], "picture_size": 512}
    (tmp_path / "begun" / "subj01" / "plan.json").write_text(json.dumps(plan))
    for name, content in (
        ("unet/config.json", {"sample_size": 4, "cross_attention_dim": 8}),
        ("vae/config.json", {"block_out_channels": [8, 8]}),
        ("scheduler/scheduler_config.json", {}),
    ):
        (tmp_path / "plain" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "plain" / name).write_text(json.dumps(content))
    before = sorted(tmp_path.rglob("*"))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", SAY, *(words for words, _ in WRONG)],
        capture_output=True, text=True, check=False, cwd=tmp_path, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    for (words, said), (code, wrong, torch) in zip(WRONG, told, strict=True):
        assert (code, said in wrong, wrong.count("\n"), torch) == (2, True, 1, False), (words, wrong)
    assert [path for path in sorted(tmp_path.rglob("*")) if "cache" not in path.parts[len(tmp_path.parts) :]] == before
    assert not (tmp_path / "cache" / "dynadiff-realtime").exists()


def test_a_missing_model_says_how_to_make_one(tmp_path: Path, dynadiff) -> None:
    pytest.importorskip("diffusers")
    code, _, wrong = dynadiff("export", "onnx", "--model", tmp_path / "none", "--out", tmp_path / "engine")
    assert code == 2
    assert "dynadiff train --out" in wrong


def test_prepare_and_train_from_the_store(tmp_path: Path, phantom_of, dynadiff) -> None:
    pytest.importorskip("diffusers")
    tree, store, out = phantom_of([1], [1, 2], [1]), tmp_path / "store", tmp_path / "out"
    tell = ("--root", tree, "--store", store, "--sessions", "1-3", "--generator", "embedded", "--jobs", 1)
    code, _, wrong = dynadiff("prepare", *tell)
    assert (code, "sessions 3 of subject 1" in wrong) == (2, True)
    code, said, _ = dynadiff("prepare", *tell, "--allow-missing")
    assert (code, "2 runs, pictures of 64 pixels" in said, "without sessions 3" in said) == (0, True, True)
    tiny = ("--generator", "embedded", "--set", "width=8", "--set", "batch=4", "--steps", 2)
    run = ("train", "--store", store, "--out", out, *tiny)
    code, said, wrong = dynadiff(*run)
    assert code == 0, wrong
    assert "every stage ends at step 2: the warm start takes 2 and Dynadiff 2" in said
    assert "preset phantom, split held-out-twice" in said
    lines = said.splitlines()
    assert lines[-4:] == [
        f"log: {out / 'work' / 'dynadiff.jsonl'}, a file a stage beside it",
        f"samples: {out}/samples",
        f"next: dynadiff evaluate --model {out}",
        f"next: realtime decode --engine torch --model {out}",
    ]
    assert {path.name for path in (out / "samples").iterdir()} == {"dynadiff-00002.png"}
    assert {path.name for path in (out / "work").glob("*.jsonl")} == {"warm-start.jsonl", "dynadiff.jsonl"}
    assert (out / "model.json").exists()
    for part in ("test", "validation"):
        runs = {line.split("\t")[0] for line in (out / f"{part}-trials.tsv").read_text().splitlines()[1:]}
        assert runs == {"sub-01_ses-nsd02_task-nsdcore_run-01"}
    code, _, wrong = dynadiff(*run, "--resume", "--set", "lr=1")
    assert (code, "begun with lr" in wrong) == (2, True)
    code, _, wrong = dynadiff(
        "train", "--store", store, "--out", tmp_path / "new", *tiny, "--shift", 1, "--set", "online=0.5"
    )
    assert (code, "prepare another store" in wrong) == (2, True)
    code, _, wrong = dynadiff("train", "--store", store, "--out", tmp_path / "new", "--set", "colour=red")
    assert (code, "names no choice" in wrong, wrong.count("\n")) == (2, True, 1)


def test_betas_leave_log_scores_and_pictures_and_say_where(tmp_path: Path, dynadiff, monkeypatch) -> None:
    pytest.importorskip("diffusers")
    monkeypatch.setattr("dynadiff.scores.pixels.DRAWS", 20)
    rng, out = np.random.default_rng(0), tmp_path / "out"
    split = np.where(np.arange(12) < 8, "train", "test")
    images = rng.integers(0, 256, (12, 20, 20, 3), np.uint8)
    np.savez(tmp_path / "b.npz", betas=rng.standard_normal((12, 5)), images=images, split=split)
    tiny = ("--generator", "embedded", "--set", "width=8", "--set", "batch=4", "--steps", 2)
    code, said, wrong = dynadiff("train", "--betas", tmp_path / "b.npz", "--out", out, *tiny)
    assert code == 0, wrong
    assert said.splitlines()[-4:] == [
        f"{out}: a decoder of betas, which decodes no stream",
        f"log: {out / 'work' / 'dynadiff.jsonl'}, a file a stage beside it",
        f"samples: {out}/samples; of the test trials, shown above painted: {out}/samples/test-trials.png",
        f"scores: {out}/scores.json",
    ]
    for kept in ("work/dynadiff.jsonl", "samples/dynadiff-00002.png", "samples/test-trials.png", "scores.json"):
        assert (out / kept).is_file()


def test_an_interrupted_training_says_what_is_kept_and_how_to_go_on(
    tmp_path: Path, phantom_of, dynadiff, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("diffusers")
    from dynadiff.training import recipe, request

    def interrupted(_: request.Recipe) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(recipe, "train_recipe", interrupted)
    tree = ("--root", phantom_of([1], [1, 2], [1]), "--allow-missing")
    code, said, wrong = dynadiff("train", "--out", tmp_path / "out", *tree, "--generator", "embedded")
    assert (code, wrong) == (130, "")
    assert (
        said
        == f"interrupted: {tmp_path}/out keeps what was learnt until the last checkpoint; --resume goes on from there\n"
    )


def test_how_a_model_paints_is_told_and_set_and_nothing_else_of_it_changes(tmp_path: Path, dynadiff) -> None:
    pytest.importorskip("diffusers")
    from dynadiff.networks.model_folder import load_config

    model = Path(shutil.copytree(EMBEDDED, tmp_path / "model", ignore=shutil.ignore_patterns("onnx")))
    before = {path: path.read_bytes() for path in model.rglob("*") if path.is_file()}
    known = load_config(model)
    code, said, wrong = dynadiff("sampler", "--model", model)
    assert (code, wrong) == (0, "")
    assert said.splitlines()[0].startswith(f"{model}: {known.sampling()}, ")
    assert len(said.splitlines()) == 1 + known.steps
    assert {path: path.read_bytes() for path in model.rglob("*") if path.is_file()} == before
    asked = ("--spacing", "ays", "--steps", 10, "--guidance", "5@501-999")
    code, said, wrong = dynadiff("sampler", "--model", model, *asked)
    assert (code, wrong) == (0, "")
    first, *rows = said.splitlines()
    assert first == f"{model}: DDIM, 10 steps ays, guidance 5@501-999, 15 evaluations of the U-Net a picture"
    assert rows == [
        f"{t:5d}  guidance {5 if t > 500 else 1}" for t in (999, 850, 736, 645, 545, 455, 343, 233, 124, 24)
    ]
    sampling = Sampling("ddim", 10, Between(5.0, 501, 999), spacing="ays")
    assert load_config(model) == known.sampled(sampling)
    after = {path: path.read_bytes() for path in model.rglob("*") if path.is_file()}
    assert {path.name for path in after if after[path] != before[path]} == {"model.json"}
    code, _, wrong = dynadiff("sampler", "--model", model, "--steps", 100)
    assert (code, wrong.count("\n"), "100 steps at ays are not among 1000 timesteps" in wrong) == (2, 1, True)
    assert {path: path.read_bytes() for path in model.rglob("*") if path.is_file()} == after
