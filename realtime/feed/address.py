"""Addresses of feeds, as tcp://127.0.0.1:5560. Pure text: nothing is looked up or connected."""

import ipaddress
import re

# Nothing that ZeroMQ could read in another way: no user, no source address, no path, no interface.
_ADDRESS = re.compile(r"tcp://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})")


def is_address(text: str, listening: bool = False) -> bool:
    """Whether it is tcp, a host and a port; one that listens may leave the port to the system with ``*``."""
    if listening and text.endswith(":*"):
        text = text[:-1] + "1"
    match = _ADDRESS.fullmatch(text)
    return match is not None and 0 < int(match[2]) < 1 << 16


def is_local(text: str) -> bool:
    """Whether it is on this machine for certain: a name but localhost may be anywhere."""
    host = text.removeprefix("tcp://").rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_ipv6(text: str) -> bool:
    """Whether the host is an address of version 6, which a socket must be told to speak."""
    return "[" in text
