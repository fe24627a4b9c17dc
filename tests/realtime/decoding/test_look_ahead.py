"""Whatever comes after a volume changes nothing that a decode has shown, scored or written of it, to the bit.

But for times. The futures are acquired ones: volumes of other values, lost ones, a run that stops or goes on.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from dynadiff.engines.choice import Sampler
from dynadiff.engines.open import open_decoder
from dynadiff.recordings.run import Event
from dynadiff.scores.identification import correlations, two_way
from realtime.decoding.decode import decode
from realtime.decoding.options import Options
from realtime.decoding.standings import Standings
from realtime.feed.connection import Feed
from realtime.feed.order import Position
from realtime.feed.recording import RecordingWriter
from realtime.feed.wire import Message, Picture, RunStart, Volume, digest_of, pack
from realtime.records.summary import PIXELS
from replay.pace import recording_messages
from support.look_ahead import (
    CLEANINGS,
    FUTURES,
    SAME_ROWS,
    Acquired,
    Emission,
    LookAhead,
    by_row,
    check_no_look_ahead,
    leak_into,
)

N = 32  # volumes that are planned; a picture every third from the fourth on: eight trials
CLOCKS = ("received", "transit_ms", "lag_ms", "latency_ms")
# One of each kind, for where a decode takes long.
FEW = {name: FUTURES[name] for name in ("other values", "no numbers", "a creeping drift", "every other one lost")}


def shown(row: int) -> np.ndarray:
    return np.random.default_rng(row).integers(0, 256, (20, 20, 3), np.uint8)


def acquired_by(decoder, n: int = N) -> Acquired:
    rng = np.random.default_rng(1)
    brightness = rng.uniform(300, 1500, decoder.mask.shape)
    return by_row((brightness + rng.normal(0, 12, (n, *decoder.mask.shape))).astype("<f4"))


def messages_of(acquired: Acquired, decoder, planned: int = N, dummies: int = 0) -> Iterator[Message]:
    """A run that was planned to have so many volumes, whatever came: what is missing is left out, as scanners do."""
    shape = next(iter(acquired.values())).shape
    affine = tuple(tuple(map(float, row)) for row in decoder.affine)
    events = tuple(Event(row, 3, f"picture {row}", "cat") for row in range(3, planned - 9, 3))
    position, pending = Position(), [event.row for event in events]
    start = RunStart(
        run_uid="a" * 8, name="sub-01_run-12", subject=decoder.manifest.subject, session=1, run=12, dtype="<f4",
        tr=decoder.manifest.tr, n_volumes=planned, shape=shape, affine=affine, source="replayed", events=events,
        dummies=dummies,
    )  # fmt: skip

    def rest() -> Iterator[Callable[[int], Message]]:
        for row, volume in acquired.items():
            while pending and pending[0] <= row:
                at = pending.pop(0)
                yield lambda seq, at=at: Picture(seq=seq, run_uid="a" * 8, name=f"picture {at}", rgb=shown(at))
            yield lambda seq, row=row, volume=volume: Volume(
                seq=seq, run_uid="a" * 8, index=row, t_acquired=(row + 1) * start.tr, data=volume
            )

    position = position.after(start, digest_of(pack(start)))
    yield start
    for make in rest():
        message = make(position.next_seq)
        position = position.after(message, digest_of(pack(message)))
        yield message
    yield position.ending("complete" if position.n_volumes >= planned else "stopped")


def record(path: Path, messages: Iterable[Message]) -> None:
    with RecordingWriter(path) as writer:
        for message in messages:
            writer.write(message)


def left_by(folder: Path, told: list) -> Iterator[Emission]:
    """What a decode has left in its folder and told its watcher, by the volume that it is of, without times."""
    run, summary = (json.loads((folder / name).read_text()) for name in ("run.json", "summary.json"))
    yield -1, "run.json", [run["header"], run["model"]]
    for line in map(json.loads, (folder / "volumes.jsonl").read_text().splitlines()):
        yield line["volume"], "line of volumes.jsonl", {key: line[key] for key in line.keys() - CLOCKS}
        if "picture" in line:
            yield line["volume"], "picture", (folder / line["picture"]).read_bytes()
    for standing in summary["identification_running"]:
        yield standing["volume"], "standing", standing
    for moment, reconstruction in {id(m): (m, picture) for m, picture in told}.values():
        yield moment.volume, "moment on the screen", [moment.seen_row, repr(moment.event), moment.onset]
        yield moment.volume, "pictures on the screen", [reconstruction, moment.stimulus]


@pytest.fixture
def decode_of(tmp_path, listed_feed):
    """An emitter: the whole decode of what was acquired, by way of a recording on disk."""
    count = iter(range(10_000))

    def emitter(decoder, dummies: int = 0):
        def emit(acquired: Acquired) -> Iterator[Emission]:
            name = tmp_path / f"{next(count)}"
            record(name.with_suffix(".rec"), messages_of(acquired, decoder, dummies=dummies))
            told = []

            def watch(view):
                if view.moment is not None:
                    told.append((view.moment, view.reconstruction))

            feed = listed_feed([m for _, m in recording_messages(name.with_suffix(".rec"), speed=0)])
            folder, _ = decode(feed, decoder, Options(out=name), watch)
            yield from left_by(folder, told)

        return emit

    return emitter


@pytest.fixture(autouse=True)
def no_film(monkeypatch):
    """What is made of a whole run when it is over takes longer than the decode, and is of no volume."""
    monkeypatch.setattr("realtime.decoding.run.illustrate", lambda record, views: None)


@pytest.mark.parametrize("cleaning", CLEANINGS, ids=lambda c: f"{c.drift}-{c.ridge:g}")
def test_a_decode_does_not_look_ahead(cleaning, decode_of, make_decoder):
    decoder = make_decoder(cleaning=cleaning)
    check_no_look_ahead(decode_of(decoder), acquired_by(decoder), FEW, after=[7, 23])


@pytest.mark.parametrize("future", FUTURES)
def test_nor_does_it_where_dummies_bad_and_lost_volumes_came_before(future, decode_of, make_decoder):
    decoder = make_decoder()
    acquired = {row: volume.copy() for row, volume in acquired_by(decoder).items() if row != 9}
    acquired[3] *= np.float32(1.3)
    acquired[20][:] = 0
    emit = decode_of(decoder, dummies=2)
    said = [value for _, name, value in emit(acquired) if name == "line of volumes.jsonl"]
    assert {"dummy", "missing", "painted"} <= {line["done"] for line in said}
    assert "flat" in {line.get("mark") for line in said}
    assert leak_into(emit, acquired, 21, future) is None


@pytest.mark.parametrize("k", range(5, 12))
def test_a_mark_that_was_written_is_not_written_again(k, decode_of, make_decoder):
    """Of the first volumes the screening may say something else later; lines and windows keep what was said then."""
    decoder = make_decoder(window_length=2)
    acquired = dict(acquired_by(decoder, 16))
    for row in (0, 1):
        acquired[row] = acquired[row] * np.float32(1.3)
    emit = decode_of(decoder)
    for future in ("other values", "a scanner that is stuck"):
        assert leak_into(emit, acquired, k - 5, future) is None


@pytest.fixture(scope="module")
def small_engine():
    """The engine that ships, in a single step."""
    return open_decoder("onnx", threads=1, sampler=Sampler(1, 5.0))


def test_a_real_engine_does_not_look_ahead(small_engine, decode_of):
    acquired = acquired_by(small_engine, 20)
    check_no_look_ahead(decode_of(small_engine), acquired, FEW, after=[12])


@contextmanager
def replayed(path: Path, address: str) -> Iterator[None]:
    """The replay of a recording, as a user starts it, in a process of its own."""
    replay = subprocess.Popen(
        [sys.executable, "-c", "from realtime.cli import main; main()", "replay", "--recording", str(path),
         "--speed", "0", "--bind", address],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield
        assert replay.wait(20) == 0
    finally:
        replay.kill()
        replay.wait()


def test_over_a_feed_of_another_process_it_is_the_same(small_engine, tmp_path, free_address):
    count = iter(range(100))

    def emit(acquired: Acquired) -> Iterator[Emission]:
        name, told = tmp_path / f"{next(count)}", []
        record(name.with_suffix(".rec"), messages_of(acquired, small_engine))
        with replayed(name.with_suffix(".rec"), free_address), Feed(free_address, "decoder") as feed:
            folder, _ = decode(feed, small_engine, Options(out=name), lambda view: told.append(view))
        yield from left_by(folder, [(view.moment, view.reconstruction) for view in told if view.moment])

    future = {"other values": FUTURES["other values"]}
    check_no_look_ahead(emit, acquired_by(small_engine, 18), future, after=[11])


def standing_lines(kind: type[Standings], acquired: Acquired) -> Iterator[Emission]:
    """The score after each trial, where a picture is a small cut-out of its volume."""
    standings = kind(PIXELS, lambda row: np.resize(acquired[row], (20, 20, 3)).astype(np.uint8))
    for row in range(2, len(acquired), 2):
        standings.add(row, shown(row), str(row))
    standings.finish()
    standings.close()
    yield from ((line["volume"], "standing", line) for line in standings.lines())


def pictures(n: int = 24) -> Acquired:
    return by_row(np.stack([0.05 * shown(row) + 0.95 * shown(row + 100) for row in range(n)]).astype(np.float32))


SAFE = {name: SAME_ROWS[name] for name in ("other values", "a scanner that is stuck")}  # whose values are pictures


def test_a_score_is_of_the_trials_so_far():
    check_no_look_ahead(lambda acquired: standing_lines(Standings, acquired), pictures(), SAFE)


class FinalGallery(Standings):
    """Leak: each trial is scored among all of the run, and that is told of the trial's own volume."""

    def lines(self):
        painted, seen = (np.stack(rows) for rows in zip(*self._features, strict=True))
        scores = two_way(correlations(painted, seen), self._names)
        found = super().lines()
        return [line | {"two_way": float(score)} for line, score in zip(found, scores[-len(found) :], strict=True)]


def test_a_score_that_knows_the_final_gallery_is_found():
    with pytest.raises(LookAhead, match="standing of row"):
        check_no_look_ahead(lambda acquired: standing_lines(FinalGallery, acquired), pictures(), SAFE)


class Prophet:
    """Leak: an engine that paints a window with a little of the newest volume that will ever come."""

    def __init__(self, decoder):
        self.decoder, self.last = decoder, np.float32(0)
        encode = decoder.engine.encode
        decoder.engine.encode = lambda window: encode(window + self.last)

    def emitter(self, emit):
        def told(acquired: Acquired) -> Iterator[Emission]:
            self.last = np.float32(1e-3) * np.nan_to_num(acquired[max(acquired)]).mean()
            yield from emit(acquired)

        return told


def test_an_engine_that_knows_the_last_volume_is_found(decode_of, make_decoder):
    prophet = Prophet(make_decoder())
    with pytest.raises(LookAhead, match="picture"):
        check_no_look_ahead(
            prophet.emitter(decode_of(prophet.decoder)), acquired_by(prophet.decoder, 20), FEW, after=[12]
        )
