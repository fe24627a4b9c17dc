"""The commands as a user meets them: quick help, one sentence for a mistake, a decode over a real feed."""

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict

import nibabel as nib
import numpy as np
import pytest

from dynadiff.base.errors import UserError
from dynadiff.engines.choice import Sampler
from dynadiff.networks.choices import Between
from dynadiff.recordings.run import Event
from realtime.decoding import session
from realtime.feed.wire import RunStart, Volume
from replay.pace import recording_messages, run_messages
from replay.server import serve
from replay.sources import Nifti, bold_messages

HEAVY = {
    "numpy",
    "cv2",
    "zmq",
    "nibabel",
    "h5py",
    "scipy",
    "onnxruntime",
    "torch",
    "dynadiff.engines.contract",
    "realtime.feed.wire",
}
HELP = """
import sys
from realtime import cli
for command in ["", "decode", "replay", "demo", "phantom", "bench"]:
    sys.argv = ["realtime", *command.split(), "--help"]
    try:
        cli.main()
    except SystemExit as end:
        assert end.code == 0
sys.stderr.write(" ".join(sys.modules))
"""


@pytest.fixture
def feed_of(free_address):
    """Serves a run in a thread, at the address that it gives."""
    servers = []

    def start(run, **changes):
        def run_feed():
            with suppress(UserError):  # a decoder that refuses the run does not confirm it
                serve(run_messages(run, speed=0, run_uid="aaaa", **changes), free_address, linger_s=0.2)

        servers.append(threading.Thread(target=run_feed))
        servers[-1].start()
        return free_address

    yield start
    for server in servers:
        server.join(10)


def test_help_imports_nothing_heavy():
    done = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, check=True)
    assert done.stdout.count("Usage") == 6
    assert not HEAVY & set(done.stderr.split())


def test_decode_writes_its_folder_and_says_where(realtime, feed_of, make_run, make_decoder, monkeypatch, tmp_path):
    monkeypatch.setattr(session, "open_decoder", lambda kind, folder, sampler: make_decoder())
    address = feed_of(make_run())
    code, out, err = realtime("decode", "--connect", address, "--out", tmp_path / "out", "--headless", "--seed", 3)
    assert code == 0, err
    assert "30 of 30 volumes, 25 pictures, 0 skipped" in out
    assert "25 of 30 volumes" in out  # not a terminal: a line now and then
    assert "two-way" in out
    assert f"files: {tmp_path / 'out'}" in out
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert (run["options"]["seed"], run["options"]["late"]) == (3, "auto")


@pytest.mark.parametrize(("option", "late"), [("--skip", "skip"), ("--no-skip", "wait")])
def test_skipping_can_be_chosen(option, late, realtime, feed_of, make_run, make_decoder, monkeypatch, tmp_path):
    monkeypatch.setattr(session, "open_decoder", lambda kind, folder, sampler: make_decoder())
    address = feed_of(make_run(n_volumes=8, events=False))
    code, _, _ = realtime("decode", "--connect", address, "--out", tmp_path / "out", "--headless", option)
    assert code == 0
    assert json.loads((tmp_path / "out" / "run.json").read_text())["options"]["late"] == late


@pytest.mark.parametrize(
    ("options", "sampler", "said"),
    [
        ((), Sampler(), {"steps": None, "guidance": None, "spacing": None, "quality": None}),
        (("--quality", "exact"), Sampler(exact=True), {"steps": None, "quality": "exact"}),
        (("--steps", 7, "--guidance", 2.5), Sampler(7, 2.5), {"steps": 7, "guidance": 2.5}),
        (
            ("--spacing", "900,5", "--guidance", "5,1"),
            Sampler(None, (5.0, 1.0), (900, 5)),
            {"spacing": [900, 5], "guidance": [5.0, 1.0]},
        ),
        (
            ("--steps", 10, "--spacing", "ays", "--guidance", "5@501-999"),
            Sampler(10, Between(5.0, 501, 999), "ays"),
            {"spacing": "ays", "guidance": {"scale": 5.0, "low": 501, "high": 999}},
        ),
    ],
)
def test_how_pictures_are_sampled_is_chosen_and_kept_in_full(
    options, sampler, said, realtime, feed_of, make_run, make_decoder, monkeypatch, tmp_path
):
    asked = []
    decoder = make_decoder()
    monkeypatch.setattr(session, "open_decoder", lambda kind, folder, sampler: asked.append(sampler) or decoder)
    address = feed_of(make_run(n_volumes=8, events=False))
    code, _, err = realtime("decode", "--connect", address, "--out", tmp_path / "out", "--headless", *options)
    assert (code, asked) == (0, [sampler]), err
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert {name: run["options"][name] for name in said} == said
    assert run["model"]["sampler"] == [asdict(row) for row in decoder.manifest.sampler]
    assert (run["model"]["spacing"], run["model"]["evaluations"]) == ("leading", 3)


def test_a_run_shorter_than_a_window_is_told_and_no_crash(
    realtime, feed_of, make_run, make_decoder, monkeypatch, tmp_path
):
    monkeypatch.setattr(session, "open_decoder", lambda kind, folder, sampler: make_decoder())
    address = feed_of(make_run(n_volumes=5, events=False))
    code, out, _ = realtime("decode", "--connect", address, "--out", tmp_path / "out", "--headless")
    assert code == 0
    assert "no picture: a run must have as many volumes as a window" in out


def test_a_model_for_another_brain_is_refused_and_the_feed_is_told(
    realtime, feed_of, make_run, make_decoder, monkeypatch, tmp_path, caplog
):
    caplog.set_level("INFO", "replay.server")
    monkeypatch.setattr(session, "open_decoder", lambda kind, folder, sampler: make_decoder(subject="05"))
    address = feed_of(make_run(n_volumes=2, events=False))
    code, _, err = realtime("decode", "--connect", address, "--out", tmp_path / "out", "--headless")
    assert code == 2
    assert err.startswith("error: the run is of subject 01 and the engine of subject 05")
    for _ in range(100):
        if said := [line for line in caplog.messages if line.startswith("decoder left: ")]:
            break
        time.sleep(0.05)
    assert said
    assert said[0].startswith("decoder left: the run is of subject 01 and the engine of subject 05")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["decode", "--headless", "--engine", "onyx"], "there is no engine 'onyx'"),
        (["decode", "--headless", "--model", "nowhere"], "no engine in nowhere/onnx"),
        (["decode", "--headless", "--out", "."], ". is in use and is never overwritten: give --out"),
        (["decode", "--spacing", "karras"], "spacing is leading, ays or a list of timesteps"),
        (["decode", "--headless", "--spacing", "1000,5"], "2 steps at 1000,5 are not among 1000 timesteps"),
        (["decode", "--guidance", "strong"], "'strong' is no list of numbers"),
        (["decode", "--headless", "--guidance", "5,1"], "guidance has 2 values for 20 steps"),
        (["decode", "--quality", "best"], "--quality is exact, or left out"),
        (["decode", "--quality", "exact", "--steps", "3"], "leave --steps, --guidance and --spacing out"),
        (["decode"], "no display: add --headless"),
        (["demo"], "no display: add --headless"),
        (["bench", "--engine", "onyx"], "there is no engine 'onyx'"),
        (["replay", "--recording", "nowhere"], "there is no recording nowhere"),
        (["replay", "--bold", "a.nii", "--recording", "b"], "are two runs: give one of them"),
        (["replay", "--tr", "2"], "belong to a NIfTI file"),
        (["replay", "--root", "nowhere"], "nowhere"),
        (["replay", "--bold", "nowhere.nii.gz"], "nowhere.nii.gz"),
        (["replay", "--bold", "a.nii", "--session", "2"], "belong to an NSD tree"),
        (["replay", "--recording", "b", "--dummies", "2"], "says whose it is and which volumes are dummies"),
        (["replay", "--any-space"], "belong to a NIfTI file"),
        (["phantom", "--root", "tree", "--subjects", "one"], "--subjects one is no list of numbers"),
        (["phantom", "--root", "tree", "--subjects", "9"], "no subject 9"),
        (["phantom", "--root", "tree", "--runs", "1-13"], "no task run 13"),
        (["replay", "--bold", "."], ". is a folder: give one NIfTI file of it"),
        (["replay", "--subject", "1,2"], "--subject 1,2 is no number"),
        (["replay", "--session", "0"], "subject 1 has no session 0"),
        (["replay", "--dummies", "226"], "has 226 volumes and 226 dummies are declared"),
        (["replay", "--bind", "tcp://192.0.2.1:5560"], "without keys"),
        (["replay", "--keys", "nowhere"], "nowhere"),
        (["bench", "--json", "nowhere/figures"], "there is no folder nowhere"),
        (["demo", "--headless", "--model", "nowhere"], "nowhere"),
        (["demo", "--headless", "--engine", "torch", "--model", "nowhere"], "nowhere"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(arguments, said, realtime, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    (tmp_path / "something").touch()
    code, out, err = realtime(*arguments)
    assert code == 2
    assert err.startswith("error: ")
    assert said in err
    assert err.count("\n") == 1
    assert "Traceback" not in out + err
    written = {path.name for path in (*tmp_path.iterdir(), *tmp_path.glob("cache/dynadiff-realtime"))}
    assert written - {"cache"} == {"something"}  # no phantom was made; libraries keep a cache too


@pytest.mark.parametrize("arguments", [["decode", "--nonsense"], ["replay", "--speed", "-1"], ["nonsense"]])
def test_a_wrong_option_exits_with_2(arguments, realtime):
    code, _, err = realtime(*arguments)
    assert code == 2
    assert "Traceback" not in err


def test_an_interrupt_exits_with_130_and_says_what_is_kept_and_how_to_go_on(
    realtime, feed_of, interrupted, make_run, make_decoder, monkeypatch, tmp_path
):
    monkeypatch.setattr(session, "open_decoder", lambda kind, folder, sampler: make_decoder())
    code, out, err = realtime("decode", "--connect", feed_of(make_run()), "--out", tmp_path / "out", "--headless")
    assert (code, err) == (130, "")
    assert [line for line in out.splitlines() if line.startswith("interrupted: ")] == [
        f"interrupted: {tmp_path}/out keeps what was received and decoded; `realtime decode --out {tmp_path}/out` "
        "with the same options goes on, as long as the feed serves this run"
    ]
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["ended"] == "interrupted"


def test_a_decode_can_be_replayed_and_gives_the_same_pictures(
    realtime, feed_of, make_run, make_decoder, monkeypatch, tmp_path, files_of, free_address
):
    monkeypatch.setattr(session, "open_decoder", lambda kind, folder, sampler: make_decoder())
    first, again = tmp_path / "first", tmp_path / "again"
    realtime("decode", "--connect", feed_of(make_run()), "--out", first, "--headless")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    replay = subprocess.Popen(
        [sys.executable, "-c", "from realtime.cli import main; main()", "replay", "--recording", str(first),
         "--speed", "0", "--bind", free_address],
        env=environment, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    code, _, err = realtime("decode", "--connect", free_address, "--out", again, "--headless")
    out, _ = replay.communicate(timeout=20)
    assert (code, replay.returncode) == (0, 0), err
    assert "received whole by: decoder" in out
    assert len(files_of(again)) == 25
    assert files_of(again) == files_of(first)


@pytest.mark.parametrize("check", [[], ["--check"]])
def test_bench_of_an_engine_that_is_none_is_one_sentence(realtime, check):
    code, _, err = realtime("bench", "--engine", "abacus", *check)
    assert code == 2
    assert "there is no engine 'abacus': choose one of onnx, torch" in err


def test_bench_measures_every_stage(realtime, make_decoder, monkeypatch, tmp_path):
    from realtime import bench

    monkeypatch.setattr(bench, "open_decoder", lambda kind, folder: make_decoder())
    monkeypatch.setattr(bench, "SHAPE_1", (10, 10, 10))
    monkeypatch.setattr(bench, "VOXELS_1", 100)
    code, out, err = realtime("bench", "--json", tmp_path / "bench.json")
    assert code == 0, err
    figures = json.loads((tmp_path / "bench.json").read_text())
    stages = {
        "ingest",
        "mask",
        "screen, statistics, window",
        "record volume",
        "record picture",
        "total",
    }
    assert figures["bookkeeping_ms"].keys() == stages
    assert figures["onnx_ms"].keys() == {"encode", "steps", "render", "picture"}
    assert all(np.isfinite(list(row.values())).all() for row in figures["onnx_ms"].values())
    assert "record picture" in out


def test_a_nifti_file_is_replayed_and_stimuli_that_are_not_there_are_missed_aloud(
    realtime, make_run, make_decoder, mask, monkeypatch, tmp_path, free_address
):
    monkeypatch.setattr(session, "open_decoder", lambda kind, folder, sampler: make_decoder())
    bold, inside = tmp_path / "sub-01_task-look_bold.nii.gz", tmp_path / "mask.nii.gz"
    image = nib.Nifti1Image(np.stack(list(make_run().volumes()), axis=-1), np.eye(4))
    image.header.set_zooms((1, 1, 1, 4 / 3))
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, bold)
    nib.save(nib.Nifti1Image(mask.astype("i2"), np.eye(4)), inside)
    table = "onset\tduration\ttrial_type\tstim_file\n4.0\t3.0\tface\tface.png\n"
    (tmp_path / "sub-01_task-look_events.tsv").write_text(table)
    replay = subprocess.Popen(
        [sys.executable, "-c", "from realtime.cli import main; main()", "replay", "--bold", str(bold),
         "--mask", str(inside), "--speed", "0", "--bind", free_address],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    code, out, err = realtime("decode", "--connect", free_address, "--out", tmp_path / "out", "--headless")
    said, _ = replay.communicate(timeout=20)
    assert (code, replay.returncode) == (0, 0), err
    assert "25 pictures" in out
    assert "1 of 1 pictures are missing" in said
    start, *messages = [m for _, m in recording_messages(tmp_path / "out" / "feed.rec", speed=0)]
    assert isinstance(start, RunStart)
    assert start.events == (Event(row=3, rows=2, picture="", category="face"),)
    received = [m for m in messages if isinstance(m, Volume)]
    assert all((volume.data[~mask] == 0).all() for volume in received)
    assert all(np.array_equal(v.data[mask], w[mask]) for v, w in zip(received, make_run().volumes(), strict=True))


@pytest.fixture
def plain_nifti(make_run, tmp_path):
    """A run whose name says nothing, as a stranger's has."""
    image = nib.Nifti1Image(np.stack(list(make_run().volumes()), axis=-1), np.eye(4))
    image.header.set_zooms((1, 1, 1, 4 / 3))
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, tmp_path / "run3.nii.gz")
    return tmp_path / "run3.nii.gz"


def test_any_nifti_is_replayed_once_its_subject_is_known_and_dummies_may_be_declared(plain_nifti):
    with pytest.raises(UserError, match=r"run3\.nii\.gz does not say whose brain it is: give --subject"):
        bold_messages(Nifti(plain_nifti), 0, 0, print)
    start, *_ = (m for _, m in bold_messages(Nifti(plain_nifti, subject="7"), 0, 4, print))
    named = plain_nifti.rename(plain_nifti.with_name("sub-07_run-03_bold.nii.gz"))
    with pytest.raises(UserError, match=r"is of subject 07 by its name and not of 8: leave out --subject"):
        bold_messages(Nifti(named, subject="8"), 0, 0, print)
    first, *_ = (m for _, m in bold_messages(Nifti(named, subject="7"), 0, 0, print))
    assert first.subject == "07"
    named.rename(plain_nifti)
    assert (start.subject, start.dummies, start.n_volumes) == ("7", 4, 30)
    with pytest.raises(UserError, match="30 volumes and 30 dummies are declared"):
        bold_messages(Nifti(plain_nifti, subject="7"), 0, 30, print)


def test_a_mask_that_lies_elsewhere_is_refused_unless_the_user_knows_better(plain_nifti, mask, tmp_path):
    path = tmp_path / "mask.nii.gz"
    nib.save(nib.Nifti1Image(mask.astype("i2"), np.diag([-1.0, 1, 1, 1])), path)
    with pytest.raises(UserError, match=r"LAS voxels.*--any-space"):
        bold_messages(Nifti(plain_nifti, path, subject="1"), 0, 0, print)
    assert list(bold_messages(Nifti(plain_nifti, path, subject="1", any_space=True), 0, 0, print))


def a_judge(how, path):
    """A graph that says something of a black picture, and of any other nothing, no number or what it says."""
    onnx = pytest.importorskip("onnx")
    node, value = onnx.helper.make_node, onnx.helper.make_tensor
    broken = {  # of a mean, in (0, 255]; 0 of a black picture
        "breaks": [node("Cast", ["mean"], ["at"], to=7), node("Gather", ["numbers", "at"], ["x"])],
        "says NaN": [node("Neg", ["mean"], ["negative"]), node("Sqrt", ["negative"], ["x"])],
        "is sound": [node("Identity", ["mean"], ["x"])],
    }
    nodes = [
        node("Cast", ["pictures"], ["floats"], to=1),
        node("ReduceMean", ["floats", "axes"], ["mean"], keepdims=0),
        *broken[how],
        node("Unsqueeze", ["x", "last"], ["column"]),
        node("Mul", ["column", "numbers"], ["features"]),
    ]
    constants = [
        value("axes", 7, [3], [1, 2, 3]), value("last", 7, [1], [1]), value("numbers", 1, [3], [1.0, 2.0, 4.0])
    ]  # fmt: skip
    given = onnx.helper.make_tensor_value_info("pictures", 2, ["n", 64, 64, 3])
    said = onnx.helper.make_tensor_value_info("features", 1, ["n", 3])
    graph = onnx.helper.make_graph(nodes, "judge", [given], [said], constants)
    opset = onnx.helper.make_opsetid("", 18)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10), path)


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("breaks", "scoring stopped at volume 11: the judge of scenes broke ([ONNXRuntimeError]"),
        (
            "says NaN",
            "scoring stopped at volume 11: the judge of scenes gave features of a picture that are not finite",
        ),
        ("is sound", None),  # and its file is cut off while the run goes on
    ],
)
def test_a_judge_that_breaks_costs_its_own_line_and_nothing_else(
    how, why, realtime, feed_of, make_run, make_decoder, monkeypatch, tmp_path
):
    judge = tmp_path / "model" / "judge.onnx"
    judge.parent.mkdir()
    a_judge(how, judge)
    decoder = make_decoder()
    encode = decoder.engine.encode
    decoder.engine.encode = lambda window: (os.truncate(judge, 10), encode(window))[1]
    monkeypatch.setattr(session, "open_decoder", lambda kind, folder, sampler: decoder)
    address, out = feed_of(make_run(n_volumes=60)), tmp_path / "out"
    arguments = "--model", judge.parent, "--connect", address, "--headless", "--out", out
    code, said, err = realtime("decode", *arguments)
    assert (code, err) == (0, "")
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["ended"], summary["reconstructions"]) == ("complete", 55)
    assert len(list((out / "reconstructions").iterdir())) == 55
    assert (out / "decode.mp4").is_file()
    assert said.count("scoring stopped") == (why is not None)
    if why is None:
        assert "unscored" not in summary
        assert summary["identification"]["features"] == "the judge of scenes"
    else:
        (sentence,) = summary["unscored"]
        assert sentence.startswith(why)
        assert sentence in said
        assert "identification" not in summary


def test_as_fast_as_the_decoder_takes_it_is_not_behind(
    realtime, feed_of, make_run, make_decoder, monkeypatch, tmp_path
):
    decoder = make_decoder(tr=0.06)
    encode = decoder.engine.encode
    decoder.engine.encode = lambda window: (time.sleep(0.05), encode(window))[1]
    monkeypatch.setattr(session, "open_decoder", lambda kind, folder, sampler: decoder)
    address = feed_of(make_run(n_volumes=40, tr=0.06))  # which lie waiting for much longer than half a TR
    code, out, _ = realtime("decode", "--connect", address, "--headless", "--out", tmp_path / "out")
    assert code == 0
    assert "40 of 40 volumes, 35 pictures" in out
    assert "behind" not in out
    lines = [json.loads(line) for line in (tmp_path / "out" / "volumes.jsonl").read_text().splitlines()]
    assert {(line["lag_ms"], line["transit_ms"]) for line in lines} == {(0.0, None)}


def test_a_decoder_waits_only_as_long_as_it_is_told(realtime, make_decoder, monkeypatch, free_address, tmp_path):
    monkeypatch.setattr(session, "open_decoder", lambda kind, folder, sampler: make_decoder())
    code, out, err = realtime(
        "decode", "--connect", free_address, "--wait", "1", "--headless", "--out", tmp_path / "out"
    )
    assert code == 2
    assert f"waiting for a run at {free_address}" in out
    assert f"no feed was heard at {free_address} for 1 s" in err
