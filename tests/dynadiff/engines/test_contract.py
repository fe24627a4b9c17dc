"""The manifest of an engine folder: what it names is in the folder, whole, and nowhere else."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynadiff.assets import EMBEDDED
from dynadiff.base.errors import UserError
from dynadiff.engines.contract import MANIFEST, Manifest, paint, step_inputs
from dynadiff.engines.open import open_decoder

RAW = json.loads((EMBEDDED / "onnx" / MANIFEST).read_text())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the embedded engine, to be spoilt."""
    return Path(shutil.copytree(EMBEDDED / "onnx", tmp_path / "engine"))


def rewrite(folder: Path, **changes: object) -> None:
    (folder / MANIFEST).write_text(json.dumps(RAW | changes))


@given(st.text(max_size=9), st.sampled_from(["/", "\\", "\0"]), st.text(max_size=9))
def test_a_name_that_leaves_the_folder_is_no_name(before: str, separator: str, after: str) -> None:
    with pytest.raises(ValueError, match="no name of a file in this folder"):
        Manifest.parse(json.dumps(RAW | {"files": {before + separator + after: "0"}}))


@pytest.mark.parametrize("name", ["..", ".", "", "../step.onnx", "/etc/passwd", MANIFEST])
def test_only_files_of_the_folder_are_listed(folder: Path, name: str) -> None:
    rewrite(folder, files=RAW["files"] | {name: "0"})
    with pytest.raises(UserError, match="not an engine manifest of this version"):
        Manifest.load(folder)


@pytest.mark.parametrize("name", sorted(RAW["files"]))
@pytest.mark.parametrize("spoil", ["missing", "truncated", "altered", "a folder"])
def test_a_spoilt_file_is_named(folder: Path, name: str, spoil: str) -> None:
    content = (folder / name).read_bytes()
    (folder / name).unlink()
    if spoil == "truncated":
        (folder / name).write_bytes(content[:-1])
    elif spoil == "altered":
        (folder / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif spoil == "a folder":
        (folder / name).mkdir()
    with pytest.raises(UserError, match=f"{name} is missing or not the file that was exported"):
        open_decoder("onnx", folder)


@pytest.mark.parametrize("name", ["brain.onnx", "step.onnx", "decoder.onnx", "mask.nii.gz", "probe.npz"])
def test_what_the_manifest_does_not_list_is_not_used(folder: Path, name: str) -> None:
    rewrite(folder, files={file: digest for file, digest in RAW["files"].items() if file != name})
    with pytest.raises(UserError, match="export the engine again"):
        open_decoder("onnx", folder)


def test_another_mask_is_refused(folder: Path) -> None:
    rewrite(folder, mask_sha256="0" * 64)
    with pytest.raises(UserError, match="not the one the engine was made with"):
        open_decoder("onnx", folder)


@pytest.mark.parametrize("content", ["", "[]", "null", "{}", '{"files": 3}', json.dumps(RAW | {"build": None}),
                                     json.dumps(RAW | {"files": 3}), json.dumps(RAW | {"cleaning": []})])  # fmt: skip
def test_what_is_no_manifest_is_one_sentence(tmp_path: Path, content: str) -> None:
    (tmp_path / MANIFEST).write_text(content)
    with pytest.raises(UserError, match="not an engine manifest of this version"):
        Manifest.load(tmp_path)


def test_a_manifest_is_read_as_written(tmp_path: Path) -> None:
    manifest = Manifest.load(EMBEDDED / "onnx")
    for name in manifest.files:
        shutil.copyfile(EMBEDDED / "onnx" / name, tmp_path / name)
    manifest.save(tmp_path)
    assert (tmp_path / MANIFEST).read_text() == (EMBEDDED / "onnx" / MANIFEST).read_text()
    assert Manifest.load(tmp_path) == manifest


def test_an_engine_with_its_own_loop_is_asked_for_it(make_decoder) -> None:
    decoder = make_decoder()
    window = np.ones((decoder.manifest.voxels, 6), np.float32)
    noise = np.ones(decoder.manifest.latent_shape, np.float32)
    one_by_one = paint(decoder.engine, window, noise, 3)
    asked = []

    def sample(noise, tokens, steps):
        asked.append(steps)
        latent = noise
        for i in range(steps):
            latent = decoder.engine.step(latent, tokens, i)
        return latent

    decoder.engine.sample = sample
    np.testing.assert_array_equal(paint(decoder.engine, window, noise, 3), one_by_one)
    assert asked == [3]


def test_a_step_graph_is_given_what_it_takes(make_decoder) -> None:
    manifest = make_decoder(guidance=2.0, steps=4).manifest
    given = step_inputs(manifest, {"latent", "tokens", "timestep", "guidance", "coefficients"})
    assert {name: rows.shape for name, rows in given.items()} == {
        "timestep": (4, 1), "coefficients": (4, 2), "guidance": (4,)
    }  # fmt: skip
    assert "guidance" not in step_inputs(make_decoder(guidance=1.0).manifest, {"timestep"})
    with pytest.raises(UserError, match="exported for guidance 1, not 2"):
        step_inputs(manifest, {"timestep"})
