"""Runs of a few small volumes as messages, for the tests of feed, recording and links."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from realtime.feed.order import Position
from realtime.feed.wire import Message, RunStart, Volume, digest_of, pack

EYE = tuple(tuple(float(i == j) for j in range(4)) for i in range(4))


def start(uid: str = "u1", n: int = 10, shape: tuple[int, int, int] = (2, 3, 4), **changes: Any) -> RunStart:
    known: dict[str, Any] = {
        "run_uid": uid, "name": "sub-01_run-01", "subject": "subj01", "session": 1, "run": 1, "tr": 4 / 3,
        "n_volumes": n, "shape": shape, "dtype": "<i2", "affine": EYE, "source": "replayed",
    }  # fmt: skip
    return RunStart(**known | changes)


def messages(uid: str = "u1", n: int = 10, shape: tuple[int, int, int] = (2, 3, 4)) -> Iterator[Message]:
    """A run whose volumes hold their own index."""
    position = Position()
    volumes = (
        Volume(seq=k + 1, run_uid=uid, index=k, t_acquired=k + 1.0, data=np.full(shape, k, "<i2")) for k in range(n)
    )
    for message in (start(uid, n, shape), *volumes):
        position = position.after(message, digest_of(pack(message)))
        yield message
    yield position.ending("complete")


def timed(source: Iterator[Message], step: float = 0.0) -> Iterator[tuple[float, Message]]:
    """With a message due every ``step`` seconds."""
    return ((k * step, message) for k, message in enumerate(source))


def digests(received: Any) -> list[str]:
    return [digest_of(pack(message)) for message in received]
