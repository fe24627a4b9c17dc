"""A file is under its name whole or not at all, and on the disk before its name is."""

import errno
import os
from pathlib import Path

import pytest

from dynadiff.base.errors import UserError
from dynadiff.base.files import flush, whole


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
    with whole(tmp_path / "run" / "kept.bin") as path:
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
        with whole(tmp_path / "kept") as path:
            path.write_text("half")
            raise error

    with pytest.raises(told):
        write_half()
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("kept", "old")]
    with whole(tmp_path / "kept") as path:
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
