"""bench --check: the engine that is there or one built for it, against PyTorch; a wrong one is refused."""

import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from dynadiff.assets import EMBEDDED
from dynadiff.base.errors import UserError
from dynadiff.engines import parity as errors
from dynadiff.engines.choice import Sampler
from dynadiff.engines.contract import MANIFEST, Manifest
from dynadiff.engines.open import open_decoder
from realtime import bench
from realtime import engine_check as parity


@pytest.fixture
def quick(monkeypatch) -> None:
    """One run instead of many: what is measured is tested here, not how well."""
    for module, name, value in (
        (parity, "PAIRS", 1), (parity, "WARM", 0), (parity, "PAUSE_S", 0), (errors, "WINDOWS", 1),
        (bench, "PICTURES", 1), (bench, "WARM", 0), (bench, "VOLUMES", 8),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, value)
    for module in (parity, bench):
        monkeypatch.setattr(module, "open_decoder", partial(open_decoder, threads=1, sampler=Sampler(2, 5.0)))


def test_the_embedded_engine_is_pytorch_to_the_rounding(realtime, quick, tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    code, said, wrong = realtime("bench", "--check", "--json", tmp_path / "figures.json")
    assert (code, wrong) == (0, "")
    assert "error of the onnx engine against torch" in said
    figures = json.loads((tmp_path / "figures.json").read_text())
    found = {row["part"]: row for row in figures["errors"]}
    assert set(found) == set(errors.PARTS)
    for part in ("brain module", "one step", "whole loop, latent"):
        assert 0 < found[part]["mean"] <= found[part]["largest"] < 1e-3 * found[part]["scale"]
    assert found["whole loop, picture"]["largest"] <= 2
    assert set(figures["paired_ms"]) == {"brain module", "one step", "VAE decoder", "whole picture"}
    assert figures["paired_ms"]["whole picture"]["torch"] > figures["paired_ms"]["one step"]["torch"] > 0


def test_a_wrong_engine_fails_the_check(quick, make_decoder, monkeypatch) -> None:
    reference, other = make_decoder(), make_decoder()
    monkeypatch.setattr(parity, "open_decoder", lambda kind, folder: {("torch", EMBEDDED): reference}[kind, folder])
    found, times = parity.check(other, EMBEDDED / "onnx", Console(quiet=True))  # of the model that it lies in
    assert all(error.largest == 0 for error in found)
    assert all(row["torch"] > 0 and row["engine"] > 0 for row in times.values())
    known = other.engine.render
    monkeypatch.setattr(other.engine, "render", lambda latent: np.flipud(known(latent)))
    with pytest.raises(UserError, match="is not the decoder it was made from, see VAE decoder"):
        parity.check(other, EMBEDDED, Console(quiet=True))


def test_a_check_needs_the_model(make_decoder, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is not in a model folder: give one with --model"):
        parity.check(make_decoder(), tmp_path, Console(quiet=True))


@pytest.mark.parametrize("words", [("bench", "--check"), ("bench",), ("decode", "--headless")])
def test_tensorrt_that_is_not_there_is_one_sentence(realtime, monkeypatch, words) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    code, _, wrong = realtime(*words, "--engine", "trt")
    assert (code, wrong.count("\n")) == (2, 1)
    assert wrong.startswith("error: the trt engine needs the package tensorrt: pip install 'dynadiff-realtime[trt]'")


@pytest.mark.parametrize("words", [("bench", "--check"), ("decode", "--headless")])
def test_a_machine_without_a_gpu_is_one_sentence(realtime, monkeypatch, words) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed: pip install '.[trt-rtx]'")
    runtime = pytest.importorskip("cuda.bindings.runtime")
    monkeypatch.setattr(runtime, "cudaGetDeviceCount", lambda: (runtime.cudaError_t.cudaErrorNoDevice, None))
    code, _, wrong = realtime(*words, "--engine", "trt-rtx")
    assert (code, wrong.count("\n")) == (2, 1)
    assert "needs an NVIDIA GPU and its driver" in wrong
    assert "use --engine onnx" in wrong


def test_an_engine_that_is_missing_is_built_for_the_check_and_not_kept(monkeypatch, capfd) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed: pip install '.[trt-rtx]'")
    monkeypatch.setattr(parity, "require_gpu", lambda kind: None)
    with parity.built("trt-rtx", EMBEDDED, Console(quiet=True)) as folder:
        assert Manifest.load(folder).kind == "trt-rtx"
    assert not folder.exists()
    assert "step: parsing and building" in capfd.readouterr().out
    with parity.built("onnx", EMBEDDED, Console(quiet=True)) as folder:
        assert (folder / "onnx" / MANIFEST).exists()


def test_what_the_builder_refuses_is_the_same_sentence(monkeypatch, tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    with (
        pytest.raises(UserError, match=r"^no model in .*: make one with `dynadiff train --out"),
        parity.built("onnx", tmp_path, Console(quiet=True)),
    ):
        pass
