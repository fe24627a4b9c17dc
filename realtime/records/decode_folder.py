"""What a decode leaves behind: a new folder, written as it goes and readable after a crash at any moment.

``run.json``, ``feed.rec`` (the received messages), ``volumes.jsonl`` (one line per volume),
``reconstructions/`` and at the end ``summary.json``. Knows files; knows no engine, no window and no score.
"""

import json
import os
import platform
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, fields
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dynadiff.base.errors import UserError
from dynadiff.base.files import atomic, locked, sweep
from dynadiff.engines.contract import Manifest
from dynadiff.recordings.pictures import read_picture
from realtime.feed.recording import RecordingWriter
from realtime.feed.wire import Message, RunStart
from realtime.records.resume import VERSIONS, Earlier

# A photo of 512 pixels in a third of the time that the default takes, and no larger.
PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP]
PNG += [cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
PACKAGES = ("dynadiff-realtime", "numpy", "onnxruntime", "opencv-python", "pyzmq", "nibabel", "torch")
LOCK = ".lock"
AGREEMENT = (
    "A recording of volumes or stimuli of the Natural Scenes Dataset falls under its data agreement: "
    "research and education only, not to be passed on to anybody, in part or in whole."
)


def check_empty(folder: Path) -> None:
    """UserError, naming a free folder, where something is there already."""
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserError(f"{folder} is in use and is never overwritten: give --out {free_name(folder)}")


def new_folder(out: Path | None, name: str, now: datetime) -> Path:
    """Make the folder of a decode: ``out``, which must be empty or new, or a free one in ``decodes/``."""
    folder = Path("decodes") / f"{name}-{now:%Y%m%d-%H%M%S}" if out is None else out
    try:
        folder = free_name(folder) if out is None else out
        check_empty(folder)
        (folder / "reconstructions").mkdir(parents=True)
    except OSError as error:
        raise UserError(f"cannot write to {folder} ({error.strerror}): give another folder with --out") from None
    return folder


def free_name(folder: Path) -> Path:
    """The folder's name, or the first of name-2, name-3 … that does not exist."""
    named = folder if folder.name else folder.resolve()  # "." has no name
    candidate, n = folder, 1
    while candidate.exists():
        n += 1
        candidate = named.parent / f"{named.name}-{n}"
    return candidate


def describe(start: RunStart, manifest: Manifest, options: Mapping[str, object], resumes: int = 0) -> dict[str, object]:
    """What run.json says: whose run, with which choices, decoded by what, and how often it was gone on with."""
    header = {field.name: getattr(start, field.name) for field in fields(start)}
    return {
        "source": start.source,
        "header": header | {"events": len(start.events)},
        "options": {name: str(value) if isinstance(value, Path) else value for name, value in options.items()},
        "model": {
            "kind": manifest.kind,
            "files_sha256": manifest.files,
            "mask_sha256": manifest.mask_sha256,
            "cleaning": asdict(manifest.cleaning),
            "steps": manifest.steps,
            "guidance": manifest.guidance,
            "spacing": manifest.spacing,
            "sampler": [asdict(row) for row in manifest.sampler],
            "evaluations": sum(manifest.evaluations),
        },
        "resumes": resumes,
        "versions": versions(),
        "data_agreement": AGREEMENT,
    }


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """The right to write the folder of a decode. UserError while another process has it; it falls with that process."""

    def refuse() -> None:
        raise UserError(f"another decode is writing {folder}: wait until it ends, or give another folder with --out")

    with locked(folder / LOCK, refuse):
        yield


class DecodeFolder:
    """The files of one run, each line and each picture on disk as soon as it is written.

    A disk that is full, or gone, stops the recording and nothing else: ``stopped`` says why, and from then on only
    ``json`` is still tried.
    """

    def __init__(self, folder: Path, before: Earlier | None = None) -> None:
        """``before`` is what lies in the folder already and is gone on with."""
        self.folder = folder
        self.stopped = ""
        self._held = ExitStack()
        self._held.enter_context(alone_in(folder))
        if before:
            sweep(folder)
        self._recorded = before.recording.position.next_seq if before else 0
        self._recorder = RecordingWriter(folder / "feed.rec", after=before.recording if before else None)
        volumes = folder / "volumes.jsonl"
        if before and volumes.exists():
            os.truncate(volumes, before.intact)
        self._volumes = volumes.open("a", encoding="utf-8", buffering=1)

    def message(self, message: Message) -> None:
        """Append a message of the feed, unless it is there, so that the run can be replayed bit for bit."""
        if message.seq >= self._recorded:
            self.attempt(lambda: self._recorder.write(message))

    def volume(self, line: Mapping[str, object]) -> None:
        """Append what became of one volume."""
        self.attempt(lambda: self._volumes.write(json.dumps(line) + "\n"))

    def picture(self, volume: int, picture: NDArray[np.uint8]) -> str:
        """Write the reconstruction (h, w, 3) RGB of the window that ends with ``volume``; give its name."""
        name = f"reconstructions/vol-{volume:04d}.png"
        self.attempt(lambda: write_png(self.folder / name, picture))
        return name

    def has_picture(self, volume: int) -> bool:
        """Whether the reconstruction of that window was written."""
        return (self.folder / f"reconstructions/vol-{volume:04d}.png").is_file()

    def read_picture(self, volume: int) -> NDArray[np.uint8]:
        """A reconstruction written before, (h, w, 3) RGB."""
        return read_picture(self.folder / f"reconstructions/vol-{volume:04d}.png")

    def json(self, name: str, content: Mapping[str, object]) -> None:
        """Write a JSON file; it is either whole or not there."""
        content_bytes = VERSIONS.write(content).encode()
        self.attempt(lambda: write_bytes(self.folder / name, content_bytes), again=True)

    def close(self) -> None:
        for file in (self._volumes, self._recorder):
            self.attempt(file.close, again=True)
        self._held.close()

    def attempt(self, write: Callable[[], object], again: bool = False) -> None:
        """Write, unless the disk refused to before."""
        if self.stopped and not again:
            return
        try:
            write()
        except OSError as error:
            self.stopped = self.stopped or f"{error.strerror}"


def write_png(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write an RGB picture (h, w, 3); the file is either whole or not there."""
    png = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), PNG)[1]
    write_bytes(path, png.tobytes())


def versions() -> dict[str, str]:
    """Versions of Python, the machine and the packages that a decode depends on, of those installed."""
    found = {"python": platform.python_version(), "machine": platform.platform()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole; it is with the operating system then, which is enough to outlive this process."""
    with atomic(path, durable=False) as new:
        new.write_bytes(content)
