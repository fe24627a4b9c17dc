"""What the tests of the exporters share: a model folder whose networks are as small as their kind allows."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def least(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights, adapters stirred so that they matter: one block down and one up, 5 tokens of 8, 16 pixels."""
    torch = pytest.importorskip("torch")
    from diffusers import AutoencoderKL, UNet2DConditionModel

    from dynadiff.networks.brain import BrainConfig
    from dynadiff.networks.generator import Generator, load_generator, save_generator
    from dynadiff.networks.model import ModelConfig, new_model
    from dynadiff.networks.model_folder import save_model
    from dynadiff.networks.schedule import Schedule
    from dynadiff.recordings.masks import mask_digest
    from dynadiff.signal.cleaning import Cleaning
    from dynadiff.signal.windows import WindowSpec

    folder = tmp_path_factory.mktemp("least")
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=4, in_channels=12, out_channels=12, block_out_channels=(16,), layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",), up_block_types=("CrossAttnUpBlock2D",), cross_attention_dim=8,
        attention_head_dim=2, norm_num_groups=4,
    )  # fmt: skip
    vae = AutoencoderKL(
        in_channels=48, out_channels=48, latent_channels=12, block_out_channels=(16,), layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",), up_block_types=("UpDecoderBlock2D",), norm_num_groups=1,
        mid_block_add_attention=False, sample_size=4, scaling_factor=1.0,
    )  # fmt: skip
    generator = Generator(unet, vae, Schedule(), patch=4, picture_size=16, tokens=(5, 8))
    save_generator(generator, None, folder / "generator")
    mask = np.zeros((5, 6, 7), np.bool_)
    mask[1:4, 1:5, 2:6] = True
    brain = BrainConfig(48, 6, 16, (5, 8))
    config = ModelConfig("01", 4 / 3, mask_digest(mask), WindowSpec(), Cleaning(), brain, "generator", steps=4)
    model = new_model(config, load_generator(folder / "generator"), mask, np.eye(4))
    for name, parameter in model.generator.unet.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    save_model(model, folder)
    return folder


@pytest.fixture(scope="session")
def mixed(least: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An engine of that model, weights in files of their own: ten steps, of which the noisier half is guided."""
    from dynadiff.engines.choice import Sampler
    from dynadiff.networks.choices import Between
    from exporters.choices import Graphs
    from exporters.onnx import export_onnx

    folder = tmp_path_factory.mktemp("mixed") / "onnx"
    export_onnx(least, folder, Graphs(external=1), Sampler(10, Between(5.0, 501, 999), "ays"))
    return folder


@pytest.fixture
def only_the_step(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """From then on an export writes the sampling step alone, and takes from an engine what is the same in both.

    Writing a graph takes seconds, and neither guidance nor adapters matter to the others.
    """
    exporters = pytest.importorskip("exporters.onnx")

    def only(engine: Path) -> None:
        def copy(path: Path) -> None:
            for file in engine.glob(f"{path.stem}.*"):
                shutil.copy(file, path.parent)

        monkeypatch.setattr(exporters, "write_brain", lambda model, path, how: copy(path))
        monkeypatch.setattr(exporters, "write_decoder", lambda model, path, how: copy(path))
        monkeypatch.setattr(exporters, "_scorer", lambda encoder, size, path: copy(path))

    return only
