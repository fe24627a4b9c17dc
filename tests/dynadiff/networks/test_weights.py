"""Weights in shards come back whole by their index, and shards that are not whole are one sentence."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from dynadiff.base.errors import UserError  # noqa: E402
from dynadiff.networks.weights import read_weights, save_tensors  # noqa: E402

STATE = {"a": torch.arange(3.0), "b": torch.ones(2, 2), "c": torch.zeros(1)}
MAP = {"a": "model-00001-of-00002", "b": "model-00001-of-00002", "c": "model-00002-of-00002"}


def written(folder: Path, suffix: str) -> Path:
    """Two shards and their index, under the names that DeepSpeed gives them; the index."""
    bin_ = suffix == ".bin"
    name = {key: ("pytorch_" if bin_ else "") + shard + suffix for key, shard in MAP.items()}
    for shard in set(name.values()):
        part = {key: value for key, value in STATE.items() if name[key] == shard}
        torch.save(part, folder / shard) if bin_ else save_tensors(folder / shard, part)
    index = folder / ("pytorch_model.bin.index.json" if bin_ else "model.safetensors.index.json")
    index.write_text(json.dumps({"metadata": {"total_size": 32}, "weight_map": name}))
    return index


@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
def test_shards_are_read_by_their_folder_or_their_index(suffix: str, tmp_path: Path) -> None:
    index = written(tmp_path, suffix)
    for asked in (tmp_path, index):
        torch.testing.assert_close(read_weights(asked), STATE, atol=0, rtol=0)


FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


def mapped(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        index = folder / "model.safetensors.index.json"
        raw = json.loads(index.read_text())
        change(raw["weight_map"])
        index.write_text(json.dumps(raw))

    return edit


def index_says(text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "model.safetensors.index.json").write_text(text) and None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: (folder / SECOND).unlink(), f"no file .*{SECOND}"),
        (mapped(lambda names: names.update(d=SECOND)), f"{SECOND} lacks d"),
        (mapped(lambda names: names.pop("b")), f"{FIRST} holds b"),
        (mapped(lambda names: names.update(c=FIRST)), f"{FIRST} lacks c"),
        (mapped(lambda names: names.update(c=f"../{SECOND}")), "is no name of a file beside it"),
        (mapped(lambda names: names.update(c="..")), "is no name of a file beside it"),
        (mapped(lambda names: names.update(c="/etc/passwd")), "is no name of a file beside it"),
        (mapped(lambda names: names.update(c="model.safetensors.index.json")), "is no name of a file beside it"),
        (mapped(lambda names: names.clear()), "names no file"),
        (mapped(lambda names: names.update(c=3)), "is no index of shards"),
        (index_says("{}"), "is no index of shards"),
        (index_says("no json"), "is no index of shards"),
        (lambda folder: (folder / SECOND).write_bytes(b"cut"), "no file of weights alone"),
        (lambda folder: (folder / "model.safetensors.index.json").unlink(), "holds no index"),
        (lambda folder: written(folder, ".bin") and None, "holds two"),
    ],
)
def test_what_is_not_whole_is_one_sentence(change: Callable[[Path], None], said: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    written(home, ".safetensors")
    save_tensors(tmp_path / SECOND, {"c": STATE["c"]})  # what a name that leads out of the folder would reach
    change(home)
    with pytest.raises(UserError, match=said) as told:
        read_weights(home)
    assert "\n" not in str(told.value)
