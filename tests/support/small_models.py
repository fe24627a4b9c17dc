"""Models with a fiftieth of the shipped one's weights, untrained, and trials for them: one subject, and several."""

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from dynadiff.networks.brain import BrainConfig
from dynadiff.networks.generator import Generator
from dynadiff.networks.layout import with_layout
from dynadiff.networks.model import Model, ModelConfig, SharedModel, new_model, new_shared_model
from dynadiff.networks.schedule import Schedule
from dynadiff.signal.cleaning import Cleaning
from dynadiff.signal.windows import WindowSpec
from dynadiff.training.presets import Training
from dynadiff.trials.batches import TrialSources
from dynadiff.trials.source import Trials

SHORT = Training(steps=4, batch=3, warmup=1, online=0.5, sampling_steps=2)
VOXELS = {"01": 12, "02": 7, "05": 9}


def small_generator() -> Generator:
    """The shipped one's layout with a fiftieth of its weights; untrained."""
    unet = UNet2DConditionModel(
        sample_size=4, in_channels=4, out_channels=4, block_out_channels=(16, 16), layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * 2, up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=16, attention_head_dim=4, norm_num_groups=4,
    )  # fmt: skip
    vae = AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=4, block_out_channels=(8, 8), layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, norm_num_groups=1,
        mid_block_add_attention=False, sample_size=8,
    )  # fmt: skip
    return Generator(unet, vae, Schedule(), patch=1, picture_size=8, tokens=(5, 16))


def layout_generator() -> Generator:
    """The same with a U-Net that takes a layout, 4 tokens more, and heeds it."""
    torch.manual_seed(0)
    generator = small_generator()
    generator.unet = with_layout(generator.unet, generator.tokens[0]).eval()
    torch.nn.init.normal_(generator.unet.conv_in.weight, std=0.1)
    return generator


def a_model(choices: Training = SHORT, width: int = 8) -> Model:
    """Of one subject."""
    torch.manual_seed(0)
    return new_model(_config("01", 12, choices, width), small_generator(), np.ones((2, 3, 2), np.bool_), np.eye(4))


def a_shared_model(choices: Training = SHORT, width: int = 8) -> SharedModel:
    """Of three subjects, whose voxels differ."""
    torch.manual_seed(0)
    configs = {name: _config(name, voxels, choices, width) for name, voxels in VOXELS.items()}
    masks = {name: np.ones((voxels, 1, 1), np.bool_) for name, voxels in VOXELS.items()}
    return new_shared_model(configs, small_generator(), masks, dict.fromkeys(configs, np.eye(4)))


def some_trials(voxels: int = 12, subject: str = "") -> Trials:
    rng = np.random.default_rng(voxels)
    windows = rng.standard_normal((2, 20, voxels, 6)).astype(np.float16)
    pictures = rng.integers(0, 256, (5, 8, 8, 3), np.uint8)
    number = np.arange(20)
    runs = (f"run one{subject}", f"run two{subject}")
    return Trials(windows[0], windows[1], number % 5, number // 10, number, pictures, tuple("abcde"), ("",) * 5, runs)


def trials_of_all() -> dict[str, Trials]:
    return {name: some_trials(voxels, f" of {name}") for name, voxels in VOXELS.items()}


def of_kind(kind: str, choices: Training = SHORT) -> tuple[Model | SharedModel, TrialSources]:
    """A model of "one" subject or of "several", and the trials to train it with."""
    return (a_model(choices), some_trials()) if kind == "one" else (a_shared_model(choices), trials_of_all())


def weights(model: Model | SharedModel) -> torch.Tensor:
    """All that learns, as one vector."""
    return torch.cat([p.detach().flatten() for p in model.trainable()])


def _config(subject: str, voxels: int, choices: Training, width: int) -> ModelConfig:
    brain = BrainConfig(voxels, 6, width, (5, 16))
    return ModelConfig(
        subject, 4 / 3, "", WindowSpec(), Cleaning(), brain, "generator", steps=2, unconditional=choices.unconditional
    )
