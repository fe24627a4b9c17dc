"""Keys of an encrypted feed (CURVE of ZeroMQ): who may connect, and to whom one is connected.

A folder of keys, made once on the machine that serves::

    feed.key_secret       of the feed; stays there
    feed.key              of the feed; every consumer must have it, so that nobody can pose as the feed
    allowed/NAME.key      of the consumers that are let in; take one away to shut it out from the next run on
    NAME.key_secret       of a consumer; copy it, with feed.key, to a folder on the consumer's machine

Knows files and keys; knows no sockets.
"""

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import zmq.auth

from dynadiff.base.errors import UserError

FEED, ALLOWED = "feed", "allowed"
NAME = re.compile(r"[A-Za-z0-9_-]+")
PUBLIC = 'metadata\ncurve\n    public-key = "{}"\n'  # a file of ZeroMQ's


@dataclass(frozen=True)
class Keys:
    """One's own pair, and whom one trusts: a feed those who are ``allowed``, a consumer the feed's ``server``."""

    public: bytes
    secret: bytes
    server: bytes = b""
    allowed: Mapping[bytes, str] = field(default_factory=dict)  # names by public key

    def __repr__(self) -> str:
        return f"Keys(public={self.public!r})"  # a secret must not end in a log


def make_keys(folder: Path, names: list[str]) -> list[Path]:
    """Write what is missing of the keys of a feed and of consumers of these names; the files that are new.

    A consumer whose secret is there and whose key is no longer allowed is allowed again.
    """
    for name in names:
        if not NAME.fullmatch(name) or name in (FEED, ALLOWED):
            raise UserError(f"{name} cannot be a consumer's name: give one of letters, digits, - and _")
    before = set(folder.rglob("*"))
    umask = os.umask(0o077)  # of the process: a secret must not be readable even while it is written
    try:
        (folder / ALLOWED).mkdir(parents=True, exist_ok=True)
        for name in [FEED, *names]:
            if not (folder / f"{name}.key_secret").exists():
                zmq.auth.create_certificates(folder, name)
            public = folder / f"{name}.key" if name == FEED else folder / ALLOWED / f"{name}.key"
            if not public.exists():  # new, or taken away before: whoever is named is let in
                public.write_text(PUBLIC.format(_pair(folder / f"{name}.key_secret")[0].decode()))
            if name != FEED:
                (folder / f"{name}.key").unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"keys cannot be written to {folder} ({error.strerror}): give another folder") from None
    finally:
        os.umask(umask)
    return sorted(path for path in set(folder.rglob("*")) - before if path.is_file())


def feed_keys(place: Path) -> Keys:
    """Those of the feed, in a folder or beside its key_secret. UserError where they are missing, or open to others."""
    folder = place.parent if place.is_file() else place
    public, secret = _pair(folder / f"{FEED}.key_secret")
    names = {_load(path)[0]: path.stem for path in sorted((folder / ALLOWED).glob("*.key"))}
    if not names:
        raise UserError(f"{folder / ALLOWED} names nobody who may connect: add one with `realtime keys {folder} NAME`")
    return Keys(public, secret, allowed=names)


def consumer_keys(place: Path) -> Keys:
    """Those of a consumer, beside the feed's public key: ``place`` is its key_secret, or a folder with no other's."""
    own = [place] if place.is_file() else [path for path in place.glob("*.key_secret") if path.stem != FEED]
    if len(own) > 1:
        names = " or ".join(str(path) for path in sorted(own))
        raise UserError(f"{place} holds the keys of {len(own)} consumers: give one of them, --keys {names}")
    if not own:
        raise UserError(f"{place} holds no consumer's key_secret: copy NAME.key_secret and feed.key there")
    server = own[0].parent / f"{FEED}.key"
    if not server.is_file():
        raise UserError(f"{server} is missing, without which anybody could pose as the feed: copy it there")
    public, secret = _pair(own[0])
    return Keys(public, secret, server=_load(server)[0])


def _pair(path: Path) -> tuple[bytes, bytes]:
    if not path.is_file():
        raise UserError(f"there is no {path}: make keys with `realtime keys {path.parent} NAME`")
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise UserError(f"{path} can be read by others: shut them out with `chmod 600 {path}`, or make new keys")
    public, secret = _load(path)
    if secret is None:
        raise UserError(f"{path} holds no secret key: make keys anew with `realtime keys`")
    return public, secret


def _load(path: Path) -> tuple[bytes, bytes | None]:
    try:
        return zmq.auth.load_certificate(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is no key ({error}): make keys anew with `realtime keys`") from None
