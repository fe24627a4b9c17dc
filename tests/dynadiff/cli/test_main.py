"""The training command line: quick help, and one sentence with exit code 2 for what cannot be done."""

import subprocess
import sys
from pathlib import Path

import pytest


def dynadiff(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-c", "from dynadiff.cli.main import main; main()", *map(str, arguments)]
    return subprocess.run(program, capture_output=True, text=True, check=False, timeout=120)


def test_help_imports_nothing_heavy() -> None:
    heavy = "('torch', 'numpy', 'cv2', 'onnxruntime')"
    program = f"import sys, dynadiff.cli.main; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "[]"
    assert "export" in dynadiff("--help").stdout


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
def test_a_wrong_word_is_one_sentence(arguments: tuple[str, ...], said: str) -> None:
    done = dynadiff(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_training_refuses_a_folder_in_use_an_empty_tree_and_an_unknown_preset(tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").touch()
    done = dynadiff("train", "--out", tmp_path / "out")
    assert (done.returncode, "--resume" in done.stderr) == (2, True)
    done = dynadiff("train", "--out", tmp_path / "new", "--root", tmp_path, "--generator", "embedded")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    done = dynadiff("train", "--out", tmp_path / "new", "--root", tmp_path, "--preset", "magic")
    assert (done.returncode, "choose one of" in done.stderr) == (2, True)


def test_a_missing_model_says_how_to_make_one(tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    done = dynadiff("export", "onnx", "--model", tmp_path / "none", "--out", tmp_path / "engine")
    assert done.returncode == 2
    assert "dynadiff train --out" in done.stderr


def test_prepare_and_train_from_the_store(tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    from dynadiff.phantom.tree import write_tree

    tree, store, out = tmp_path / "tree", tmp_path / "store", tmp_path / "out"
    write_tree(tree, [1], [1, 2], [1], shapes={1: (12, 14, 10)})
    tell = ("--root", tree, "--store", store, "--sessions", "1-3", "--picture-size", 64, "--jobs", 1)
    refused = dynadiff("prepare", *tell)
    assert (refused.returncode, "sessions 3 of subject 1" in refused.stderr) == (2, True)
    done = dynadiff("prepare", *tell, "--allow-missing")
    assert (done.returncode, "2 runs" in done.stdout, "without sessions 3" in done.stdout) == (0, True, True)
    tiny = ("--generator", "embedded", "--set", "warm_start=2", "--set", "width=8", "--set", "batch=4", "--steps", 2)
    run = ("train", "--store", store, "--out", out, *tiny)
    done = dynadiff(*run)
    assert done.returncode == 0, done.stderr
    assert "preset phantom, split first-session" in done.stdout
    assert (out / "model.json").exists()
    runs = {line.split("\t")[0] for line in (out / "work" / "test-trials.tsv").read_text().splitlines()[1:]}
    assert runs == {"sub-01_ses-nsd01_task-nsdcore_run-01"}
    changed = dynadiff(*run, "--resume", "--set", "lr=1")
    assert (changed.returncode, "begun with lr" in changed.stderr) == (2, True)
    shifted = dynadiff("train", "--store", store, "--out", tmp_path / "new", *tiny, "--shift", 1)
    assert (shifted.returncode, "prepare another store" in shifted.stderr) == (2, True)
    unknown = dynadiff("train", "--store", store, "--out", tmp_path / "new", "--set", "colour=red")
    assert (unknown.returncode, "names no choice" in unknown.stderr, unknown.stderr.count("\n")) == (2, True, 1)
