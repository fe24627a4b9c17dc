"""Serves one run: gives a ``FeedLog`` a door and a clock, and says who comes and goes."""

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain

from dynadiff.base.errors import UserError
from realtime.feed.keys import Keys
from realtime.feed.wire import Message, RunStart, Volume, WireError
from replay.door import Door, listening
from replay.log import FeedLog, Outgoing

STATUS_S = 1.0  # between signs of life
STOP_S = 2.0  # for consumers to hear that a run was stopped
AGAIN_S, MAX_TURNED_AWAY = 60.0, 20  # after which a reason is said again; different ones that are said in that time

log = logging.getLogger(__name__)


def serve(
    messages: Iterator[tuple[float, Message]],
    bind: str,
    *,
    keys: Keys | None = None,
    wait_for: int = 1,
    join_s: float = math.inf,
    linger_s: float = 60.0,
    clock: Callable[[], float] = time.monotonic,
    unix_time: Callable[[], float] = time.time,
    ready: Callable[[str], object] = log.info,
    say: Callable[[str], object] = log.info,
) -> tuple[str, ...]:
    """Serve one run and return who confirmed it: names of keys, or without keys roles.

    Args:
        messages: with the seconds after the start at which each is due, beginning with a RunStart. A volume of a
            replayed run that is due at once, as at speed 0, is sent as fast as it is taken: its time is not told.
        bind: address, as tcp://127.0.0.1:5560; with port * a free one is taken. Any but this machine's needs keys.
        keys: of the feed; consumers must then have theirs among those allowed, and all is encrypted.
        wait_for: consumers that must be there before the run starts; 0 starts at once. Those who are there then must
            confirm its end, they or another in the same role; so must whoever is there at the end.
        join_s: seconds to wait for them.
        linger_s: seconds without progress by any consumer after which the end is waited for no longer.
        clock: monotonic seconds. ``unix_time``: what ``t_sent`` is taken from.
        ready: told the address, once consumers may connect.
        say: told in a line who joins, leaves, is turned away and why, and when the run begins.

    Raises:
        UserError: a bad address, a port in use, nothing to serve, consumers that do not come or do not confirm the end.
    """
    due, start = _beginning(messages)
    with listening(bind, keys) as door:
        feed = _Server(door, FeedLog(start.run_uid, say=say), clock, say)
        ready(door.address)
        feed.gather(wait_for, join_s)
        try:
            feed.play(chain([(due, start)], messages), unix_time)
        finally:
            feed.stop()
        feed.await_end(linger_s)
    return tuple(feed.log.confirmed.values())


def _beginning(messages: Iterator[tuple[float, Message]]) -> tuple[float, RunStart]:
    due, start = next(messages, (0.0, None))
    if start is None:
        raise UserError("there is nothing to serve, not even the start of a run: give another recording.")
    if not isinstance(start, RunStart):
        raise WireError("a run must begin with its RunStart.")
    return due, start


class _Server:
    """A FeedLog at a door, in one thread."""

    def __init__(
        self, door: Door, log: FeedLog, clock: Callable[[], float], say: Callable[[str], object] = log.info
    ) -> None:
        self.log = log
        self._door = door
        self._clock = clock
        self._say = say
        self._next_status = clock()
        self._turned_away: dict[str, float] = {}  # when it was said: whoever is turned away tries ten times a second

    def answer(self, until: float, enough: Callable[[], bool] = lambda: False) -> bool:
        """Answer consumers until that time on the clock, however long ago, or until it is enough: was it?

        Nobody who talks without end can hold up the run by more than ``STATUS_S``.
        """
        begun = self._clock()
        while not enough():
            now = self._clock()
            if now >= max(begun, until) + STATUS_S:
                return False
            if now >= self._next_status:
                self._next_status = now + STATUS_S
                self.send(self.log.status())
                self._tell_turned_away()
            wait_s = max(0.0, min(until, self._next_status) - now)
            if self._door.poll(math.ceil(wait_s * 1000)):
                self.send(self.log.receive(*self._door.receive()))
            elif now >= until:
                return False
        return True

    def gather(self, wait_for: int, join_s: float) -> None:
        """Wait until so many consumers are here. A sign of life finds out who has gone again."""
        counted = 0

        def together() -> bool:
            nonlocal counted
            if len(self.log.here()) >= wait_for:
                self.send(self.log.status())
            if len(self.log.here()) != counted:
                counted = len(self.log.here())
                self._say(f"{counted} of {wait_for} consumers are here")
            return counted >= wait_for

        if not self.answer(self._clock() + join_s, together):  # asked once: one may go between two times of asking
            came = ", ".join(sorted(self.log.here().values())) or "none"
            raise UserError(
                f"fewer than {wait_for} consumers came in {join_s:g} s ({came}): start `realtime decode` too."
            )
        self.log.require_those_here(wait_for)

    def play(self, messages: Iterable[tuple[float, Message]], unix_time: Callable[[], float]) -> None:
        """Publish each message when it is due: until a time and not for one, so that delays do not add up."""
        self._say("the run begins")
        begun, live = self._clock(), False
        for due, message in messages:
            self.answer(begun + due)
            match message:
                case RunStart():
                    live = message.source == "live"
                case Volume():
                    message = replace(message, t_sent=unix_time() if live or due else 0.0)
            try:
                outgoing = self.log.publish(message)
            except WireError as error:
                raise UserError(f"the run is stopped, look at where its volumes come from: {error}") from None
            self.send(outgoing)

    def send(self, outgoing: Outgoing) -> None:
        """Send at once; credit bounds what is on its way."""
        for identity, frames in outgoing:
            if not self._door.send(identity, frames):
                self.log.forget(identity)

    def stop(self) -> None:
        """If the run was begun and not ended, tell the consumers that it is stopped."""
        if self.log.position.start and not self.log.position.end:
            self.send(self.log.publish(self.log.position.ending("stopped")))
            self.answer(self._clock() + STOP_S, lambda: not self.log.unconfirmed())

    def await_end(self, linger_s: float) -> None:
        """Until all have confirmed, as long as one gets on. A late one may still come and have it all."""

        def settled() -> bool:
            return bool(self.log.confirmed) and not self.log.missing()

        reached: dict[str, int] | None = None
        while not settled() and reached != self.log.reached:
            reached = dict(self.log.reached)
            self.answer(self._clock() + linger_s, settled)
        if names := ", ".join(self.log.missing()):
            raise UserError(f"the run was served, but its end was not confirmed by {names}: look at what it says.")

    def _tell_turned_away(self) -> None:
        now = self._clock()
        self._turned_away = {line: at for line, at in self._turned_away.items() if now < at + AGAIN_S}
        for line in self._door.turned_away():
            if line not in self._turned_away and len(self._turned_away) < MAX_TURNED_AWAY:
                self._turned_away[line] = now
                self._say(line)
