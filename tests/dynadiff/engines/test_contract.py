"""The manifest of an engine folder: what it names is in the folder, whole, and nowhere else."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynadiff.assets import EMBEDDED
from dynadiff.base.errors import UserError
from dynadiff.engines.contract import MANIFEST, Encoded, Manifest, paint
from dynadiff.engines.open import open_decoder
from dynadiff.engines.versions import VERSIONS

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
    assert json.loads((tmp_path / MANIFEST).read_text())["version"] == VERSIONS.newest
    assert Manifest.load(tmp_path) == manifest


@pytest.mark.parametrize(
    "table",
    [
        [],
        [{"timestep": 1000}],
        [{"timestep": -1}],
        [{"timestep": 5}, {"timestep": 5}],
        [{"timestep": 5}, {"timestep": 900}],
        [{"timestep": 5, "guidance": -1.0}],
        [{"timestep": 1, "colour": 2}],
    ],
)
def test_a_table_that_no_schedule_has_is_no_manifest(folder: Path, table: list[dict]) -> None:
    new = json.loads(VERSIONS.current(json.dumps(RAW), MANIFEST)) | {"version": VERSIONS.newest}
    new["sampler"] = [{"x": 1.0, "eps": 0.0, "guidance": 1.0} | row for row in table]
    (folder / MANIFEST).write_text(json.dumps(new))
    with pytest.raises(
        UserError, match=r"not an engine manifest of this version \(.*(no step|timesteps|from 0 on|colour)"
    ):
        Manifest.load(folder)


def test_an_engine_with_its_own_loop_is_asked_for_it(make_decoder) -> None:
    decoder = make_decoder()
    window = np.ones((decoder.manifest.voxels, 6), np.float32)
    noise = np.ones(decoder.manifest.latent_shape, np.float32)
    one_by_one = paint(decoder.engine, window, noise)
    asked = []

    def sample(noise, encoded):
        asked.append(encoded)
        return type(decoder.engine).sample(decoder.engine, noise, encoded)

    decoder.engine.sample = sample
    np.testing.assert_array_equal(paint(decoder.engine, window, noise), one_by_one)
    assert len(asked) == 1


def test_what_a_brain_module_says_beside_tokens_reaches_every_step(make_decoder, mask) -> None:
    @dataclass(frozen=True, eq=False)
    class More(Encoded):
        start: object = None

    engine, seen = make_decoder().engine, []
    encode, step = engine.encode, engine.step
    engine.encode = lambda window: More(encode(window).tokens, "a latent")
    engine.step = lambda latent, encoded, i: seen.append((encoded.start, i)) or step(latent, encoded, i)
    paint(engine, np.ones((int(mask.sum()), 6), np.float32), np.ones((4, 4, 4), np.float32))
    assert seen == [("a latent", 0), ("a latent", 1), ("a latent", 2)]
