"""The training command line: quick help, and one sentence with exit code 2 for what cannot be done."""

import subprocess
import sys
from pathlib import Path

import pytest

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
    assert {"train", "prepare", "evaluate", "export", "study", "import"} <= set(done.stdout.split())
    assert not HEAVY & set(done.stderr.split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("export", "tflite", "--out", "x"), "choose onnx, trt or trt-rtx"),
        (("export", "onnx", "--targets", "8.9", "--out", "x"), "--targets belongs to trt-rtx"),
        (("train", "--out", "x", "--subjects", "one"), "--subjects one is no list of numbers"),
        (("study", "astrology"), "choose phantom, brain, trainable, subjects, haxby or miyawaki"),
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


def test_a_missing_model_says_how_to_make_one(tmp_path: Path, dynadiff) -> None:
    pytest.importorskip("diffusers")
    code, _, wrong = dynadiff("export", "onnx", "--model", tmp_path / "none", "--out", tmp_path / "engine")
    assert code == 2
    assert "dynadiff train --out" in wrong


def test_prepare_and_train_from_the_store(tmp_path: Path, phantom_of, dynadiff) -> None:
    pytest.importorskip("diffusers")
    tree, store, out = phantom_of([1], [1, 2], [1]), tmp_path / "store", tmp_path / "out"
    tell = ("--root", tree, "--store", store, "--sessions", "1-3", "--picture-size", 64, "--jobs", 1)
    code, _, wrong = dynadiff("prepare", *tell)
    assert (code, "sessions 3 of subject 1" in wrong) == (2, True)
    code, said, _ = dynadiff("prepare", *tell, "--allow-missing")
    assert (code, "2 runs" in said, "without sessions 3" in said) == (0, True, True)
    tiny = ("--generator", "embedded", "--set", "warm_start=2", "--set", "width=8", "--set", "batch=4", "--steps", 2)
    run = ("train", "--store", store, "--out", out, *tiny)
    code, said, wrong = dynadiff(*run)
    assert code == 0, wrong
    assert "preset phantom, split first-session" in said
    assert (out / "model.json").exists()
    runs = {line.split("\t")[0] for line in (out / "test-trials.tsv").read_text().splitlines()[1:]}
    assert runs == {"sub-01_ses-nsd01_task-nsdcore_run-01"}
    code, _, wrong = dynadiff(*run, "--resume", "--set", "lr=1")
    assert (code, "begun with lr" in wrong) == (2, True)
    code, _, wrong = dynadiff("train", "--store", store, "--out", tmp_path / "new", *tiny, "--shift", 1)
    assert (code, "prepare another store" in wrong) == (2, True)
    code, _, wrong = dynadiff("train", "--store", store, "--out", tmp_path / "new", "--set", "colour=red")
    assert (code, "names no choice" in wrong, wrong.count("\n")) == (2, True, 1)


def test_an_interrupted_training_says_what_is_kept_and_how_to_go_on(
    tmp_path: Path, dynadiff, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("diffusers")
    from dynadiff.training import recipe

    def interrupted(_: recipe.Recipe) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(recipe, "train_recipe", interrupted)
    code, said, wrong = dynadiff("train", "--out", tmp_path / "out", "--store", tmp_path, "--generator", "embedded")
    assert (code, wrong) == (130, "")
    assert (
        said
        == f"interrupted: {tmp_path}/out keeps what was learnt until the last checkpoint; --resume goes on from there\n"
    )
