"""Nobody without a key that is allowed gets a byte of a run, and nobody can pose as the feed."""

import contextlib
import math
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
    """An encrypted feed in a thread; gives its address, and what it said, returned or raised."""
    outcome = []

    def run():
        try:
            messages, keys = run_messages(make_run(), speed=0, run_uid="aaaa"), feed_keys(folders / "feed")
            outcome.append(serve(messages, free_address, keys=keys, join_s=20, say=outcome.append))
        except UserError as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    yield free_address, outcome
    thread.join(25)


def said(outcome, *lines):
    """Whether the feed has said one of them in the end."""
    for _ in range(100):
        if any(line in str(word) for word in outcome for line in lines):
            return True
        time.sleep(0.05)
    return False


def consume(address, keys, wait_s=math.inf):
    volumes = []
    with Feed(address, "decoder", keys=keys, wait_s=wait_s) as feed:
        while not isinstance(message := feed.receive(10), RunEnd):
            assert message is not None
            volumes.append(isinstance(message, Volume))
        feed.confirm(message)
    return sum(volumes)


def test_with_a_key_everything_comes_and_without_one_nothing(folders, served):
    """Each is told why at once, though it would wait for ever, and so is the feed."""
    address, outcome = served
    allowed, former = (consumer_keys(folders / name) for name in ("decoder", "former"))
    with pytest.raises(UserError, match=r"is encrypted: give --keys"):
        consume(address, None)
    assert said(outcome, "one of the two has --keys", "no decoder, or one that lacks --keys or has others")
    with pytest.raises(UserError, match=r"does not let this key in: put its NAME\.key into allowed/"):
        consume(address, former)
    assert said(outcome, f"nobody in allowed/ has the public key {former.public.decode()[:8]}")
    assert consume(address, allowed) == 30
    assert said(outcome, "decoder joined")
    assert said(outcome, "('decoder',)")


def test_the_key_of_another_feed_is_said_while_it_is_waited_for(folders, served):
    """It looks like a feed that is just dying, or none: no reason to end, but a word is due."""
    address, outcome = served
    make_keys(folders / "impostor", ["decoder"])
    with Feed(address, "decoder", keys=consumer_keys(folders / "impostor")) as feed:
        while not feed.trouble:
            assert feed.receive(0.2) is None
        assert "feed.key is another feed's, or no feed is behind it yet" in feed.trouble
    assert said(outcome, "the feed.key there is another feed's")
    with pytest.raises(UserError, match=r"no feed was heard at .* for 1 s: .* feed\.key is another feed's"):
        consume(address, consumer_keys(folders / "impostor"), wait_s=1.0)
    assert consume(address, consumer_keys(folders / "decoder")) == 30


def test_keys_at_a_feed_that_has_none_are_said_at_once(folders, make_run, free_address):
    messages = run_messages(make_run(), speed=0, run_uid="aaaa")
    thread = threading.Thread(target=serve, args=(messages, free_address))
    thread.start()
    with pytest.raises(UserError, match="is not encrypted: leave out --keys"):
        consume(free_address, consumer_keys(folders / "decoder"))
    assert consume(free_address, None) == 30
    thread.join(20)
    assert not thread.is_alive()


def test_a_feed_that_was_heard_may_come_back_with_its_old_keys(folders, make_run, free_address):
    """In mid-run somebody starts it without keys by mistake: what had been heard is not given up for that."""
    start, *_ = run_messages(make_run(), speed=0, run_uid="aaaa")
    dies = threading.Event()

    def dying():
        yield start
        dies.wait(10)
        raise UserError("it dies")

    def die():
        with pytest.raises(UserError, match="it dies"):
            serve(dying(), free_address, keys=feed_keys(folders / "feed"))

    first = threading.Thread(target=die)
    first.start()
    with Feed(free_address, "decoder", keys=consumer_keys(folders / "decoder")) as feed:
        assert feed.receive(10) is not None
        dies.set()
        while first.is_alive():
            feed.receive(0.1)
        with zmq.Context() as context, context.socket(zmq.ROUTER) as plain:
            plain.bind(free_address)
            while "is not encrypted" not in feed.trouble:
                assert feed.receive(0.1) is None
        again = threading.Thread(
            target=serve, args=(run_messages(make_run(), speed=0, run_uid="bbbb"), free_address),
            kwargs={"keys": feed_keys(folders / "feed")},
        )  # fmt: skip
        again.start()
        while not isinstance(message := feed.receive(10), RunEnd):
            assert message is not None
        assert not feed.trouble
        feed.confirm(message)
    again.join(20)
    assert not again.is_alive()


def test_names_of_keys_tell_consumers_apart(folders, make_run, free_address):
    make_keys(folders / "feed", ["room2"])
    confirmed = []
    feed = threading.Thread(
        target=lambda: confirmed.append(
            serve(
                run_messages(make_run(), speed=0, run_uid="aaaa"),
                free_address,
                keys=feed_keys(folders / "feed"),
                wait_for=2,
            )
        )
    )
    feed.start()
    others = [
        threading.Thread(target=consume, args=(free_address, consumer_keys(folders / "feed" / f"{name}.key_secret")))
        for name in ("decoder", "room2")
    ]
    for thread in others:
        thread.start()
    for thread in (*others, feed):
        thread.join(20)
    assert sorted(confirmed[0]) == ["decoder", "room2 (decoder)"]


def test_one_machine_needs_no_copies_of_keys(tmp_path):
    """The feed's folder serves its consumers there; which of several one is must be said."""
    make_keys(tmp_path / "k", ["decoder"])
    assert consumer_keys(tmp_path / "k") == consumer_keys(tmp_path / "k" / "decoder.key_secret")
    make_keys(tmp_path / "k", ["viewer"])
    with pytest.raises(UserError, match=r"keys of 2 consumers: give one of them, --keys .*decoder\.key_secret or "):
        consumer_keys(tmp_path / "k")
    assert consumer_keys(tmp_path / "k" / "viewer.key_secret").public != feed_keys(tmp_path / "k").public


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
            with pytest.raises(UserError, match="does not let this key in"):
                consume(free_address, consumer_keys(folders / "former"))
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
    with pytest.raises(UserError, match="holds no consumer's key_secret"):
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


def test_whoever_was_shut_out_is_let_in_again_by_name(folders):
    """With the secret that it has; the refusals say so."""
    assert "former" not in feed_keys(folders / "feed").allowed.values()
    assert [path.name for path in make_keys(folders / "feed", ["former"])] == ["former.key"]
    former = consumer_keys(folders / "former").public
    assert feed_keys(folders / "feed").allowed[former] == "former"


def test_keys_that_were_made_by_half_are_finished(tmp_path):
    make_keys(tmp_path, ["decoder"])
    (tmp_path / "allowed" / "decoder.key").rename(tmp_path / "decoder.key")  # as a kill may leave them
    (tmp_path / "feed.key").unlink()
    make_keys(tmp_path, ["decoder"])
    assert not (tmp_path / "decoder.key").exists()
    assert feed_keys(tmp_path).allowed == {consumer_keys(tmp_path).public: "decoder"}
    assert consumer_keys(tmp_path).server == feed_keys(tmp_path / "feed.key_secret").public
