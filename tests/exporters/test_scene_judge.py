"""The judge's graph says what its network says."""

import runpy

import numpy as np
import pytest
import torch

import exporters.scene_judge
from dynadiff.phantom.judge import SceneJudge
from dynadiff.phantom.scenes import CATEGORIES, draw, scene
from dynadiff.scene_judge.network import SceneJudge as Network
from exporters.scene_judge import figures, write_judge


def test_the_graph_is_the_network(tmp_path):
    torch.manual_seed(0)
    network = Network(len(CATEGORIES))
    network.train()(torch.rand(32, 3, 64, 64, generator=torch.Generator().manual_seed(1)))  # statistics of its own
    network.eval()
    write_judge(network, tmp_path / "judge.onnx")
    pictures = np.stack([draw(scene(k), 64)[0] for k in range(7)])
    judge = SceneJudge(tmp_path / "judge.onnx")
    with torch.no_grad():
        said = network(torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255)
    assert judge.features(pictures) == pytest.approx(said["features"].numpy(), abs=5e-3)
    assert (tmp_path / "judge.onnx").stat().st_size < 1e6
    hues = said["colours"].reshape(-1, 2, 2)
    assert judge.look(pictures).hues == pytest.approx(
        np.rad2deg(torch.atan2(hues[..., 1], hues[..., 0]).numpy()) % 360, abs=2.0
    )
    untrained = figures(judge, range(4_000_000, 4_000_050))
    assert untrained["named"] < 0.3


@pytest.mark.parametrize("arguments", [(), ("--check", "build/judge"), ("--chek",), ("a", "b")])
def test_what_is_neither_a_folder_nor_a_check_is_one_sentence(arguments, run_command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = run_command(
        lambda: runpy.run_path(exporters.scene_judge.__file__, run_name="__main__"), *arguments
    )
    assert (code, out) == (2, "")
    assert err == "error: what to make is not said: give a folder to train the judge in, or --check alone\n"
    assert list(tmp_path.iterdir()) == []
