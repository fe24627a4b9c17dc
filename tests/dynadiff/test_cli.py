"""The training command line: quick help, and one sentence with exit code 2 for what cannot be done."""

import subprocess
import sys
from pathlib import Path

import pytest


def dynadiff(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-c", "from dynadiff.cli import main; main()", *map(str, arguments)]
    return subprocess.run(program, capture_output=True, text=True, check=False, timeout=120)


def test_help_imports_nothing_heavy() -> None:
    heavy = "('torch', 'numpy', 'cv2', 'onnxruntime')"
    program = f"import sys, dynadiff.cli; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "[]"
    assert "export" in dynadiff("--help").stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("export", "tflite", "--out", "x"), "choose onnx, trt or trt-rtx"),
        (("export", "onnx", "--targets", "8.9", "--out", "x"), "--targets belongs to trt-rtx"),
        (("study", "astrology"), "choose phantom, haxby or miyawaki"),
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
