"""A consumer is sent every message once and in order, within its credit; who must have the run is not forgotten."""

import pytest

from dynadiff.base.errors import UserError
from realtime.feed.wire import Ack, Bye, Done, Hello, Refusal, Status, pack, unpack
from replay.log import FeedLog
from support.runs import messages


def seqs(outgoing):
    return [unpack(frames).seq for _, frames in outgoing]


def full_log(credit=8):
    log = FeedLog("u1", credit)
    for message in messages():
        log.publish(message)
    return log


def test_a_consumer_is_sent_no_more_than_its_credit_and_all_of_it_in_the_end():
    log = full_log(credit=3)
    assert seqs(log.receive(b"a", pack(Hello(role="decoder")))) == [0, 1, 2]
    assert log.receive(b"a", pack(Ack(next_seq=0))) == []
    assert seqs(log.receive(b"a", pack(Ack(next_seq=2)))) == [3, 4]
    assert log.receive(b"a", pack(Ack(next_seq=1))) == []
    assert seqs(log.receive(b"a", pack(Ack(next_seq=10**6)))) == [5, 6, 7]
    assert seqs(log.receive(b"b", pack(Hello(role="viewer", run_uid="u1", next_seq=10)))) == [10, 11]


def test_what_is_published_later_is_sent_at_once_and_nothing_is_left_out():
    log, sent = FeedLog("u1", credit=5), []
    log.receive(b"a", pack(Hello(role="decoder")))
    for message in messages():
        sent += seqs(log.publish(message))
        if len(sent) % 5 == 0:
            sent += seqs(log.receive(b"a", pack(Ack(next_seq=len(sent)))))
    while ahead := seqs(log.receive(b"a", pack(Ack(next_seq=len(sent))))):
        sent += ahead
    assert sent == list(range(12))
    late = FeedLog("u1", credit=5)
    for message in messages():
        late.publish(message)
    sent = seqs(late.receive(b"a", pack(Hello(role="decoder"))))
    while ahead := seqs(late.receive(b"a", pack(Ack(next_seq=len(sent))))):
        sent += ahead
    assert sent == list(range(12))


def test_hello_says_where_to_go_on_and_another_run_begins_at_its_start():
    log = full_log()
    assert seqs(log.receive(b"a", pack(Hello(role="d", run_uid="u1", next_seq=9)))) == [9, 10, 11]
    assert seqs(log.receive(b"a", pack(Hello(role="d", run_uid="u1", next_seq=4))))[0] == 4
    assert seqs(log.receive(b"a", pack(Hello(role="d", run_uid="u0", next_seq=9))))[0] == 0


def test_a_consumer_ahead_of_a_feed_that_was_started_again_waits_for_its_next_message():
    log = FeedLog("u1")
    source = messages()
    log.publish(next(source))
    assert log.receive(b"a", pack(Hello(role="d", run_uid="u1", next_seq=3))) == []
    sent = [outgoing for message in source for outgoing in log.publish(message)]
    assert seqs(sent) == list(range(3, 11))


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [b""],
        [b"x", b"y"],
        pack(Status(run_uid="u1", published=0, sent=0, confirmed=False)),
        pack(next(messages())),
    ],
)
def test_what_is_no_word_of_a_consumer_is_refused_with_a_reason(frames):
    [(identity, answer)] = FeedLog("u1").receive(b"a", frames)
    assert identity == b"a"
    assert isinstance(unpack(answer), Refusal)


def test_a_place_beyond_the_end_is_refused():
    [(_, answer)] = full_log().receive(b"a", pack(Hello(role="d", run_uid="u1", next_seq=13)))
    assert isinstance(unpack(answer), Refusal)


def test_words_of_a_connection_that_is_gone_are_ignored():
    log = full_log()
    end = log.position.end
    assert log.receive(b"a", pack(Ack(next_seq=3))) == []
    assert log.receive(b"a", pack(Done(run_uid="u1", n_volumes=10, digest=end.digest))) == []
    assert not log.confirmed


def test_a_run_that_is_larger_than_a_feed_holds_is_one_sentence(monkeypatch):
    monkeypatch.setattr("replay.log.MAX_HELD", 2000)
    log = FeedLog("u1")
    with pytest.raises(UserError, match="larger than 2000 bytes"):
        [log.publish(message) for message in messages()]
    assert 1 < log.position.n_volumes < 10
    log.publish(log.position.ending("stopped"))
    assert log.position.end


def test_only_an_equal_count_and_digest_confirm_and_only_after_the_end():
    log = FeedLog("u1")
    *body, end = messages()
    done = Done(run_uid="u1", n_volumes=10, digest=end.digest)
    for message in body:
        log.publish(message)
    log.receive(b"a", pack(Hello(role="decoder")))
    log.receive(b"a", pack(done))
    log.publish(end)
    assert log.unconfirmed() == ["decoder"]
    for wrong in (
        Done(run_uid="u1", n_volumes=9, digest=end.digest),
        Done(run_uid="u1", n_volumes=10, digest="00" * 32),
        Done(run_uid="u0", n_volumes=10, digest=end.digest),
    ):
        log.receive(b"a", pack(wrong))
        assert log.unconfirmed() == ["decoder"]
        assert not unpack(log.status()[0][1]).confirmed
    assert unpack(log.receive(b"a", pack(done))[-1][1]).confirmed
    assert log.unconfirmed() == []


def joined(log, **consumers):
    """Consumers at a log, by connection: ``a="decoder"`` or ``a=("decoder", name)``."""
    for connection, who in consumers.items():
        role, name = (who, connection) if isinstance(who, str) else who
        log.receive(connection.encode(), pack(Hello(role=role, consumer=name)))


def confirms(log, connection):
    position = log.position
    log.receive(connection.encode(), pack(Done(run_uid="u1", n_volumes=position.n_volumes, digest=position.digest)))


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
        log.receive(connection.encode(), pack(Ack(next_seq=1)))
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
        log.receive(connection.encode(), pack(Ack(next_seq=1)))
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


def test_progress_of_the_slower_of_two_in_one_role_is_progress():
    log = full_log(credit=2)
    joined(log, a="viewer", b="viewer")
    log.receive(b"a", pack(Ack(next_seq=2)))
    before = dict(log.reached)
    log.receive(b"b", pack(Ack(next_seq=1)))
    assert log.reached != before


def test_whoever_joins_and_leaves_without_end_fills_no_disk():
    lines = []
    log = FeedLog("u1", say=lines.append)
    for k in range(2000):
        log.receive(b"a", pack(Hello(role="decoder", consumer=f"c{k}")))
        log.receive(b"a", pack(Bye(reason=f"reason {k}")))
    assert len(lines) == 1000
    assert lines[-1] == "no more is said of who comes and goes in this run"
