"""What travels between a feed of volumes and its consumers: the messages, and the one place that packs them.

It knows no sockets, no files and no clocks. Which order of messages is legal stands in ``realtime.feed.order``.

A message of a run (``RunStart``, ``Volume``, ``Picture``, ``RunEnd``) carries ``seq``, its place in the run,
counted from 0 without a gap. The controls are what is said in between: ``Hello``, ``Ack``, ``Done`` and ``Bye`` by a
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
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args

import msgspec
import numpy as np
from blake3 import blake3
from msgspec import Meta
from numpy.typing import NDArray

from dynadiff.recordings.run import Event
from realtime.feed import ranges
from realtime.feed.ranges import (
    MAX_BUFFER,
    MAX_COUNT,
    MAX_TR,
    Affine,
    Count,
    Digest,
    Dtype,
    EventRow,
    Label,
    LabelOrNone,
    Positive,
    Shape,
    Text,
    UnixTime,
    WireError,
    require,
    within,
)

__all__ = ["MAX_BUFFER", "Ack", "Bye", "Control", "Done", "Frame", "Hello", "Message", "Picture", "Refusal", "RunEnd"]
__all__ += ["OtherVersion", "RunStart", "Status", "Volume", "WireError", "digest_of", "pack", "unpack"]

VERSION = 2  # 1 had sha256 for BLAKE3, which takes a volume of NSD 0.5 ms less at each end
MAX_SEAL, MAX_HEADER = 1 << 10, 1 << 20  # bytes
MAX_CONTROL = 1 << 13  # bytes of a frame of what a consumer says, the longest names included
MAX_VOLUMES, MAX_ROWS = 20_000, 100_000  # planned; of all events of a run

Frame = bytes | memoryview
T = TypeVar("T")
_ORDERS: dict[str, Literal["C", "F"]] = {"data": "F", "rgb": "C"}  # the fields that travel as a buffer


class OtherVersion(WireError):
    """A message is of a version of the wire that is not spoken here."""


class _Checked:
    """A message that exists is legal: each field is of the type that stands beside it, and within its range.

    What came over the wire is passed on as it came, and not packed and summed again.
    """

    came: ClassVar[tuple[str, tuple[Frame, ...]] | None] = None  # digest and frames below the seal, of this message

    def __post_init__(self) -> None:
        message: Any = type(self)
        for name, kind in ranges.kinds(message).items():
            if name not in _UNTYPED:
                object.__setattr__(self, name, within(name, getattr(self, name), kind))


_UNTYPED = ("came", "events", *_ORDERS)  # checked by who has them


@dataclass(frozen=True, kw_only=True)
class RunStart(_Checked):
    """A run begins."""

    seq: Literal[0] = 0
    run_uid: Label  # new for every run, also where a run number is started again
    name: Label  # as in BIDS: sub-01_ses-nsd01_task-nsdcore_run-12
    subject: Label
    session: Count
    run: Count  # file run number, from 1
    tr: Annotated[float, Meta(gt=0, le=MAX_TR)]  # seconds
    n_volumes: Annotated[int, Meta(ge=1, le=MAX_VOLUMES)]  # planned, dummies included
    shape: Shape  # voxels along x, y, z
    dtype: Dtype  # of the voxels
    affine: Affine  # voxel to scanner space in mm, RAS+
    source: Literal["replayed", "live"]
    events: tuple[Event, ...] = ()  # rows count from the first volume sent, dummies included
    dummies: Count = 0  # leading volumes that must not enter statistics

    def __post_init__(self) -> None:
        super().__post_init__()
        ranges.nbytes(self.shape, self.dtype)
        require(self.dummies <= self.n_volumes, "dummies: a run cannot have more of them than volumes.")
        known = isinstance(self.events, tuple) and all(type(event) is Event for event in self.events)
        require(known, "events: they must be a tuple of Event.")
        for event in self.events:
            within("an event's row", event.row, Count)
            within("an event's rows", event.rows, Positive)
            within("an event's picture", event.picture, Text)
            within("an event's category", event.category, Text)
        require(sum(event.rows for event in self.events) <= MAX_ROWS, f"events must have {MAX_ROWS} rows at most.")


@dataclass(frozen=True, kw_only=True, eq=False)
class Volume(_Checked):
    """One volume, as acquired. A decoded one is a read-only view of the frame that brought it."""

    seq: Positive
    run_uid: Label
    index: Count  # from 0, dummies included; one that is left out was lost by the scanner
    t_acquired: Annotated[float, Meta(ge=0, le=MAX_COUNT * MAX_TR)]  # s, start of the run to end of this acquisition
    t_sent: UnixTime = 0.0  # stamped by the feed when it publishes; 0: sent as fast as it is taken
    data: NDArray[np.generic]  # (x, y, z)

    def __post_init__(self) -> None:
        super().__post_init__()
        ranges.array("data", self.data)


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture(_Checked):
    """What the subject is about to see, sent before the volume at whose row it first appears.

    Only a replay knows it.
    """

    seq: Positive
    run_uid: Label
    name: Text  # the ``picture`` of the run's events
    rgb: NDArray[np.uint8]  # (height, width, 3)

    def __post_init__(self) -> None:
        super().__post_init__()
        ranges.array("rgb", self.rgb, ("|u1",))
        require(self.rgb.shape[2] == 3, "a picture must have 3 channels.")


@dataclass(frozen=True, kw_only=True)
class RunEnd(_Checked):
    """A run is over. Its digest (``realtime.feed.order``) proves that a consumer has every message before it."""

    seq: Positive
    run_uid: Label
    n_volumes: Count  # sent
    digest: Digest
    reason: Literal["complete", "stopped"]


@dataclass(frozen=True, kw_only=True)
class Hello(_Checked):
    """Consumer: send me run ``run_uid`` from ``next_seq`` on; if yours is another one, all of it."""

    role: Label  # decoder, viewer, recorder
    consumer: LabelOrNone = ""  # the same over all connections of a process, and no other's; "": the connection's
    run_uid: LabelOrNone = ""
    next_seq: Count = 0


@dataclass(frozen=True, kw_only=True)
class Ack(_Checked):
    """Consumer: I have taken everything before ``next_seq``; send more."""

    next_seq: Count


@dataclass(frozen=True, kw_only=True)
class Done(_Checked):
    """Consumer: I have the whole run; these are my count of volumes and my digest."""

    run_uid: Label
    n_volumes: Count
    digest: Digest


@dataclass(frozen=True, kw_only=True)
class Bye(_Checked):
    """Consumer: I leave before I have the whole run, and why. Nothing waits for it: one that is killed says none."""

    reason: Text


@dataclass(frozen=True, kw_only=True)
class Status(_Checked):
    """Feed, once a second and in answer to Done: I am alive."""

    run_uid: Label
    published: Count  # messages of the run
    sent: Count  # all before this one were sent to you, so you must have them: a link keeps the order
    confirmed: bool  # your Done has come


@dataclass(frozen=True, kw_only=True)
class Refusal(_Checked):
    """Feed: I cannot answer what you said, and why."""

    reason: Text


class _Seal(msgspec.Struct, forbid_unknown_fields=True):
    v: int
    digest: str
    t_sent: float


class _Description(msgspec.Struct, forbid_unknown_fields=True):
    """Of an array in its buffer."""

    dtype: Dtype
    shape: Shape
    order: Literal["C", "F"]


Message = RunStart | Volume | Picture | RunEnd
Control = Hello | Ack | Done | Bye | Status | Refusal
_KINDS = {kind.__name__: kind for kind in get_args(Message) + get_args(Control)}


def pack(message: Message | Control) -> list[Frame]:
    """The frames of a message. An array that lies in memory as on the wire is not copied: leave it be."""
    t_sent = message.t_sent if isinstance(message, Volume) else 0.0
    if message.came is not None:
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
    seal = _load("a seal", frames[0], _Seal)
    if seal.v != VERSION:
        raise OtherVersion(
            f"the feed speaks version {VERSION} here and {seal.v!r:.20} there: install the same version."
        )
    require(seal.digest == _blake3(frames[1:]), "a message is damaged: its digest differs.")
    t_sent = within("t_sent", seal.t_sent, UnixTime)
    header = _load("a header", frames[1], dict[str, Any])
    kind = header.pop("kind", None)
    require(isinstance(kind, str) and kind in _KINDS, f"there is no message {kind!r:.40}.")
    names = {field.name for field in fields(_KINDS[kind])} - {"t_sent"}
    require(header.keys() == names, f"a {kind} must have {', '.join(sorted(names))}.")
    arrays = names & _ORDERS.keys()
    require(len(frames) == 2 + len(arrays), f"a {kind} must have {2 + len(arrays)} frames.")
    for name in arrays:
        header[name] = _array(name, header[name], frames[2])
    if kind == "RunStart":
        header["events"] = tuple(Event(*row) for row in within("events", header["events"], tuple[EventRow, ...]))
    if kind == "Volume":
        header["t_sent"] = t_sent
    message: Message | Control = _KINDS[kind](**header)
    object.__setattr__(message, "came", (seal.digest, tuple(frames[1:])))
    return message


def digest_of(frames: Sequence[Frame]) -> str:
    """The digest of a message, from frames that ``pack`` made or ``unpack`` accepted."""
    return _load("a seal", frames[0], _Seal).digest


def _array(name: str, description: object, buffer: Frame) -> NDArray[np.generic]:
    said: _Description = within(name, description, _Description)
    order = _ORDERS[name]
    require(said.order == order, f"{name}: the order of its buffer must be {order}.")
    size = ranges.nbytes(said.shape, said.dtype)
    require(memoryview(buffer).nbytes == size, f"{name}: its buffer must have {size} bytes.")
    array = np.frombuffer(buffer, said.dtype).reshape(said.shape, order=order)
    array.flags.writeable = False
    return array


def _dump(value: object) -> bytes:
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()


def _load(what: str, frame: Frame, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(frame, type=kind)
    except (ValueError, RecursionError) as error:
        raise WireError(f"{what} is not as it must be: {error}.") from None


def _blake3(content: Sequence[Frame]) -> str:
    digest = blake3()
    for frame in content:
        digest.update(frame)
    return digest.hexdigest()
