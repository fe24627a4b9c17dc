"""Malformed messages, recordings and folders of a decode, by seed, and a process that reads them under limits.

A mutation that leaves the digest wrong only ever tests the digest: most are sealed again afterwards.
"""

import json
import os
import random
import resource
import signal
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from blake3 import blake3

from dynadiff.base.errors import UserError
from dynadiff.recordings.run import Event
from realtime.feed.order import Position
from realtime.feed.recording import MAGIC, Recording
from realtime.feed.wire import (
    MAX_BUFFER,
    VERSION,
    Ack,
    Bye,
    Done,
    Hello,
    Picture,
    Refusal,
    RunEnd,
    Status,
    Volume,
    WireError,
    digest_of,
    pack,
    unpack,
)
from realtime.records.resume import check_same, earlier
from support.runs import messages, start

Frames = list[Any]  # of bytes, the huge ones of memory that is there already
ALLOWED = MAX_BUFFER * 3 // 2  # bytes of address space beyond what the process begins with: one record, and JSON
LIMIT_S = 5.0  # for one input; the largest take tens of milliseconds

SEEDS: list[Frames] = [
    [bytes(frame) for frame in pack(message)]
    for message in (
        start(events=(Event(3, 2, "4017", "dog"), Event(8, 2, "images/ä.jpg")), dummies=2),
        Volume(seq=1, run_uid="u1", index=0, t_acquired=1.0, data=np.zeros((2, 3, 4), "<i2")),
        Volume(seq=1, run_uid="u1", index=0, t_acquired=1.0, data=np.zeros((2, 3, 4), "<f4")),
        Picture(seq=2, run_uid="u1", name="4017", rgb=np.zeros((2, 4, 3), np.uint8)),
        RunEnd(seq=3, run_uid="u1", n_volumes=1, digest="0f" * 32, reason="complete"),
        Hello(role="decoder", consumer="c", run_uid="u1", next_seq=9),
        Ack(next_seq=3),
        Done(run_uid="u1", n_volumes=226, digest="ab" * 32),
        Status(run_uid="u1", published=5, sent=4, confirmed=True),
        Refusal(reason="no"),
        Bye(reason="the run is of subject 02 and the engine of 01"),
    )
]
HUGE = bytes(MAX_BUFFER + 1)
VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 3, 2**31, 2**63, 10**30, 10**400, 0.0, -0.0, 0.5, 1e-320, 1e308,
    float("nan"), float("inf"), float("-inf"), "", "a", "..", "../x", "/etc", "\\", "\0", "\ud800", "\u202e",
    "\u001b[2J", "é" * 200, "x" * 300, "x" * 5000, "NaN", "<i2", "|O", ">f8", "<U9999999", "<c16", "F", "C",
    [], {}, [[]], [None] * 3, [1, 1, 1], [2, 3, 4], [1024] * 3, [1024, 1024, 1025], [10**9] * 3, [2.0, 3, 4],
    [-2, -3, 4], [True] * 3, [0, 3, 4], [[1.0] * 4] * 4, [["a"] * 4] * 4, [[1e400] * 4] * 4, [[1, 1, "x", "y"]],
    [[1, 10**6, "x", "y"]] * 20, [[]] * 100, {"dtype": "<i2"},
    {"dtype": "<i2", "shape": [1024, 1024, 1024], "order": "F"},
    {"dtype": "<f8", "shape": [1024, 1024, 8], "order": "F"},
    {"dtype": ["<i2"], "shape": [2, 3, 4], "order": "F"}, {"dtype": "<i2", "shape": {"0": 2}, "order": ["F"]},
    "Volume", "RunStart", "Picture", "Hello", "complete", "replayed", "ab" * 32, "AB" * 32, "u2",
]  # fmt: skip
TEXTS = [
    b"", b"{}", b"[]", b"null", b"1" * 5000, b'{"a":' + b"9" * 4400 + b"}", b"\xff\xfe{\x00}\x00", b"\xef\xbb\xbf{}",
    b'{"kind":"Ack","kind":"Done","next_seq":1}', b'{"kind":"Ack","next_seq":1,"next_seq":-1}',
    b'{"kind":"Ack","next_seq":1e0}', b'{"kind":"Ack","next_seq":1}\0', b'{"kind":"Ack","next_seq":0x1}',
    b'{"kind":"\\ud800"}', b'{"kind":"Ack","next_seq":NaN}', b"[" * 2000,
]  # fmt: skip
LARGE = [
    b"[" * 500_000, b'{"a":' * 200_000, b"[" + b"[]," * 340_000 + b"0]", b'{"' + b"k" * 1_000_000 + b'":0}',
    b"{" + b",".join(b'"%d":{}' % k for k in range(80_000)) + b"}", b'"' + b"\\u00e9" * 170_000 + b'"',
    b'{"kind":' + b"[" * 900 + b"]" * 900 + b"}",
]  # fmt: skip


# Messages.


def malformed_message(rng: random.Random) -> Frames:
    """A message that is damaged in one of many ways, most with a right digest."""
    frames = list(rng.choice(SEEDS))
    for _ in range(rng.randint(1, 2)):
        frames = rng.choice(MESSAGES)(frames, rng)
        if sum(map(len, frames)) > 1 << 16:
            break  # one wrong is enough where it takes long
    return sealed(frames) if rng.random() < 0.7 else frames


def sealed(frames: Frames, **changes: Any) -> Frames:
    digest = blake3()
    for frame in frames[1:]:
        digest.update(frame)
    seal = {"v": VERSION, "digest": digest.hexdigest(), "t_sent": 0.0} | changes
    return [json.dumps(seal).encode(), *frames[1:]]


def bytes_changed(frames: Frames, rng: random.Random) -> Frames:
    place = rng.randrange(len(frames)) if frames else 0
    return [*frames[:place], spoilt(frames[place], rng), *frames[place + 1 :]] if frames else frames


def frames_moved(frames: Frames, rng: random.Random) -> Frames:
    """Another number of frames, or another order."""
    match rng.randrange(5):
        case 0:
            return frames[: rng.randrange(4)]
        case 1:
            return frames + frames[: rng.randrange(3)]
        case 2:
            return rng.sample(frames, len(frames))
        case 3:
            return [*frames[:1], *rng.choice(SEEDS)[1:]]
        case _:
            return [*frames, rng.randbytes(rng.randrange(64))]


def fields_changed(frames: Frames, rng: random.Random) -> Frames:
    """Other values, names and types in the header, at any depth."""
    try:
        header = json.loads(frames[1])
        place = header
        while rng.random() < 0.3 and (inner := [v for v in values_of(place) if isinstance(v, dict | list) and v]):
            place = rng.choice(inner)
        key = rng.choice(list(place) if isinstance(place, dict) else range(len(place)))
    except (ValueError, IndexError, TypeError, RecursionError):
        return frames
    match rng.randrange(8):
        case 0:
            del place[key]
        case 1 if isinstance(place, dict):
            place[str(rng.choice(VALUES))] = rng.choice(VALUES)
        case _:
            place[key] = rng.choice(VALUES)
    return [frames[0], json.dumps(header).encode(), *frames[2:]]


def values_of(place: Any) -> list[Any]:
    return list(place.values() if isinstance(place, dict) else place)


def header_replaced(frames: Frames, rng: random.Random) -> Frames:
    return [*frames[:1], rng.choice(LARGE if rng.random() < 0.01 else TEXTS), *frames[2:]]


def seal_changed(frames: Frames, rng: random.Random) -> Frames:
    if rng.random() < 0.1:
        return [rng.choice(TEXTS + LARGE[:1]), *frames[1:]]
    return sealed(frames, **{rng.choice(["v", "digest", "t_sent", "more"]): rng.choice(VALUES)})


def frame_huge(frames: Frames, rng: random.Random) -> Frames:
    """Longer than it may be, or than what is described; rarely, because the test itself must make it."""
    if rng.random() < 0.995 or not frames:
        return frames
    size = rng.choice([(1 << 10) + 1, (1 << 20) + 1, MAX_BUFFER, MAX_BUFFER + 1])
    place = rng.randrange(len(frames))
    return [*frames[:place], memoryview(HUGE)[:size], *frames[place + 1 :]]


MESSAGES: list[Callable[[Frames, random.Random], Frames]] = [
    bytes_changed, frames_moved, fields_changed, fields_changed, fields_changed, header_replaced, seal_changed,
    frame_huge,
]  # fmt: skip


def spoilt(content: bytes, rng: random.Random) -> bytes:
    """Bits flipped, cut, doubled, spliced or replaced."""
    place, other = (rng.randrange(len(content) + 1) for _ in range(2))
    match rng.randrange(6):
        case 0 if content:
            changed = bytearray(content)
            for _ in range(rng.choice([1, 1, 1, 2, 8])):
                changed[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
            return bytes(changed)
        case 1:
            return content[:place]
        case 2:
            return content[:place] + content[min(place, other) : max(place, other)] + content[place:]
        case 3:
            return content[: min(place, other)] + content[max(place, other) :]
        case 4:
            return content[:place] + rng.randbytes(rng.randrange(1, 32)) + content[place:]
        case _:
            return rng.randbytes(rng.randrange(200))


def read_message(rng: random.Random) -> str:
    """What became of a malformed message; anything but a message and a WireError is raised."""
    try:
        message = unpack(malformed_message(rng))
    except WireError:
        return "refused"
    unpack(pack(message))
    return "taken"


# Recordings.


def record(frames: Frames) -> bytes:
    """As a RecordingWriter writes it, whatever the frames are."""
    lengths = [len(frame) for frame in frames] + [0] * (3 - len(frames))
    prefix = struct.pack("<4I", *lengths[:3], zlib.crc32(frames[0] if frames else b""))
    return b"".join([prefix, struct.pack("<I", zlib.crc32(prefix)), *frames])


def forged(rng: random.Random) -> bytes:
    """A beginning of a record that promises something else than what follows, with the right checksum."""
    lengths = [rng.choice([0, 1, 100, 1 << 10, (1 << 10) + 1, 1 << 20, 1 << 26, (1 << 32) - 1]) for _ in range(3)]
    prefix = struct.pack("<4I", *lengths, rng.choice([0, zlib.crc32(b""), rng.getrandbits(32)]))
    return prefix + struct.pack("<I", zlib.crc32(prefix))


RUN = [[bytes(frame) for frame in pack(message)] for message in messages(n=3)]


def malformed_recording(rng: random.Random) -> tuple[bytes, int]:
    """The content of a file, and the size that it is stretched to (0: as it is)."""
    records = [record(frames) for frames in RUN]
    place = rng.randrange(len(records) + 1)
    match rng.randrange(8):
        case 0:
            return spoilt(MAGIC + b"".join(records), rng), 0
        case 1:
            rng.shuffle(records)
        case 2:
            records = records[:place] + records[place + 1 :]
        case 3:
            records.insert(place, rng.choice(records))
        case 4:
            records.insert(place, forged(rng))
        case 5:
            records.insert(place, record(malformed_message(rng)[:3]))
        case 6:
            records.insert(place, record(sealed(fields_changed(RUN[min(place, 4)], rng))))
        case _:
            beginning = MAGIC + b"".join(records[:place]) + rng.choice([b"", forged(rng)])
            return beginning, len(beginning) + (rng.choice([1 << 27, 1 << 36]) if rng.random() < 0.02 else 1 << 12)
    return MAGIC + b"".join(records), 0


def read_recording(path: Path, rng: random.Random) -> str:
    """What became of it; anything but messages of a run in their order and a UserError is raised."""
    content, size = malformed_recording(rng)
    rewrite(path, content)
    if size:
        os.truncate(path, size)
    position = Position()
    try:
        for message in Recording(path):
            position = position.after(message, digest_of(pack(message)))
    except UserError:
        return "refused"
    return "taken"


def rewrite(path: Path, content: bytes) -> None:
    """As a new file: one that was cut to nothing and written again would be flushed to the disk."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)


# What a decode left.

HEADER = {"options": {"engine": "onnx", "seed": 0}, "model": {"files_sha256": {}}, "resumes": 1}
LINE = {"volume": 0, "done": "painted", "latency_ms": {"total": 1.0}}
FILES: dict[str, bytes] = {
    "feed.rec": MAGIC + b"".join(record(frames) for frames in RUN[:3]),
    "volumes.jsonl": b"".join(json.dumps(LINE | {"volume": k}).encode() + b"\n" for k in range(3)),
    "run.json": json.dumps(HEADER).encode(),
    "summary.json": json.dumps({"ended": "broken off"}).encode(),
}


def read_folder(folder: Path, rng: random.Random) -> str:
    """What became of a folder of which one file is damaged; anything but that and a UserError is raised."""
    name = rng.choice(list(FILES))
    content = FILES[name]
    match rng.randrange(4):
        case 0 if name != "feed.rec":
            content = rng.choice(TEXTS)
        case 1 | 2 if name != "feed.rec":
            [_, content] = fields_changed([b"", content.split(b"\n")[0]], rng)
            content += b"\n"
        case _:
            content = spoilt(content, rng)
    for other in FILES:
        if not (folder / other).exists():
            (folder / other).write_bytes(FILES[other])
    rewrite(folder / name, content)
    try:
        before = earlier(folder)
        if before is not None:
            list(before.messages())
            check_same(before, HEADER)
            assert before.resumes >= 0 or name == "run.json"
    except UserError:
        return "refused"
    finally:
        rewrite(folder / name, FILES[name])
    return "taken"


# The process.


def run(kind: str, seed: int, number: int, folder: str) -> Counter[str]:
    """Read ``number`` malformed inputs; an exception names the one that raised it."""
    path = Path(folder)
    reads: dict[str, Callable[[random.Random], str]] = {
        "message": read_message,
        "recording": lambda rng: read_recording(path / "feed.rec", rng),
        "folder": lambda rng: read_folder(path, rng),
    }
    signal.signal(signal.SIGALRM, _too_long)
    found: Counter[str] = Counter()
    pages = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (pages + ALLOWED, pages + ALLOWED))
    for index in inputs(seed, number):
        signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
        try:
            found[reads[kind](random.Random(index))] += 1
        except BaseException as error:
            raise AssertionError(f"{kind} {index} (of seed {seed}) raised {type(error).__name__}: {error}") from error
    signal.setitimer(signal.ITIMER_REAL, 0)
    return found


def inputs(seed: int, number: int) -> Iterator[int]:
    return iter(range(seed << 32, (seed << 32) + number))


def _too_long(*_: object) -> None:
    raise TimeoutError(f"longer than {LIMIT_S} s")
