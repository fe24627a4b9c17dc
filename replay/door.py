"""The socket of a feed: where it listens, who may speak there, and who was turned away.

Knows ZeroMQ, addresses and keys; knows nothing of a run.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager

import zmq
from zmq.auth.thread import ThreadAuthenticator
from zmq.utils import z85

from dynadiff.base.errors import UserError
from realtime.feed.address import is_address, is_ipv6, is_local
from realtime.feed.dial import Failure, Handshakes
from realtime.feed.keys import Keys
from realtime.feed.wire import MAX_CONTROL, Frame

LINGER_MS = 2000  # for the last words to leave
HEARTBEAT_MS = 1000  # of ZeroMQ, which finds a consumer whose machine is gone
_TURNED_AWAY = {
    Failure.ENCRYPTION: "somebody was turned away: one of the two has --keys and the other has not",
    Failure.OTHER_FEED_KEY: "somebody was turned away: the feed.key there is another feed's, copy this one's",
    Failure.CUT_OFF: "somebody was gone before a word was said: no decoder, or one that lacks --keys or has others",
}


class Door:
    """A ROUTER: everybody who speaks has an identity there, and where there are keys a name."""

    def __init__(self, socket: "zmq.Socket[bytes]", handshakes: Handshakes, guard: "_Guard | None") -> None:
        self._socket, self._handshakes, self._guard = socket, handshakes, guard
        self.address = str(socket.get_string(zmq.LAST_ENDPOINT))

    def poll(self, timeout_ms: int) -> bool:
        """Whether somebody has said something."""
        return bool(self._socket.poll(timeout_ms))

    def receive(self) -> tuple[bytes, list[Frame], str]:
        """Identity, frames, and the name of the key, empty without keys."""
        identity, *frames = self._socket.recv_multipart(copy=False)
        name = str(identity.get("User-Id")) if self._guard else ""
        return identity.bytes, [frame.bytes for frame in frames], name

    def send(self, identity: bytes, frames: list[Frame]) -> bool:
        """Whether the consumer is still there. No limit makes this wait or drop."""
        try:
            self._socket.send_multipart([identity, *frames], copy=False)
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            return False
        return True

    def turned_away(self) -> list[str]:
        """Why somebody could not connect, since it was last asked."""
        told = [_TURNED_AWAY[failure] for failure in self._handshakes.failures() if failure in _TURNED_AWAY]
        return told + (self._guard.turned_away() if self._guard else [])


@contextmanager
def listening(bind: str, keys: Keys | None) -> Iterator[Door]:
    """A door at the address; with keys one that nobody can speak at without a key that is allowed.

    Raises UserError where nothing can listen there, or others could come without a key.
    """
    check_address(bind, keys is not None)
    with zmq.Context() as context, _guarded(context, keys) as guard, context.socket(zmq.ROUTER) as socket:
        if keys is not None:
            socket.curve_server = True
            socket.curve_publickey, socket.curve_secretkey = keys.public, keys.secret
        socket.setsockopt(zmq.SNDHWM, 0)
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)  # who is gone is an error, not silence
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_CONTROL)  # whoever sends a larger frame is cut off before it is read
        socket.setsockopt(zmq.IPV6, int(is_ipv6(bind)))
        socket.setsockopt(zmq.LINGER, LINGER_MS)
        for option in (zmq.HEARTBEAT_IVL, zmq.HEARTBEAT_TIMEOUT, zmq.HEARTBEAT_TTL):
            socket.setsockopt(option, HEARTBEAT_MS if option == zmq.HEARTBEAT_IVL else 3 * HEARTBEAT_MS)
        with closing(Handshakes(socket)) as handshakes:
            bind_at(socket, bind)
            yield Door(socket, handshakes, guard)


def bind_at(socket: "zmq.Socket[bytes]", bind: str) -> None:
    """UserError where nothing can listen at that address."""
    try:
        socket.bind(bind)
    except zmq.ZMQError as error:
        if error.errno == zmq.EADDRINUSE:
            raise UserError(f"{bind} is in use: stop the other feed, or give another port.") from None
        raise UserError(f"a feed cannot listen at {bind} ({error.strerror}): give another address.") from None


class _Guard(ThreadAuthenticator):
    """The thread that ZeroMQ asks who may connect."""

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", allowed: Mapping[bytes, str]) -> None:
        super().__init__(context)
        self._names = allowed
        self._strangers: deque[bytes] = deque(maxlen=100)
        self.configure_curve_callback(credentials_provider=self)

    def callback(self, domain: str, key: bytes) -> bool:
        """Whether that public key is one of those that may come."""
        if key not in self._names:
            self._strangers.append(key)
        return key in self._names

    def curve_user_id(self, client_public_key: bytes) -> str:
        return self._names[bytes(z85.encode(client_public_key))]

    def turned_away(self) -> list[str]:
        told = []
        while self._strangers:
            key = self._strangers.popleft().decode()
            told.append(f"somebody was turned away: nobody in allowed/ has the public key {key[:8]}…")
        return told


@contextmanager
def _guarded(context: "zmq.Context[zmq.Socket[bytes]]", keys: Keys | None) -> Iterator[_Guard | None]:
    if keys is None:
        yield None
        return
    guard = _Guard(context, keys.allowed)
    guard.start()
    try:
        yield guard
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
