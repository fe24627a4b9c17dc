"""What a decode that was killed or broken off left in its folder, and whether it may be gone on with.

Knows the files of ``realtime.records.decode_folder``; knows no engine, no feed and no window. A recording holds
everything that was received up to the end of the process (not of the power: the writing of the disk is left to the
operating system), so statistics are rebuilt from it and only what was not yet painted is painted.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from dynadiff.base.documents import Plain, Versions, read_part, write_document
from dynadiff.base.errors import UserError
from realtime.feed.recording import Recording
from realtime.feed.wire import Message

T = TypeVar("T")
UNFINISHED = ("broken off", "interrupted", "failed")  # how a run ended that can be gone on with
CHOICES = ("engine", "seed", "steps", "guidance", "spacing", "quality")  # that make other pictures of the same run


def _scored_once(old: Plain) -> Plain:
    """A summary of the first version compared pictures in one space, and when the run was over."""
    return old | {"identification_beside": [], "identification_running": []} if "ended" in old else old


VERSIONS = Versions((_scored_once,))  # of run.json and summary.json; the lines of volumes.jsonl are of run.json's


@dataclass(frozen=True)
class Line:
    """What a line of ``volumes.jsonl`` must say."""

    volume: int
    done: str  # painted, skipped, …
    latency_ms: dict[str, float]
    lag_ms: float | None = 0.0  # None: it was sent before the decoder was there

    def __post_init__(self) -> None:
        if self.done == "painted" and "total" not in self.latency_ms:
            raise ValueError("a picture without its latency")


@dataclass(frozen=True)
class Header:
    """What ``run.json`` must say."""

    options: dict[str, Any]
    model: dict[str, Any]
    resumes: int  # how often it was gone on with before


@dataclass(frozen=True)
class Ending:
    """What ``summary.json`` must say."""

    ended: str


@dataclass(frozen=True)
class Earlier:
    """An unfinished decode."""

    folder: Path
    recording: Recording  # read to its end
    lines: Mapping[int, Line]  # by volume, what became of it
    intact: int  # bytes of whole lines in volumes.jsonl
    header: Header | None  # None if it was not written yet

    def messages(self) -> Iterator[Message]:
        """What was received, from the file, which may grow meanwhile."""
        return islice(Recording(self.recording.path), self.recording.position.next_seq)

    @property
    def resumes(self) -> int:
        """How often it was gone on with before."""
        return self.header.resumes if self.header else 0


def earlier(folder: Path | None) -> Earlier | None:
    """The unfinished decode in a folder, None where the folder is new or empty.

    UserError where it holds something else: a decode that ended, or other files.
    """
    if folder is None or not folder.is_dir() or not any(folder.iterdir()):
        return None
    recorded = folder / "feed.rec"
    if not recorded.is_file() or _ended(folder):
        return None
    header = folder / "run.json"
    said = _document(header, Header) if header.is_file() else None
    recording = Recording(recorded)
    for _ in recording:
        pass
    lines, intact = _lines(folder / "volumes.jsonl")
    return Earlier(folder, recording, lines, intact, said)


def check_same(before: Earlier, header: Mapping[str, object]) -> None:
    """UserError unless ``header``, the run.json to be written, is of a decode that paints the same pictures."""
    if before.header is None:
        return
    then, now = _choices(before.header), _choices(read_part(write_document(header), Header))
    for name, value in now.items():
        if then[name] != value:
            raise UserError(
                f"{before.folder} was begun with {name} {then[name]} and not {value}: "
                "give the same choices to go on with it, or another folder with --out"
            )


def _choices(header: Header) -> dict[str, object]:
    chosen: dict[str, object] = {name: header.options.get(name) for name in CHOICES}
    return chosen | {"model": header.model.get("files_sha256")}


def _ended(folder: Path) -> bool:
    path = folder / "summary.json"
    return path.is_file() and _document(path, Ending).ended not in UNFINISHED


def _lines(path: Path) -> tuple[dict[int, Line], int]:
    """Whole lines by volume, and their bytes: a process that is killed may leave half a line."""
    content = path.read_bytes() if path.is_file() else b""
    whole = content[: content.rfind(b"\n") + 1]
    with _written_whole(path):
        lines = [read_part(line, Line) for line in whole.split(b"\n")[:-1]]
    return {line.volume: line for line in lines}, len(whole)


def _document(path: Path, kind: type[T]) -> T:
    with _written_whole(path):
        return read_part(VERSIONS.current(path.read_bytes(), path), kind)


@contextmanager
def _written_whole(path: Path) -> Iterator[None]:
    """UserError where what is read of a file does not say what it must."""
    try:
        yield
    except ValueError:
        raise UserError(f"{path} is damaged: restore it from a copy, or decode to another folder with --out") from None
