"""The legal order of a run's messages, and how far into it one has got.

Feed, consumer and reader of a recording all take their messages through ``Position.after``, so that the order
is checked in one place and whoever holds a ``Volume`` knows its run. It knows no frames, sockets or files.
"""

import hashlib
from dataclasses import dataclass, replace
from typing import Literal

from realtime.feed.wire import Message, Picture, RunEnd, RunStart, Volume, WireError

SLACK = 100  # volumes; a run may go on for longer than planned, but not for ever


@dataclass(frozen=True)
class Position:
    """How far one has got in a run: all that is needed to go on from there, in another process too.

    ``digest`` is a chain over the messages so far, dₖ = sha256(dₖ₋₁ ‖ digest of message k) from 32 zero
    bytes. It differs if a single message was lost, doubled, swapped or changed.
    """

    start: RunStart | None = None
    next_seq: int = 0
    n_volumes: int = 0
    next_index: int = 0  # of the volume after the last one, if the scanner has lost none
    digest: str = "00" * 32
    end: RunEnd | None = None

    @property
    def run_uid(self) -> str:
        """The run one is in, "" before the first."""
        return self.start.run_uid if self.start else ""

    def after(self, message: Message, digest: str) -> "Position":
        """The position after one more message, whose digest is ``digest``.

        Raises:
            WireError: this message cannot come here.
        """
        if isinstance(message, RunStart):
            if self.start:
                raise WireError(f"run {self.run_uid} has begun already.")
            return Position(start=message)._chained(digest)
        if self.start is None:
            raise WireError("a run must begin with its RunStart.")
        if message.run_uid != self.run_uid or message.seq != self.next_seq or self.end:
            here, there = f"{self.run_uid} {self.next_seq}", f"{message.run_uid} {message.seq}"
            raise WireError(f"message {there} cannot come where {here} belongs.")
        match message:
            case Picture():
                return self._chained(digest)
            case Volume():
                _check_volume(message, self.start, self.next_index)
                further = replace(self, n_volumes=self.n_volumes + 1, next_index=message.index + 1)
                return further._chained(digest)
            case RunEnd():
                if message != self.ending(message.reason):
                    raise WireError(
                        f"the run ended with {message.n_volumes} volumes and digest {message.digest[:8]}, "
                        f"but {self.n_volumes} with digest {self.digest[:8]} have come."
                    )
                return replace(self, next_seq=self.next_seq + 1, end=message)

    def ending(self, reason: Literal["complete", "stopped"]) -> RunEnd:
        """The only RunEnd that can come here."""
        return RunEnd(
            seq=self.next_seq,
            run_uid=self.run_uid,
            n_volumes=self.n_volumes,
            digest=self.digest,
            reason=reason,
        )

    def _chained(self, digest: str) -> "Position":
        chain = hashlib.sha256(bytes.fromhex(self.digest) + bytes.fromhex(digest)).hexdigest()
        return replace(self, next_seq=self.next_seq + 1, digest=chain)


def _check_volume(volume: Volume, start: RunStart, index: int) -> None:
    """An index may be left out: the scanner never handed that volume over. None comes twice, none goes back."""
    if volume.index >= 2 * start.n_volumes + SLACK:
        raise WireError(f"volume {volume.index} is far beyond the {start.n_volumes} that the run was to have.")
    if volume.index < index:
        raise WireError(f"volume {volume.index} came where volume {index} belongs.")
    if (volume.data.shape, volume.data.dtype.str) != (start.shape, start.dtype):
        raise WireError(
            f"volume {volume.index} is {volume.data.dtype.str} {volume.data.shape}, "
            f"but its run is {start.dtype} {start.shape}."
        )
