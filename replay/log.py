"""A log of a run's messages, and where each consumer is in it: the feed without a socket and without a clock.

Late joining, reconnecting, slowness and the order of starting are one mechanism: the log is kept whole, each consumer
has a cursor in it, and is sent what lies ahead, up to ``CREDIT`` messages beyond what it has acknowledged. Nothing
waits in a queue that could overflow, and a slow consumer holds up nobody.

It holds in memory: the run, each message once for all consumers (226 volumes of 1.4 MB: 315 MB) and ``MAX_HELD``
bytes at most; and for each consumer a cursor and its unread frames, which are few because it has only ``CREDIT``.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dynadiff.base.errors import UserError
from realtime.feed.order import Position
from realtime.feed.ranges import as_text
from realtime.feed.wire import (
    Ack,
    Bye,
    Done,
    Frame,
    Hello,
    Message,
    Refusal,
    RunEnd,
    Status,
    WireError,
    digest_of,
    pack,
    unpack,
)

CREDIT = 8  # messages on their way to a consumer
MAX_HELD = 1 << 33  # bytes of a run, 8 GiB
MAX_REASONS = 20  # that are said of messages that were not understood
MAX_LINES = 1000  # that are said of who comes and goes in a run

Outgoing = list[tuple[bytes, list[Frame]]]  # to which consumer, what


@dataclass
class _Consumer:
    role: str  # or the name of its key, where there are keys
    name: str  # the same over its connections
    cursor: int  # the next message to send
    acked: int  # it has everything before this one


class FeedLog:
    """The messages of one run so far, and how far each consumer has got. What it returns is to be sent.

    ``say`` is told in a line who comes, goes, is not understood and is done.
    """

    def __init__(self, run_uid: str, credit: int = CREDIT, say: Callable[[str], object] = lambda line: None) -> None:
        self.run_uid = run_uid
        self._tell, self._lines = say, 0
        self.position = Position()
        self.consumers: dict[bytes, _Consumer] = {}  # who is here, by connection
        self.confirmed: dict[str, str] = {}  # the roles that have the whole run, by consumer
        self.reached: dict[str, int] = {}  # how far each consumer that was ever here has got
        self._required: dict[str, str] = {}  # the roles of those who were here at the start, by consumer
        self._enough = 1  # consumers that must have the whole run
        self._log: list[list[Frame]] = []
        self._lost: dict[bytes, _Consumer] = {}  # connections since the last sign of life
        self._held = 0  # bytes
        self._refused: set[str] = set()  # reasons that were said
        self._credit = credit

    def publish(self, message: Message) -> Outgoing:
        """The next message of the run. WireError where it cannot come here, UserError without room for it."""
        frames = pack(message)
        self._held += sum(memoryview(frame).nbytes for frame in frames)
        if self._held > MAX_HELD and not isinstance(message, RunEnd):
            raise UserError(f"the run is larger than {MAX_HELD} bytes, which a feed does not hold: serve it in parts.")
        self.position = self.position.after(message, digest_of(frames))
        self._log.append(frames)
        return [outgoing for identity in self.consumers for outgoing in self._due(identity)]

    def receive(self, identity: bytes, frames: Sequence[Frame], key: str = "") -> Outgoing:
        """What a consumer said, with a key of that name where there are keys."""
        consumer = self.consumers.get(identity)
        try:
            said = unpack(frames)
            match said:
                case Hello():
                    consumer = self._join(identity, said, key)
                case Ack() if consumer:
                    consumer.acked = min(max(consumer.acked, said.next_seq), consumer.cursor)
                case Done() if consumer:
                    self._confirm(consumer, said)
                    return [*self._due(identity), self._status(identity)]
                case Bye():
                    self.forget(identity)
                    if identity in self._lost:
                        self._say_gone(self._lost.pop(identity), f"left: {said.reason}")
                    return []
                case Ack() | Done():
                    return []  # left over from a connection that is gone: its consumer will say Hello
                case _:
                    raise WireError(f"a consumer does not say {type(said).__name__}.")
        except WireError as error:
            self._refuse(consumer.role if consumer else key or "somebody", str(error))
            return [(identity, pack(Refusal(reason=as_text(str(error)))))]
        if consumer:
            self.reached[consumer.name] = max(self.reached.get(consumer.name, 0), consumer.acked)
        return self._due(identity)

    def status(self) -> Outgoing:
        """A sign of life for each consumer."""
        for gone in self._lost.values():
            self._say_gone(gone, "is gone")
        self._lost.clear()
        return [self._status(identity) for identity in self.consumers]

    def forget(self, identity: bytes) -> None:
        """A consumer is gone; its last word may still lie in the socket. Should it come back, it says Hello."""
        if identity in self.consumers:
            self._lost[identity] = self.consumers.pop(identity)

    def here(self) -> dict[str, str]:
        """The roles of those who are here, by consumer; one that is dialling anew has two connections."""
        return {consumer.name: consumer.role for consumer in self.consumers.values()}

    def require_those_here(self, enough: int) -> None:
        """Without those who are here now, and ``enough`` consumers, the run is not delivered.

        Whoever comes back in the same role is taken for the one who left; two of one role are told apart as long as
        they live. A connection that ends before anything was acknowledged on it was nobody's any more.
        """
        self._required, self._enough = self.here(), enough

    def unconfirmed(self) -> list[str]:
        """The roles of those who are here and do not have the whole run."""
        return [role for name, role in self.here().items() if name not in self.confirmed]

    def missing(self) -> list[str]:
        """The roles that are here or required and have not confirmed that they have the whole run."""
        here, have = self.here(), Counter(self.confirmed.values())
        seen = Counter(role for name, role in self._required.items() if name in here or self.reached.get(name))
        missing = (seen - have) | Counter(self.unconfirmed())
        if not missing and len(self.confirmed) < self._enough:
            missing = Counter(self._required.values()) - have
        return sorted(missing.elements())

    def _status(self, identity: bytes) -> tuple[bytes, list[Frame]]:
        sent, confirmed = self.consumers[identity].cursor, self.consumers[identity].name in self.confirmed
        status = Status(run_uid=self.run_uid, published=len(self._log), sent=sent, confirmed=confirmed)
        return identity, pack(status)

    def _join(self, identity: bytes, hello: Hello, key: str) -> _Consumer:
        next_seq = hello.next_seq if hello.run_uid == self.run_uid else 0
        if self.position.end and next_seq > len(self._log):
            raise WireError(f"the run has {len(self._log)} messages, there is none {next_seq}.")
        name = hello.consumer or identity.hex()
        role = hello.role if key in ("", hello.role) else f"{key} ({hello.role})"
        if name not in self.here():
            self._say(f"{role} joined" + (f", and has {next_seq} messages of the run" if next_seq else ""))
        self.consumers[identity] = _Consumer(role, name, cursor=next_seq, acked=next_seq)
        return self.consumers[identity]

    def _confirm(self, consumer: _Consumer, done: Done) -> None:
        if done.run_uid != self.run_uid or self.position.end is None:
            return
        if (done.n_volumes, done.digest) != (self.position.n_volumes, self.position.digest):
            raise WireError("your count or digest of the run differs from what was sent.")
        if consumer.name not in self.confirmed:
            self._say(f"{consumer.role} has the whole run")
        self.confirmed[consumer.name] = consumer.role

    def _say(self, line: str) -> None:
        """Up to a bound: whoever joins and leaves without end fills no disk."""
        self._lines += 1
        if self._lines <= MAX_LINES:
            self._tell(line if self._lines < MAX_LINES else "no more is said of who comes and goes in this run")

    def _say_gone(self, gone: _Consumer, how: str) -> None:
        """Unless it is here on another connection, or has all it came for."""
        if gone.name not in self.here() and gone.name not in self.confirmed:
            self._say(f"{gone.role} {how}")

    def _refuse(self, who: str, why: str) -> None:
        """Each reason is said once: a bad link damages much, and a stranger may talk without end."""
        if why not in self._refused and len(self._refused) < MAX_REASONS:
            self._refused.add(why)
            self._say(f"{who} was not understood: {why}")

    def _due(self, identity: bytes) -> Outgoing:
        consumer = self.consumers[identity]
        ahead = self._log[consumer.cursor : max(consumer.cursor, consumer.acked + self._credit)]
        consumer.cursor += len(ahead)
        return [(identity, frames) for frames in ahead]
