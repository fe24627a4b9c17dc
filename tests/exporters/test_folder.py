"""Engine folders are whole or not there: two builders, a killed one, a full disk."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from dynadiff.assets import EMBEDDED
from dynadiff.base.errors import UserError
from dynadiff.engines.contract import MANIFEST, Manifest
from exporters.folder import building, write_engine

BLUEPRINT = Manifest.load(EMBEDDED / "onnx")


def filled(text: str = "graph"):
    def fill(folder: Path) -> Manifest:
        (folder / "step.onnx").write_text(text)
        (folder / "step.data").write_text("weights")
        return BLUEPRINT

    return fill


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_lists_all_that_is_in_it_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    manifest = write_engine(tmp_path / "new" / "engine", filled())
    assert sorted(manifest.files) == ["step.data", "step.onnx"]
    assert Manifest.load(tmp_path / "new" / "engine") == replace(BLUEPRINT, files=manifest.files)
    assert left(tmp_path / "new") == ["engine"]


def test_every_file_is_on_the_disk_before_the_folder_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[tuple[str, bool]] = []

    def fsync(handle: int) -> None:
        name = Path(os.readlink(f"/proc/self/fd/{handle}")).name
        flushed.append((name, (tmp_path / "new" / "engine").exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    write_engine(tmp_path / "new" / "engine", filled())
    *files, folder, beside = flushed
    assert sorted(files) == [(name, False) for name in sorted([MANIFEST, "step.data", "step.onnx"])]
    assert (folder, beside) == (("engine", False), ("new", True))


def test_an_engine_is_replaced_by_the_next(tmp_path: Path) -> None:
    write_engine(tmp_path / "[e*]", filled("old"))
    write_engine(tmp_path / "[e*]", filled("new"))
    assert (tmp_path / "[e*]" / "step.onnx").read_text() == "new"
    assert left(tmp_path) == ["[e*]"]


def test_a_builder_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    write_engine(tmp_path / "engine", filled("old"))

    def fails(folder: Path) -> Manifest:
        (folder / "step.onnx").write_text("half")
        raise UserError("the graph is not taken")

    for name in ("engine", "other"):
        with pytest.raises(UserError, match="not taken"):
            write_engine(tmp_path / name, fails)
    assert left(tmp_path) == ["engine"]
    assert (tmp_path / "engine" / "step.onnx").read_text() == "old"


def test_what_is_no_engine_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    for out in (tmp_path, tmp_path / "thesis.txt"):
        with pytest.raises(UserError, match="is no engine folder"):
            write_engine(out, filled())
    with pytest.raises(UserError, match=r"cannot write to .*give another folder with --out"):
        write_engine(tmp_path / "thesis.txt" / "engine", filled())
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def test_a_disk_too_small_is_said_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the disk is too full for .*at least 1000000000000\.0 MB and .* MB are free"):
        write_engine(tmp_path / "engine", filled(), needed=10**18)
    assert left(tmp_path) == []


def test_a_disk_that_fills_up_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    def fill(folder: Path) -> Manifest:
        (folder / "step.onnx").write_bytes(bytes(2_000_000))
        with open("/dev/full", "wb", buffering=0) as disk:
            disk.write(b"more")
        return BLUEPRINT

    with pytest.raises(UserError, match=r"at least 2\.0 MB .*make room"):
        write_engine(tmp_path / "engine", fill)
    assert left(tmp_path) == []


BUILDER = """
import sys, time
from pathlib import Path
from dynadiff.engines.contract import Manifest
from dynadiff.assets import EMBEDDED
from exporters.folder import write_engine
out, mark = Path(sys.argv[1]), Path(sys.argv[2])
def fill(folder):
    (folder / "step.onnx").write_text("from another process")
    mark.touch()
    while mark.exists():
        time.sleep(0.01)
    return Manifest.load(EMBEDDED / "onnx")
write_engine(out, fill)
"""


@pytest.fixture
def other_builder(tmp_path: Path):
    """A process that is in the middle of building ``engine``, until the file ``mark`` is removed."""
    mark = tmp_path / "mark"
    process = subprocess.Popen([sys.executable, "-c", BUILDER, str(tmp_path / "engine"), str(mark)])
    deadline = time.monotonic() + 60
    while not mark.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    yield process, mark
    process.kill()
    process.wait()


def test_a_killed_builder_leaves_nothing_under_the_name_and_the_next_clears_up(tmp_path: Path, other_builder) -> None:
    process, mark = other_builder
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    mark.unlink()
    assert not (tmp_path / "engine").exists()
    assert any(name.endswith(".part") for name in left(tmp_path))
    write_engine(tmp_path / "engine", filled())
    assert left(tmp_path) == ["engine"]


CUT_IN_TWO = """
import os, signal, sys
from pathlib import Path
sys.argv.append("unmarked")
Path.touch = lambda path: None  # nobody waits for the mark
plain = Path.rename
def rename(path, target):
    if path.parent.suffix == ".part":
        STOP
    return plain(path, target)
Path.rename = rename
"""


@pytest.mark.parametrize(
    "stop", ["os.kill(os.getpid(), signal.SIGKILL)", "Path.rename = plain; raise KeyboardInterrupt"]
)
def test_between_two_renames_neither_engine_is_lost(tmp_path: Path, stop: str) -> None:
    """The old one has been moved away, the new one has not its name yet."""
    write_engine(tmp_path / "engine", filled("old"))
    program = CUT_IN_TWO.replace("STOP", stop) + BUILDER
    died = subprocess.run([sys.executable, "-c", program, str(tmp_path / "engine")], capture_output=True, timeout=60)
    assert died.returncode != 0
    with building(tmp_path / "engine"):
        assert (tmp_path / "engine" / "step.onnx").read_text() == "from another process"
        Manifest.load(tmp_path / "engine")
    assert left(tmp_path) == ["engine"]


def test_a_second_builder_waits_and_says_so(tmp_path: Path, other_builder) -> None:
    process, mark = other_builder
    said = []

    def say(line: str) -> None:
        said.append(line)
        assert not (tmp_path / "engine").exists()
        mark.unlink()  # lets the first one go on

    def fill(folder: Path) -> Manifest:
        assert (tmp_path / "engine" / MANIFEST).exists()  # the first one has finished
        return filled("second")(folder)

    write_engine(tmp_path / "engine", fill, say)
    assert said == [f"waiting for another process that builds {tmp_path / 'engine'}"]
    assert process.wait(30) == 0
    assert (tmp_path / "engine" / "step.onnx").read_text() == "second"
    assert left(tmp_path) == ["engine"]
