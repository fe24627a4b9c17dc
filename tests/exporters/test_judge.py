"""Who decodes with an exported engine has the judge of its pictures, and sees what it says while the run goes on."""

import json
import threading
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
from dynadiff.assets import EMBEDDED, JUDGE
from dynadiff.base.files import file_digest
from dynadiff.engines.contract import Manifest
from dynadiff.phantom.scenes import draw, scene
from dynadiff.recordings.masks import stored_affine, stored_mask
from exporters.judge import copy_judge
from replay.pace import run_messages
from replay.server import serve

VOLUMES, REST_S = 25, 2.0  # before the last volume: time to score the others


@pytest.fixture
def drawn(make_run):
    """A short run for the decoder that ships: noise for a brain, scenes of the phantom for pictures."""
    shape, rng = stored_mask(EMBEDDED).shape, np.random.default_rng(0)
    series = rng.normal(1000, 20, (VOLUMES, *shape)).astype("<i2")
    return make_run(
        VOLUMES, shape=shape, affine=stored_affine(EMBEDDED), volumes=lambda: iter(series),
        picture=lambda name: draw(scene(int(name.split()[1])), 64)[0],
    )  # fmt: skip


def test_an_engine_of_drawn_scenes_scores_them_in_the_eyes_of_their_judge(
    drawn, only_the_step, dynadiff, realtime, free_address, tmp_path: Path
) -> None:
    engine, out = tmp_path / "engine", tmp_path / "out"
    only_the_step(EMBEDDED / "onnx")
    assert dynadiff("export", "onnx", "--out", engine)[0] == 0
    assert Manifest.load(engine).files["judge.onnx"] == file_digest(JUDGE)
    assert not (EMBEDDED / "onnx" / "judge.onnx").exists()  # the package has it once
    *messages, last, end = run_messages(drawn, speed=1000, run_uid="aaaa")
    paused = [*messages, *((due + REST_S, message) for due, message in (last, end))]
    feed = threading.Thread(target=serve, args=(iter(paused), free_address))
    feed.start()
    code, said, err = realtime(
        "decode", "--engine", "onnx", "--model", engine, "--connect", free_address, "--steps", 1, "--headless",
        "--out", out,
    )  # fmt: skip
    feed.join()
    assert (code, err) == (0, "")
    live, *_ = " ".join(said.split()).split("25 of 25 volumes, 20 pictures")  # what the run came to
    assert "(5 trials, by the judge of scenes)" in live
    summary = json.loads((out / "summary.json").read_text())
    assert summary["identification"]["features"] == "the judge of scenes"
    assert [one["n_trials"] for one in summary["identification_running"]] == [5]
    assert "unscored" not in summary


def test_an_engine_of_other_pictures_has_none_and_a_judge_beside_the_model_comes_first(tmp_path: Path) -> None:
    model, engine = tmp_path / "model", tmp_path / "engine"
    model.mkdir()
    engine.mkdir()
    copy_judge(model, engine)
    assert list(engine.iterdir()) == []
    (model / "judge.onnx").write_bytes(b"another")
    copy_judge(model, engine)
    assert (engine / "judge.onnx").read_bytes() == b"another"
    copy_judge(EMBEDDED, engine)
    assert (engine / "judge.onnx").read_bytes() == JUDGE.read_bytes()
