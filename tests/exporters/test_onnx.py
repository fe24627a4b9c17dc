"""An exported engine is the same decoder: per network, over the whole sampling loop, and without torch around."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from dynadiff.assets import EMBEDDED  # noqa: E402
from dynadiff.base.errors import UserError  # noqa: E402
from dynadiff.base.random import initial_noise  # noqa: E402
from dynadiff.engines.contract import (  # noqa: E402
    MANIFEST,
    Decoder,
    Encoded,
    paint,
)
from dynadiff.engines.open import open_decoder  # noqa: E402
from dynadiff.networks.brain import BrainConfig  # noqa: E402
from dynadiff.networks.generator import load_generator, save_generator, tiny_generator  # noqa: E402
from dynadiff.networks.image_encoder import ImageEncoder, ImageEncoderConfig  # noqa: E402
from dynadiff.networks.model import ModelConfig, new_model  # noqa: E402
from dynadiff.networks.model_folder import save_model  # noqa: E402
from dynadiff.recordings.masks import mask_digest  # noqa: E402
from dynadiff.signal.cleaning import Cleaning  # noqa: E402
from dynadiff.signal.windows import WindowSpec  # noqa: E402
from exporters.onnx import export_onnx  # noqa: E402


@pytest.fixture(scope="session")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with random weights, adapters stirred so that they matter, and its engine in ``onnx``."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    generator, encoder = tiny_generator(), ImageEncoder(ImageEncoderConfig())
    for network in (generator.unet, generator.vae, encoder):
        network.half()
    save_generator(generator, encoder, folder / "generator")
    mask = np.zeros((5, 6, 7), np.bool_)
    mask[1:4, 1:5, 2:6] = True
    brain = BrainConfig(48, 6, 16, (17, 64))
    config = ModelConfig("01", 4 / 3, mask_digest(mask), WindowSpec(), Cleaning(), brain, "generator")
    model = new_model(config, load_generator(folder / "generator"), mask, np.eye(4))
    for name, parameter in model.generator.unet.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    save_model(model, folder, torch.float16)
    export_onnx(folder, folder / "onnx")
    return folder


@pytest.fixture(params=["untrained", "embedded"])
def pair(request: pytest.FixtureRequest, untrained: Path) -> tuple[Decoder, Decoder]:
    folder = untrained if request.param == "untrained" else EMBEDDED
    return open_decoder("torch", folder, 1), open_decoder("onnx", folder, 1)


def test_each_network_is_the_same(pair: tuple[Decoder, Decoder]) -> None:
    reference, other = pair
    manifest, rng = other.manifest, np.random.default_rng(0)
    window = rng.standard_normal((manifest.voxels, manifest.window_length), np.float32)
    tokens = np.asarray(reference.engine.encode(window).tokens)
    np.testing.assert_allclose(other.engine.encode(window).tokens, tokens, atol=2e-5)
    latent = rng.standard_normal((1, *manifest.latent_shape), np.float32)
    for i in (0, 10, 19):
        ours = reference.engine.step(torch.from_numpy(latent), Encoded(torch.from_numpy(tokens)), i)
        np.testing.assert_allclose(other.engine.step(latent, Encoded(tokens), i), np.asarray(ours), atol=5e-5)
    ours = reference.engine.render(torch.from_numpy(latent)).astype(int)
    assert np.abs(ours - other.engine.render(latent)).max() <= 1


def test_twenty_steps_end_in_the_same_picture(pair: tuple[Decoder, Decoder]) -> None:
    reference, other = pair
    manifest = other.manifest
    window = np.random.default_rng(1).standard_normal((manifest.voxels, manifest.window_length), np.float32)
    noise = initial_noise(0, manifest.latent_shape)
    one, two = (paint(d.engine, window, noise).astype(int) for d in pair)
    assert np.abs(one - two).max() <= 2
    assert one.std() > 1
    assert manifest == type(manifest)(
        **vars(reference.manifest) | {"kind": "onnx", "files": manifest.files, "build": manifest.build}
    )


def test_an_engine_names_no_file_of_the_machine_that_made_it(untrained: Path) -> None:
    home = str(Path(__file__).parents[2]).encode()
    for folder in (untrained, EMBEDDED):
        for path in folder.rglob("*.*"):
            assert home not in path.read_bytes(), path
            assert b"site-packages" not in path.read_bytes(), path


def test_an_altered_file_is_refused(untrained: Path, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "engine"
    shutil.copytree(untrained / "onnx", folder)
    with (folder / "step.onnx").open("r+b") as file:
        file.seek(5000)
        file.write(b"\x00\x01")
    with pytest.raises(UserError, match=r"step\.onnx is missing or not the file that was exported"):
        open_decoder("onnx", folder)
    (folder / "step.onnx").unlink()
    with pytest.raises(UserError, match="export the engine again"):
        open_decoder("onnx", folder)


def test_an_engine_without_adapters_is_not_the_decoder(
    untrained: Path, tmp_path: Path, monkeypatch, only_the_step
) -> None:
    """The probe notices what is easily got wrong: an engine of the generator before it was adapted."""
    import shutil

    from dynadiff.networks import model_folder

    shutil.copytree(untrained / "onnx", tmp_path / "right")
    monkeypatch.setattr(model_folder, "load_trained", lambda unet, weights: None)  # as new: their second half is zero
    only_the_step(untrained / "onnx")
    export_onnx(untrained, tmp_path / "wrong")
    shutil.copyfile(tmp_path / "wrong" / "step.onnx", tmp_path / "right" / "step.onnx")
    raw = json.loads((tmp_path / "right" / MANIFEST).read_text())
    raw["files"]["step.onnx"] = json.loads((tmp_path / "wrong" / MANIFEST).read_text())["files"]["step.onnx"]
    (tmp_path / "right" / MANIFEST).write_text(json.dumps(raw))
    open_decoder("onnx", tmp_path / "wrong", 1)  # which is whole, and another decoder
    with pytest.raises(UserError, match="its sampling step is off by"):
        open_decoder("onnx", tmp_path / "right", 1)


def test_an_unknown_key_in_a_manifest_is_refused(untrained: Path, tmp_path: Path) -> None:
    raw = json.loads((untrained / "onnx" / MANIFEST).read_text())
    (tmp_path / MANIFEST).write_text(json.dumps(raw | {"surprise": 1}))
    with pytest.raises(UserError, match="not an engine manifest of this version"):
        open_decoder("onnx", tmp_path)


def test_exports_do_not_overwrite_what_is_no_engine(untrained: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(UserError, match="is no engine folder"):
        export_onnx(untrained, tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def test_decoding_needs_no_torch(untrained: Path) -> None:
    """A finder that refuses torch, diffusers and onnx stands first in the way of every import."""
    program = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "diffusers", "peft", "onnx", "sklearn", "nilearn"):
            raise ImportError(name + " is not here")
sys.meta_path.insert(0, Refuse())
import numpy as np
from pathlib import Path
import realtime.cli, realtime.decoding.session
from dynadiff.engines.choice import Sampler
from dynadiff.engines.contract import paint
from dynadiff.base.random import initial_noise
from dynadiff.engines.open import open_decoder
d = open_decoder("onnx", Path({str(untrained)!r}), 1, Sampler(steps=2))
picture = paint(d.engine, np.ones((48, 6), np.float32), initial_noise(0, d.manifest.latent_shape))
sys.exit(0 if picture.shape == (64, 64, 3) and "torch" not in sys.modules else 1)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("kind", "said"),
    [("pytorch", "there is no engine 'pytorch'"), ("trt", "engine needs|no engine in"), ("onnx", "no engine in")],
)
def test_engines_that_cannot_be_opened_say_what_to_do(kind: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        open_decoder(kind, tmp_path)


def test_an_engine_of_a_model_of_another_sampler_says_so_whenever_it_is_opened(untrained: Path, tmp_path: Path) -> None:
    shutil.copytree(untrained / "onnx", tmp_path / "onnx")
    assert open_decoder("onnx", tmp_path, 1).engine.mode == ""
    path = tmp_path / "onnx" / "engine.json"
    manifest = json.loads(path.read_text())
    assert manifest["build"]["choices"]["model_sampler"] == "ddim"
    manifest["build"]["choices"]["model_sampler"] = "ddpm"
    path.write_text(json.dumps(manifest))
    said = "DDIM, where its model is set to DDPM, which no engine has"
    assert open_decoder("onnx", tmp_path, 1).engine.mode == said


def test_an_export_of_a_model_of_another_sampler_says_what_the_engine_paints_by(
    untrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporters.onnx.write_engine", lambda *_, **__: None)
    said: list[str] = []
    export_onnx(untrained, tmp_path / "onnx", say=said.append)
    assert said == []
    shutil.copytree(untrained, tmp_path / "model", ignore=shutil.ignore_patterns("onnx"))
    written = json.loads((tmp_path / "model" / "model.json").read_text())
    (tmp_path / "model" / "model.json").write_text(json.dumps(written | {"sampler": "ddpm"}))
    export_onnx(tmp_path / "model", tmp_path / "onnx", say=said.append)
    assert said == ["the onnx engine runs DDIM, where its model is set to DDPM, which no engine has"]
