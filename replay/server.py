"""The feed: a log of a run's messages, served to every consumer from where it is.

``FeedLog`` is the protocol without a socket and without a clock; ``serve`` gives it both. Late joining,
reconnecting, slowness and the order of starting are one mechanism: the log is kept whole, each consumer has a
cursor in it, and is sent what lies ahead, up to ``CREDIT`` messages beyond what it has acknowledged. Nothing
waits in a queue that could overflow, and a slow consumer holds up nobody.

It holds in memory: the run, each message once for all consumers (226 volumes of 1.4 MB: 315 MB) and ``MAX_HELD``
bytes at most; and for each consumer a cursor and its unread frames, which are few because it has only ``CREDIT``.
"""

import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain

import zmq
from zmq.auth.thread import ThreadAuthenticator

from dynadiff.errors import UserError
from realtime.address import is_address, is_ipv6, is_local
from realtime.keys import Keys
from realtime.order import Position
from realtime.wire import (
    MAX_CONTROL,
    Ack,
    Done,
    Frame,
    Hello,
    Message,
    Refusal,
    RunEnd,
    RunStart,
    Status,
    Volume,
    WireError,
    decode,
    digest_of,
    encode,
)

CREDIT = 8  # messages on their way to a consumer
MAX_HELD = 1 << 33  # bytes of a run, 8 GiB
STATUS_S = 1.0  # between signs of life
STOP_S = 2.0  # for consumers to hear that a run was stopped
HEARTBEAT_MS = 1000  # of ZeroMQ, which finds a consumer whose machine is gone

Outgoing = list[tuple[bytes, list[Frame]]]  # to which consumer, what
log = logging.getLogger(__name__)


@dataclass
class _Consumer:
    role: str
    name: str  # the same over its connections
    cursor: int  # the next message to send
    acked: int  # it has everything before this one


class FeedLog:
    """The messages of one run so far, and how far each consumer has got. What it returns is to be sent."""

    def __init__(self, run_uid: str, credit: int = CREDIT) -> None:
        self.run_uid = run_uid
        self.position = Position()
        self.consumers: dict[bytes, _Consumer] = {}  # who is here, by connection
        self.confirmed: dict[str, str] = {}  # the roles that have the whole run, by consumer
        self.reached: dict[str, int] = {}  # how far each consumer that was ever here has got
        self._required: Counter[str] = Counter()
        self._log: list[list[Frame]] = []
        self._held = 0  # bytes
        self._credit = credit

    def publish(self, message: Message) -> Outgoing:
        """The next message of the run. WireError where it cannot come here, UserError without room for it."""
        frames = encode(message)
        self._held += sum(memoryview(frame).nbytes for frame in frames)
        if self._held > MAX_HELD and not isinstance(message, RunEnd):
            raise UserError(f"the run is larger than {MAX_HELD} bytes, which a feed does not hold: serve it in parts.")
        self.position = self.position.after(message, digest_of(frames))
        self._log.append(frames)
        return [outgoing for identity in self.consumers for outgoing in self._due(identity)]

    def receive(self, identity: bytes, frames: Sequence[Frame]) -> Outgoing:
        """What a consumer said."""
        consumer = self.consumers.get(identity)
        try:
            said = decode(frames)
            match said:
                case Hello():
                    consumer = self._join(identity, said)
                case Ack() if consumer:
                    consumer.acked = min(max(consumer.acked, said.next_seq), consumer.cursor)
                case Done() if consumer:
                    self._confirm(consumer, said)
                    return [*self._due(identity), self._status(identity)]
                case Ack() | Done():
                    return []  # left over from a connection that is gone: its consumer will say Hello
                case _:
                    raise WireError(f"a consumer does not say {type(said).__name__}.")
        except WireError as error:
            return [(identity, encode(Refusal(reason=str(error)[:200])))]
        if consumer:
            self.reached[consumer.name] = max(self.reached.get(consumer.name, 0), consumer.acked)
        return self._due(identity)

    def status(self) -> Outgoing:
        """A sign of life for each consumer."""
        return [self._status(identity) for identity in self.consumers]

    def forget(self, identity: bytes) -> None:
        """A consumer is gone. Should it come back, it says Hello."""
        self.consumers.pop(identity, None)

    def here(self) -> dict[str, str]:
        """The roles of those who are here, by consumer; one that is dialling anew has two connections."""
        return {consumer.name: consumer.role for consumer in self.consumers.values()}

    def require_those_here(self) -> None:
        """Without those who are here now the run is not delivered. Whoever comes back in the same role is taken for it.

        Two of one role are told apart as long as they live.
        """
        self._required = Counter(self.here().values())

    def unconfirmed(self) -> list[str]:
        """The roles of those who are here and do not have the whole run."""
        return [role for name, role in self.here().items() if name not in self.confirmed]

    def missing(self) -> list[str]:
        """The roles that are here or required and have not confirmed that they have the whole run."""
        absent = self._required - Counter(self.confirmed.values())
        return sorted((absent | Counter(self.unconfirmed())).elements())

    def _status(self, identity: bytes) -> tuple[bytes, list[Frame]]:
        sent, confirmed = self.consumers[identity].cursor, self.consumers[identity].name in self.confirmed
        status = Status(run_uid=self.run_uid, published=len(self._log), sent=sent, confirmed=confirmed)
        return identity, encode(status)

    def _join(self, identity: bytes, hello: Hello) -> _Consumer:
        next_seq = hello.next_seq if hello.run_uid == self.run_uid else 0
        if self.position.end and next_seq > len(self._log):
            raise WireError(f"the run has {len(self._log)} messages, there is none {next_seq}.")
        name = hello.consumer or identity.hex()
        self.consumers[identity] = _Consumer(hello.role, name, cursor=next_seq, acked=next_seq)
        return self.consumers[identity]

    def _confirm(self, consumer: _Consumer, done: Done) -> None:
        if done.run_uid != self.run_uid or self.position.end is None:
            return
        if (done.n_volumes, done.digest) != (self.position.n_volumes, self.position.digest):
            raise WireError("your count or digest of the run differs from what was sent.")
        self.confirmed[consumer.name] = consumer.role

    def _due(self, identity: bytes) -> Outgoing:
        consumer = self.consumers[identity]
        ahead = self._log[consumer.cursor : max(consumer.cursor, consumer.acked + self._credit)]
        consumer.cursor += len(ahead)
        return [(identity, frames) for frames in ahead]


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
    due, start = next(messages, (0.0, None))
    if start is None:
        raise UserError("there is nothing to serve, not even the start of a run: give another recording.")
    if not isinstance(start, RunStart):
        raise WireError("a run must begin with its RunStart.")
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


class _Server:
    """A FeedLog at a socket, in one thread."""

    def __init__(self, socket: "zmq.Socket[bytes]", log: FeedLog, clock: Callable[[], float]) -> None:
        self.log = log
        self._socket = socket
        self._clock = clock
        self._next_status = clock()

    def answer(self, until: float, enough: Callable[[], bool] = lambda: False) -> None:
        """Answer consumers until that time on the clock, however long ago, or until it is enough.

        Nobody who talks without end can hold up the run by more than ``STATUS_S``.
        """
        begun = self._clock()
        while not enough():
            now = self._clock()
            if now >= max(begun, until) + STATUS_S:
                return
            if now >= self._next_status:
                self._next_status = now + STATUS_S
                self.send(self.log.status())
            wait_s = max(0.0, min(until, self._next_status) - now)
            if self._socket.poll(math.ceil(wait_s * 1000)):
                identity, *frames = self._socket.recv_multipart()
                self.send(self.log.receive(identity, frames))
            elif now >= until:
                return

    def gather(self, wait_for: int, join_s: float) -> None:
        """Wait until so many consumers are here. A sign of life finds out who has gone again."""

        def together() -> bool:
            if len(self.log.here()) >= wait_for:
                self.send(self.log.status())
            return len(self.log.here()) >= wait_for

        self.answer(self._clock() + join_s, together)
        if not together():
            came = ", ".join(sorted(self.log.here().values())) or "none"
            raise UserError(
                f"fewer than {wait_for} consumers came in {join_s:g} s ({came}): start `realtime decode` too."
            )
        self.log.require_those_here()

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
    _check_address(bind, keys is not None)
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


def _check_address(bind: str, encrypted: bool) -> None:
    """Without keys consumers are neither known nor encrypted to, so they must be on this machine."""
    if not is_address(bind, listening=True):
        raise UserError(f"a feed cannot listen at {bind}: give an address as tcp://127.0.0.1:5560.")
    if not encrypted and not is_local(bind):
        raise UserError(
            f"a feed cannot listen at {bind} without keys: give --keys with a folder that `realtime keys` made, "
            "or an address on this machine, as tcp://127.0.0.1:5560."
        )
