"""What a decode that was killed or broken off left in its folder, and whether it may be gone on with.

Knows the files of ``realtime.records.record``; knows no engine, no feed and no window. A recording holds everything
that was received up to the end of the process (not of the power: the writing of the disk is left to the operating
system), so statistics are rebuilt from it and only what was not yet painted is painted.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from dynadiff.base.errors import UserError
from realtime.feed.recording import Recording
from realtime.feed.wire import Message

Line = dict[str, object]
Needed = Mapping[str, type]  # what a file of an earlier decode must say
HEADER: Needed = {"options": dict, "model": dict, "resumes": int}
SUMMARY: Needed = {"ended": str}
LINE: Needed = {"volume": int, "done": str, "latency_ms": dict}
PAINTED: Needed = {"total": float}
CHOICES = ("engine", "seed", "steps", "guidance", "features")  # that make other pictures of the same run


@dataclass(frozen=True)
class Earlier:
    """An unfinished decode."""

    folder: Path
    recording: Recording  # read to its end
    lines: Mapping[int, Line]  # by volume, what became of it
    intact: int  # bytes of whole lines in volumes.jsonl
    header: Mapping[str, object]  # run.json, empty if it was not written yet

    def messages(self) -> Iterator[Message]:
        """What was received, from the file, which may grow meanwhile."""
        return islice(Recording(self.recording.path), self.recording.position.next_seq)

    @property
    def resumes(self) -> int:
        """How often it was gone on with before."""
        return int(str(self.header.get("resumes", 0)))


def earlier(folder: Path | None) -> Earlier | None:
    """The unfinished decode in a folder, None where the folder is new or empty.

    UserError where it holds something else: a decode that ended, or other files.
    """
    if folder is None or not folder.is_dir() or not any(folder.iterdir()):
        return None
    recorded = folder / "feed.rec"
    if not recorded.is_file() or _ended(folder):
        return None
    recording = Recording(recorded)
    for _ in recording:
        pass
    lines, intact = _lines(folder / "volumes.jsonl")
    return Earlier(folder, recording, lines, intact, _header(folder / "run.json"))


def check_same(before: Earlier, header: Mapping[str, object]) -> None:
    """UserError unless ``header``, the run.json to be written, is of a decode that paints the same pictures."""
    if not before.header:
        return
    then, now = (_choices(h) for h in (before.header, header))
    for name, value in now.items():
        if then.get(name) != value:
            raise UserError(
                f"{before.folder} was begun with {name} {then.get(name)} and not {value}: "
                "give the same choices to go on with it, or another folder with --out"
            )


def _choices(header: Mapping[str, object]) -> Line:
    """As JSON would give them back."""
    options, model = (json.loads(json.dumps(header[part])) for part in ("options", "model"))
    return {name: options.get(name) for name in CHOICES} | {"model": model.get("files_sha256")}


def _ended(folder: Path) -> bool:
    summary = folder / "summary.json"
    return summary.is_file() and _checked(summary, _json(summary.read_bytes()), SUMMARY)["ended"] != "broken off"


def _header(path: Path) -> Line:
    return _checked(path, _json(path.read_bytes()), HEADER) if path.is_file() else {}


def _lines(path: Path) -> tuple[dict[int, Line], int]:
    """Whole lines by volume, and their bytes: a process that is killed may leave half a line."""
    content = path.read_bytes() if path.is_file() else b""
    whole = content[: content.rfind(b"\n") + 1]
    lines = [_checked(path, _json(line), LINE) for line in whole.split(b"\n")[:-1]]
    for line in lines:
        if line["done"] == "painted":
            _checked(path, line["latency_ms"], PAINTED)
    return {int(str(line["volume"])): line for line in lines}, len(whole)


def _json(text: bytes) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _checked(path: Path, value: object, needed: Needed) -> Line:
    """A JSON object with what is needed. UserError where it is none: what is read here was written whole."""
    if isinstance(value, dict) and all(type(value.get(name)) is kind for name, kind in needed.items()):
        return value
    raise UserError(f"{path} is damaged: restore it from a copy, or decode to another folder with --out")
