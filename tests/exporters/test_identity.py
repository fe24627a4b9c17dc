"""The files behind an engine's key: one byte anywhere, weights outside of a graph included, is another engine."""

import shutil
from pathlib import Path

import pytest

onnx = pytest.importorskip("onnx")
from dynadiff.assets import EMBEDDED  # noqa: E402
from dynadiff.engines.contract import Manifest  # noqa: E402
from exporters.identity import graph_digests, onnx_networks, weight_digests  # noqa: E402

BUILD = Manifest.load(EMBEDDED / "onnx").build


def test_the_engine_that_ships_is_of_the_weights_that_ship() -> None:
    assert weight_digests(EMBEDDED, EMBEDDED / "generator") == BUILD.weights
    assert graph_digests(EMBEDDED / "onnx") == BUILD.graphs
    assert onnx_networks(EMBEDDED / "onnx") == BUILD.networks


@pytest.mark.parametrize("name", sorted(BUILD.weights))
def test_one_bit_of_any_file_of_the_model_is_other_weights(name: str, tmp_path: Path) -> None:
    for folder in ("", "generator"):
        shutil.copytree(EMBEDDED / folder, tmp_path / folder, ignore=shutil.ignore_patterns("onnx"), dirs_exist_ok=True)
    content = (tmp_path / name).read_bytes()
    other = content.replace(b'"alpha": 4.0', b'"alpha": 5.0') if name == "model.json" else content[:-1] + b"?"
    (tmp_path / name).write_bytes(other)
    changed = weight_digests(tmp_path, tmp_path / "generator")
    assert {key for key in changed if changed[key] != BUILD.weights[key]} == {name}


def test_weights_beside_a_graph_count(tmp_path: Path) -> None:
    brain = onnx.load(EMBEDDED / "onnx" / "brain.onnx")
    onnx.save(brain, tmp_path / "brain.onnx", save_as_external_data=True, location="brain.data", size_threshold=0)
    before = graph_digests(tmp_path)
    assert set(before) == {"brain.onnx", "brain.data"}
    with (tmp_path / "brain.data").open("r+b") as file:
        file.write(b"\x7f")
    after = graph_digests(tmp_path)
    assert (after["brain.onnx"], after["brain.data"] != before["brain.data"]) == (before["brain.onnx"], True)
