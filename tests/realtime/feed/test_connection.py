"""Every message comes exactly once and in order, whenever a consumer joins and whatever the link does."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from queue import Queue

import pytest
import zmq

from dynadiff.base.errors import UserError
from realtime.feed.connection import Feed
from realtime.feed.consumer import Consumer
from realtime.feed.order import Position
from realtime.feed.recording import Recording, RecordingWriter
from realtime.feed.wire import MAX_BUFFER, Ack, Done, Hello, Refusal, RunEnd, Status, WireError, digest_of, pack, unpack
from replay.log import FeedLog
from replay.server import serve
from support.runs import digests, messages, timed


def consumed(*frames, consumer=None):
    consumer = consumer or Consumer("decoder")
    out = [consumer.receive(frame) for frame in frames]
    return consumer, [message for message, _ in out], [answer for _, answers in out for answer in answers]


def test_each_fault_is_named_and_counted_once():
    sent = [pack(message) for message in messages()]
    damaged = [*sent[3][:2], bytes(len(sent[3][2]))]
    consumer, taken, said = consumed(*sent[:2], sent[1], sent[2], damaged, sent[4], sent[3], *sent[6:8])
    assert (consumer.duplicates, consumer.gaps, consumer.damaged) == (1, 1, 1)
    assert [message.seq for message in taken if message] == [0, 1, 2, 3]
    asked = [word for word in said if isinstance(word, Hello)]
    assert [word.next_seq for word in asked] == [3, 4]


def test_a_status_reveals_that_the_last_messages_were_lost():
    sent = [pack(message) for message in messages()]
    status = pack(Status(run_uid="u1", published=12, sent=12, confirmed=False))
    consumer, _, said = consumed(*sent[:5], status)
    assert said[-1] == Hello(role="decoder", run_uid="u1", next_seq=5)
    assert consumer.gaps == 1
    behind = pack(Status(run_uid="u1", published=12, sent=5, confirmed=False))
    assert consumed(behind, consumer=consumer)[2] == [Ack(next_seq=5)]


def test_an_end_that_does_not_agree_is_not_taken_and_not_confirmed():
    sent = list(messages())
    with pytest.raises(UserError, match="digest"):
        consumed(*map(pack, sent[:-1]), pack(replace(sent[-1], digest="00" * 32)))
    with pytest.raises(UserError, match="volumes"):
        consumed(*map(pack, sent[:-1]), pack(replace(sent[-1], n_volumes=9)))
    consumer = consumed(*map(pack, sent[:-1]))[0]
    with pytest.raises(UserError, match="not received"):
        consumer.confirm(sent[-1])


def test_done_is_said_again_until_the_feed_has_it():
    sent = list(messages())
    consumer, _, _ = consumed(*map(pack, sent))
    done = consumer.confirm(sent[-1])
    assert done == Done(run_uid="u1", n_volumes=10, digest=sent[-1].digest)
    status = pack(Status(run_uid="u1", published=12, sent=12, confirmed=False))
    assert consumed(status, consumer=consumer)[2] == [done]
    assert not consumer.acknowledged
    heard = pack(Status(run_uid="u1", published=12, sent=12, confirmed=True))
    assert consumed(heard, consumer=consumer)[2] == [Ack(next_seq=12)]
    assert consumer.acknowledged


@pytest.mark.parametrize("heard", [0, 3], ids=["its start", "something of it"])
def test_a_new_run_begins_at_any_time_on_a_connection_of_its_own(heard):
    """Which of two runs on one connection is the newer cannot be told there: a link may hold things back."""
    first, second = list(messages("u1")), list(messages("u2"))
    consumer, taken, said = consumed(*map(pack, first[:4]), pack(second[heard]))
    assert consumer.muddled
    assert (taken[-1], len(said)) == (None, 4)
    hello = consumer.dial()
    assert hello == Hello(role="decoder", run_uid="u1", next_seq=4)
    log = FeedLog("u2")
    for message in second:
        log.publish(message)
    again = [frames for _, frames in log.receive(b"x", pack(hello))]
    _, taken, _ = consumed(*again, consumer=consumer)
    assert len(taken) > 4
    assert digests(taken) == digests(second)[: len(taken)]  # as far as the feed's credit goes
    assert consumer.gaps == consumer.duplicates == 0
    assert not consumer.muddled


@pytest.mark.parametrize(
    "word",
    [Refusal(reason="this feed speaks version 2"), Hello(role="x"), [b"{}", b"{}"]],
    ids=["refused", "peer", "noise"],
)
def test_a_peer_that_only_talks_nonsense_is_given_up_with_its_reason(word):
    frames = word if isinstance(word, list) else pack(word)
    with pytest.raises(UserError, match="cannot be understood"):
        consumed(*[frames] * 100)


ILLEGAL = {  # messages of which the last may not come there, and what a consumer makes of it
    "a volume first": (lambda m: [m[1]], "asks"),
    "a second start": (lambda m: [m[0], m[0]], "drops"),  # on a link that may say all twice, this is no fault
    "another run": (lambda m: [m[0], replace(m[1], run_uid="u9")], "dials anew"),
    "an index again": (lambda m: [*m[:3], replace(m[3], index=1)], "stops"),
    "another shape": (lambda m: [m[0], replace(m[1], data=m[1].data[:1])], "stops"),
    "another dtype": (lambda m: [m[0], replace(m[1], data=m[1].data.astype("<f4"))], "stops"),
    "a number left out": (lambda m: [m[0], replace(m[1], seq=2)], "asks"),
    "something after the end": (lambda m: [*m, replace(m[1], seq=12, index=10)], "stops"),
}


@pytest.mark.parametrize(("order", "does"), ILLEGAL.values(), ids=ILLEGAL.keys())
def test_illegal_orders_are_refused_by_feed_and_consumer_alike(order, does):
    *before, last = order(list(messages()))
    log = FeedLog("u1")
    for message in before:
        log.publish(message)
    with pytest.raises(WireError):
        log.publish(last)
    assert log.position.next_seq == len(before)
    consumer, taken, _ = consumed(*map(pack, before))
    assert digests(taken) == digests(before)
    position = consumer.position
    if does == "stops":
        with pytest.raises(UserError, match="the feed broke the order of its run"):
            consumer.receive(pack(last))
    else:
        assert consumer.receive(pack(last)) == (None, [consumer.hello()] if does == "asks" else [])
    assert consumer.position == position
    assert consumer.muddled == (does == "dials anew")
    assert (consumer.gaps, consumer.duplicates) == (does == "asks", does == "drops")


# With sockets.


@contextmanager
def served(source, **options):
    """A feed in a thread; gives its address and a queue for its result."""
    addresses, results = Queue(), Queue()

    def run():
        try:
            results.put(serve(source, "tcp://127.0.0.1:*", ready=addresses.put, **{"linger_s": 5} | options))
        except UserError as error:
            results.put(error)

    thread = threading.Thread(target=run)
    thread.start()
    yield addresses.get(timeout=10), results
    thread.join(timeout=20)
    assert not thread.is_alive()


def take(feed, count=10**6):
    """The next messages up to the end, which is confirmed."""
    received = []
    while len(received) < count and not (received and isinstance(received[-1], RunEnd)):
        message = feed.receive(10)
        assert message is not None
        received.append(message)
    if isinstance(received[-1], RunEnd):
        feed.confirm(received[-1])
    return received


def test_a_late_consumer_gets_what_an_early_one_got_and_both_are_awaited():
    with served(timed(messages(n=60), 0.005)) as (address, results), Feed(address, "decoder") as early:
        before = take(early, 30)
        with Feed(address, "viewer") as late:
            assert digests(take(late)) == digests(before + take(early)) == digests(messages(n=60))
        assert sorted(results.get(timeout=10)) == ["decoder", "viewer"]
        assert early.gaps == late.gaps == early.duplicates == early.damaged == late.reconnects == 0


def test_a_consumer_may_come_after_the_end():
    with served(timed(messages()), wait_for=0) as (address, results):
        time.sleep(0.1)
        with Feed(address, "viewer") as feed:
            assert digests(take(feed)) == digests(messages())
        assert results.get(timeout=10) == ("viewer",)


def test_a_consumer_may_come_before_the_feed(free_address):
    results = Queue()
    with Feed(free_address, "decoder") as feed:
        assert feed.receive(0.05) is None
        thread = threading.Thread(target=lambda: results.put(serve(timed(messages()), free_address, linger_s=5)))
        thread.start()
        assert digests(take(feed)) == digests(messages())
    thread.join(timeout=10)
    assert results.get(timeout=10) == ("decoder",)


KILLED = """
import sys, time
from pathlib import Path
from realtime.feed.connection import Feed
from realtime.feed.recording import RecordingWriter
with Feed(sys.argv[1], "decoder") as feed, RecordingWriter(Path(sys.argv[2])) as recorder:
    while True:
        recorder.write(feed.receive(10))
        print(flush=True)
"""


def test_a_killed_consumer_is_continued_by_another_process(tmp_path):
    path = tmp_path / "feed.rec"
    with served(timed(messages(n=80), 0.005)) as (address, results):
        child = subprocess.Popen(
            [sys.executable, "-c", KILLED, address, str(path)],
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        for _ in range(20):
            child.stdout.readline()
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        recording = Recording(path)
        before = list(recording)
        assert 20 <= len(before) < 82
        with (
            Feed(address, "decoder", resume=recording.position) as feed,
            RecordingWriter(path, after=recording) as recorder,
        ):
            after = take(feed)
            for message in after:
                recorder.write(message)
        assert digests(before + after) == digests(messages(n=80))
        assert digests(Recording(path)) == digests(messages(n=80))
        assert results.get(timeout=10) == ("decoder",)


def test_a_feed_that_vanishes_and_comes_back_goes_on_where_it_was(free_address):
    """A peer that dies mid-run; a new one serves the same run, and the consumer notices by itself."""
    with zmq.Context() as context, Feed(free_address, "decoder", silence_s=60) as feed:
        feed._retry_s = 0.2
        log = FeedLog("u1")
        with context.socket(zmq.ROUTER) as dying:
            dying.bind(free_address)
            identity, *frames = dying.recv_multipart()
            outgoing = log.receive(identity, frames)
            for message in list(messages())[:5]:
                outgoing += log.publish(message)
            for to, frames in outgoing:
                dying.send_multipart([to, *frames])
            before = take(feed, 5)
            dying.close(linger=0)
        assert feed.receive(0.5) is None
        thread = threading.Thread(target=lambda: serve(timed(messages()), free_address, linger_s=5))
        thread.start()
        assert digests(before + take(feed)) == digests(messages())
        assert feed.reconnects == 1
    thread.join(timeout=10)


def test_silence_names_the_address_and_the_command(free_address):
    with Feed(free_address, "decoder", wait_s=0.1) as feed, pytest.raises(UserError) as caught:
        feed.receive(10)
    assert free_address in str(caught.value)
    assert "realtime replay" in str(caught.value)


@contextmanager
def answering(answer):
    """A port of another protocol, that answers what is said first."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        taken = []

        def take():
            with suppress(OSError):
                while True:
                    taken.append(listening.accept()[0])
                    taken[-1].recv(10)
                    taken[-1].sendall(answer)

        thread = threading.Thread(target=take)
        thread.start()
        yield f"tcp://127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)
    thread.join()
    for connection in taken:
        connection.close()


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.0 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9.6\r\n" * 9])
def test_what_answers_and_is_no_feed_is_not_taken_for_nobody(answer):
    with answering(answer) as address, Feed(address, "decoder", wait_s=0.3) as feed:
        with pytest.raises(UserError) as caught:
            feed.receive(10)
        why = f"something answers at {address} that is no feed, or a feed that hangs: correct the address."
        assert str(caught.value) == f"no feed was heard at {address} for 0.3 s: {why}"
        assert feed.trouble == why


def test_what_answered_and_has_gone_is_nobody_again(monkeypatch):
    monkeypatch.setattr("realtime.feed.connection.RETRY_S", 0.2)
    with answering(b"") as address:
        feed = Feed(address, "decoder")
        while not feed.trouble:
            assert feed.receive(0.1) is None
    while feed.trouble:
        assert feed.receive(0.1) is None
    feed.close()


def test_a_slow_scanner_is_not_silence(monkeypatch):
    """Nothing but signs of life for longer than the silence that would be borne."""
    monkeypatch.setattr("replay.server.STATUS_S", 0.2)
    with (
        served(timed(messages(n=1), 0.8)) as (address, results),
        Feed(address, "decoder", silence_s=0.7) as feed,
    ):
        received = []
        while not isinstance(message := feed.receive(0.02), RunEnd):
            received += [message] if message else []
        feed.confirm(message)
        assert len(received) == 2
        assert feed.reconnects == 0
        assert results.get(timeout=10) == ("decoder",)


@pytest.mark.parametrize("address", ["nonsense", "tcp://127.0.0.1", "tcp://127.0.0.1:99999999"])
def test_an_address_that_is_none_is_one_sentence(address):
    with pytest.raises(UserError, match="no address"):
        Feed(address, "decoder")


def test_what_is_still_on_its_way_of_a_run_that_was_left_does_not_bring_it_back(free_address):
    """A relay may hold back the start of a run until another has begun on the same connection."""
    first, second = ([*map(pack, messages(uid))] for uid in ("u1", "u2"))
    with zmq.Context() as context, context.socket(zmq.ROUTER) as peer, Feed(free_address, "decoder") as feed:
        peer.bind(free_address)
        identity, *_ = peer.recv_multipart()
        for frames in (*first[:3], second[0], first[0], second[1]):
            peer.send_multipart([identity, *frames])
        assert [(m.run_uid, m.seq) for m in take(feed, 3)] == [("u1", 0), ("u1", 1), ("u1", 2)]
        assert feed.receive(0.2) is None  # two runs on one connection: it asks on another which of them there is
        other = identity
        while other == identity:  # what it still said there
            assert peer.poll(5000)
            other, *frames = peer.recv_multipart()
        said = unpack(frames)
        assert (said.run_uid, said.next_seq, said.consumer) == ("u1", 3, feed.consumer.name)
        for frames in second:
            peer.send_multipart([other, *frames])
        assert [(m.run_uid, m.seq) for m in take(feed, 4)] == [("u2", k) for k in range(4)]
        assert feed.gaps == feed.reconnects == 0


def test_a_long_wait_over_a_bad_link_is_not_given_up():
    """Of ten hours of signs of life one in a hundred is damaged, before the run begins."""
    alive = pack(Status(run_uid="u1", published=0, sent=0, confirmed=False))
    consumer, _, _ = consumed(*([alive] * 99 + [[b"x", b"y"]]) * 360)
    assert consumer.damaged == 360


def test_a_frame_that_no_message_has_is_cut_off_unread(free_address):
    with zmq.Context() as context, context.socket(zmq.ROUTER) as peer, Feed(free_address, "decoder") as feed:
        peer.setsockopt(zmq.LINGER, 0)
        peer.bind(free_address)
        identity, *_ = peer.recv_multipart()
        peer.send_multipart([identity, b"{}", bytes(MAX_BUFFER + 1)])
        assert feed.receive(1.0) is None
        assert feed.damaged == 0  # it never reached the decoder of messages
        feed._reconnect()
        while (said := peer.recv_multipart())[0] == identity:
            pass
        peer.send_multipart([said[0], *pack(next(messages()))])
        assert take(feed, 1)[0].seq == 0


def test_a_confirmation_is_said_anew_on_a_connection_that_the_feed_knows(free_address):
    """The first Hello was lost: a feed does not answer whoever has not said it."""
    *_, end = messages()
    position = Position()
    for message in messages():
        position = position.after(message, digest_of(pack(message)))
    with zmq.Context() as context, context.socket(zmq.ROUTER) as peer:
        peer.bind(free_address)
        with Feed(free_address, "decoder", resume=position) as feed:
            feed._retry_s = 0.2
            log, lost = FeedLog("u1"), []
            for message in messages():
                log.publish(message)

            def answer():
                while not log.confirmed and peer.poll(3000):
                    who, *frames = peer.recv_multipart()
                    lost[:] = lost or [who]
                    for to, out in [] if who == lost[0] else log.receive(who, frames):
                        peer.send_multipart([to, *out])

            thread = threading.Thread(target=answer)
            thread.start()
            feed.confirm(end)
            thread.join()
            assert feed.consumer.acknowledged
    assert list(log.confirmed.values()) == ["decoder"]


def test_a_feed_may_be_started_long_after_its_consumer(free_address):
    with Feed(free_address, "decoder", silence_s=0.2) as feed:
        assert feed.receive(0.7) is None  # longer than any silence that is borne once it was heard
        thread = threading.Thread(target=lambda: serve(timed(messages()), free_address, linger_s=5))
        thread.start()
        assert digests(take(feed)) == digests(messages())
    thread.join(timeout=10)
