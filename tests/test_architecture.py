"""The house: imports run downwards, every package has its floor and its sentence, and a folder is a concept."""

import ast
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HOUSES = ("realtime", "replay", "exporters", "dynadiff")
LAYERS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]["layers"]
FLOORS = [room.strip() for layer in LAYERS for room in layer.split("|")]
# Where an import stands in a function: so that help is quick, and a runtime is loaded only if it is asked for.
LAZY = (
    "dynadiff/cli/",
    "realtime/cli.py",
    "dynadiff/engines/open.py",
    "dynadiff/scores/judges/dreamsim.py",
    "dynadiff/scores/judges/open.py",
    "dynadiff/training/logs.py",
    "exporters/tensorrt.py",
)
FILES = [path for house in HOUSES for path in sorted((ROOT / house).rglob("*.py"))]


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as lint; lint()", "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages and their contract, without assets."""
    folder = tmp_path_factory.mktemp("house")
    shutil.copy(ROOT / "pyproject.toml", folder)
    for house in HOUSES:
        shutil.copytree(ROOT / house, folder / house, ignore=shutil.ignore_patterns("phantom/onnx", "*.safetensors"))
    return folder


@pytest.mark.parametrize(
    ("file", "upward"),
    [
        ("dynadiff/base/errors.py", "import dynadiff.recordings.run"),
        ("dynadiff/signal/cleaning.py", "from dynadiff.networks import schedule"),
        ("dynadiff/training/fit.py", "def later():\n    from dynadiff.evaluation import evaluate"),
        ("replay/server.py", "import realtime.decoding.stages"),
        ("realtime/records/summary.py", "import dynadiff.training.presets"),
        ("dynadiff/scores/ten.py", "import dynadiff.scores.judges.judge"),
    ],
)
def test_an_import_that_runs_upwards_is_found(copy: Path, file: str, upward: str) -> None:
    clean = (copy / file).read_text()
    (copy / file).write_text(f"{clean}\n\n{upward}\n")
    done = lint(copy)
    (copy / file).write_text(clean)
    assert done.returncode == 1, done.stdout
    assert "broken" in done.stdout


def test_the_imports_as_they_are_run_downwards(copy: Path) -> None:
    done = lint(copy)
    assert done.returncode == 0, done.stdout


def test_every_package_has_a_floor() -> None:
    packages = {".".join(path.parent.relative_to(ROOT).parts) for path in FILES}
    rooms = {package for package in packages if package.rpartition(".")[0] in FLOORS}  # of a floor's own
    assert packages - rooms - {"realtime", "dynadiff", *FLOORS} == set()
    assert all((ROOT / floor.replace(".", "/")).is_dir() or (ROOT / f"{floor.replace('.', '/')}.py").is_file()
               for floor in FLOORS)  # fmt: skip


def test_a_package_says_what_it_knows_and_what_it_does_not() -> None:
    for path in ROOT.glob("*/*/__init__.py"):
        if path.parts[-3] in HOUSES:
            said = ast.get_docstring(ast.parse(path.read_text())) or ""
            assert " kn" in said or "no code" in said, path
            assert any(word in said for word in (" no ", " not ", "othing")), path


def test_a_folder_is_a_concept_of_three_to_fifteen_files() -> None:
    for folder in {path.parent for path in FILES}:
        count = len(list(folder.glob("*.py")))
        assert 3 <= count <= 15 or folder.name in ("assets", "dynadiff"), f"{folder.name}: {count}"


def test_no_import_hides_in_a_function_but_to_keep_something_heavy_out() -> None:
    hidden = {
        str(path.relative_to(ROOT))
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
        for inner in ast.walk(node)
        if isinstance(inner, ast.Import | ast.ImportFrom)
    }
    assert {name for name in hidden if not name.startswith(LAZY)} == set()
