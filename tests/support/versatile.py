"""Versatile Diffusion at a small size, wired as it was released. For the tests of what reads it; needs diffusers."""

import copy
import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, Transformer2DModel, UNet2DConditionModel
from torch import nn

TEXT, WIDTH = 4, 8  # text tokens, and the width of a token


class Pair(nn.Module):
    """The released wiring: the context is text tokens, then image tokens."""

    def __init__(self, image: Transformer2DModel, text: Transformer2DModel, mix: float) -> None:
        super().__init__()
        self.transformers = nn.ModuleList([image, text])
        self.mix = mix

    def forward(self, x: torch.Tensor, encoder_hidden_states: torch.Tensor, **others: Any) -> tuple[torch.Tensor]:
        image, text = self.transformers
        others = {k: v for k, v in others.items() if k == "cross_attention_kwargs"}
        by_text = text(x, encoder_hidden_states=encoder_hidden_states[:, :TEXT], return_dict=False, **others)[0]
        by_image = image(x, encoder_hidden_states=encoder_hidden_states[:, TEXT:], return_dict=False, **others)[0]
        return (x + self.mix * (by_text - x) + (1 - self.mix) * (by_image - x),)


def small_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8, block_out_channels=(8, 16), layers_per_block=1, cross_attention_dim=WIDTH, norm_num_groups=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=2,
    ).eval()  # fmt: skip


def paired(unet: UNet2DConditionModel, mix: float = 0.0) -> UNet2DConditionModel:
    """The U-Net with a text transformer, of other weights, beside each of its own; the released mix ratio is 0."""
    dual, other = copy.deepcopy(unet), small_unet()
    for name, module in list(dual.named_modules()):
        if isinstance(module, Transformer2DModel):
            dual.set_submodule(name, Pair(module, other.get_submodule(name), mix))
    return dual


def small_vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(4, 4), norm_num_groups=1, scaling_factor=0.18215,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip


def write_configurations(folder: Path, dual: bool = True) -> Path:
    """Versatile Diffusion's folder without any weights; its U-Net is one of pairs where ``dual``."""
    small_unet().save_config(folder / "image_unet")
    config = folder / "image_unet" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"dual_cross_attention": dual}))
    small_vae().save_config(folder / "vae")
    DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1).save_config(
        folder / "scheduler"
    )
    return folder
