"""The feed keeps its times, bears those who misbehave, and does not end unconfirmed."""

import math
import threading
import time

import numpy as np
import pytest
import zmq

from dynadiff.base.errors import UserError
from realtime.feed.connection import Feed
from realtime.feed.wire import MAX_CONTROL, Ack, Hello, RunEnd, Status, Volume, WireError, pack, unpack
from replay.log import FeedLog
from replay.server import STATUS_S, _Server, serve
from support.runs import messages, timed
from support.served import consumer_of, drain, serve_in_thread


class Machine:
    """A socket and a clock: time passes in polls, and in each sending a little."""

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

    def recv_multipart(self):
        return [b"a", *self.words.pop(0)[1]]

    def send_multipart(self, parts, copy):
        self.now += 0.07
        self.sent.append((self.now, unpack(parts[1:])))


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

    def send(parts, copy):
        told.append(parts[0])
        if parts[0] == b"b" and told.count(b"b") > 1:
            raise zmq.ZMQError(zmq.EHOSTUNREACH)

    monkeypatch.setattr(machine, "send_multipart", send)
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


def test_a_volume_says_when_it_was_sent():
    times = []

    def take(feed):
        while not isinstance(message := feed.receive(5), RunEnd):
            if isinstance(message, Volume):
                times.append(message.t_sent)
        feed.confirm(message)

    consumer_of(timed(messages()), take, unix_time=lambda: 1.6e9)
    assert times == [1.6e9] * 10


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

    def recv_multipart(self):
        return [b"a", b"nonsense"]


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
        FeedLog, "receive", lambda log, who, frames: heard.append(max(map(len, frames))) or receive(log, who, frames)
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
