"""What travels between a feed of volumes and its consumers: the messages, and the one place that packs them.

It knows no sockets, no files and no clocks. Which order of messages is legal stands in ``realtime.feed.order``.

A message of a run (``RunStart``, ``Volume``, ``Picture``, ``RunEnd``) carries ``seq``, its place in the run,
counted from 0 without a gap. The controls are what is said in between: ``Hello``, ``Ack`` and ``Done`` by a
consumer, ``Status`` and ``Refusal`` by the feed. On the wire each of them is two or three frames::

    seal     JSON   {"v": 2, "digest": BLAKE3 of the frames below, in hex, "t_sent": unix s}
    header   JSON   {"kind": "Volume", "seq": 9, "run_uid": "…", "index": 8, "t_acquired": 12.0,
                     "data": {"dtype": "<i2", "shape": [81, 104, 83], "order": "F"}}
    buffer   bytes  little-endian voxels, x fastest (order F, as NIfTI keeps them);
                    of a picture uint8 RGB, row by row (order C); only where the header describes an array

The seal is the sender's remark and no content: a run that is served again has other times of sending and the
same digests. Nothing is ever unpickled.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from dynadiff.recordings.run import Event
from realtime.feed import checks
from realtime.feed.checks import MAX_BUFFER, MAX_COUNT, WireError, require

__all__ = [
    "MAX_BUFFER",
    "Ack",
    "Control",
    "Done",
    "Frame",
    "Hello",
    "Message",
    "Picture",
    "Refusal",
    "RunEnd",
]
__all__ += ["RunStart", "Status", "Volume", "WireError", "digest_of", "pack", "unpack"]

VERSION = 2  # 1 had sha256 for BLAKE3, which takes a volume of NSD 0.5 ms less at each end
MAX_TR = 20.0  # seconds; what lies above is a TR in milliseconds
MAX_SEAL, MAX_HEADER = 1 << 10, 1 << 20  # bytes
MAX_CONTROL = 1 << 13  # bytes of a frame of what a consumer says, the longest names included
MAX_VOLUMES, MAX_ROWS = 20_000, 100_000  # planned; of all events of a run

Frame = bytes | memoryview


class _Sealed:
    """What came over the wire is passed on as it came, and not packed and summed again."""

    came: ClassVar[tuple[str, tuple[Frame, ...]] | None] = None  # digest and frames below the seal, of this message


@dataclass(frozen=True, kw_only=True)
class RunStart(_Sealed):
    """A run begins."""

    seq: int = 0
    run_uid: str  # new for every run, also where a run number is started again
    name: str  # as in BIDS: sub-01_ses-nsd01_task-nsdcore_run-12
    subject: str
    session: int
    run: int  # file run number, from 1
    tr: float  # seconds, in (0, 20]
    n_volumes: int  # planned, dummies included
    shape: tuple[int, int, int]  # voxels along x, y, z
    dtype: str  # of the voxels, one of checks.DTYPES
    affine: tuple[tuple[float, ...], ...]  # (4, 4), voxel to scanner space in mm, RAS+
    source: Literal["replayed", "live"]
    events: tuple[Event, ...] = ()  # rows count from the first volume sent, dummies included
    dummies: int = 0  # leading volumes that must not enter statistics

    def __post_init__(self) -> None:
        checks.whole("seq", self.seq, 0, 0)
        for name in ("run_uid", "name", "subject"):
            checks.label(name, getattr(self, name))
        checks.whole("session", self.session)
        checks.whole("run", self.run)
        checks.real("tr", self.tr, 0, MAX_TR)
        require(self.tr > 0, "tr must be above 0 s.")
        checks.whole("n_volumes", self.n_volumes, 1, MAX_VOLUMES)
        checks.shape(self.shape)
        checks.nbytes(self.shape, self.dtype)
        checks.affine(self.affine)
        require(self.source in ("replayed", "live"), 'source must be "replayed" or "live".')
        checks.whole("dummies", self.dummies, 0, self.n_volumes)
        for event in checks.items("events", self.events, tuple):
            require(type(event) is Event, "events must be of dynadiff.recordings.run.Event.")
            checks.whole("an event's row", event.row)
            checks.whole("an event's rows", event.rows, 1)
            checks.text("an event's picture", event.picture)
            checks.text("an event's category", event.category)
        require(sum(event.rows for event in self.events) <= MAX_ROWS, f"events must have {MAX_ROWS} rows at most.")


@dataclass(frozen=True, kw_only=True, eq=False)
class Volume(_Sealed):
    """One volume, as acquired. A decoded one is a read-only view of the frame that brought it."""

    seq: int
    run_uid: str
    index: int  # from 0, dummies included; one that is left out was lost by the scanner
    t_acquired: float  # seconds from the start of the run to the end of this acquisition
    t_sent: float = 0.0  # unix seconds; stamped by the feed when it publishes
    data: NDArray[np.generic]  # (x, y, z)

    def __post_init__(self) -> None:
        checks.whole("seq", self.seq, 1)
        checks.label("run_uid", self.run_uid)
        checks.whole("index", self.index)
        checks.real("t_acquired", self.t_acquired, 0, MAX_COUNT * MAX_TR)
        checks.real("t_sent", self.t_sent, 0, 1e11)
        checks.array(self.data)


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture(_Sealed):
    """What the subject is about to see, sent before the volume at whose row it first appears.

    Only a replay knows it.
    """

    seq: int
    run_uid: str
    name: str  # the ``picture`` of the run's events
    rgb: NDArray[np.uint8]  # (height, width, 3)

    def __post_init__(self) -> None:
        checks.whole("seq", self.seq, 1)
        checks.label("run_uid", self.run_uid)
        checks.text("name", self.name)
        checks.array(self.rgb, ("|u1",))
        require(self.rgb.shape[2] == 3, "a picture must have 3 channels.")


@dataclass(frozen=True, kw_only=True)
class RunEnd(_Sealed):
    """A run is over. Its digest (``realtime.feed.order``) proves that a consumer has every message before it."""

    seq: int
    run_uid: str
    n_volumes: int  # sent
    digest: str
    reason: Literal["complete", "stopped"]

    def __post_init__(self) -> None:
        checks.whole("seq", self.seq, 1)
        checks.label("run_uid", self.run_uid)
        checks.whole("n_volumes", self.n_volumes)
        checks.digest(self.digest)
        require(self.reason in ("complete", "stopped"), 'reason must be "complete" or "stopped".')


@dataclass(frozen=True, kw_only=True)
class Hello:
    """Consumer: send me run ``run_uid`` from ``next_seq`` on; if yours is another one, all of it."""

    role: str  # decoder, viewer, recorder
    consumer: str = ""  # the same over all connections of one process, and no other's; "" is that of the connection
    run_uid: str = ""
    next_seq: int = 0

    def __post_init__(self) -> None:
        checks.label("role", self.role)
        for name in ("consumer", "run_uid"):
            if getattr(self, name) != "":
                checks.label(name, getattr(self, name))
        checks.whole("next_seq", self.next_seq)


@dataclass(frozen=True, kw_only=True)
class Ack:
    """Consumer: I have taken everything before ``next_seq``; send more."""

    next_seq: int

    def __post_init__(self) -> None:
        checks.whole("next_seq", self.next_seq)


@dataclass(frozen=True, kw_only=True)
class Done:
    """Consumer: I have the whole run; these are my count of volumes and my digest."""

    run_uid: str
    n_volumes: int
    digest: str

    def __post_init__(self) -> None:
        checks.label("run_uid", self.run_uid)
        checks.whole("n_volumes", self.n_volumes)
        checks.digest(self.digest)


@dataclass(frozen=True, kw_only=True)
class Status:
    """Feed, once a second and in answer to Done: I am alive."""

    run_uid: str
    published: int  # messages of the run
    sent: int  # all before this one were sent to you, so you must have them: a link keeps the order
    confirmed: bool  # your Done has come

    def __post_init__(self) -> None:
        checks.label("run_uid", self.run_uid)
        checks.whole("published", self.published)
        checks.whole("sent", self.sent)
        require(type(self.confirmed) is bool, "confirmed must be true or false.")


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Feed: I cannot answer what you said, and why."""

    reason: str

    def __post_init__(self) -> None:
        checks.text("reason", self.reason)


Message = RunStart | Volume | Picture | RunEnd
Control = Hello | Ack | Done | Status | Refusal
_KINDS = {kind.__name__: kind for kind in get_args(Message) + get_args(Control)}
_ORDERS: dict[str, Literal["C", "F"]] = {"data": "F", "rgb": "C"}  # the fields that travel as a buffer


def pack(message: Message | Control) -> list[Frame]:
    """The frames of a message. An array that lies in memory as on the wire is not copied: leave it be."""
    t_sent = message.t_sent if isinstance(message, Volume) else 0.0
    if isinstance(message, _Sealed) and message.came is not None:
        digest, frames = message.came
        return [_dump({"v": VERSION, "digest": digest, "t_sent": t_sent}), *frames]
    header: dict[str, object] = {"kind": type(message).__name__}
    buffers: list[Frame] = []
    for field in fields(message):
        value = getattr(message, field.name)
        if field.name in _ORDERS:
            order = _ORDERS[field.name]
            header[field.name] = {"dtype": value.dtype.str, "shape": value.shape, "order": order}
            buffers.append(np.ascontiguousarray(value.T if order == "F" else value).data.cast("B"))
        elif field.name == "events":
            header[field.name] = [[event.row, event.rows, event.picture, event.category] for event in value]
        elif field.name != "t_sent":
            header[field.name] = value
    content: list[Frame] = [_dump(header), *buffers]
    return [_dump({"v": VERSION, "digest": _blake3(content), "t_sent": t_sent}), *content]


def unpack(frames: Sequence[Frame]) -> Message | Control:
    """The message that these frames are.

    Raises:
        WireError: whatever is wrong with them. Sizes, digest and fields are checked before an array is made.
    """
    require(len(frames) in (2, 3), "a message must have 2 or 3 frames.")
    for frame, limit in zip(frames, (MAX_SEAL, MAX_HEADER, MAX_BUFFER), strict=False):
        require(memoryview(frame).nbytes <= limit, f"a frame is longer than {limit} bytes.")
    seal = _load(frames[0])
    require(seal.keys() == {"v", "digest", "t_sent"}, "a seal must have v, digest and t_sent.")
    require(
        type(seal["v"]) is int and seal["v"] == VERSION,
        f"the feed speaks version {VERSION} here and {seal['v']!r:.20} there: install the same version.",
    )
    require(seal["digest"] == _blake3(frames[1:]), "a message is damaged: its digest differs.")
    checks.real("t_sent", seal["t_sent"], 0, 1e11)
    header = _load(frames[1])
    kind = header.pop("kind", None)
    require(isinstance(kind, str) and kind in _KINDS, f"there is no message {kind!r:.40}.")
    names = {field.name for field in fields(_KINDS[kind])} - {"t_sent"}
    require(header.keys() == names, f"a {kind} must have {', '.join(sorted(names))}.")
    arrays = names & _ORDERS.keys()
    require(len(frames) == 2 + len(arrays), f"a {kind} must have {2 + len(arrays)} frames.")
    for name in arrays:
        header[name] = _array(header[name], frames[2], _ORDERS[name])
    if kind == "RunStart":
        header |= _run_start(**header)
    if kind == "Volume":
        header["t_sent"] = seal["t_sent"]
    message: Message | Control = _KINDS[kind](**header)
    if isinstance(message, _Sealed):
        object.__setattr__(message, "came", (seal["digest"], tuple(frames[1:])))
    return message


def digest_of(frames: Sequence[Frame]) -> str:
    """The digest of a message, from frames that ``pack`` made or ``unpack`` accepted."""
    return str(_load(frames[0])["digest"])


def _run_start(shape: object, affine: object, events: object, **_: object) -> dict[str, object]:
    rows = [checks.items("an event", event, list, 4) for event in checks.items("events", events, list)]
    return {
        "shape": checks.items("shape", shape, list, 3),
        "affine": tuple(checks.items("a row", row, list, 4) for row in checks.items("affine", affine, list, 4)),
        "events": tuple(Event(*row) for row in rows),
    }


def _array(description: object, buffer: Frame, order: Literal["C", "F"]) -> NDArray[np.generic]:
    if not (isinstance(description, dict) and description.keys() == {"dtype", "shape", "order"}):
        raise WireError("an array must be described by dtype, shape and order.")
    require(description["order"] == order, f"the order of the buffer must be {order}.")
    shape = checks.items("shape", description["shape"], list, 3)
    checks.shape(shape)
    size = checks.nbytes(shape, description["dtype"])
    require(memoryview(buffer).nbytes == size, f"the buffer must have {size} bytes.")
    array = np.frombuffer(buffer, description["dtype"]).reshape(shape, order=order)
    array.flags.writeable = False
    return array


def _dump(value: object) -> bytes:
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()


def _load(frame: Frame) -> dict[str, Any]:
    try:
        value = json.loads(bytes(frame).decode())
    except (ValueError, RecursionError) as error:
        raise WireError(f"a seal or header is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise WireError("a seal or header must be a JSON object.")
    return value


def _blake3(content: Sequence[Frame]) -> str:
    digest = blake3()
    for frame in content:
        digest.update(frame)
    return digest.hexdigest()
