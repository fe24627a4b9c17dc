"""Writes an engine folder so that it is never seen half done. Knows files; knows no model and no runtime.

The folder is filled under a temporary name beside its final one, written through to the disk and renamed. Who builds
holds a lock: a second builder of the same folder waits; what a killed one left behind is put in its place by the next
where it was whole, and removed where not.
"""

import glob
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from dynadiff.base.errors import UserError
from dynadiff.base.files import FULL, file_digest, flush, locked
from dynadiff.engines.contract import MANIFEST, Manifest

EXPORTER = 2  # see Build.exporter
REPLACED = "replaced"  # the engine that was there before, in the temporary folder of the new one
Say = Callable[[str], object]
Fill = Callable[[Path], Manifest]  # writes the files of an engine into a folder; the manifest's own may be empty


def write_engine(out: Path, fill: Fill, say: Say = print, needed: int = 0) -> Manifest:
    """Make the engine folder ``out``; ``needed`` is how many bytes it will take, as far as that is known.

    Raises UserError where ``out`` is something else than an engine folder, or the disk is full.
    """
    with building(out, say):
        return place_engine(out, fill, needed)


def check_place(out: Path) -> None:
    """UserError where something else than an engine is there."""
    if out.exists() and not (out / MANIFEST).exists():
        raise UserError(f"{out} exists and is no engine folder: give --out another name")


@contextmanager
def building(out: Path, say: Say = print) -> Iterator[None]:
    """The right to write ``out``, waited for while another process has it."""
    out = out.resolve()
    check_place(out)
    with ExitStack() as held:
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(
                locked(out.parent / f".{out.name}.lock", lambda: say(f"waiting for another process that builds {out}"))
            )
        except OSError as error:
            raise UserError(
                f"cannot write to {out.parent} ({error.strerror}): give another folder with --out"
            ) from None
        for left in out.parent.glob(f".{glob.escape(out.name)}-*.part"):  # of a builder that was killed
            _clear(left, out)
        yield


def place_engine(out: Path, fill: Fill, needed: int = 0) -> Manifest:
    """What ``write_engine`` does, for who holds the lock."""
    out = out.resolve()
    free = shutil.disk_usage(out.parent).free
    if free < needed:
        raise _full(out, needed, free)
    made = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}-", suffix=".part"))
    try:
        folder = made / out.name
        folder.mkdir()
        try:
            manifest = fill(folder)
            manifest = replace(manifest, files={path.name: file_digest(path) for path in sorted(folder.iterdir())})
            manifest.save(folder)
            _write_through(folder)
        except OSError as error:
            if error.errno not in FULL:
                raise
            wanted = max(needed, sum(path.lstat().st_size for path in folder.iterdir()))
            raise _full(out, wanted, shutil.disk_usage(out.parent).free) from None
        if out.exists():
            out.rename(made / REPLACED)
        folder.rename(out)
        flush(out.parent)
        return manifest
    finally:
        _clear(made, out)


def _clear(made: Path, out: Path) -> None:
    """Remove a temporary folder; where the old engine is gone already, the new one is whole and takes its place."""
    if (made / REPLACED).exists() and not out.exists():
        (made / out.name).rename(out)
    shutil.rmtree(made)


def _full(out: Path, needed: int, free: int) -> UserError:
    return UserError(
        f"the disk is too full for {out}: it takes at least {needed / 1e6:.1f} MB and {free / 1e6:.1f} MB are free: "
        "make room, or give --out a folder on another disk"
    )


def _write_through(folder: Path) -> None:
    for path in folder.iterdir():
        flush(path)
    flush(folder)
