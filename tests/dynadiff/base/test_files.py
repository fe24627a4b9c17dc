"""A file is under its name whole or not at all, and on the disk before its name is."""

import errno
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from dynadiff.base.errors import UserError
from dynadiff.base.files import atomic, flush, locked, sweep


@pytest.fixture
def flushed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[str]]]:
    """What was flushed, in order, each with the names that its folder held then."""
    done: list[tuple[str, list[str]]] = []

    def fsync(handle: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{handle}"))
        done.append((path.name, sorted(os.listdir(path if path.is_dir() else path.parent))))

    monkeypatch.setattr(os, "fsync", fsync)
    return done


def test_a_file_reaches_the_disk_before_its_name_and_its_name_before_the_end(flushed, tmp_path: Path) -> None:
    with atomic(tmp_path / "run" / "kept.bin") as path:
        path.write_bytes(b"content")
        assert flushed == []
    new = f".{os.getpid()}.kept.bin"
    assert flushed == [(new, [new]), ("run", ["kept.bin"])]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, "full"), UserError),
        (PermissionError("not yours"), PermissionError),
        (KeyError(), KeyError),
    ],
)
def test_what_was_there_stays_when_the_next_is_not_finished(error, told: type[Exception], tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("old")

    def write_half() -> None:
        with atomic(tmp_path / "kept") as path:
            path.write_text("half")
            raise error

    with pytest.raises(told):
        write_half()
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("kept", "old")]
    with atomic(tmp_path / "kept") as path:
        path.write_text("new")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("kept", "new")]


def test_flushing_leaves_nothing_open_and_fails_where_there_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    before = os.listdir("/proc/self/fd")
    for path in (tmp_path / "file", tmp_path):
        flush(path)
    assert os.listdir("/proc/self/fd") == before
    with pytest.raises(FileNotFoundError):
        flush(tmp_path / "none")


def test_what_a_killed_process_was_writing_is_swept_away_and_nothing_else(tmp_path: Path) -> None:
    kept = ["picture.png", ".lock", ".hidden.png", "a/picture.png"]
    (tmp_path / ".5.notes").mkdir()
    for name in [*kept, ".41.picture.png", "a/.7.store.json"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    sweep(tmp_path)
    assert {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()} == set(kept)


HOLD = """
import sys, time
from pathlib import Path
from dynadiff.base.files import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_is_waited_for_and_falls_with_the_process_that_held_it(tmp_path: Path) -> None:
    path, told = tmp_path / ".lock", []
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"

    def wait() -> None:
        told.append("waiting")
        holder.kill()

    with locked(path, wait):
        assert told == ["waiting"]
    with locked(path, wait):
        assert told == ["waiting"]
    holder.communicate()


def test_a_full_disk_is_a_sentence_and_an_error_of_the_system(tmp_path: Path) -> None:
    sentence = r"no space is left for .*kept \(full\): free some"
    with pytest.raises(UserError, match=sentence) as told, atomic(tmp_path / "kept"):
        raise OSError(errno.ENOSPC, "full")
    assert isinstance(told.value, OSError)
    back = pickle.loads(pickle.dumps(told.value))  # as it comes from a worker process of `dynadiff prepare`
    assert (str(back), back.errno) == (str(told.value), errno.ENOSPC)
    assert (told.value.errno, told.value.strerror) == (errno.ENOSPC, "full")
