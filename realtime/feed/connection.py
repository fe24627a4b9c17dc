"""The consumer's end of a feed: moves the frames of a ``Consumer`` and watches for silence.

Knows sockets and a clock; what is said on them stands in ``realtime.feed.consumer``.
"""

import math
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self
from uuid import uuid4

import zmq

from dynadiff.base.errors import UserError
from realtime.feed.address import is_address, is_local
from realtime.feed.consumer import Consumer
from realtime.feed.dial import Dialled, Failure
from realtime.feed.keys import Keys
from realtime.feed.order import Position
from realtime.feed.ranges import as_text
from realtime.feed.wire import Bye, Message, RunEnd

RETRY_S = 3.0  # a feed says Status once a second; after three of silence the connection is made anew
FLUSH_MS = 2000  # how long a last word may take to leave
CONFIRM_S = 10.0  # in which a connection can be made anew and the feed heard on it
CUT_OFF = 3  # connections in a row before that is worth a word: a feed that is just ending does it once


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
        self.trouble = ""  # what is odd while nothing is heard, in a sentence
        self._cut_off = 0  # connections in a row, before a word was said
        self._retry_s = min(RETRY_S, silence_s, wait_s)
        self._clock = clock
        self._unanswered = 0  # connections in a row
        self._heard: bool  # anything, on this connection
        self._quiet_since: float | None
        self._last_word = False  # is on its way
        self._next: Message | None = None  # came while the run before it was confirmed
        self._context = zmq.Context()
        self._line = self._dial()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Leave; the feed is told of what went wrong, where that is a sentence for people."""
        if self._heard and not self.consumer.acknowledged and isinstance(error, UserError | KeyboardInterrupt):
            self._line.say(Bye(reason=as_text(str(error) or "interrupted")))
            self._last_word = True
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
            UserError: nothing was heard for ``silence_s`` seconds (at first, ``wait_s``), what was heard is no run, or
                the feed, never heard before, will not speak with these keys.
        """
        if self._next is not None:
            waiting, self._next = self._next, None
            return waiting
        deadline = self._clock() + timeout_s
        while True:
            now = self._clock()
            quiet = now - self._quiet_since if self._quiet_since is not None else 0.0
            if self._line.poll(min(deadline - now, self._retry_s - quiet)):
                self._quiet_since, self._heard, self._ever_heard, self._unanswered = None, True, True, 0
                self._cut_off, self.trouble = 0, ""
                message = self._take()
                if message is not None:
                    return message
                continue
            self._look_at_handshakes()
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
        self._line.say(self.consumer.confirm(end))
        now = heard = self._clock()
        deadline = now + timeout_s
        while not self.consumer.acknowledged and self._next is None and now < deadline:
            if self._line.poll(min(deadline, heard + self._retry_s) - now):
                heard = self._clock()
                self._next = self._take()
            elif self._clock() >= heard + self._retry_s:
                heard = self._clock()
                self._redial()
                self._line.say(self.consumer.confirm(end))
            now = self._clock()

    def close(self) -> None:
        """Leave. What was confirmed gets its time to go out."""
        unheard = self.position.end is not None and not self.consumer.acknowledged
        self._line.close(linger_ms=FLUSH_MS if unheard or self._last_word else 0)
        self._context.term()

    def _take(self) -> Message | None:
        """What has come, answered; the next message if it is that."""
        message, answers = self.consumer.receive(self._line.receive())
        for answer in answers:
            self._line.say(answer)
        if self.consumer.muddled:
            self._redial()
        return message

    def _reconnect(self) -> None:
        """With a new socket: what was in the old one is sent again, and nothing stale can come from it."""
        self._unanswered += 1
        mute = f"something answers at {self.connect} that is no feed, or a feed that hangs: correct the address."
        if self._line.mute or self.trouble == mute:
            self.trouble = mute if self._line.mute else ""
        limit_s = self._silence_s if self._ever_heard else self._wait_s
        if self._unanswered * self._retry_s >= limit_s:
            cure = self.trouble or f"start one with `realtime replay --bind {self.connect}`, or correct the address."
            raise UserError(f"no feed was heard at {self.connect} for {limit_s:g} s: {cure}")
        self.reconnects += self._heard
        self._redial()

    def _look_at_handshakes(self) -> None:
        """A feed that will not speak with these keys ends the matter, unless it was heard and may come back."""
        for failure in self._line.failures():
            self._cut_off += failure is Failure.CUT_OFF
            if failure is not Failure.CUT_OFF or self._cut_off >= CUT_OFF:
                self.trouble = _trouble(failure, self.connect, self._keys is not None)
            if failure is not Failure.CUT_OFF and not self._ever_heard:
                raise UserError(self.trouble)

    def _redial(self) -> None:
        self._line.close()
        self._line = self._dial()

    def _dial(self) -> Dialled:
        self._heard, self._quiet_since = False, None
        line = Dialled(self._context, self.connect, self._keys)
        line.say(self.consumer.dial())
        return line


def _trouble(failure: Failure, connect: str, encrypted: bool) -> str:
    match failure, encrypted:
        case Failure.CUT_OFF, _:
            what = "feed.key is another feed's" if encrypted else "what is there is no feed"
            return f"{connect} ends every connection before a word is said: {what}, or no feed is behind it yet."
        case Failure.ENCRYPTION, True:
            return f"the feed at {connect} is not encrypted: leave out --keys, or start the feed with its own --keys."
        case Failure.ENCRYPTION, False:
            return (
                f"the feed at {connect} is encrypted: give --keys with a folder that holds your NAME.key_secret and "
                "its feed.key, see `realtime keys --help`."
            )
    return (
        f"the feed at {connect} does not let this key in: put its NAME.key into allowed/ of the feed's keys and start "
        "the feed again, or give --keys with a key that is there."
    )


def _check_address(connect: str, encrypted: bool) -> None:
    """ZeroMQ itself would look for a host or port that cannot be, for ever."""
    if not is_address(connect):
        raise UserError(f"{connect} is no address of a feed: give one as tcp://127.0.0.1:5560.")
    if not encrypted and not is_local(connect):
        raise UserError(
            f"{connect} is on another machine, and nothing is sent there or believed from there without keys: "
            "give --keys with a folder that holds yours, see `realtime keys --help`."
        )
