"""Files that are whole or absent: written beside their place, flushed to the disk, and moved there in one rename.

A crash, or a full disk, keeps what was there before.
"""

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from dynadiff.base.errors import UserError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A path to write to, which becomes ``path`` when the block ends well; its folder is made.

    Raises UserError where the disk is full or the user's share of it used up.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{os.getpid()}.{path.name}")  # the suffix stays: some writers add their own
    try:
        yield new
        flush(new)
        new.replace(path)
        flush(path.parent)
    except OSError as error:
        cut_short = error.errno is None and "requested and" in str(error)  # NumPy's words for it, without a number
        if not cut_short and error.errno not in FULL:
            raise
        raise UserError(
            f"no space is left for {path} ({error.strerror or error}): free some and start again, "
            "what was there before is whole"
        ) from error
    finally:
        new.unlink(missing_ok=True)


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
