"""The low-level path: a U-Net that is told a picture's coarse latents beside its image tokens.

What voxels say of colours and places is lost in image tokens, which are about what a picture shows. So the brain module
may regress the VAE's latents too, as other decoders do in a pipeline of its own (Ozcelik & VanRullen, 2023; MindEye,
Scotti et al., 2023, sec. 3.4), and they enter as further input channels, as in super-resolution by diffusion (Saharia
et al., 2021). They travel as the last tokens: cut into rows of a token's width, which nobody but this U-Net takes
apart, so whoever hands tokens on, saves, samples, exports or streams, need not know of them. Knows shapes, no brains.
"""

from math import ceil, prod
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from torch.nn import functional as F

Shape = tuple[int, int, int]  # channels, height and width of a latent


def layout_count(latent: Shape, width: int) -> int:
    """How many tokens of that width hold a latent."""
    return ceil(prod(latent) / width)


def layout_tokens(latents: Tensor, width: int) -> Tensor:
    """Latents (b, c, h, w) as tokens (b, m, width), the end of the last one filled with zeros."""
    flat = latents.flatten(1)
    m = layout_count((latents.shape[1], latents.shape[2], latents.shape[3]), width)
    tokens: Tensor = F.pad(flat, (0, m * width - flat.shape[1])).unflatten(1, (m, width))
    return tokens


def layout_latents(tokens: Tensor, latent: Shape) -> Tensor:
    """The latents (b, c, h, w) that `layout_tokens` made tokens (b, m, width) of."""
    latents: Tensor = tokens.flatten(1)[:, : prod(latent)].unflatten(1, latent)
    return latents


class LayoutUNet(UNet2DConditionModel):  # type: ignore[misc]  # diffusers has no types
    """A U-Net of twice the channels in that come out; called as any other, with tokens (b, n, d) or (b, n + m, d).

    Without the m last ones it is told nothing of the layout, which are zeros, as it was in a share of its training.
    """

    image_tokens: int  # n

    def forward(
        self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor, *args: Any, **kwargs: Any
    ) -> Any:
        """Tokens may be those of the second half of the batch alone, the first being unconditional."""
        latent = (int(self.config.out_channels), *sample.shape[2:])
        tokens, layout = encoder_hidden_states[:, : self.image_tokens], encoder_hidden_states[:, self.image_tokens :]
        known = torch.zeros_like(sample)
        if layout.shape[1]:
            told = layout_latents(layout, latent).to(sample.dtype)
            known = told if len(told) == len(sample) else torch.cat([known[: len(sample) - len(told)], told])
        return super().forward(torch.cat([sample, known], 1), timestep, tokens, *args, **kwargs)


@torch.no_grad()
def with_layout(unet: Any, image_tokens: int) -> LayoutUNet:
    """The same U-Net with channels for a layout, which it does not heed before it is trained."""
    config = dict(unet.config) | {"in_channels": 2 * unet.config.out_channels}
    wide: LayoutUNet = LayoutUNet.from_config({k: v for k, v in config.items() if not k.startswith("_")})
    state = unet.state_dict()
    grown = torch.zeros_like(wide.conv_in.weight)
    grown[:, : unet.config.in_channels] = state["conv_in.weight"]
    wide.load_state_dict(state | {"conv_in.weight": grown})
    wide.image_tokens = image_tokens
    return wide
