"""What is built holds what it needs and no more, and decodes where nothing but its base dependencies is installed."""

import json
import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest

pytest.importorskip("build", minversion="1.3", reason="build is not installed: pip install '.[dev]'")
pytest.importorskip("hatchling.build", reason="hatchling is not installed: pip install '.[dev]'")
pytest.importorskip("pip")
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
ASSETS = "dynadiff/assets"
ENGINE = ("brain.onnx", "step.onnx", "decoder.onnx", "engine.json", "probe.npz", "mask.nii.gz")
SHIPPED = {f"{ASSETS}/phantom/onnx/{name}" for name in ENGINE} | {f"{ASSETS}/training/zero2.json"}


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist of this source, and the wheel that is built from that sdist, as an index gets them."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    (path,) = dist.glob("*.whl")
    return path


def test_the_wheel_holds_the_packages_what_they_read_and_the_licence(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    own = {name for name in names if ".dist-info/" not in name}
    assert {name.split("/")[0] for name in own} == {"dynadiff", "realtime", "replay", "exporters"}
    assert own >= SHIPPED
    there = {str(path.relative_to(ROOT)) for path in (ROOT / ASSETS).rglob("*") if path.is_file()}
    assert {name for name in own if name.startswith(ASSETS)} == {name for name in there if "__pycache__" not in name}
    assert [name for name in names if name.endswith(".dist-info/licenses/LICENSE")]
    assert not [name for name in names if Path(name).name.startswith(("test_", "conftest")) or name.endswith(".pyc")]


def test_the_sdist_holds_tests_documents_benchmarks_and_the_makefile(dist: Path) -> None:
    (path,) = dist.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames()}
    assert names >= SHIPPED | {"Makefile", "README.md", "LICENSE", "pyproject.toml", "tests/conftest.py"}
    for folder in ("tests", "docs", "benchmarks", "dynadiff", "realtime", "replay", "exporters"):
        ours = {str(path.relative_to(ROOT)) for path in (ROOT / folder).rglob("*.*") if path.is_file()}
        assert not {name for name in ours - names if "__pycache__" not in name and "/." not in name}


def base_dependencies(requirements: list[str]) -> dict[str, set[str]]:
    """What is required without any extra, and what that requires, by name: what each has in site-packages."""
    found: dict[str, set[str]] = {}
    waiting = [(Requirement(text), "") for text in requirements]
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        installed = distribution(requirement.name)
        name = canonicalize_name(requirement.name)
        if name not in found:
            found[name] = {
                file.parts[0] for file in installed.files or () if file.parts[0] not in ("..", "__pycache__")
            }
            waiting += [(Requirement(text), "") for text in installed.requires or ()]
        waiting += [(Requirement(text), extra) for extra in requirement.extras for text in installed.requires or ()]
    return found


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel and, as links, its base dependencies: no torch, no pip, no source tree."""
    home = tmp_path_factory.mktemp("bare") / "venv"
    venv.create(home, symlinks=True)
    python = home / "bin" / "python"
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python), "install"]
    subprocess.run([*command, "--quiet", "--no-deps", "--no-index", str(wheel)], check=True)
    (site,) = home.glob("lib/python*/site-packages")
    (metadata,) = site.glob("dynadiff_realtime-*.dist-info/METADATA")
    required = [line.split(": ", 1)[1] for line in metadata.read_text("utf-8").splitlines() if "Requires-Dist" in line]
    for name, entries in base_dependencies(required).items():
        for entry in entries:
            (site / entry).symlink_to(Path(str(distribution(name).locate_file(entry))))
    return home / "bin"


@pytest.fixture
def outside(tmp_path: Path) -> dict[str, str]:
    """The environment of somebody who has nothing of this repository: its own home and cache, no paths of Python."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "XDG_", "VIRTUAL"))}
    return kept | {"HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHONNOUSERSITE": "1"}


WHERE = """
import dynadiff, exporters, realtime, replay, importlib.util, json
heavy = ("torch", "diffusers", "accelerate", "onnx", "sklearn", "nilearn", "pytest")
print(json.dumps([[m.__file__ for m in (dynadiff, exporters, realtime, replay)],
                  [name for name in heavy if importlib.util.find_spec(name)]]))
"""


def test_the_wheel_decodes_a_run_where_there_is_no_torch(
    bare: Path, outside: dict[str, str], free_address: str, tmp_path: Path
) -> None:
    """In an empty folder, the phantom's run is made, served and decoded by two processes; one sampling step will do."""
    here = tmp_path / "empty"
    here.mkdir()
    how = {"cwd": here, "env": outside, "text": True}
    files, heavy = json.loads(subprocess.check_output([bare / "python", "-c", WHERE], **how))
    assert all(Path(file).is_relative_to(bare.parent) for file in files)
    assert heavy == []
    replay = subprocess.Popen(
        [bare / "realtime", "replay", "--speed", "0", "--bind", free_address],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **how,
    )  # fmt: skip
    try:
        decode = [bare / "realtime", "decode", "--headless", "--connect", free_address, "--steps", "1", "--out", "X"]
        done = subprocess.run(decode, capture_output=True, check=False, timeout=240, **how)
        if done.returncode == 0:
            replay.wait(60)
    finally:
        replay.kill()
        said, _ = replay.communicate()
    assert done.returncode == 0, said + done.stdout + done.stderr
    assert "received whole by: decoder" in said
    summary = json.loads((here / "X" / "summary.json").read_text())
    counts = ("volumes_received", "reconstructions", "skipped", "ended", "recording")
    assert [summary[name] for name in counts] == [226, 221, 0, "complete", "complete"]
    assert len(list((here / "X" / "reconstructions").glob("*.png"))) == 221
    versions = json.loads((here / "X" / "run.json").read_text())["versions"]
    assert "torch" not in versions
    assert versions["dynadiff-realtime"] == wheel_version(bare)


def wheel_version(bare: Path) -> str:
    (folder,) = bare.parent.glob("lib/python*/site-packages/dynadiff_realtime-*.dist-info")
    return folder.name.removesuffix(".dist-info").split("-")[1]
