"""Addresses that are known before anybody listens there."""

import socket
from contextlib import contextmanager


@contextmanager
def held_address():
    """One of this machine that the system gives to nobody else: a socket that does not listen holds its port."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as ZeroMQ sets it, which may then listen too
        holder.bind(("127.0.0.1", 0))
        yield f"tcp://127.0.0.1:{holder.getsockname()[1]}"
