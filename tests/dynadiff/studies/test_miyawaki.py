"""The study leaves out every trial of a pattern, its generator saw none of the ten, and it runs and resumes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
from dynadiff.base.errors import UserError  # noqa: E402
from dynadiff.studies import miyawaki  # noqa: E402
from dynadiff.studies.miyawaki import left_out, print_miyawaki, read_miyawaki  # noqa: E402
from dynadiff.studies.patterns import draw_patterns  # noqa: E402
from support.real_data import recording  # noqa: E402


def write_recording(folder: Path, patterns: int = 3, voxels: int = 12) -> Path:
    rng = np.random.default_rng(0)
    shown = draw_patterns(rng, patterns)
    seen = np.repeat(np.arange(patterns), 2)
    columns = shown.transpose(0, 2, 1).reshape(patterns, -1)[seen]
    folder.mkdir()
    savemat(folder / "V1_mean_figure.mat", {"R2": rng.standard_normal((voxels, len(seen))), "I2": columns.T})
    return folder


def test_patterns_stand_upright(tmp_path: Path) -> None:
    _, patterns = read_miyawaki(write_recording(tmp_path / "data"))
    assert np.array_equal(patterns[::2], draw_patterns(np.random.default_rng(0), 3))


def test_the_recording_has_ten_patterns_eight_times_and_an_upright_letter() -> None:
    responses, patterns = read_miyawaki(recording("miyawaki_v1"))
    assert responses.shape == (80, 797)
    assert np.unique(patterns, axis=0, return_counts=True)[1].tolist() == [8] * 10
    letter = patterns[40:].mean(axis=(0, 2))
    assert letter[:3].sum() < letter[3:7].sum()


def test_a_left_out_pattern_is_in_no_training_trial(tmp_path: Path) -> None:
    responses, patterns = read_miyawaki(write_recording(tmp_path / "data"))
    seen = np.arange(6) // 2
    for k in range(3):
        betas = left_out(responses, patterns, seen == k)
        learn, test = betas.trials(False, 10), betas.trials(True, 10)
        assert (len(learn), len(test)) == (4, 2)
        assert np.array_equal(test.pictures[0, ..., 0] > 0, patterns[2 * k] > 0)
        assert not any(np.array_equal(p, test.pictures[0]) for p in learn.pictures)


def test_it_runs_resumes_and_keeps_the_patterns_from_the_generator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("dynadiff.scores.pixels.DRAWS", 100)
    quick = replace(miyawaki.QUICK, lr=0.1, warm_start=2)  # at such a rate adapters would be seen elsewhere
    monkeypatch.setattr(miyawaki, "QUICK", quick)
    monkeypatch.setattr(miyawaki, "QUICK_PATTERNS", replace(miyawaki.QUICK_PATTERNS, patterns=64, vae_steps=3, steps=3))
    data, kept = write_recording(tmp_path / "data"), []
    learned = miyawaki.train_patterns
    monkeypatch.setattr(miyawaki, "train_patterns", lambda *a: (kept.append(a[2]), learned(*a)))
    print_miyawaki(data, tmp_path / "out", quick=True)
    first = capsys.readouterr().out
    for said in ("Dynadiff", "ridge to pixels", "ceiling", "mean of the other"):
        assert said in first
    _, patterns = read_miyawaki(data)
    assert kept == [frozenset(p.tobytes() for p in patterns)]
    assert (tmp_path / "out" / "miyawaki-quick" / "pictures.png").stat().st_size > 0
    monkeypatch.setattr(miyawaki, "train_patterns", None)
    monkeypatch.setattr("dynadiff.training.betas.train", None)
    print_miyawaki(data, tmp_path / "out", quick=True)
    table = "test trials"
    assert capsys.readouterr().out.split(table)[1] == first.split(table)[1]


def test_another_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="give the folder that holds V1_mean_figure"):
        read_miyawaki(tmp_path)
    savemat(tmp_path / "V1_mean_figure.mat", {"R2": np.zeros((5, 4)), "I2": np.full((100, 4), 3)})
    with pytest.raises(UserError, match="100 pixels of 0 and 1"):
        read_miyawaki(tmp_path)
