"""What goes wrong with a run's volumes is named, counted, shown, and kept out of later pictures."""

import json
import threading
from dataclasses import replace

import numpy as np
import pytest

from dynadiff.base.errors import UserError
from realtime.decoding.decode import decode
from realtime.decoding.options import Options
from realtime.feed.connection import Feed
from realtime.feed.consumer import Consumer
from realtime.feed.order import Position
from realtime.feed.wire import RunEnd, Volume, digest_of, pack
from realtime.records.resume import earlier
from replay.pace import recording_messages, run_messages
from replay.server import serve

N = 30


def lines_of(folder):
    return {line["volume"]: line for line in map(json.loads, (folder / "volumes.jsonl").read_text().splitlines())}


def run_of(make_run, series, **changes):
    return make_run(n_volumes=len(series), volumes=lambda: iter(series), **changes)


def messages_of(run, uid="a" * 8, **changes):
    return [m for _, m in run_messages(run, speed=0, run_uid=uid, **changes)]


def without(messages, lost):
    """A run whose scanner never handed over the volumes ``lost``."""
    position, left = Position(), []
    for message in messages:
        if isinstance(message, Volume) and message.index in lost:
            continue
        message = position.ending("complete") if isinstance(message, RunEnd) else message
        message = replace(message, seq=position.next_seq)
        position = position.after(message, digest_of(pack(message)))
        left.append(message)
    return left


@pytest.fixture
def series(make_run):
    return np.stack(list(make_run(N).volumes()))


@pytest.fixture
def decoded(tmp_path, make_decoder, listed_feed):
    """Decodes messages; gives folder, summary, what the engine got and what was shown."""

    def run(messages, name="out", **options):
        decoder, views = make_decoder(), []
        folder, summary = decode(listed_feed(messages), decoder, Options(out=tmp_path / name, **options), views.append)
        return folder, summary, decoder.engine.windows, views

    return run


def spoil(volume, how):
    if how == "repeated":
        return None
    changed = {
        "flat": np.zeros_like(volume),
        "clipped": np.full_like(volume, 4095) - (np.arange(volume.size).reshape(volume.shape) % 3 == 0),
        "spike": volume * 2,
        "not finite": np.full_like(volume, np.nan) if volume.dtype.kind == "f" else None,
    }
    return changed[how]


@pytest.mark.parametrize("how", ["flat", "clipped", "spike", "repeated", "not finite"])
def test_a_bad_volume_is_counted_marked_and_shown(how, decoded, make_run, series):
    if how == "not finite":
        series = series.astype("<f4")
    series[12] = series[11] if how == "repeated" else spoil(series[12], how)
    folder, summary, windows, views = decoded(messages_of(run_of(make_run, series)))
    lines = lines_of(folder)
    assert summary["bad_volumes"] == {how: 1}
    assert (summary["windows"], summary["reconstructions"], summary["skipped"]) == (25, 25, 0)
    assert summary["marked_windows"] == 6
    assert [k for k, line in lines.items() if "marks" in line] == list(range(12, 18))
    assert all(lines[k]["marks"] == {"12": how} for k in range(12, 18))
    assert lines[12]["mark"] == how
    assert sum("mark" in line for line in lines.values()) == 1
    assert np.isfinite(windows).all()
    assert f"volume 12: {how}" in {view.note for view in views}
    assert views[-1].bad == 1


def test_pictures_after_a_bad_volume_are_those_of_a_run_without_it(decoded, make_run, series, files_of):
    whole = messages_of(run_of(make_run, series))
    lost, _, _, _ = decoded(without(whole, {12}), name="lost")
    series[12] //= 2
    bad, _, _, _ = decoded(messages_of(run_of(make_run, series)), name="bad")
    later = {f"vol-{k:04d}.png" for k in range(18, N)}
    assert later < files_of(lost).keys()
    assert {name: files_of(bad)[name] for name in later} == {name: files_of(lost)[name] for name in later}


def test_a_volume_that_the_scanner_lost_is_named_and_no_window_spans_it(decoded, make_run):
    folder, summary, _, views = decoded(without(messages_of(make_run(N)), {9, 10, 20}))
    lines = lines_of(folder)
    assert summary["bad_volumes"] == {"missing": 3}
    assert (summary["volumes_expected"], summary["volumes_received"]) == (N, N - 3)
    assert [k for k, line in lines.items() if line["done"] == "missing"] == [9, 10, 20]
    painted = [k for k, line in lines.items() if line["done"] == "painted"]
    assert painted == [*range(5, 9), *range(16, 20), *range(26, N)]
    assert summary["windows"] == len(painted)
    assert views[-1].bad == 3
    assert sorted(lines) == list(range(N))


def test_a_recording_with_a_lost_volume_replays_to_the_same_pictures(decoded, make_run, files_of):
    folder, summary, _, _ = decoded(without(messages_of(make_run(N)), {9}))
    again, replayed, _, _ = decoded([m for _, m in recording_messages(folder / "feed.rec", speed=0)], name="again")
    assert files_of(again) == files_of(folder)
    assert replayed["run_digest"] == summary["run_digest"]


def test_a_window_of_mostly_bad_volumes_is_not_painted_but_counted(decoded, make_run, series):
    series[10:18] = series[9]
    folder, summary, _, views = decoded(messages_of(run_of(make_run, series)))
    skipped = {k: line["why"] for k, line in lines_of(folder).items() if line["done"] == "skipped"}
    assert skipped == dict.fromkeys(range(13, 20), "too many bad volumes")
    assert summary["bad_volumes"] == {"repeated": 8}
    assert summary["windows"] == 25 == summary["reconstructions"] + summary["skipped"]
    assert (summary["skipped"], summary["marked_windows"]) == (7, 6)
    assert any("too many" in view.note for view in views)


def test_a_decode_that_goes_on_counts_bad_volumes_once(make_run, make_decoder, listed_feed, tmp_path, series, files_of):
    series[12], series[20:26] = 0, series[19]
    messages = without(messages_of(run_of(make_run, series)), {15})
    straight, whole = decode(listed_feed(messages), make_decoder(), Options(out=tmp_path / "whole"), lambda view: None)
    for stop in (14, 18, 27):
        part = tmp_path / f"part-{stop}"
        with pytest.raises(KeyboardInterrupt):
            decode(listed_feed(messages[:stop]), make_decoder(), Options(out=part), lambda view: None)
        before = earlier(part)
        rest = messages[before.recording.position.next_seq :]
        _, summary = decode(listed_feed(rest), make_decoder(), Options(out=part), lambda view: None, before=before)
        assert summary["bad_volumes"] == whole["bad_volumes"] == {"flat": 1, "repeated": 6, "missing": 1}
        counts = ("windows", "reconstructions", "skipped", "marked_windows")
        assert [summary[name] for name in counts] == [whole[name] for name in counts]
        assert files_of(part) == files_of(straight)
        assert lines_of(part).keys() == lines_of(straight).keys()


def test_a_run_stopped_early_is_whole_as_far_as_it_went(decoded, make_run):
    messages = messages_of(make_run(N))
    position = Position()
    for message in messages[:18]:
        position = position.after(message, digest_of(pack(message)))
    _, summary, _, _ = decoded([*messages[:18], position.ending("stopped")])
    assert summary["ended"] == "stopped"
    assert summary["volumes_received"] == position.n_volumes < summary["volumes_expected"]
    assert summary["windows"] == summary["reconstructions"] == position.n_volumes - 5


def test_a_run_longer_than_planned_is_decoded_to_its_end(decoded, make_run):
    start, *rest = messages_of(make_run(N))
    position, messages = Position(), []
    for message in (replace(start, n_volumes=20, events=()), *rest):
        message = position.ending("complete") if isinstance(message, RunEnd) else message
        position = position.after(message, digest_of(pack(message)))
        messages.append(message)
    _, summary, windows, _ = decoded(messages)
    assert (summary["volumes_expected"], summary["volumes_received"]) == (20, N)
    assert summary["reconstructions"] == N - 5
    assert np.isfinite(windows).all()


OTHERS = pytest.mark.parametrize(
    "other",
    [
        lambda data: data.astype("<f4"),
        lambda data: data.astype("<u2"),
        lambda data: data[:-1],
        lambda data: data.transpose(1, 0, 2),
    ],
    ids=["dtype", "sign", "shape", "axes"],
)


@OTHERS
def test_a_source_that_changes_its_volumes_within_a_run_stops_it_in_good_order(
    other, make_run, make_decoder, tmp_path, free_address
):
    timed = list(run_messages(make_run(N, events=False), speed=0, run_uid="a" * 8))
    due, message = timed[12]
    timed[12] = due, replace(message, data=np.asfortranarray(other(message.data)))
    said = []

    def feed():
        try:
            serve(iter(timed), free_address)
        except UserError as error:
            said.append(str(error))

    server = threading.Thread(target=feed)
    server.start()
    with Feed(free_address, "decoder") as source:
        _, summary = decode(source, make_decoder(), Options(out=tmp_path / "out"), lambda view: None)
    server.join(20)
    assert (summary["ended"], summary["volumes_received"]) == ("stopped", 11)
    assert said[0].startswith("the run is stopped, look at where its volumes come from: volume 11 is ")


@OTHERS
def test_a_feed_that_changes_its_volumes_within_a_run_ends_it_and_keeps_what_came(other, make_run):
    """The feed itself cannot send such a volume; one that does is no feed of ours, and is named."""
    consumer, messages = Consumer("decoder"), messages_of(make_run(N))
    for message in messages[:9]:
        assert consumer.receive(pack(message))[0] is not None
    data = messages[9].data if isinstance(messages[9], Volume) else messages[10].data
    wrong = Volume(
        seq=9, run_uid="a" * 8, index=consumer.position.next_index, t_acquired=20.0, data=np.asfortranarray(other(data))
    )
    with pytest.raises(UserError, match="the feed broke the order of its run, start the run again: volume"):
        consumer.receive(pack(wrong))
    assert consumer.position.next_seq == 9
