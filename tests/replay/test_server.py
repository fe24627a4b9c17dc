"""The feed keeps its times, sends no more than a consumer has credit for, and does not end unconfirmed."""

import threading
import time
from queue import Queue

import numpy as np
import pytest
import zmq

from dynadiff.errors import UserError
from realtime.feed import Feed
from realtime.wire import (
    MAX_CONTROL,
    Ack,
    Done,
    Hello,
    Refusal,
    RunEnd,
    Status,
    Volume,
    WireError,
    decode,
    encode,
)
from replay.log import FeedLog
from replay.server import STATUS_S, _Server, serve
from runs import messages, timed


def seqs(outgoing):
    return [decode(frames).seq for _, frames in outgoing]


def full_log(credit=8):
    log = FeedLog("u1", credit)
    for message in messages():
        log.publish(message)
    return log


def test_a_consumer_is_sent_no_more_than_its_credit_and_all_of_it_in_the_end():
    log = full_log(credit=3)
    assert seqs(log.receive(b"a", encode(Hello(role="decoder")))) == [0, 1, 2]
    assert log.receive(b"a", encode(Ack(next_seq=0))) == []
    assert seqs(log.receive(b"a", encode(Ack(next_seq=2)))) == [3, 4]
    assert log.receive(b"a", encode(Ack(next_seq=1))) == []
    assert seqs(log.receive(b"a", encode(Ack(next_seq=10**6)))) == [5, 6, 7]
    assert seqs(log.receive(b"b", encode(Hello(role="viewer", run_uid="u1", next_seq=10)))) == [10, 11]


def test_what_is_published_later_is_sent_at_once_and_nothing_is_left_out():
    log, sent = FeedLog("u1", credit=5), []
    log.receive(b"a", encode(Hello(role="decoder")))
    for message in messages():
        sent += seqs(log.publish(message))
        if len(sent) % 5 == 0:
            sent += seqs(log.receive(b"a", encode(Ack(next_seq=len(sent)))))
    while ahead := seqs(log.receive(b"a", encode(Ack(next_seq=len(sent))))):
        sent += ahead
    assert sent == list(range(12))
    late = FeedLog("u1", credit=5)
    for message in messages():
        late.publish(message)
    sent = seqs(late.receive(b"a", encode(Hello(role="decoder"))))
    while ahead := seqs(late.receive(b"a", encode(Ack(next_seq=len(sent))))):
        sent += ahead
    assert sent == list(range(12))


def test_hello_says_where_to_go_on_and_another_run_begins_at_its_start():
    log = full_log()
    assert seqs(log.receive(b"a", encode(Hello(role="d", run_uid="u1", next_seq=9)))) == [9, 10, 11]
    assert seqs(log.receive(b"a", encode(Hello(role="d", run_uid="u1", next_seq=4))))[0] == 4
    assert seqs(log.receive(b"a", encode(Hello(role="d", run_uid="u0", next_seq=9))))[0] == 0


def test_a_consumer_ahead_of_a_feed_that_was_started_again_waits_for_its_next_message():
    log = FeedLog("u1")
    source = messages()
    log.publish(next(source))
    assert log.receive(b"a", encode(Hello(role="d", run_uid="u1", next_seq=3))) == []
    sent = [outgoing for message in source for outgoing in log.publish(message)]
    assert seqs(sent) == list(range(3, 11))


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [b""],
        [b"x", b"y"],
        encode(Status(run_uid="u1", published=0, sent=0, confirmed=False)),
        encode(next(messages())),
    ],
)
def test_what_is_no_word_of_a_consumer_is_refused_with_a_reason(frames):
    [(identity, answer)] = FeedLog("u1").receive(b"a", frames)
    assert identity == b"a"
    assert isinstance(decode(answer), Refusal)


def test_a_place_beyond_the_end_is_refused():
    [(_, answer)] = full_log().receive(b"a", encode(Hello(role="d", run_uid="u1", next_seq=13)))
    assert isinstance(decode(answer), Refusal)


def test_words_of_a_connection_that_is_gone_are_ignored():
    log = full_log()
    end = log.position.end
    assert log.receive(b"a", encode(Ack(next_seq=3))) == []
    assert log.receive(b"a", encode(Done(run_uid="u1", n_volumes=10, digest=end.digest))) == []
    assert not log.confirmed


def test_only_an_equal_count_and_digest_confirm_and_only_after_the_end():
    log = FeedLog("u1")
    *body, end = messages()
    done = Done(run_uid="u1", n_volumes=10, digest=end.digest)
    for message in body:
        log.publish(message)
    log.receive(b"a", encode(Hello(role="decoder")))
    log.receive(b"a", encode(done))
    log.publish(end)
    assert log.unconfirmed() == ["decoder"]
    for wrong in (
        Done(run_uid="u1", n_volumes=9, digest=end.digest),
        Done(run_uid="u1", n_volumes=10, digest="00" * 32),
        Done(run_uid="u0", n_volumes=10, digest=end.digest),
    ):
        log.receive(b"a", encode(wrong))
        assert log.unconfirmed() == ["decoder"]
        assert not decode(log.status()[0][1]).confirmed
    assert decode(log.receive(b"a", encode(done))[-1][1]).confirmed
    assert log.unconfirmed() == []


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
        self.sent.append((self.now, decode(parts[1:])))


def test_times_are_absolute_so_that_delays_do_not_add_up_and_signs_of_life_go_on():
    machine = Machine([(100.0, encode(Hello(role="decoder"))), (107.0, encode(Ack(next_seq=8)))])
    server = _Server(machine, FeedLog("u1"), machine.clock)
    server.play(timed(messages(), 4 / 3), lambda: 0.0)
    late = {m.seq: at - (100.0 + m.seq * 4 / 3) for at, m in machine.sent if not isinstance(m, Status)}
    assert sorted(late) == list(range(12))
    assert all(-1e-9 < delay < 0.3 for delay in late.values())
    beats = [at for at, m in machine.sent if isinstance(m, Status)]
    assert max(np.diff(beats)) < STATUS_S + 0.3


def test_a_port_in_use_is_one_sentence():
    with zmq.Context() as context, context.socket(zmq.ROUTER) as taken:
        address = f"tcp://127.0.0.1:{taken.bind_to_random_port('tcp://127.0.0.1')}"
        with pytest.raises(UserError, match=f"{address} is in use"):
            serve(timed(messages()), address)


@pytest.mark.parametrize(
    "bind",
    [
        "tcp://0.0.0.0:5560",
        "tcp://*:5560",
        "tcp://192.168.1.2:5560",
        "tcp://example.org:5560",
        "tcp://[::]:5560",
        "tcp://localhost.example.org:5560",
        "tcp://127.0.0.1.example.org:5560",
        "tcp://192.168.1.2:5560@127.0.0.1:5560",
        "tcp://127.0.0.1:5560@192.168.1.2:5560",
        "tcp://0.0.0.0:5560;127.0.0.1:5560",
        "tcp://eth0:5560",
        "tcp://127.0.0.1\n:5560",
        "ipc:///tmp/x",
        "ipc://127.0.0.1:5560",
        "inproc://x",
        "",
        "x",
    ],
)
def test_an_address_that_others_could_reach_is_refused(bind):
    with pytest.raises(UserError, match="a feed cannot listen at"):
        serve(timed(messages()), bind)


@pytest.mark.parametrize("bind", ["tcp://127.0.0.1", "tcp://127.0.0.1:x", "tcp://127.0.0.1:99999999"])
def test_an_address_without_a_port_is_refused(bind):
    with pytest.raises(UserError, match="cannot listen"):
        serve(timed(messages()), bind)


def test_consumers_that_do_not_come_are_not_awaited_for_ever():
    with pytest.raises(UserError, match="realtime decode"):
        serve(timed(messages()), "tcp://127.0.0.1:*", join_s=0.05)


@pytest.mark.parametrize("bind", ["tcp://localhost:*", "tcp://127.0.0.2:*", "tcp://[::1]:*"])
def test_names_of_this_machine_need_no_keys(bind):
    try:
        served = consumer_of(timed(messages()), lambda feed: feed.confirm(drain(feed)), bind=bind)
    except UserError as error:
        if "[::1]" in bind and "cannot listen" in str(error):
            pytest.skip("this machine has no address of version 6")
        raise
    assert served == ("decoder",)


def test_nobody_need_come_to_a_feed_that_waits_for_none():
    assert serve(timed(messages()), "tcp://127.0.0.1:*", wait_for=0, linger_s=0.05) == ()


def test_a_feed_begins_with_a_run_start():
    with pytest.raises(WireError):
        serve(timed(list(messages())[1:]), "tcp://127.0.0.1:*")


def consumer_of(source, take, over=None, bind="tcp://127.0.0.1:*", **options):
    """Serve to a consumer in a thread, which is given its feed; ``over`` is set when ``serve`` is."""
    addresses = Queue()

    def consume():
        if address := addresses.get():
            with Feed(address, "decoder") as feed:
                take(feed)

    thread = threading.Thread(target=consume)
    thread.start()
    try:
        return serve(source, bind, ready=addresses.put, **options)
    finally:
        addresses.put("")  # if it never listened
        if over:
            over.set()
        thread.join()


def drain(feed):
    while not isinstance(message := feed.receive(5), RunEnd):
        assert message is not None
    return message


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


# Who must have the whole run.


def joined(log, **consumers):
    """Consumers at a log, by connection: ``a="decoder"`` or ``a=("decoder", name)``."""
    for connection, who in consumers.items():
        role, name = (who, connection) if isinstance(who, str) else who
        log.receive(connection.encode(), encode(Hello(role=role, consumer=name)))


def confirms(log, connection):
    position = log.position
    log.receive(connection.encode(), encode(Done(run_uid="u1", n_volumes=position.n_volumes, digest=position.digest)))


REQUIRED = {
    "all are there": ({"a": "decoder", "b": "viewer"}, {}, "ab", "", []),
    "one did not confirm": ({"a": "decoder", "b": "viewer"}, {}, "a", "", ["viewer"]),
    "one left and did not come back": ({"a": "decoder", "b": "viewer"}, {}, "b", "a", ["decoder"]),
    "one left, a late one of another role has it": ({"a": "decoder"}, {"b": "viewer"}, "b", "a", ["decoder"]),
    "one was killed, another came in its role": ({"a": "decoder"}, {"b": "decoder"}, "b", "a", []),
    "a late one is here and has it not": ({"a": "decoder"}, {"b": "viewer"}, "a", "", ["viewer"]),
    "a late one left": ({"a": "decoder"}, {"b": "viewer"}, "a", "b", []),
    "two of one role, one left": ({"a": "decoder", "b": "decoder"}, {}, "a", "b", ["decoder"]),
    "two of one role, both left": ({"a": "decoder", "b": "decoder"}, {}, "", "ab", ["decoder", "decoder"]),
    "one dialled anew and confirmed twice": (
        {"a": ("decoder", "x"), "b": ("decoder", "y")}, {"c": ("decoder", "x")}, "ac", "b", ["decoder"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("there", "late", "confirm", "gone", "missing"), REQUIRED.values(), ids=REQUIRED)
def test_who_was_there_at_the_start_or_is_at_the_end_must_have_it(there, late, confirm, gone, missing):
    log = FeedLog("u1")
    joined(log, **there)
    log.require_those_here(1)
    for message in messages():
        log.publish(message)
    for connection in there:
        log.receive(connection.encode(), encode(Ack(next_seq=1)))
    joined(log, **late)
    for connection in confirm:
        confirms(log, connection)
    for connection in gone:
        log.forget(connection.encode())
    assert log.missing() == missing


def test_one_killed_before_the_run_began_is_not_waited_for_beside_the_one_in_its_place():
    """Its connection may look alive when the run begins, behind a relay or a cable that was pulled."""
    log = FeedLog("u1")
    joined(log, ghost="decoder", a="decoder", b="viewer")
    log.require_those_here(2)
    for message in messages():
        log.publish(message)
    for connection in "ab":
        log.receive(connection.encode(), encode(Ack(next_seq=1)))
        confirms(log, connection)
    assert log.missing() == ["decoder"]
    log.forget(b"ghost")
    assert log.missing() == []


def test_one_that_was_waited_for_and_never_took_anything_is_missed_all_the_same():
    log = FeedLog("u1")
    joined(log, a="decoder", b="viewer")
    log.require_those_here(2)
    for message in messages():
        log.publish(message)
    confirms(log, "b")
    log.forget(b"a")
    assert log.missing() == ["decoder"]


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


def test_one_that_dialled_anew_is_not_two_and_one_that_died_is_none():
    sockets = []

    def ready(address):
        for name in ("x", "x", "y", "z"):
            sockets.append(context.socket(zmq.DEALER))
            sockets[-1].connect(address)
            sockets[-1].send_multipart(encode(Hello(role=f"decoder-{name}", consumer=name)))
            if name != "z":
                assert sockets[-1].poll(2500)  # a Status: the feed has heard it
            if name == "y":
                sockets[-1].close(linger=0)
                time.sleep(0.1)  # less than to the next Status, which would find out

    with zmq.Context() as context:
        try:
            with pytest.raises(UserError, match=r"fewer than 3 consumers came in 4 s \(decoder-x, decoder-z\)"):
                serve_in_thread(ready, wait_for=3, join_s=4, linger_s=0.1)
        finally:
            for socket in sockets:
                socket.close(linger=0)


def serve_in_thread(ready, **options):
    """``ready`` is run beside the feed."""
    threads = []

    def begin(address):
        threads.append(threading.Thread(target=ready, args=(address,)))
        threads[0].start()

    try:
        return serve(timed(messages()), "tcp://127.0.0.1:*", ready=begin, **options)
    finally:
        threads[0].join()


def test_progress_of_the_slower_of_two_in_one_role_is_progress():
    log = full_log(credit=2)
    joined(log, a="viewer", b="viewer")
    log.receive(b"a", encode(Ack(next_seq=2)))
    before = dict(log.reached)
    log.receive(b"b", encode(Ack(next_seq=1)))
    assert log.reached != before


# What a feed bears.


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


def test_a_run_that_is_larger_than_a_feed_holds_is_one_sentence(monkeypatch):
    monkeypatch.setattr("replay.log.MAX_HELD", 2000)
    log = FeedLog("u1")
    with pytest.raises(UserError, match="larger than 2000 bytes"):
        [log.publish(message) for message in messages()]
    assert 1 < log.position.n_volumes < 10
    log.publish(log.position.ending("stopped"))
    assert log.position.end


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
    longest = encode(Hello(role="\U0001f9e0" * 40, consumer="c" * 160, run_uid="\U0001f9e0" * 40, next_seq=10**6))

    def speak(address):
        with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
            socket.setsockopt(zmq.LINGER, 0)
            socket.connect(address)
            socket.send_multipart(longest)
            assert socket.poll(3000)
            socket.send_multipart([b"", bytes(size)])
            socket.send_multipart([b"", b"after"])
            time.sleep(0.2)

    with pytest.raises(UserError):
        serve_in_thread(speak, wait_for=2, join_s=2)
    assert heard
    assert max(heard) == len(longest[1]) <= MAX_CONTROL
