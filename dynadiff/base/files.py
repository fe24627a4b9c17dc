"""Files that are whole or absent: written beside their place, and moved there in one rename. And who may write them.

A crash, or a full disk, keeps what was there before.
"""

import errno
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import DTypeLike

from dynadiff.base.errors import UserError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
UNFINISHED = re.compile(r"\.\d+\..+")  # .PID.NAME, what `atomic` writes to


class DiskFull(UserError, OSError):
    """No space is left: for the command line a sentence, for whoever minds the disk an error of the system."""

    def __init__(self, path: Path, error: OSError) -> None:
        OSError.__init__(self, error.errno or errno.ENOSPC, error.strerror or str(error), str(path))

    def __reduce__(self) -> tuple[type["DiskFull"], tuple[Path, OSError]]:  # it travels from worker processes
        return DiskFull, (Path(self.filename), OSError(self.errno, self.strerror))

    def __str__(self) -> str:
        return (
            f"no space is left for {self.filename} ({self.strerror}): free some and start again, "
            "what was there before is whole"
        )


@contextmanager
def atomic(path: Path, durable: bool = True) -> Iterator[Path]:
    """A path to write to, which becomes ``path`` when the block ends well; its folder is made.

    ``durable`` returns only when it is on the disk, safe from a power cut too; it takes milliseconds.
    Raises DiskFull where the disk is full or the user's share of it used up.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{os.getpid()}.{path.name}")  # the suffix stays: some writers add their own
    try:
        yield new
        if durable:
            flush(new)
        new.replace(path)
        if durable:
            flush(path.parent)
    except OSError as error:
        cut_short = error.errno is None and "requested and" in str(error)  # NumPy's words for it, without a number
        if not cut_short and error.errno not in FULL:
            raise
        raise DiskFull(path, error) from error
    finally:
        new.unlink(missing_ok=True)


def unfinished(path: Path) -> bool:
    """Whether it is what somebody is writing, or was, under a name that is not yet its own."""
    return bool(UNFINISHED.fullmatch(path.name)) and path.is_file()


def sweep(folder: Path) -> None:
    """Take away what killed processes were writing below a folder, for whoever is alone there."""
    for path in folder.rglob(".*"):
        if unfinished(path):
            path.unlink()


@contextmanager
def locked(path: Path, wait: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Hold the lock of that file, which is gone afterwards; a process that dies lets it go.

    ``wait`` is called if another process holds it.
    """
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        wait()
        lock.acquire()
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # while it is held: who waits for it notices, and makes it anew
        lock.release()


def new_array(path: Path, dtype: DTypeLike, shape: tuple[int, ...]) -> np.memmap[Any, Any]:
    """A .npy file to fill piece by piece, its space taken at once: a mapped file on a full disk kills the process."""
    array: np.memmap[Any, Any] = np.lib.format.open_memmap(path, "w+", dtype, shape)
    if hasattr(os, "posix_fallocate"):
        with path.open("rb+") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def flush(path: Path) -> None:
    """Returns when what was written to a file, or the names that a folder now holds, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def file_digest(path: Path) -> str:
    """sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
