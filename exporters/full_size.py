"""Versatile Diffusion's image branch and the brain module of NSD's subject 1, at their sizes and with random weights.

Layout and counts: the U-Net is that of Stable Diffusion 1 with 257 image tokens of 768 as context; shi-labs'
versatile-diffusion without its text branch. On ``torch.device("meta")`` nothing is allocated.
"""

from typing import TypeVar

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn

from dynadiff.networks.brain import BrainConfig, BrainModule
from dynadiff.networks.generator import Generator
from dynadiff.networks.schedule import Schedule

SUBJECT_1 = BrainConfig(voxels=15_724)
PARAMETERS = {"unet": 859_520_964, "vae": 83_653_863, "brain": 345_393_223}
SCALE = 0.18215  # of the latents

Network = TypeVar("Network", bound=nn.Module)


def random_unet(seed: int = 0) -> UNet2DConditionModel:
    torch.manual_seed(seed)
    return _counted("unet", UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8))


def random_vae(seed: int = 0) -> AutoencoderKL:
    torch.manual_seed(seed)
    vae = AutoencoderKL(
        block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4, sample_size=512,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4, scaling_factor=SCALE,
    )  # fmt: skip
    return _counted("vae", vae)


def random_brain(seed: int = 0) -> BrainModule:
    torch.manual_seed(seed)
    return _counted("brain", BrainModule(SUBJECT_1))


def generator_of(unet: UNet2DConditionModel, vae: AutoencoderKL) -> Generator:
    return Generator(unet, vae, Schedule(), patch=1, picture_size=512, tokens=SUBJECT_1.tokens)


def _counted(name: str, network: Network) -> Network:
    count = sum(parameter.numel() for parameter in network.parameters())
    if count != PARAMETERS[name]:
        raise ValueError(f"the {name} has {count} parameters, not {PARAMETERS[name]}")
    return network
