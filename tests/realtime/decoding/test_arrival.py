"""A volume that lay waiting is late by as much, whoever was busy, and one from before the decoder was there is not."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.decoding.arrival import Arrivals
from realtime.decoding.decode import decode
from realtime.decoding.options import Options
from realtime.feed.wire import Volume
from realtime.screen.console import report, state
from replay.pace import run_messages

PAINTS, EVERY = 0.5, 0.1  # seconds that a picture takes, and between two volumes


class Clock:
    """Seconds that pass only where somebody says so."""

    def __init__(self, start: float) -> None:
        self.time = start

    def __call__(self) -> float:
        return self.time


def decoded(make_run, make_decoder, listed_feed, out, started=0.0):
    """A replayed run of 30 volumes, one every 0.1 s, to an engine that takes 0.5 s; when the decoder starts."""
    clock, views = Clock(1000.0 + started), []
    decoder = make_decoder()
    encode = decoder.engine.encode

    def slow(window):
        clock.time += PAINTS
        return encode(window)

    def not_before_it_is_sent(message):
        if isinstance(message, Volume):
            clock.time = max(clock.time, message.t_sent)

    decoder.engine.encode = slow
    messages = [
        replace(m, t_sent=1000.0 + EVERY * (m.index + 1)) if isinstance(m, Volume) else m
        for _, m in run_messages(make_run(), speed=0, run_uid="aaaa")
    ]
    feed = listed_feed(messages, not_before_it_is_sent)
    folder, summary = decode(feed, decoder, Options(out=out), views.append, now=clock, wall=clock)
    return folder, summary, views


def test_a_decoder_that_cannot_keep_up_says_by_how_much(make_run, make_decoder, listed_feed, tmp_path):
    folder, summary, views = decoded(make_run, make_decoder, listed_feed, tmp_path / "out")
    behind = 25 * PAINTS - 24 * EVERY  # of the last picture: all are painted one after the other
    assert summary["latency_ms"]["max"] == pytest.approx(1000 * behind, abs=600)
    assert summary["lag_ms"]["max"] >= 1000 * (behind - 3 * PAINTS) - 1e-6  # three windows wait or are painted then
    assert summary["deadline_misses"] > 15
    assert summary["caught_up"] == 0
    assert any("s behind" in state(view) for view in views)
    assert any("fell behind: volumes lay waiting for up to" in line for line in report(folder, summary))
    lines = [json.loads(line) for line in (folder / "volumes.jsonl").read_text().splitlines()]
    assert max(line["lag_ms"] for line in lines) == summary["lag_ms"]["max"]


def test_what_was_sent_before_the_decoder_was_there_is_told_apart(make_run, make_decoder, listed_feed, tmp_path):
    folder, summary, _ = decoded(make_run, make_decoder, listed_feed, tmp_path / "out", started=2.05)
    assert summary["caught_up"] == 20
    assert summary["reconstructions"] == 25
    assert any("20 volumes had been sent before this decoder was there" in line for line in report(folder, summary))
    counted = [json.loads(line)["lag_ms"] for line in (folder / "volumes.jsonl").read_text().splitlines()]
    assert counted.count(None) == 20


@given(st.lists(st.floats(0, 5), min_size=1), st.floats(-1e4, 1e4), st.floats(0, 1))
def test_what_two_clocks_differ_by_and_the_way_itself_are_no_lag(waits: list[float], offset: float, way: float) -> None:
    arrivals, lags = Arrivals(here=-1e9), []
    for k, wait in enumerate([0.0, *waits]):
        lags.append(arrivals.lag(1e5 + k, 1e5 + k + offset + way + wait))
    assert lags == pytest.approx([0.0, *waits], abs=1e-6)


def test_without_a_time_of_sending_nothing_is_late() -> None:
    assert Arrivals(here=5.0).lag(0.0, 1e9) == 0.0
