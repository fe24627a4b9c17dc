"""Whoever is there at the end has every message once and in order, whatever came, left or died, over any link.

Feed log, consumers and link are the real ones; sockets and clock are simulated, so that a schedule takes milliseconds.
"""

import heapq
import json
from collections import defaultdict
from itertools import count

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from realtime.feed.connection import RETRY_S
from realtime.feed.consumer import Consumer
from realtime.feed.order import Position
from realtime.feed.wire import RunEnd, digest_of, pack
from replay.faults import BadLink, Faults
from replay.log import FeedLog
from replay.server import STATUS_S
from support.runs import messages

TRANSIT_S, VOLUME_S, SLOW_S = 0.001, 0.3, 0.7
PATIENCE_S = 600.0  # simulated; a link that loses a fifth of everything needs some tens
VOLUMES = 6


class Site:
    """A place where one role consumes. Its journal is on disk; all else dies with the process."""

    def __init__(self, role):
        self.role = role
        self.journal = []  # of all runs: (uid, seq, digest, position after it)
        self.consumer = None
        self.identity = b""  # of its connection
        self.inbox, self.busy, self.pace, self.heard = [], False, 0.0, 0.0
        self.again = self.spoilt = self.dials = 0  # what this process was handed a second time, and damaged

    def has(self, uid):
        return [(seq, digest) for run, seq, digest, _ in self.journal if run == uid]


class Scene:
    """A feed, a link and consumers; ``now`` is simulated seconds."""

    def __init__(self, faults, seed, sites=3):
        self.rng = np.random.default_rng(seed)
        self.up, self.down = BadLink(faults, self.rng), BadLink(faults, self.rng)
        self.now, self.events, self.number = 0.0, [], count()
        self.sites = [Site(f"role{k}") for k in range(sites)]
        self.sent = defaultdict(list)  # by run, as it was published
        self.lost = 0  # messages of a run on their way to consumers
        self.begin()
        self.at(STATUS_S, self.tick)

    def at(self, delay, do, *arguments):
        heapq.heappush(self.events, (self.now + delay, next(self.number), do, arguments))

    def until(self, end, enough=lambda: False):
        while self.events and self.events[0][0] <= end and not enough():
            self.now, _, do, arguments = heapq.heappop(self.events)
            do(*arguments)
        self.now = max(self.now, end) if not enough() else self.now

    def begin(self):
        """A run, from its start; also in the middle of another, by a new process in the place of the feed's."""
        self.uid = f"u{len(self.sent)}"
        self.log = FeedLog(self.uid, credit=int(self.rng.integers(1, 9)))
        self.publish(self.log, iter(messages(self.uid, VOLUMES)))

    def publish(self, log, source):
        message = next(source, None)
        if log is self.log and message is not None:
            self.sent[log.run_uid].append((message.seq, digest_of(pack(message))))
            self.to_consumers(log.publish(message))
            self.at(VOLUME_S, self.publish, log, source)

    def tick(self):
        self.to_consumers(self.log.status())
        for site in self.sites:
            if site.consumer and self.now - site.heard >= RETRY_S:
                self.dial(site)
        self.at(STATUS_S, self.tick)

    def to_consumers(self, outgoing):
        for identity, frames in outgoing:
            if not any(site.identity == identity for site in self.sites):
                self.log.forget(identity)  # as the ROUTER finds out
                continue
            frames = [bytes(frame) for frame in frames]
            copies = self.down.passes(frames)
            self.lost += not copies and is_message(frames)
            for delay, out in copies:
                self.at(TRANSIT_S + delay, self.arrive, identity, out, frames)

    def to_feed(self, site, control):
        for delay, out in self.up.passes([bytes(frame) for frame in pack(control)]):
            self.at(TRANSIT_S + delay, lambda who, what: self.to_consumers(self.log.receive(who, what)),
                    site.identity, out)  # fmt: skip

    def arrive(self, identity, frames, original):
        for site in self.sites:
            if site.identity == identity:
                site.heard = self.now
                site.inbox.append((frames, original))
                if not site.busy:
                    site.busy = True
                    self.at(site.pace, self.work, site, identity)

    def work(self, site, identity):
        """The consumer takes one message."""
        if site.identity != identity:
            return
        frames, original = site.inbox.pop(0)
        self.expect(site, frames, original)
        message, answers = site.consumer.receive(frames)
        if message is not None:
            self.record(site, message, digest_of(frames))
        if isinstance(message, RunEnd):
            answers.append(site.consumer.confirm(message))
        for answer in answers:
            self.to_feed(site, answer)
        if site.consumer.muddled:
            self.dial(site)
        elif site.inbox:
            self.at(site.pace, self.work, site, identity)
        else:
            site.busy = False

    def expect(self, site, frames, original):
        """What the consumer will have to count, by what the link did to the message."""
        if not intact(frames, original):
            site.spoilt += 1
        elif is_message(original):
            header, here = json.loads(original[1]), site.consumer.position
            site.again += header["run_uid"] == here.run_uid and header["seq"] < here.next_seq

    def record(self, site, message, digest):
        """Once, and in order; a run that was left does not come back."""
        runs = [uid for uid, *_ in site.journal]
        assert message.seq == len(site.has(message.run_uid))
        assert message.run_uid not in runs or runs[-1] == message.run_uid
        site.journal.append((message.run_uid, message.seq, digest, site.consumer.position))

    # What the schedule does.

    def join(self, site):
        if site.consumer is None:
            position = site.journal[-1][3] if site.journal else Position()
            site.consumer = Consumer(site.role, position, name=f"{site.role}-{next(self.number)}")
            site.again = site.spoilt = site.dials = 0
            self.dial(site)
            if position.end:  # it may have died before it could confirm
                self.to_feed(site, site.consumer.confirm(position.end))

    def dial(self, site):
        site.identity, site.inbox, site.busy, site.heard = str(next(self.number)).encode(), [], False, self.now
        site.dials += 1
        self.to_feed(site, site.consumer.dial())

    def kill(self, site):
        site.consumer, site.identity = None, b""

    def tear(self, site):
        """Killed, and the last message had not reached the disk."""
        self.kill(site)
        site.journal = site.journal[:-1]

    def redial(self, site):
        if site.consumer:
            self.dial(site)

    def slow(self, site):
        site.pace = SLOW_S - site.pace

    def abort(self, site):
        """The feed is stopped, says so, and begins a new run."""
        if self.log.position.end is None:
            end = self.log.position.ending("stopped")
            self.publish_last(end)
        self.begin()

    def publish_last(self, end):
        self.sent[self.uid].append((end.seq, digest_of(pack(end))))
        self.to_consumers(self.log.publish(end))

    def crash(self, site):
        """The feed dies, and another begins a new run."""
        self.begin()

    def settled(self):
        present = [site for site in self.sites if site.consumer]
        return (
            self.log.position.end is not None
            and all(site.has(self.uid) == self.sent[self.uid] for site in present)
            and len(self.log.confirmed.keys() & {site.consumer.name for site in present}) == len(present)
        )


def is_message(frames):
    return b'"seq":' in frames[1]


def intact(frames, original):
    """Whether a consumer can use it: of the seal the time of sending may differ, of the rest nothing."""
    if frames == original:
        return True
    try:
        seals = [json.loads(seal.decode()) for seal in (frames[0], original[0])]
        t_sent, _ = (seal.pop("t_sent") for seal in seals)
    except (ValueError, KeyError):
        return False
    return seals[0] == seals[1] and frames[1:] == original[1:] and 0 <= t_sent <= 1e11


ACTIONS = [Scene.join, Scene.kill, Scene.tear, Scene.redial, Scene.slow, Scene.abort, Scene.crash]
steps = st.tuples(st.floats(0, 1.2), st.sampled_from([*[Scene.join] * 4, *ACTIONS]), st.integers(0, 2))
shares = st.sampled_from([0.0, 0.02, 0.1, 0.2])
faults = st.builds(Faults, shares, shares, shares, shares, st.sampled_from([0.01, 0.5, 3.0]))


def played(faults, seed, schedule):
    """The scene at the end, when nobody lacks anything or nothing helps."""
    scene = Scene(faults, seed)
    for delay, action, who in schedule:
        scene.until(scene.now + delay)
        action(scene, scene.sites[who])
    if not any(site.consumer for site in scene.sites):
        scene.join(scene.sites[0])
    scene.until(scene.now + PATIENCE_S, scene.settled)
    scene.until(scene.now + 2 * STATUS_S)  # in which the feed finds out who has gone, and nobody is sent more
    return scene


HELD_BACK = [(0.0, Scene.abort, 0), (0.0, Scene.abort, 0), (0.0, Scene.join, 0), (1.0, Scene.abort, 0)]


@settings(max_examples=800, deadline=None)
@example(Faults(0.0, 0.0, 0.1, 0.1, 3.0), 25440, HELD_BACK)  # the start of a run comes after that of the next one
@given(faults, st.integers(0, 2**32), st.lists(steps, max_size=12))
def test_exactly_once_in_order_whatever_comes_leaves_or_dies(faults, seed, schedule):
    scene = played(faults, seed, schedule)
    final = scene.sent[scene.uid]
    assert len(final) == VOLUMES + 2
    for site in scene.sites:
        for uid in {uid for uid, *_ in site.journal}:  # of a run that was broken off, or left early, the beginning
            assert site.has(uid) == scene.sent[uid][: len(site.has(uid))]
        if site.consumer:
            assert site.has(scene.uid) == final
            assert site.consumer.position == scene.log.position
            assert site.consumer.duplicates == site.again
            assert site.consumer.damaged == site.spoilt
    assert scene.settled()
    assert not scene.log.missing()


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.lists(steps, max_size=12))
def test_over_a_good_link_nothing_is_counted(seed, schedule):
    for site in played(Faults(), seed, schedule).sites:
        if site.consumer:
            assert (site.consumer.duplicates, site.consumer.gaps, site.consumer.damaged) == (0, 0, 0)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0.05, 0.2]))
def test_what_was_lost_is_counted(seed, share):
    scene = played(Faults(lost=share), seed, [(0.0, Scene.join, 0)])
    site = scene.sites[0]
    assert site.consumer.gaps <= scene.lost
    assert scene.lost == 0 or site.consumer.gaps or site.dials > 1  # after a silence all is asked for anyway
    assert (site.consumer.duplicates, site.consumer.damaged) == (site.again, 0)
