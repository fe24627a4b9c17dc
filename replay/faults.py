"""A bad link to rehearse with: between a feed and its consumers it loses, doubles, damages and delays messages.

``BadLink`` decides by a seed what becomes of a message and knows no sockets and no clock; ``relay`` gives it both.
It reads no message: a fault may hit a volume, a control or the end. Nothing of it is in the way of a real run.
"""

import heapq
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
import zmq

from dynadiff.base.errors import UserError
from realtime.feed.address import is_local
from replay.door import bind_at

Frames = list[bytes]
MAX_LATE_S = 60.0
POLL_MS = 20  # longest wait before what is late is looked at again


@dataclass(frozen=True)
class Faults:
    """Shares of messages, each in [0, 1]; one message may suffer several."""

    lost: float = 0.0
    doubled: float = 0.0
    damaged: float = 0.0  # one bit of one frame
    late: float = 0.0  # delivered up to ``late_s`` seconds later, after what came behind it
    late_s: float = 0.05

    def __post_init__(self) -> None:
        for fault in ("lost", "doubled", "damaged", "late"):
            share = getattr(self, fault)
            if not 0 <= share <= 1:
                raise UserError(f"a share of {share:g} {fault} is not possible: give one from 0 to 1")
        if not 0 <= self.late_s <= MAX_LATE_S:
            raise UserError(f"a delay of {self.late_s:g} s is not possible: give one from 0 to {MAX_LATE_S:g}")


class BadLink:
    """What becomes of messages, by ``rng``; ``counts`` says how often each fault struck."""

    def __init__(self, faults: Faults, rng: np.random.Generator) -> None:
        self._faults, self._rng = faults, rng
        self.counts: Counter[str] = Counter()

    def passes(self, frames: Sequence[bytes]) -> list[tuple[float, Frames]]:
        """The messages that come out for one that goes in, each with the seconds by which it is late."""
        if self._strikes("lost"):
            return []
        copies = 1 + self._strikes("doubled")
        return [(self._delay(), self._damaged(frames)) for _ in range(copies)]

    def _strikes(self, fault: str) -> bool:
        struck = bool(self._rng.random() < getattr(self._faults, fault))
        self.counts[fault] += struck
        return struck

    def _delay(self) -> float:
        return float(self._rng.uniform(0, self._faults.late_s)) if self._strikes("late") else 0.0

    def _damaged(self, frames: Sequence[bytes]) -> Frames:
        out = list(frames)
        if not self._strikes("damaged"):
            return out
        place = int(self._rng.integers(len(out)))
        content = bytearray(out[place] or b"\0")
        content[int(self._rng.integers(len(content)))] ^= 1 << int(self._rng.integers(8))
        out[place] = bytes(content)
        return out


def relay(
    connect: str,
    bind: str,
    faults: Faults,
    seed: int,
    *,
    stop: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.monotonic,
    ready: Callable[[str], object] = lambda address: None,
) -> Counter[str]:
    """Pass messages on between consumers at ``bind`` and the feed at ``connect`` until ``stop``; count the faults.

    ``ready`` is told the address, once consumers may connect.
    """
    if not (is_local(connect) and is_local(bind)):
        raise UserError("a bad link is for rehearsals on one machine: give two addresses as tcp://127.0.0.1:5560")
    link = BadLink(faults, np.random.default_rng(seed))
    with zmq.Context() as context, _Relay(context, connect, bind, link, clock) as wires:
        try:
            ready(wires.address)
            while not stop():
                wires.step()
        except KeyboardInterrupt:
            pass
    return link.counts


class _Relay:
    """One socket towards consumers, and for each of them one of its own towards the feed."""

    def __init__(
        self, context: "zmq.Context[zmq.Socket[bytes]]", connect: str, bind: str, link: BadLink,
        clock: Callable[[], float],
    ) -> None:  # fmt: skip
        self._context, self._connect, self._link, self._clock = context, connect, link, clock
        self._front = context.socket(zmq.ROUTER)
        self._front.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._front.setsockopt(zmq.LINGER, 0)
        bind_at(self._front, bind)
        self.address = str(self._front.get_string(zmq.LAST_ENDPOINT))
        self._poller = zmq.Poller()
        self._poller.register(self._front, zmq.POLLIN)
        self._backs: dict[bytes, zmq.Socket[bytes]] = {}
        self._late: list[tuple[float, int, bytes, bool, Frames]] = []  # a heap: due, order, whose, which way, what
        self._order = count()

    def __enter__(self) -> "_Relay":
        return self

    def __exit__(self, *_: object) -> None:
        for socket in [self._front, *self._backs.values()]:
            socket.close(linger=0)

    def step(self) -> None:
        """Pass on what has come and what is due."""
        ready = dict(self._poller.poll(POLL_MS))
        if self._front in ready:
            who, *frames = self._front.recv_multipart()
            self._put(who, True, frames)
        for who, back in list(self._backs.items()):
            if back in ready:
                self._put(who, False, back.recv_multipart())
        while self._late and self._late[0][0] <= self._clock():
            _, _, who, to_feed, frames = heapq.heappop(self._late)
            self._deliver(who, to_feed, frames)

    def _put(self, who: bytes, to_feed: bool, frames: Frames) -> None:
        for delay, out in self._link.passes(frames):
            if delay:
                heapq.heappush(self._late, (self._clock() + delay, next(self._order), who, to_feed, out))
            else:
                self._deliver(who, to_feed, out)

    def _deliver(self, who: bytes, to_feed: bool, frames: Frames) -> None:
        if to_feed:
            self._back(who).send_multipart(frames)
            return
        try:
            self._front.send_multipart([who, *frames])
        except zmq.ZMQError as error:  # the consumer is gone, and its connection to the feed goes too
            if error.errno != zmq.EHOSTUNREACH:
                raise
            self._drop(who)

    def _back(self, who: bytes) -> "zmq.Socket[bytes]":
        if who not in self._backs:
            back = self._context.socket(zmq.DEALER)
            back.setsockopt(zmq.LINGER, 0)
            back.setsockopt(zmq.SNDHWM, 0)
            back.setsockopt(zmq.RCVHWM, 0)
            back.connect(self._connect)
            self._poller.register(back, zmq.POLLIN)
            self._backs[who] = back
        return self._backs[who]

    def _drop(self, who: bytes) -> None:
        back = self._backs.pop(who, None)
        if back is not None:
            self._poller.unregister(back)
            back.close(linger=0)
