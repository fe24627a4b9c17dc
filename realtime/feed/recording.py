"""A run on disk, as it came over the wire: readable after a crash at any moment, and served again.

It knows no sockets. The file is a magic line and then one record per message, only ever appended to::

    lengths  3 × uint32, little-endian: bytes of seal, header and buffer (0 where there is none)
    crc32    2 × uint32: of the seal; of all before it, so that a length is believed before it is used
    frames   seal, header, buffer as on the wire; the digest in the seal covers the other two
"""

import os
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Self

from dynadiff.base.documents import newer
from dynadiff.base.errors import UserError
from realtime.feed.order import Position
from realtime.feed.wire import (
    MAX_BUFFER,
    MAX_HEADER,
    MAX_SEAL,
    Frame,
    Message,
    OtherVersion,
    WireError,
    digest_of,
    pack,
    unpack,
)

VERSION = 1  # of how records follow each other; what is in a record has the wire's
MAGIC = b"dynadiff feed %d\n" % VERSION
_PREFIX = struct.Struct("<5I")


class RecordingWriter:
    """Writes the messages of one run to a new file.

    Each is with the operating system before ``write`` returns, so that it outlives the process, though not a
    power cut.
    """

    def __init__(self, path: Path, *, after: "Recording | None" = None) -> None:
        """``after`` is a recording at the same path that was read to its end, and is continued there."""
        if after is None and path.exists():
            raise UserError(f"{path} exists: give another name, a recording is never overwritten.")
        try:
            self._file: IO[bytes] = path.open("xb" if after is None else "r+b")
            if after is not None:
                self._file.truncate(after.intact)
                self._file.seek(after.intact)
            if self._file.tell() == 0:
                self._file.write(MAGIC)
            self._file.flush()
        except OSError as error:
            raise UserError(f"{path} cannot be written: {error.strerror}.") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, message: Message) -> None:
        """Append one message."""
        frames = pack(message)
        lengths = [len(frame) for frame in frames] + [0] * (3 - len(frames))
        prefix = struct.pack("<4I", *lengths, zlib.crc32(frames[0]))
        for part in (prefix, struct.pack("<I", zlib.crc32(prefix)), *frames):
            self._file.write(part)
        self._file.flush()

    def close(self) -> None:
        """Nothing more will come."""
        self._file.close()


class Recording:
    """The messages of a recorded run, in order. The rest is known once they were iterated over.

    Iterating raises UserError where the file is no recording, or is damaged before its end.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.position = Position()  # where a consumer that had these messages goes on
        self.intact = 0  # bytes of whole records
        self.torn = False  # whether the writer died within a record, whose beginning stands after these

    def __iter__(self) -> Iterator[Message]:
        self.position, self.intact, self.torn = Position(), 0, False
        try:
            with self.path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                self.torn = not self._begins(file)
                while not self.torn:
                    self.intact = file.tell()
                    frames = self._record(file, size - self.intact)
                    if not frames:
                        break
                    message = unpack(frames)
                    if not isinstance(message, Message):
                        raise WireError(f"a {type(message).__name__} is no part of a run.")
                    self.position = self.position.after(message, digest_of(frames))
                    yield message
        except OSError as error:
            raise UserError(f"{self.path} cannot be read: {error.strerror}.") from None
        except OtherVersion as error:
            raise UserError(f"{self.path} was recorded by another version: {error}") from None
        except WireError as error:
            at = f"after {self.position.next_seq} messages"
            raise UserError(f"{self.path} is damaged {at}, restore it from a copy: {error}") from None

    def _begins(self, file: IO[bytes]) -> bool:
        """Whether a file has the whole magic line, up to its end. UserError where it is none of this version."""
        magic = file.read(len(MAGIC))
        if MAGIC.startswith(magic):
            return len(magic) == len(MAGIC)
        said = re.match(rb"dynadiff feed (\d+)\n", magic + file.read(len(MAGIC)))
        if said and int(said[1]) > VERSION:
            raise UserError(newer(self.path, int(said[1]), VERSION))
        raise UserError(f"{self.path} is no recording of a feed: give a feed.rec of a run.")

    def _record(self, file: IO[bytes], left: int) -> list[Frame]:
        """The frames of the next record, none where no whole one follows in the ``left`` bytes."""
        prefix = file.read(_PREFIX.size)
        if len(prefix) < _PREFIX.size:
            self.torn = bool(prefix)
            return []
        *lengths, seal_crc, crc = _PREFIX.unpack(prefix)
        bounds = ((1, MAX_SEAL), (1, MAX_HEADER), (0, MAX_BUFFER))
        possible = all(low <= length <= high for length, (low, high) in zip(lengths, bounds, strict=True))
        if crc != zlib.crc32(prefix[:-4]) or not possible:
            raise WireError("the lengths of a record are damaged.")
        if _PREFIX.size + sum(lengths) > left:
            self.torn = True
            return []
        frames: list[Frame] = [file.read(length) for length in lengths if length]
        if zlib.crc32(frames[0]) != seal_crc:
            raise WireError("the seal of a record is damaged.")
        return frames
