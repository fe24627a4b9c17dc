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
from replay.server import STATUS_S, FeedLog, _Server, serve
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
        "ipc:///tmp/x",
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


def test_nobody_need_come_to_a_feed_that_waits_for_none():
    assert serve(timed(messages()), "tcp://127.0.0.1:*", wait_for=0, linger_s=0.05) == ()


def test_a_feed_begins_with_a_run_start():
    with pytest.raises(WireError):
        serve(timed(list(messages())[1:]), "tcp://127.0.0.1:*")


def consumer_of(source, take, over=None, **options):
    """Serve to a consumer in a thread, which is given its feed; ``over`` is set when ``serve`` is."""
    addresses = Queue()

    def consume():
        with Feed(addresses.get(), "decoder") as feed:
            take(feed)

    thread = threading.Thread(target=consume)
    thread.start()
    try:
        return serve(source, "tcp://127.0.0.1:*", ready=addresses.put, **options)
    finally:
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
