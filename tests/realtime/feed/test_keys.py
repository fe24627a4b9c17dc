"""Nobody without a key that is allowed gets a byte of a run, and nobody can pose as the feed."""

import contextlib
import os
import socket
import stat
import threading
import time

import pytest
import zmq

from dynadiff.base.errors import UserError
from realtime.feed.connection import Feed
from realtime.feed.keys import consumer_keys, feed_keys, make_keys
from realtime.feed.wire import Hello, RunEnd, Volume, pack
from replay.pace import run_messages
from replay.server import serve


@pytest.fixture
def folders(tmp_path):
    """The feed's folder, and those of two consumers of which only ``decoder`` is still allowed."""
    make_keys(tmp_path / "feed", ["decoder", "former"])
    for name in ("decoder", "former"):
        (tmp_path / name).mkdir()
        for file in (f"{name}.key_secret", "feed.key"):
            (tmp_path / name / file).write_bytes((tmp_path / "feed" / file).read_bytes())
            (tmp_path / name / file).chmod(0o600)
    (tmp_path / "feed" / "allowed" / "former.key").unlink()
    return tmp_path


@pytest.fixture
def served(folders, make_run, free_address):
    """An encrypted feed in a thread; gives its address, and what it returned or raised once it has ended."""
    outcome = []

    def run():
        try:
            messages = run_messages(make_run(), speed=0, run_uid="aaaa")
            outcome.append(serve(messages, free_address, keys=feed_keys(folders / "feed"), join_s=20))
        except UserError as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    yield free_address, outcome
    thread.join(25)


def consume(address, keys, wait_s=60.0):
    volumes = []
    with Feed(address, "decoder", keys=keys, wait_s=wait_s) as feed:
        while not isinstance(message := feed.receive(10), RunEnd):
            assert message is not None
            volumes.append(isinstance(message, Volume))
        feed.confirm(message)
    return sum(volumes)


def test_with_a_key_everything_comes_and_without_one_nothing(folders, served):
    address, outcome = served
    allowed, former = (consumer_keys(folders / name) for name in ("decoder", "former"))
    make_keys(folders / "impostor", ["decoder"])
    (folders / "impostor" / "allowed" / "decoder.key").rename(folders / "impostor" / "decoder.key")
    for keys in (None, former, consumer_keys(folders / "impostor")):
        with pytest.raises(UserError, match="no feed was heard"):
            consume(address, keys, wait_s=0.5)
    assert not outcome
    assert consume(address, allowed) == 30
    for _ in range(200):
        if outcome:
            break
        threading.Event().wait(0.05)
    assert outcome == [("decoder",)]


def test_plain_frames_at_an_encrypted_feed_get_no_answer(folders, served):
    address, _ = served
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.connect(address)
        dealer.send_multipart(pack(Hello(role="viewer")))
        assert not dealer.poll(700)
    assert consume(address, consumer_keys(folders / "decoder")) == 30


def connected(host, port):
    """As soon as somebody listens."""
    for _ in range(100):
        with contextlib.suppress(ConnectionRefusedError):
            return socket.create_connection((host, port), timeout=3)
        time.sleep(0.05)
    raise TimeoutError


def test_bare_tcp_gets_a_greeting_and_no_word_of_the_run(folders, served):
    """Who speaks ZMTP 3.1 by hand and asks for no encryption is told at most the feed's own greeting."""
    address, _ = served
    host, port = address.removeprefix("tcp://").split(":")
    ready = b"\x04\x26\x05READY\x0bSocket-Type\0\0\0\x06DEALER\x08Identity\0\0\0\0"
    for mechanism in (b"NULL", b"PLAIN"):
        with connected(host, int(port)) as wire:
            wire.settimeout(5)
            got = wire.recv(10)  # before it is answered: what a peer then cuts off takes with it what is unread
            wire.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x01" + mechanism.ljust(20, b"\0") + bytes(32) + ready)
            wire.settimeout(0.7)
            with contextlib.suppress(TimeoutError, ConnectionError):
                while part := wire.recv(4096):
                    got += part
        assert got.startswith(b"\xff")  # the signature of ZMTP: the feed was there
        assert len(got) <= 64 + 64  # a greeting, and an error at most
        assert b"sub-01" not in got
    assert consume(address, consumer_keys(folders / "decoder")) == 30


def test_whom_a_key_was_taken_from_is_shut_out_and_others_are_not(folders, make_run, free_address):
    """From the next run on: who is allowed is read when a feed begins."""
    make_keys(folders / "feed", ["former"])
    (folders / "feed" / "former.key_secret").rename(folders / "former" / "former.key_secret")
    secret = (folders / "former" / "former.key_secret").read_text()
    public = secret.split('public-key = "')[1].split('"')[0]
    (folders / "feed" / "allowed" / "former.key").write_text(f'metadata\ncurve\n    public-key = "{public}"\n')
    for allowed in (True, False):
        if not allowed:
            (folders / "feed" / "allowed" / "former.key").unlink()
        thread = threading.Thread(
            target=serve,
            args=(run_messages(make_run(), speed=0, run_uid="aaaa"), free_address),
            kwargs={"keys": feed_keys(folders / "feed")},
        )
        thread.start()
        if allowed:
            assert consume(free_address, consumer_keys(folders / "former")) == 30
        else:
            with pytest.raises(UserError, match="no feed was heard"):
                consume(free_address, consumer_keys(folders / "former"), wait_s=0.5)
            assert consume(free_address, consumer_keys(folders / "decoder")) == 30
        thread.join(20)
        assert not thread.is_alive()


def test_secrets_are_for_their_owner_only_and_a_second_time_nothing_is_overwritten(tmp_path):
    files = {path: path.read_bytes() for path in make_keys(tmp_path / "k", ["decoder"])}
    assert {p.name for p in files} == {"feed.key", "feed.key_secret", "decoder.key", "decoder.key_secret"}
    assert all(stat.S_IMODE(p.stat().st_mode) == 0o600 for p in files)
    assert [p.name for p in make_keys(tmp_path / "k", ["decoder", "viewer"])] == ["viewer.key", "viewer.key_secret"]
    assert {path: path.read_bytes() for path in files} == files
    assert b"secret-key" not in (tmp_path / "k" / "feed.key").read_bytes()


def test_a_secret_is_not_shown(tmp_path):
    make_keys(tmp_path, ["decoder"])
    keys = feed_keys(tmp_path)
    assert keys.secret.decode() not in repr(keys)


@pytest.mark.parametrize("name", ["../decoder", "feed", "allowed", "", "a b"])
def test_a_name_that_leads_elsewhere_is_refused(name, tmp_path):
    with pytest.raises(UserError, match="cannot be a consumer's name"):
        make_keys(tmp_path, [name])
    assert not list(tmp_path.iterdir())


def test_keys_that_cannot_be_trusted_are_refused_in_one_sentence(folders):
    (folders / "feed" / "feed.key_secret").chmod(0o644)
    with pytest.raises(UserError, match="chmod 600"):
        feed_keys(folders / "feed")
    (folders / "decoder" / "feed.key").unlink()
    with pytest.raises(UserError, match="pose as the feed"):
        consumer_keys(folders / "decoder")
    with pytest.raises(UserError, match="must hold one consumer's key_secret and has 0"):
        consumer_keys(folders / "nobody")
    os.chmod(folders / "feed" / "feed.key_secret", 0o600)
    (folders / "feed" / "allowed" / "decoder.key").unlink()
    with pytest.raises(UserError, match="names nobody"):
        feed_keys(folders / "feed")
    (folders / "former" / "feed.key").write_text("no key")
    with pytest.raises(UserError, match="is no key"):
        consumer_keys(folders / "former")


@pytest.mark.parametrize("address", ["tcp://0.0.0.0:5560", "tcp://192.0.2.1:5560", "tcp://scanner.example:5560"])
def test_another_machine_is_neither_served_nor_believed_without_keys(address, make_run):
    with pytest.raises(UserError, match="without keys"):
        serve(run_messages(make_run(), speed=0, run_uid="aaaa"), address)
    with pytest.raises(UserError, match="without keys"):
        Feed(address, "decoder")
