"""Every window is painted or counted as skipped, none has a gap, a run always gives the same pictures."""

import json
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from dynadiff.base.errors import UserError
from dynadiff.recordings.masks import Masker
from dynadiff.signal.windows import WindowSpec, online_windows
from realtime.decoding.decode import decode
from realtime.decoding.options import Options
from realtime.decoding.session import check_place
from realtime.decoding.stages import Stages
from realtime.feed.connection import Feed
from realtime.feed.recording import Recording
from realtime.feed.wire import RunEnd, Volume
from realtime.records.resume import earlier
from replay.pace import recording_messages, run_messages
from replay.server import serve


def messages_of(run, **changes):
    return [m for _, m in run_messages(run, speed=0, run_uid="a" * 8, **changes)]


def lines_of(folder):
    return [json.loads(line) for line in (folder / "volumes.jsonl").read_text().splitlines()]


def quiet(view):
    """A watcher that looks away."""


@pytest.fixture
def decoded(tmp_path, make_decoder, listed_feed):
    """Decodes a list of messages; gives folder, summary and the windows that the engine got."""

    def run(messages, decoder=None, name="out", **options):
        decoder = decoder or make_decoder()
        folder, summary = decode(listed_feed(messages), decoder, Options(out=tmp_path / name, **options), quiet)
        return folder, summary, decoder.engine.windows

    return run


def test_windows_are_those_of_training_and_in_order(decoded, make_run, make_decoder, mask):
    run, decoder = make_run(), make_decoder()
    series = np.stack([volume[mask] for volume in run.volumes()]).astype(np.float32)
    expected = online_windows(series, decoder.manifest.cleaning, run.tr, WindowSpec(), range(25))
    folder, summary, windows = decoded(messages_of(run))
    assert np.array_equal(windows, expected)
    assert [line["volume"] for line in lines_of(folder)] == list(range(30))
    assert [line["seen_row"] for line in lines_of(folder)[5:]] == list(range(-3, 22))
    assert (summary["windows"], summary["reconstructions"], summary["skipped"]) == (25, 25, 0)
    assert (summary["volumes_expected"], summary["volumes_received"]) == (30, 30)


@pytest.mark.parametrize("late", ["skip", "wait"])
def test_every_window_is_painted_or_counted_and_statistics_miss_no_volume(
    late, make_run, make_decoder, listed_feed, tmp_path
):
    run, decoder = make_run(), make_decoder()
    slow, fast = decoder.engine, make_decoder()
    slow.gate.clear()

    def let_go(message):
        """Painting stands still until the run is over, or, where the decoder waits for it, for a moment."""
        if isinstance(message, RunEnd):
            slow.gate.set()
        elif isinstance(message, Volume) and message.index == 6 and late == "wait":
            threading.Timer(0.05, slow.gate.set).start()

    folder, summary = decode(
        listed_feed(messages_of(run), let_go), decoder, Options(out=tmp_path / "slow", late=late), quiet
    )
    decode(listed_feed(messages_of(run)), fast, Options(out=tmp_path / "fast"), quiet)
    fates = Counter(line["done"] for line in lines_of(folder))
    assert summary["windows"] == summary["reconstructions"] + summary["skipped"] == 25
    assert fates["painted"] == summary["reconstructions"] == len(list(folder.glob("reconstructions/*.png")))
    assert fates["skipped"] == summary["skipped"]
    assert sorted(line["volume"] for line in lines_of(folder)) == list(range(30))
    assert summary["reconstructions"] == (2 if late == "skip" else 25)  # the first, and the newest when it was done
    assert np.array_equal(slow.windows[-1], fast.engine.windows[-1])  # its statistics saw what was not painted


@pytest.mark.parametrize("source", ["live", "replayed"])
def test_left_alone_a_live_run_skips_and_a_replayed_one_waits(source, make_run, make_decoder, listed_feed, tmp_path):
    decoder = make_decoder()
    decoder.engine.gate.clear()
    threading.Timer(0.2, decoder.engine.gate.set).start()
    messages = messages_of(make_run(), source=source)
    _, summary = decode(listed_feed(messages), decoder, Options(out=tmp_path / "out"), quiet)
    assert (summary["skipped"] > 0) == (source == "live")


def test_no_window_holds_a_dummy(decoded, make_run):
    run = make_run()
    folder, _, windows = decoded(messages_of(run, dummies=4))
    fates = [line["done"] for line in lines_of(folder)]
    assert fates == ["dummy"] * 4 + ["too few for a window"] * 5 + ["painted"] * 21
    kept = replace(run, n_volumes=26, events=(), volumes=lambda: list(run.volumes())[4:])
    _, _, without = decoded(messages_of(kept), name="kept")
    assert np.array_equal(windows, without)  # dummies are in no window and in no statistics
    assert lines_of(folder)[9]["seen_row"] == 9 - 8  # rows count from the first volume sent


def test_no_window_holds_a_gap(make_run, make_decoder):
    decoder = make_decoder()
    start, *rest = messages_of(make_run(events=False))
    stages = Stages(start, decoder.manifest, decoder.mask)
    ends = [m.index for m in rest[:-1] if m.index not in (3, 17) and stages.push(m) is not None]
    assert ends == [*range(9, 17), *range(23, 30)]


def test_a_new_run_shares_nothing_with_the_one_before(make_run, make_decoder, listed_feed, tmp_path, files_of):
    first, second = make_run(seed=1), make_run(seed=2)
    broken_off = messages_of(first)[:20]
    restarted = [m for _, m in run_messages(second, speed=0, run_uid="b" * 8)]
    alone = decode(listed_feed(restarted), make_decoder(), Options(out=tmp_path / "alone"), quiet)[0]
    feed = listed_feed(broken_off + restarted)
    folder, summary = decode(feed, make_decoder(), Options(out=tmp_path / "out"), quiet)
    before = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert folder == tmp_path / "out-2"
    assert files_of(folder) == files_of(alone)
    assert (before["ended"], before["run_digest"]) == ("broken off", None)
    assert before["volumes_received"] < 20 < summary["volumes_received"]
    assert feed.confirmed == restarted[-1]


def test_the_same_run_gives_the_same_bytes_and_so_does_its_recording(decoded, make_run, files_of):
    folder, summary, _ = decoded(messages_of(make_run()))
    again, summary_again, _ = decoded(messages_of(make_run()), name="again")
    recorded = [m for _, m in recording_messages(folder / "feed.rec", speed=0)]
    replayed, summary_replayed, _ = decoded(recorded, name="replayed")
    assert len(files_of(folder)) == 25
    assert files_of(folder) == files_of(again) == files_of(replayed)
    assert summary["run_digest"] == summary_again["run_digest"] == summary_replayed["run_digest"]
    assert len(set(files_of(folder).values())) == 25
    other, _, _ = decoded(messages_of(make_run()), name="other", seed=1)
    assert files_of(other) != files_of(folder)


@pytest.fixture
def feed_address(make_run, free_address, monkeypatch):
    """A real feed of the run, which waits for a decoder and until one has it all."""
    monkeypatch.setattr("replay.server.STATUS_S", 0.2)  # it then finds out sooner who has gone
    server = threading.Thread(target=serve, args=(run_messages(make_run(), speed=0, run_uid="a" * 8), free_address))
    server.start()
    yield free_address
    server.join(20)


def test_over_a_real_feed_it_is_the_same(decoded, make_run, make_decoder, feed_address, tmp_path, files_of):
    folder, _, _ = decoded(messages_of(make_run()))
    with Feed(feed_address, "decoder") as feed:
        streamed, summary = decode(feed, make_decoder(), Options(out=tmp_path / "feed"), quiet)
    assert files_of(streamed) == files_of(folder)
    assert summary["ended"] == "complete"
    recording = Recording(streamed / "feed.rec")
    assert sum(isinstance(m, Volume) for m in recording) == 30
    assert recording.position.end is not None


def test_interrupted_and_started_again_it_is_the_same(
    decoded, make_run, make_decoder, feed_address, tmp_path, files_of
):
    folder, _, _ = decoded(messages_of(make_run()))
    interrupts = [KeyboardInterrupt]

    def impatient(view):
        if view.received == 12 and interrupts:
            raise interrupts.pop()

    with pytest.raises(KeyboardInterrupt), Feed(feed_address, "decoder") as feed:
        decode(feed, make_decoder(), Options(out=tmp_path / "first"), impatient)
    with Feed(feed_address, "decoder") as feed:
        second, summary = decode(feed, make_decoder(), Options(out=tmp_path / "second"), impatient)
    assert 0 < len(files_of(tmp_path / "first")) < 25
    assert files_of(tmp_path / "first").items() < files_of(folder).items()
    assert files_of(second) == files_of(folder)
    assert summary["volumes_received"] == 30


def test_a_run_too_short_for_a_window_says_so(decoded, make_run):
    folder, summary, _ = decoded(messages_of(make_run(n_volumes=5, events=False)))
    assert (summary["windows"], summary["reconstructions"], summary["latency_ms"]) == (0, 0, {})
    assert "identification" not in summary
    assert [line["done"] for line in lines_of(folder)] == ["too few for a window"] * 5
    assert not (folder / "montage.png").exists()


def test_values_that_are_no_numbers_are_counted(decoded, make_run, mask):
    series = np.stack(list(make_run().volumes())).astype("<f4")
    series[7, :2] = np.nan
    _, summary, windows = decoded(messages_of(make_run(volumes=lambda: iter(series))))
    assert summary["non_finite"] == mask[:2].sum()
    assert np.isfinite(windows).all()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"subject": "02"}, "subject 01 and the engine of subject 02"),
        ({"tr": 2.0}, "TR is 1.33333 s and the engine"),
    ],
)
def test_a_run_that_does_not_suit_the_engine_is_refused_before_anything_is_decoded(
    changes, said, make_run, make_decoder, listed_feed, tmp_path
):
    with pytest.raises(UserError, match=said):
        decode(
            listed_feed(messages_of(make_run())),
            make_decoder(**changes),
            Options(out=tmp_path / "out"),
            quiet,
        )
    assert not (tmp_path / "out").exists()


def test_another_matrix_is_refused(make_run, make_decoder, listed_feed, tmp_path):
    decoder = make_decoder()
    other = replace(decoder, mask=np.ones((7, 6, 4), bool))
    with pytest.raises(UserError, match="7×6×5 voxels and the engine's mask 7×6×4"):
        decode(listed_feed(messages_of(make_run())), other, Options(out=tmp_path / "out"), quiet)


FLIPPED = np.diag([-1.0, 1, 1, 1])
FLIPPED[0, 3] = 6
TURNED = np.array([[0.966, -0.259, 0, 0], [0.259, 0.966, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


@pytest.mark.parametrize(
    ("affine", "said"),
    [
        (FLIPPED, r"LAS voxels of 1×1×1 mm from \(6\.0, 0\.0, 0\.0\), the mask RAS voxels of 1×1×1 mm"),
        (np.diag([2.0, 2, 2, 1]), "RAS voxels of 2×2×2 mm"),
        (TURNED, "up to 2.* mm away"),
        (np.eye(4) + np.array([[0, 0, 0, 3.0]] + [[0.0] * 4] * 3), r"up to 3\.0 mm away"),
    ],
    ids=["flipped", "other voxels", "turned", "moved"],
)
def test_a_run_in_another_space_is_refused_unless_the_user_knows_better(
    affine, said, make_run, make_decoder, listed_feed, tmp_path
):
    run = make_run(affine=affine)
    with pytest.raises(UserError, match=f"lies in another space than its mask.*{said}.*--any-space"):
        decode(listed_feed(messages_of(run)), make_decoder(), Options(out=tmp_path / "out"), quiet)
    assert not (tmp_path / "out").exists()
    options = Options(out=tmp_path / "out", any_space=True)
    assert decode(listed_feed(messages_of(run)), make_decoder(), options, quiet)[1]["reconstructions"] == 25


def test_rounding_of_an_affine_is_no_other_space(make_run, make_decoder, listed_feed, tmp_path):
    run = make_run(affine=np.eye(4) + np.random.default_rng(0).normal(0, 1e-3, (4, 4)) * [[1], [1], [1], [0]])
    assert (
        decode(listed_feed(messages_of(run)), make_decoder(), Options(out=tmp_path / "out"), quiet)[1]["windows"] == 25
    )


@pytest.mark.parametrize("label", ["1", "01", "sub-01", "subj01"])
def test_labels_of_a_subject_are_one(label, decoded, make_run, make_decoder):
    assert decoded(messages_of(make_run()), make_decoder(subject=label))[1]["reconstructions"] == 25


def test_an_engine_that_fails_is_not_silent_and_what_came_before_is_gone_on_with(
    decoded, make_run, make_decoder, listed_feed, tmp_path, files_of
):
    messages, out = messages_of(make_run()), tmp_path / "broken"
    whole, counts, _ = decoded(messages)
    decoder = make_decoder()
    encode = decoder.engine.encode
    decoder.engine.encode = lambda window: encode(window) if len(decoder.engine.windows) < 9 else 1 / 0
    with pytest.raises(ZeroDivisionError):
        decode(listed_feed(messages), decoder, Options(out=out), quiet)
    broken = json.loads((out / "summary.json").read_text())
    assert (broken["ended"], broken["reconstructions"], broken["run_digest"]) == ("failed", 9, None)
    assert broken["windows"] == 9 + broken["skipped"] > 9
    assert json.loads((out / "run.json").read_text())["resumes"] == 0
    assert len(files_of(out)) == 9
    assert files_of(out).items() < files_of(whole).items()
    assert [line["volume"] for line in lines_of(out)] == list(range(14))
    before = earlier(out)
    received = list(before.messages())
    assert sum(isinstance(message, Volume) for message in received) >= 14
    rest = messages[before.recording.position.next_seq :]
    again, summary = decode(listed_feed(rest), make_decoder(), Options(out=out), quiet, before=before)
    assert again == out
    assert files_of(out) == files_of(whole)
    assert [line["done"] for line in lines_of(out)] == [line["done"] for line in lines_of(whole)]
    assert summary["run_digest"] == counts["run_digest"]
    assert (summary["reconstructions"], summary["resumes"], summary["ended"]) == (25, 1, "complete")


def test_an_interrupt_leaves_whole_files(decoded, make_run, make_decoder, listed_feed, tmp_path, files_of):
    whole, _, _ = decoded(messages_of(make_run()))
    with pytest.raises(KeyboardInterrupt):
        decode(listed_feed(messages_of(make_run())[:20]), make_decoder(), Options(out=tmp_path / "part"), quiet)
    summary = json.loads((tmp_path / "part" / "summary.json").read_text())
    assert summary["ended"] == "interrupted"
    assert summary["windows"] == summary["reconstructions"] > 0
    assert files_of(tmp_path / "part").items() < files_of(whole).items()


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<i2", ">i2", "<f4", "<f8", "|u1"])
def test_a_masked_volume_is_in_c_order_of_the_mask(order, dtype, mask):
    volume = np.random.default_rng(0).integers(0, 200, mask.shape).astype(dtype)
    sample = Masker(mask)(np.asarray(volume, order=order))
    assert sample.dtype == np.float32
    assert np.array_equal(sample, volume[mask])
    strided = np.repeat(volume, 2, axis=1)[:, ::2]
    assert np.array_equal(Masker(mask)(strided), volume[mask])


@pytest.mark.parametrize("stops", [KeyboardInterrupt, UserError("no film")], ids=["Ctrl-C", "no film"])
def test_what_happens_after_the_end_leaves_a_whole_run_whole(
    stops, make_run, make_decoder, listed_feed, tmp_path, monkeypatch
):
    def write_film(*_):
        raise stops

    monkeypatch.setattr("realtime.records.outcome.write_film", write_film)
    out = tmp_path / "out"
    with pytest.raises((KeyboardInterrupt, UserError)):
        decode(listed_feed(messages_of(make_run())), make_decoder(), Options(out=out), quiet)
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["ended"], summary["reconstructions"]) == ("complete", 25)
    assert summary["run_digest"] is not None
    assert earlier(out) is None  # there is nothing to go on with


def test_a_view_that_is_kept_holds_no_reconstruction(make_run, make_decoder, listed_feed, tmp_path, monkeypatch):
    """Of 512 pixels they would be 174 MB a run: they are on disk."""
    kept = []
    monkeypatch.setattr("realtime.decoding.run.illustrate", lambda record, views: kept.extend(views))
    decode(listed_feed(messages_of(make_run())), make_decoder(), Options(out=tmp_path / "out"), quiet)
    assert len(kept) == 25
    assert all(view.reconstruction is None for view in kept)


HOLD = """
import sys, time
from pathlib import Path
from realtime.records.decode_folder import alone_in
with alone_in(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_folder_that_another_process_writes_is_refused_until_that_is_dead(
    tmp_path, make_run, make_decoder, listed_feed
):
    writer = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout.readline() == "held\n"
    with pytest.raises(UserError, match=f"another decode is writing {tmp_path}: wait until it ends"):
        check_place(Options(out=tmp_path), headless=True)
    writer.kill()
    writer.communicate()
    assert check_place(Options(out=tmp_path), headless=True) is None
    (tmp_path / ".lock").unlink(missing_ok=True)
    _, summary = decode(listed_feed(messages_of(make_run())), make_decoder(), Options(out=tmp_path), quiet)
    assert summary["ended"] == "complete"
    assert not (tmp_path / ".lock").exists()
