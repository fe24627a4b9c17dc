"""The consumer's end of a feed: moves the frames of a ``Consumer`` and watches for silence.

Knows sockets and a clock; what is said on them stands in ``realtime.feed.consumer``.
"""

import math
import time
from collections.abc import Callable
from typing import Self
from uuid import uuid4

import zmq

from dynadiff.base.errors import UserError
from realtime.feed.address import is_address, is_ipv6, is_local
from realtime.feed.consumer import Consumer
from realtime.feed.keys import Keys
from realtime.feed.order import Position
from realtime.feed.wire import MAX_BUFFER, Control, Message, RunEnd, pack

RETRY_S = 3.0  # a feed says Status once a second; after three of silence the connection is made anew
FLUSH_MS = 2000  # how long a last word may take to leave
CONFIRM_S = 10.0  # in which a connection can be made anew and the feed heard on it


class Feed:
    """A feed, as a consumer uses it::

    with Feed("tcp://127.0.0.1:5560", "decoder") as feed:
        while not isinstance(message := feed.receive(timeout_s=1.0), RunEnd):
            ...
        feed.confirm(message)

    Start order does not matter. ``resume`` goes on where another process stopped (``Recording.position``). A
    new run may begin at any time, also before the end of the one before: its RunStart says so.
    """

    def __init__(
        self,
        connect: str,
        role: str,
        *,
        resume: Position | None = None,
        keys: Keys | None = None,
        silence_s: float = 60.0,
        wait_s: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Connect to an address, as tcp://127.0.0.1:5560, and bear ``silence_s`` without a sign of life.

        Before anything was heard at all it waits for ``wait_s``: a feed may be started later.

        With ``keys`` everything is encrypted, to that feed only; an address elsewhere is refused without them.
        """
        _check_address(connect, keys is not None)
        self._keys = keys
        self.connect = connect
        self.consumer = Consumer(role, resume, name=uuid4().hex)
        self.reconnects = 0  # connections that had worked and were given up
        self._silence_s, self._wait_s = silence_s, wait_s
        self._ever_heard = False
        self._retry_s = min(RETRY_S, silence_s, wait_s)
        self._clock = clock
        self._unanswered = 0  # connections in a row
        self._heard = False  # anything, on this connection
        self._quiet_since: float | None = None
        self._next: Message | None = None  # came while the run before it was confirmed
        self._context = zmq.Context()
        self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def duplicates(self) -> int:
        """Messages that came again and were dropped."""
        return self.consumer.duplicates

    @property
    def gaps(self) -> int:
        """Times a message was missing and was asked for."""
        return self.consumer.gaps

    @property
    def damaged(self) -> int:
        """Messages that came damaged and were asked for again."""
        return self.consumer.damaged

    @property
    def position(self) -> Position:
        """How far one has got."""
        return self.consumer.position

    def receive(self, timeout_s: float) -> Message | None:
        """The next message, each exactly once and in order, or None after ``timeout_s`` seconds without one.

        Raises:
            UserError: nothing was heard for ``silence_s`` seconds (at first, ``wait_s``), or what was heard is no run.
        """
        if self._next is not None:
            waiting, self._next = self._next, None
            return waiting
        deadline = self._clock() + timeout_s
        while True:
            now = self._clock()
            quiet = now - self._quiet_since if self._quiet_since is not None else 0.0
            wait_s = max(0.0, min(deadline - now, self._retry_s - quiet))
            if self._socket.poll(math.ceil(wait_s * 1000)):
                self._quiet_since, self._heard, self._ever_heard, self._unanswered = None, True, True, 0
                message = self._take()
                if message is not None:
                    return message
                continue
            if self._quiet_since is None:
                self._quiet_since = now
            if self._clock() - self._quiet_since >= self._retry_s:
                self._reconnect()
            if self._clock() >= deadline:
                return None

    def confirm(self, end: RunEnd, timeout_s: float = CONFIRM_S) -> None:
        """Tell the feed that the run was received whole, which is what lets it finish.

        It is said again until the feed has heard it, for ``timeout_s`` seconds: the feed may have ended meanwhile.
        Where nothing is heard the connection is made anew, for a feed that does not know it does not answer there.

        Raises:
            UserError: it was not.
        """
        self._say(self.consumer.confirm(end))
        now = heard = self._clock()
        deadline = now + timeout_s
        while not self.consumer.acknowledged and self._next is None and now < deadline:
            if self._socket.poll(math.ceil(1000 * max(0.0, min(deadline, heard + self._retry_s) - now))):
                heard = self._clock()
                self._next = self._take()
            elif self._clock() >= heard + self._retry_s:
                heard = self._clock()
                self._socket.close(linger=0)
                self._open()
                self._say(self.consumer.confirm(end))
            now = self._clock()

    def close(self) -> None:
        """Leave. What was confirmed gets its time to go out."""
        unheard = self.position.end is not None and not self.consumer.acknowledged
        self._socket.close(linger=FLUSH_MS if unheard else 0)
        self._context.term()

    def _take(self) -> Message | None:
        """What lies in the socket, answered; the next message if it is that."""
        frames = [frame.buffer for frame in self._socket.recv_multipart(copy=False)]
        message, answers = self.consumer.receive(frames)
        for answer in answers:
            self._say(answer)
        if self.consumer.muddled:
            self._socket.close(linger=0)
            self._open()
        return message

    def _say(self, control: Control) -> None:
        self._socket.send_multipart(pack(control))

    def _reconnect(self) -> None:
        """With a new socket: what was in the old one is sent again, and nothing stale can come from it."""
        self._unanswered += 1
        limit_s = self._silence_s if self._ever_heard else self._wait_s
        if self._unanswered * self._retry_s >= limit_s:
            raise UserError(
                f"no feed was heard at {self.connect} for {limit_s:g} s: start one with "
                f"`realtime replay --bind {self.connect}`, or correct the address."
            )
        self.reconnects += self._heard
        self._socket.close(linger=0)
        self._open()

    def _open(self) -> None:
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.RCVHWM, 0)  # the feed's credit bounds what waits here
        self._socket.setsockopt(zmq.SNDHWM, 0)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_BUFFER)
        self._socket.setsockopt(zmq.IPV6, int(is_ipv6(self.connect)))
        if self._keys is not None:
            self._socket.curve_serverkey = self._keys.server
            self._socket.curve_publickey, self._socket.curve_secretkey = self._keys.public, self._keys.secret
        self._socket.connect(self.connect)
        self._heard, self._quiet_since = False, None
        self._say(self.consumer.dial())


def _check_address(connect: str, encrypted: bool) -> None:
    """ZeroMQ itself would look for a host or port that cannot be, for ever."""
    if not is_address(connect):
        raise UserError(f"{connect} is no address of a feed: give one as tcp://127.0.0.1:5560.")
    if not encrypted and not is_local(connect):
        raise UserError(
            f"{connect} is on another machine, and nothing is sent there or believed from there without keys: "
            "give --keys with a folder that holds yours, see `realtime keys --help`."
        )
