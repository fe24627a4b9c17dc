"""A file of betas becomes a model folder that loads, and scores come beside ridge and the mean picture."""

import json
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from dynadiff.base.errors import UserError  # noqa: E402
from dynadiff.evaluation.betas import judge_betas  # noqa: E402
from dynadiff.networks.model import Model  # noqa: E402
from dynadiff.networks.model_folder import load_model  # noqa: E402
from dynadiff.studies.patterns import PatternTraining, draw_patterns, train_patterns  # noqa: E402
from dynadiff.training.betas import train_betas  # noqa: E402
from dynadiff.training.dynadiff import Training  # noqa: E402
from dynadiff.trials.betas import load_betas, read_betas  # noqa: E402
from dynadiff.trials.source import Trials  # noqa: E402

VOXELS = 30
SHORT = Training(steps=2, batch=4, warmup=1, width=8, online=0.5)


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("patterns")
    train_patterns(PatternTraining(patterns=64, vae_steps=3, steps=3, batch=8), folder)
    return str(folder / "generator")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty patterns, three trials each, in voxels that see single pixels: a linear code."""
    rng = np.random.default_rng(0)
    patterns = draw_patterns(rng, 60)
    seen = np.arange(180) % 60
    betas = patterns.reshape(60, -1)[seen] @ rng.standard_normal((100, VOXELS)) + rng.standard_normal((180, VOXELS))
    path = tmp_path_factory.mktemp("betas") / "betas.npz"
    np.savez(path, betas=betas, images=patterns[seen], split=np.where(seen < 50, "train", "test"))
    return path


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dynadiff.scores.pixels.DRAWS", 100)


def trained(source: Path, out: Path, generator: str) -> tuple[Model, Trials, Trials]:
    return train_betas(load_betas(source), source.name, out, "short", SHORT, generator, 1)


def test_betas_become_a_model_without_time(source: Path, generator: str, tmp_path: Path) -> None:
    scores = judge_betas(*trained(source, tmp_path / "out", generator), tmp_path / "out")
    assert set(scores) == {"Dynadiff", "ridge to pixels", "mean training picture"}
    assert scores["ridge to pixels"].top1.mean > scores["ridge to pixels"].top1.chance
    assert scores["mean training picture"].top1.mean < 0.3
    model = load_model(tmp_path / "out")
    assert (model.config.tr, model.config.window.length) == (0.0, 1)
    assert model.brain(torch.randn(2, VOXELS, 1)).shape == (2, 25, 16)
    kept = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert (kept["trials"], kept["pictures"]) == (30, 10)
    assert kept["decoders"] == {name: asdict(score) for name, score in scores.items()}
    sheet = cv2.imread(str(tmp_path / "out" / "samples" / "test-trials.png"))
    assert sheet.shape == (4 * 10, 10 * 10, 3)  # shown, and three decoders below; ten pictures of ten pixels
    shown = load_betas(source).trials(True, 10).pictures
    np.testing.assert_array_equal(sheet[:10, :, ::-1], np.hstack(list(shown)))
    assert (tmp_path / "out" / "work" / "dynadiff.jsonl").exists()
    again = judge_betas(*trained(source, tmp_path / "out", generator), tmp_path / "out")
    assert again == scores


def test_the_test_trials_teach_nothing(source: Path, generator: str, tmp_path: Path) -> None:
    with np.load(source) as file:
        arrays = dict(file)
    arrays["betas"][arrays["split"] == "test"] = 0
    np.savez(tmp_path / "blank.npz", **arrays)
    for path, out in ((source, "one"), (tmp_path / "blank.npz", "two")):
        trained(path, tmp_path / out, generator)
    one, two = (load_model(tmp_path / out).brain.state_dict() for out in ("one", "two"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_what_is_missing_is_one_sentence(source: Path, generator: str, tmp_path: Path) -> None:
    warm = Training(warm_start=1)
    with pytest.raises(UserError, match="no image encoder"):
        train_betas(load_betas(source), "betas", tmp_path / "out", "warm", warm, generator, 1)
    with pytest.raises(UserError, match="by --root"):
        read_betas(tmp_path, None, 1, 10)
