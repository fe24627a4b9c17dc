"""Addresses of feeds, as tcp://127.0.0.1:5560. Pure text: nothing is looked up or connected."""

import ipaddress
from urllib.parse import urlsplit


def is_address(text: str, listening: bool = False) -> bool:
    """Whether it is tcp, a host and a port; one that listens may leave the port to the system with ``*``."""
    if listening and text.endswith(":*"):
        text = text[:-1] + "1"
    try:
        url = urlsplit(text)
        return url.scheme == "tcp" and bool(url.hostname) and bool(url.port) and not url.path
    except ValueError:
        return False


def is_local(text: str) -> bool:
    """Whether it is on this machine for certain: a name but localhost may be anywhere."""
    host = urlsplit(text).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
