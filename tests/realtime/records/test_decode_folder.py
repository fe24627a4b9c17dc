"""The folder of a decode: new, complete, honest about itself, and readable whenever its writer dies."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import cv2
import numpy as np
import pytest

from dynadiff.base.errors import UserError
from realtime.decoding.decode import decode
from realtime.decoding.options import Options
from realtime.feed import ranges
from realtime.feed.wire import Volume
from realtime.records.decode_folder import DecodeFolder, new_folder
from replay.pace import recording_messages, run_messages

NOON = datetime(2025, 5, 13, 12, 0, 0)
ROOT = Path(__file__).parents[3]
DIES = """
import importlib.util, sys, time
from pathlib import Path
spec = importlib.util.spec_from_file_location("shared", sys.argv[1])
shared = importlib.util.module_from_spec(spec)
spec.loader.exec_module(shared)
from realtime.feed import ranges
from realtime.decoding.decode import decode
from realtime.decoding.options import Options
from replay.pace import run_messages
messages = [m for _, m in run_messages(shared.small_run(n_volumes=400), speed=0, run_uid="aaaa")]
feed = shared.ListedFeed(messages, lambda message: time.sleep(0.002))
decode(feed, shared.linear_decoder(shared.small_mask()), Options(out=Path(sys.argv[2])), lambda view: None)
"""


def test_a_folder_is_never_overwritten_and_a_free_name_is_given(tmp_path):
    out = tmp_path / "out"
    new_folder(out, "run", NOON)
    with pytest.raises(UserError, match=f"out is in use and is never overwritten: give --out {out}-2"):
        new_folder(out, "run", NOON)
    (tmp_path / "file").write_text("something")
    with pytest.raises(UserError, match="file is in use"):
        new_folder(tmp_path / "file", "run", NOON)
    (tmp_path / "empty").mkdir()
    assert new_folder(tmp_path / "empty", "run", NOON) == tmp_path / "empty"


def test_without_a_name_every_decode_has_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [str(new_folder(None, "sub-01_run-12", NOON)) for _ in range(3)]
    base = os.path.join("decodes", "sub-01_run-12-20250513-120000")
    assert names == [base, f"{base}-2", f"{base}-3"]


def test_a_folder_that_cannot_be_made_is_the_users_to_mend(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UserError, match="cannot write to"):
        new_folder(tmp_path / "file" / "out", "run", NOON)


def test_pictures_come_back_as_they_were(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)
    record = DecodeFolder(new_folder(tmp_path / "out", "run", NOON))
    assert record.picture(8, picture) == "reconstructions/vol-0008.png"
    assert np.array_equal(record.read_picture(8), picture)
    record.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, request):
    """A decoded run; the helpers are those of tests/conftest.py, which are per test."""
    shared = request.config.pluginmanager.get_plugin(str(ROOT / "tests" / "conftest.py"))
    messages = [m for _, m in run_messages(shared.small_run(), speed=0, run_uid="aaaa")]
    out = tmp_path_factory.mktemp("decodes") / "out"
    options = Options(out=out, seed=7, connect="tcp://127.0.0.1:1")
    decode(shared.ListedFeed(messages), shared.linear_decoder(shared.small_mask()), options, lambda view: None)
    return out


def test_it_leaves_all_files_and_no_unfinished_one(folder):
    at_the_end = {"montage.png", "decode.mp4", "summary.json"}
    as_it_goes = {"run.json", "volumes.jsonl", "reconstructions", "feed.rec"}
    assert {p.name for p in folder.iterdir()} == as_it_goes | at_the_end
    assert [p.name for p in sorted(folder.glob("reconstructions/*"))] == [f"vol-{k:04}.png" for k in range(5, 30)]


def test_run_json_says_with_what_it_was_decoded(folder):
    run = json.loads((folder / "run.json").read_text())
    assert run["source"] == "replayed"
    assert run["header"]["name"] == "sub-01_ses-nsd01_task-nsdcore_run-12"
    assert (run["options"]["seed"], run["options"]["connect"]) == (7, "tcp://127.0.0.1:1")
    assert run["options"].keys() == asdict(Options()).keys()
    assert len(run["model"]["mask_sha256"]) == 64
    assert run["versions"]["numpy"] == np.__version__
    assert "not to be passed on" in run["data_agreement"]


def test_every_volume_has_a_line_with_the_latency_of_each_stage(folder):
    lines = [json.loads(line) for line in (folder / "volumes.jsonl").read_text().splitlines()]
    stages = lines[20]["latency_ms"]
    assert [line["volume"] for line in lines] == list(range(30))
    assert stages.keys() == {"clean", "wait", "encode", "steps", "render", "total", "record"}
    parts = [stages[stage] for stage in ("clean", "wait", "encode", "steps", "render")]
    assert sum(parts) <= stages["total"] + 0.01  # rounding
    assert (lines[20]["seen_row"], lines[20]["stimulus"]) == (12, "picture 12")
    assert (folder / lines[20]["picture"]).is_file()


def test_summary_has_what_others_rely_on(folder):
    summary = json.loads((folder / "summary.json").read_text())
    counts = (
        "volumes_expected",
        "volumes_received",
        "windows",
        "reconstructions",
        "skipped",
        "deadline_misses",
    )
    assert [summary[name] for name in counts] == [30, 30, 25, 25, 0, 0]
    assert summary["latency_ms"].keys() == {"p50", "p95", "p99", "max"}
    assert summary["deadline_ms"] == pytest.approx(1333.333)
    assert summary["engine"] == "onnx"
    assert summary["identification"].keys() >= {"two_way", "top1", "n_way", "n_trials", "ci95"}
    assert summary["identification"]["n_trials"] == 6  # onsets at rows 3, 6 … 18, whose windows end at 11 … 26
    assert (len(summary["identification_running"]), summary["identification_beside"]) == (2, [])
    assert summary["feed"] == {"duplicates": 1, "gaps": 2, "damaged": 3, "reconnects": 4}
    assert summary["cleaning_parity"].keys() == {"mean", "min", "last"}
    assert len(summary["run_digest"]) == 64


def test_montage_and_film_can_be_opened_and_hold_every_moment(folder):
    montage = cv2.imread(str(folder / "montage.png"))
    film = cv2.VideoCapture(str(folder / "decode.mp4"))
    frames = 0
    while film.read()[0]:
        frames += 1
    film.release()
    assert montage.std() > 10
    assert frames == 25


def test_after_a_kill_everything_can_be_read_and_replayed(tmp_path):
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-c", DIES, str(ROOT / "tests" / "conftest.py"), str(out)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
    )
    while process.poll() is None and len(list(out.glob("reconstructions/*.png"))) < 35:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    _, stderr = process.communicate()
    assert process.returncode == -signal.SIGKILL, stderr.decode()
    lines = [json.loads(line) for line in (out / "volumes.jsonl").read_text().splitlines()]
    pictures = [cv2.imread(str(path)) for path in out.glob("reconstructions/vol-????.png")]
    volumes = [m for _, m in recording_messages(out / "feed.rec", speed=0) if isinstance(m, Volume)]
    assert json.loads((out / "run.json").read_text())["source"] == "replayed"
    assert len(pictures) >= 35
    assert all(picture is not None and picture.shape == (16, 16, 3) for picture in pictures)
    painted = {line["volume"] for line in lines if line["done"] == "painted"}
    assert painted <= {volume.index for volume in volumes}
    assert all((out / line["picture"]).is_file() for line in lines if line["done"] == "painted")
    assert len(pictures) - len(painted) <= 1  # it may have died between a picture and its line


@pytest.mark.parametrize("name", ["x" * ranges.MAX_LABEL, "ä" * (ranges.MAX_LABEL // 2)])
def test_the_longest_name_that_comes_over_the_wire_is_a_folder_in_decodes(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ranges.within("name", name, ranges.Label)
    for _ in range(2):
        folder = new_folder(None, name, datetime(2026, 1, 1))
        assert folder.resolve().parent == tmp_path / "decodes"


def test_a_name_too_long_for_a_folder_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="cannot write"):
        new_folder(None, "x" * 300, datetime(2026, 1, 1))
