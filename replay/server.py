"""Serves one run: gives a ``FeedLog`` a socket, a clock and, where there are keys, a guard."""

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain

import zmq
from zmq.auth.thread import ThreadAuthenticator

from dynadiff.base.errors import UserError
from realtime.feed.address import is_address, is_ipv6, is_local
from realtime.feed.keys import Keys
from realtime.feed.wire import MAX_CONTROL, Message, RunStart, Volume, WireError
from replay.log import FeedLog, Outgoing

STATUS_S = 1.0  # between signs of life
STOP_S = 2.0  # for consumers to hear that a run was stopped
HEARTBEAT_MS = 1000  # of ZeroMQ, which finds a consumer whose machine is gone

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
) -> tuple[str, ...]:
    """Serve one run and return the roles of the consumers that confirmed it.

    Args:
        messages: with the seconds after the start at which each is due, beginning with a RunStart.
        bind: address, as tcp://127.0.0.1:5560; with port * a free one is taken. Any but this machine's needs keys.
        keys: of the feed; consumers must then have theirs among those allowed, and all is encrypted.
        wait_for: consumers that must be there before the run starts; 0 starts at once. Those who are there then must
            confirm its end, they or another in the same role; so must whoever is there at the end.
        join_s: seconds to wait for them.
        linger_s: seconds without progress by any consumer after which the end is waited for no longer.
        clock: monotonic seconds. ``unix_time``: what ``t_sent`` is taken from.
        ready: told the address, once consumers may connect.

    Raises:
        UserError: a bad address, a port in use, nothing to serve, consumers that do not come or do not confirm the end.
    """
    due, start = _beginning(messages)
    with _listening(bind, keys) as socket:
        feed = _Server(socket, FeedLog(start.run_uid), clock)
        ready(str(socket.get_string(zmq.LAST_ENDPOINT)))
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
    """A FeedLog at a socket, in one thread."""

    def __init__(self, socket: "zmq.Socket[bytes]", log: FeedLog, clock: Callable[[], float]) -> None:
        self.log = log
        self._socket = socket
        self._clock = clock
        self._next_status = clock()

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
            wait_s = max(0.0, min(until, self._next_status) - now)
            if self._socket.poll(math.ceil(wait_s * 1000)):
                identity, *frames = self._socket.recv_multipart()
                self.send(self.log.receive(identity, frames))
            elif now >= until:
                return False
        return True

    def gather(self, wait_for: int, join_s: float) -> None:
        """Wait until so many consumers are here. A sign of life finds out who has gone again."""

        def together() -> bool:
            if len(self.log.here()) >= wait_for:
                self.send(self.log.status())
            return len(self.log.here()) >= wait_for

        if not self.answer(self._clock() + join_s, together):  # asked once: one may go between two times of asking
            came = ", ".join(sorted(self.log.here().values())) or "none"
            raise UserError(
                f"fewer than {wait_for} consumers came in {join_s:g} s ({came}): start `realtime decode` too."
            )
        self.log.require_those_here(wait_for)

    def play(self, messages: Iterable[tuple[float, Message]], unix_time: Callable[[], float]) -> None:
        """Publish each message when it is due: until a time and not for one, so that delays do not add up."""
        begun = self._clock()
        for due, message in messages:
            self.answer(begun + due)
            stamped = replace(message, t_sent=unix_time()) if isinstance(message, Volume) else message
            try:
                outgoing = self.log.publish(stamped)
            except WireError as error:
                raise UserError(f"the run is stopped, look at where its volumes come from: {error}") from None
            self.send(outgoing)

    def send(self, outgoing: Outgoing) -> None:
        """Send at once: no limit makes this wait or drop, and credit bounds what is on its way."""
        for identity, frames in outgoing:
            try:
                self._socket.send_multipart([identity, *frames], copy=False)
            except zmq.ZMQError as error:
                if error.errno != zmq.EHOSTUNREACH:
                    raise
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


@contextmanager
def _listening(bind: str, keys: Keys | None) -> Iterator["zmq.Socket[bytes]"]:
    """A ROUTER at the address; with keys one that nobody can speak to without a key that is allowed."""
    check_address(bind, keys is not None)
    with zmq.Context() as context, _guarded(context, keys), context.socket(zmq.ROUTER) as socket:
        if keys is not None:
            socket.curve_server = True
            socket.curve_publickey, socket.curve_secretkey = keys.public, keys.secret
        socket.setsockopt(zmq.SNDHWM, 0)
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)  # who is gone is an error, not silence
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_CONTROL)  # whoever sends a larger frame is cut off before it is read
        socket.setsockopt(zmq.IPV6, int(is_ipv6(bind)))
        socket.setsockopt(zmq.LINGER, int(STOP_S * 1000))
        for option in (zmq.HEARTBEAT_IVL, zmq.HEARTBEAT_TIMEOUT, zmq.HEARTBEAT_TTL):
            socket.setsockopt(option, HEARTBEAT_MS if option == zmq.HEARTBEAT_IVL else 3 * HEARTBEAT_MS)
        try:
            socket.bind(bind)
        except zmq.ZMQError as error:
            if error.errno == zmq.EADDRINUSE:
                raise UserError(f"{bind} is in use: stop the other feed, or give another port.") from None
            raise UserError(f"a feed cannot listen at {bind} ({error.strerror}): give another address.") from None
        yield socket


@contextmanager
def _guarded(context: "zmq.Context[zmq.Socket[bytes]]", keys: Keys | None) -> Iterator[None]:
    """The thread that ZeroMQ asks who may connect, where there are keys."""
    if keys is None:
        yield
        return
    guard = ThreadAuthenticator(context)
    guard.start()
    try:
        guard.configure_curve(domain="*", location=str(keys.allowed))
        yield
    finally:
        guard.stop()


def check_address(bind: str, encrypted: bool) -> None:
    """Without keys consumers are neither known nor encrypted to, so they must be on this machine; else UserError."""
    if not is_address(bind, listening=True):
        raise UserError(f"a feed cannot listen at {bind}: give an address as tcp://127.0.0.1:5560.")
    if not encrypted and not is_local(bind):
        raise UserError(
            f"a feed cannot listen at {bind} without keys: give --keys with a folder that `realtime keys` made, "
            "or an address on this machine, as tcp://127.0.0.1:5560."
        )
