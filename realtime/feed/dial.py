"""One connection to a feed, and why it did not come about where it did not. Knows sockets; knows nothing of a run."""

import math
import struct
from enum import Enum, auto
from typing import Any

import zmq

from realtime.feed.address import is_ipv6
from realtime.feed.keys import Keys
from realtime.feed.wire import MAX_BUFFER, Control, Frame, pack


class Failure(Enum):
    """What went wrong before a word could be said."""

    KEY_NOT_ALLOWED = auto()  # of the one who connects
    OTHER_FEED_KEY = auto()  # than the one who connects holds; only the feed can tell
    ENCRYPTION = auto()  # one of the two encrypts and the other does not
    CUT_OFF = auto()  # without a reason: by a feed of another key, one that is just dying, or what is no feed


SPOKEN = zmq.EVENT_CONNECTED | zmq.EVENT_HANDSHAKE_SUCCEEDED  # of who connects
_EVENT = struct.Struct("=HI")  # number and value, as zmq_socket_monitor(3) has them
_FAILED = {
    (zmq.EVENT_HANDSHAKE_FAILED_AUTH, None): Failure.KEY_NOT_ALLOWED,
    (zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, zmq.PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC): Failure.OTHER_FEED_KEY,
    (zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH): Failure.ENCRYPTION,
    (zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL, None): Failure.CUT_OFF,
}


class Handshakes:
    """Those of one socket that fail, at either end."""

    def __init__(self, socket: "zmq.Socket[bytes]", also: int = 0) -> None:
        """``also`` are events to wake up for, `SPOKEN` where ``mute`` is to be known."""
        self._socket = socket
        self.mute = False  # somebody has taken the connection, and has not said a word that a feed or consumer says
        failed = zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
        self.monitor: zmq.Socket[Any] = socket.get_monitor_socket(
            failed | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | also
        )  # readable when there is one of these

    def failures(self) -> list[Failure]:
        """Those since it was last asked, oldest first; of a kind that means nothing to a user, none."""
        found = []
        while self.monitor.poll(0):
            event, value = _EVENT.unpack(self.monitor.recv_multipart()[0])
            self.mute = event == zmq.EVENT_CONNECTED
            found += [_FAILED[said] for said in ((event, value), (event, None)) if said in _FAILED]
        return found

    def close(self) -> None:
        """Before the socket is."""
        self._socket.disable_monitor()
        self.monitor.close(linger=0)


class Dialled:
    """A connection that was asked for. Whether it comes about, ``failures`` says; ZeroMQ goes on trying."""

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", connect: str, keys: Keys | None) -> None:
        self._socket = context.socket(zmq.DEALER)
        self._handshakes = Handshakes(self._socket, SPOKEN)
        self._failed: list[Failure] = []
        self._poller = zmq.Poller()
        for socket in (self._socket, self._handshakes.monitor):
            self._poller.register(socket, zmq.POLLIN)
        self._socket.setsockopt(zmq.RCVHWM, 0)  # the feed's credit bounds what waits here
        self._socket.setsockopt(zmq.SNDHWM, 0)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_BUFFER)
        self._socket.setsockopt(zmq.IPV6, int(is_ipv6(connect)))
        if keys is not None:
            self._socket.curve_serverkey = keys.server
            self._socket.curve_publickey, self._socket.curve_secretkey = keys.public, keys.secret
        self._socket.connect(connect)

    @property
    def mute(self) -> bool:
        """Whether somebody answers there who does not speak as a feed does, as far as `poll` has seen."""
        return self._handshakes.mute

    def poll(self, timeout_s: float) -> bool:
        """Whether a message has come; also False, and before the time is over, where a handshake began or ended."""
        ready = dict(self._poller.poll(math.ceil(1000 * max(0.0, timeout_s))))
        if self._handshakes.monitor in ready:
            self._failed += self._handshakes.failures()
        return self._socket in ready

    def failures(self) -> list[Failure]:
        """Those of the handshake that were not asked for yet, oldest first."""
        failed, self._failed = self._failed, []
        return failed

    def receive(self) -> list[Frame]:
        """The frames of the message that has come."""
        return [frame.buffer for frame in self._socket.recv_multipart(copy=False)]

    def say(self, control: Control) -> None:
        """It leaves when there is a connection."""
        self._socket.send_multipart(pack(control))

    def close(self, linger_ms: int = 0) -> None:
        """Give what was said so long to leave, in the background."""
        self._handshakes.close()
        self._socket.close(linger=linger_ms)
