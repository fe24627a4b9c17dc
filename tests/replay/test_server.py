"""The feed keeps its times, bears those who misbehave, and does not end unconfirmed."""

import math
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import zmq

from dynadiff.base.errors import UserError
from realtime.feed.connection import Feed
from realtime.feed.order import Position
from realtime.feed.wire import (
    MAX_CONTROL,
    Ack,
    Bye,
    Hello,
    RunEnd,
    Status,
    Volume,
    WireError,
    digest_of,
    pack,
    unpack,
)
from replay.log import FeedLog
from replay.server import STATUS_S, _Server, serve
from support.runs import messages, timed
from support.served import consumer_of, drain, serve_in_thread


class Machine:
    """A door and a clock: time passes in polls, and in each sending a little."""

    def __init__(self, words):
        self.now, self.words, self.sent = 100.0, list(words), []

    def clock(self):
        return self.now

    def poll(self, timeout_ms):
        if self.words and self.words[0][0] <= self.now + timeout_ms / 1000:
            self.now = max(self.now, self.words[0][0])
            return 1
        self.now += timeout_ms / 1000
        return 0

    def receive(self):
        return b"a", self.words.pop(0)[1], ""

    def send(self, identity, frames):
        self.now += 0.07
        self.sent.append((self.now, unpack(frames)))
        return True

    def turned_away(self):
        return []


def test_times_are_absolute_so_that_delays_do_not_add_up_and_signs_of_life_go_on():
    machine = Machine([(100.0, pack(Hello(role="decoder"))), (107.0, pack(Ack(next_seq=8)))])
    server = _Server(machine, FeedLog("u1"), machine.clock)
    server.play(timed(messages(), 4 / 3), lambda: 0.0)
    late = {m.seq: at - (100.0 + m.seq * 4 / 3) for at, m in machine.sent if not isinstance(m, Status)}
    assert sorted(late) == list(range(12))
    assert all(-1e-9 < delay < 0.3 for delay in late.values())
    beats = [at for at, m in machine.sent if isinstance(m, Status)]
    assert max(np.diff(beats)) < STATUS_S + 0.3


def test_consumers_that_do_not_come_are_not_awaited_for_ever():
    with pytest.raises(UserError, match="realtime decode"):
        serve(timed(messages()), "tcp://127.0.0.1:*", join_s=0.05)


def test_a_consumer_that_goes_as_the_run_begins_does_not_end_a_feed_that_waits_for_ever(monkeypatch):
    """It was counted; at the next sign of life it is gone."""
    machine, told = Machine([]), []
    server = _Server(machine, FeedLog("u1"), machine.clock)
    for name in (b"a", b"b"):
        server.log.receive(name, pack(Hello(role=name.decode())))

    def send(identity, frames):
        told.append(identity)
        return identity != b"b" or told.count(b"b") <= 1

    monkeypatch.setattr(machine, "send", send)
    server.gather(2, math.inf)
    assert sorted(server.log.here().values()) == ["a", "b"]
    server.play(timed(messages(), 0.0), lambda: 0.0)
    assert sorted(server.log.here().values()) == ["a"]


def test_nobody_need_come_to_a_feed_that_waits_for_none():
    assert serve(timed(messages()), "tcp://127.0.0.1:*", wait_for=0, linger_s=0.05) == ()


def test_a_feed_begins_with_a_run_start():
    with pytest.raises(WireError):
        serve(timed(list(messages())[1:]), "tcp://127.0.0.1:*")


def test_an_unconfirmed_end_names_who_did_not_confirm_it():
    left = threading.Event()

    def stay(feed):
        drain(feed)
        left.wait(10)

    with pytest.raises(UserError, match="decoder"):
        consumer_of(timed(messages()), stay, linger_s=0.2, over=left)


def test_a_consumer_that_left_and_did_not_come_back_is_named():
    with pytest.raises(UserError, match="decoder"):
        consumer_of(timed(messages()), lambda feed: feed.receive(5), linger_s=0.2)


def test_a_run_that_breaks_off_is_ended_as_stopped_and_its_error_is_kept():
    ends = []

    def breaking():
        yield from list(timed(messages()))[:4]
        raise UserError("the file is torn.")

    def take(feed):
        ends.append(drain(feed))
        feed.confirm(ends[0])

    with pytest.raises(UserError, match="torn"):
        consumer_of(breaking(), take)
    assert (ends[0].reason, ends[0].n_volumes) == ("stopped", 3)


def test_a_run_without_an_end_is_given_one():
    ends = []

    def take(feed):
        ends.append(drain(feed))
        feed.confirm(ends[0])

    assert consumer_of(iter(list(timed(messages()))[:-1]), take) == ("decoder",)
    assert (ends[0].reason, ends[0].n_volumes) == ("stopped", 10)


def test_serve_sends_no_volume_before_it_is_due():
    times = []

    def take(feed):
        while not isinstance(message := feed.receive(5), RunEnd):
            if isinstance(message, Volume):
                times.append(message.t_sent)
        feed.confirm(message)

    begun = time.monotonic()
    consumer_of(timed(messages(), 0.03), take, unix_time=time.monotonic)
    assert all(at - begun >= 0.03 * (k + 1) for k, at in enumerate(times))
    assert len(times) == 10


@pytest.mark.parametrize(
    ("source", "step", "said"), [("replayed", 0.001, 1.6e9), ("replayed", 0.0, 0.0), ("live", 0.0, 1.6e9)]
)
def test_a_volume_says_when_it_was_sent_unless_that_was_as_soon_as_it_was_taken(source, step, said):
    times = []
    beginning, *volumes, _ = messages()
    given = [replace(beginning, source=source), *(replace(volume, t_sent=1.5e9) for volume in volumes)]
    position = Position()
    for message in given:
        position = position.after(message, digest_of(pack(message)))

    def take(feed):
        while not isinstance(message := feed.receive(5), RunEnd):
            if isinstance(message, Volume):
                times.append(message.t_sent)
        feed.confirm(message)

    consumer_of(timed([*given, position.ending("complete")], step), take, unix_time=lambda: 1.6e9)
    assert times == [said] * 10


def test_a_decoder_that_left_is_missed_although_a_viewer_has_the_run():
    """Until then it has its time to come back."""
    first = threading.Event()

    def leave():
        with Feed(address, "decoder") as feed:
            feed.receive(5)
            first.set()

    def stay():
        first.wait(5)
        with Feed(address, "viewer") as feed:
            feed.confirm(drain(feed))

    def ready(bound):
        nonlocal address
        address = bound
        for thread in threads:
            thread.start()

    address, threads = "", [threading.Thread(target=take) for take in (leave, stay)]
    with pytest.raises(UserError, match="not confirmed by decoder:"):
        serve(timed(messages(), 0.05), "tcp://127.0.0.1:*", ready=ready, linger_s=0.5)
    for thread in threads:
        thread.join()


def test_one_that_dialled_anew_is_not_two_and_one_that_died_is_none(monkeypatch):
    monkeypatch.setattr("replay.server.STATUS_S", 0.3)
    sockets, came = [], threading.Event()

    def ready(address):
        for name in ("x", "x", "y", "z"):
            sockets.append(context.socket(zmq.DEALER))
            sockets[-1].connect(address)
            sockets[-1].send_multipart(pack(Hello(role=f"decoder-{name}", consumer=name)))
            assert sockets[-1].poll(2500)  # a Status: the feed has heard it
            if name == "y":
                sockets[-1].close(linger=0)
                time.sleep(0.1)  # less than to the next Status, which would find out
        came.set()

    def clock():
        """The minute in which they may come is over when they have."""
        return time.monotonic() + 60 * came.is_set()

    with zmq.Context() as context:
        try:
            with pytest.raises(UserError, match=r"fewer than 3 consumers came in 60 s \(decoder-x, decoder-z\)"):
                serve_in_thread(ready, wait_for=3, join_s=60, linger_s=0.1, clock=clock)
        finally:
            for socket in sockets:
                socket.close(linger=0)


class Flood(Machine):
    """Somebody who talks without end."""

    def poll(self, timeout_ms):
        self.now += 0.01
        return 1

    def receive(self):
        return b"a", [b"nonsense"], ""


def test_nobody_who_talks_without_end_stops_the_run():
    machine = Flood([])
    server = _Server(machine, FeedLog("u1"), machine.clock)
    server.play(timed(messages(), 1.0), lambda: 0.0)
    assert server.log.position.end
    assert machine.now < 100 + 11 + 12 * (STATUS_S + 0.1)


def test_nothing_to_serve_is_one_sentence():
    with pytest.raises(UserError, match="nothing to serve"):
        serve(iter([]), "tcp://127.0.0.1:*")


@pytest.mark.parametrize("size", [MAX_CONTROL + 1, 1 << 22])
def test_who_says_more_than_a_consumer_can_is_cut_off_unread(size, monkeypatch):
    """The largest Hello is heard, and what is longer never reaches the feed."""
    heard = []
    receive = FeedLog.receive
    monkeypatch.setattr(
        FeedLog,
        "receive",
        lambda log, who, frames, key: heard.append(max(map(len, frames))) or receive(log, who, frames),
    )
    monkeypatch.setattr("replay.server.STATUS_S", 0.1)
    longest = pack(Hello(role="\U0001f9e0" * 40, consumer="c" * 160, run_uid="\U0001f9e0" * 40, next_seq=10**6))
    said = threading.Event()

    def speak(address):
        with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
            socket.setsockopt(zmq.LINGER, 0)
            socket.connect(address)
            socket.send_multipart(longest)
            assert socket.poll(3000)
            socket.send_multipart([b"", bytes(size)])
            socket.send_multipart([b"", b"after"])
            time.sleep(0.2)
            said.set()

    with pytest.raises(UserError, match="fewer than 2 consumers"):
        serve_in_thread(speak, wait_for=2, join_s=60, clock=lambda: time.monotonic() + 60 * said.is_set())
    assert heard
    assert max(heard) == len(longest[1]) <= MAX_CONTROL


def test_the_feed_says_who_joins_who_is_missing_and_who_has_the_run():
    lines, viewer_here = [], threading.Event()

    def say(line):
        lines.append(line)
        if line == "viewer joined":
            viewer_here.set()

    def consume(address, role):
        with Feed(address, role) as feed:
            feed.confirm(drain(feed))

    def ready(address):
        consume_viewer = threading.Thread(target=consume, args=(address, "viewer"))
        consume_viewer.start()
        viewer_here.wait(10)
        consume(address, "decoder")
        consume_viewer.join()

    assert sorted(serve_in_thread(ready, wait_for=2, say=say)) == ["decoder", "viewer"]
    assert lines[:5] == [
        "viewer joined", "1 of 2 consumers are here", "decoder joined", "2 of 2 consumers are here", "the run begins"
    ]  # fmt: skip
    assert sorted(lines[5:]) == ["decoder has the whole run", "viewer has the whole run"]


def test_a_consumer_that_refuses_the_run_tells_the_feed_why():
    lines = []

    def refuse(address):
        with pytest.raises(UserError, match="subject 02"):
            take(address)

    def take(address):
        with Feed(address, "decoder") as feed:
            feed.receive(5)
            raise UserError("the run is of subject 02 and the engine of 01\x1b[2J" + "x" * 300)

    with pytest.raises(UserError, match="not confirmed by decoder"):
        serve_in_thread(refuse, linger_s=0.2, say=lines.append)
    said = next(line for line in lines if line.startswith("decoder left: "))
    assert said.startswith("decoder left: the run is of subject 02 and the engine of 01?[2Jxxx")
    assert len(said) <= len("decoder left: ") + 256


def test_one_that_is_killed_is_gone_and_one_that_comes_back_has_what_it_had():
    """Without a word of its own: the next sign of life finds out."""
    lines, log = [], FeedLog("u1", say=lambda line: lines.append(line))
    for message in list(messages())[:6]:
        log.publish(message)
    log.receive(b"1", pack(Hello(role="decoder", consumer="x")))
    log.receive(b"2", pack(Hello(role="decoder", consumer="x", run_uid="u1", next_seq=3)))  # dialled anew
    log.forget(b"1")
    log.status()
    assert lines == ["decoder joined"]
    log.forget(b"2")
    log.status()
    log.receive(b"3", pack(Hello(role="decoder", consumer="y", run_uid="u1", next_seq=5)))
    assert lines[1:] == ["decoder is gone", "decoder joined, and has 5 messages of the run"]


def test_a_last_word_may_come_after_the_feed_has_found_nobody_there():
    lines = []
    log = FeedLog("u1", say=lines.append)
    log.receive(b"1", pack(Hello(role="decoder")))
    log.forget(b"1")
    log.receive(b"1", pack(Bye(reason="it is another's brain")))
    log.status()
    assert lines == ["decoder joined", "decoder left: it is another's brain"]


def test_what_is_not_understood_is_said_once_and_not_without_end():
    lines = []
    log = FeedLog("u1", say=lines.append)
    for _ in range(3):
        log.receive(b"a", [b"nonsense", b""])
    assert len(lines) == 1
    assert lines[0].startswith("somebody was not understood: ")
    for k in range(100):
        log.receive(b"a", pack(Hello(role="d", run_uid="u1", next_seq=0))[:2] + [b""] * k)
    assert len(lines) < 30
