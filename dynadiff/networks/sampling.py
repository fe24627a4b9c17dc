"""Painting many pictures at once, as training and evaluation do: DDIM or DDPM, with guidance, one seed an item.

Knows tokens, latents and the generator; knows no brains. A live decoder has the same steps in its engine.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dynadiff.base.random import item_rng
from dynadiff.networks.choices import Sampling, guidance_at
from dynadiff.networks.draws import normal
from dynadiff.networks.generator import Generator, decode_latents, to_pixels


class Step(nn.Module):
    """One guided DDIM step: both halves of classifier-free guidance, their combination and the update.

    eps = e_u + g (e_c − e_u); x ← a x + b eps. The unconditional half sees zero tokens, as the released code does,
    or the learned ones (n, d) of the paper.
    """

    null: Tensor | None

    def __init__(self, unet: nn.Module, null: Tensor | None = None) -> None:
        super().__init__()
        self.unet = unet
        self.register_buffer("null", None if null is None else null.detach(), persistent=False)

    def forward(
        self, latent: Tensor, tokens: Tensor, timestep: Tensor, guidance: Tensor, coefficients: Tensor
    ) -> Tensor:
        """The next latents (b, c, h, w); tokens (b, n, d), timestep (1,) int64, guidance (), coefficients (2,)."""
        nothing = torch.zeros_like(tokens) if self.null is None else self.null.to(tokens.dtype).expand_as(tokens)
        both = torch.cat([nothing, tokens])
        free, guided = self.unet(torch.cat([latent, latent]), timestep, both, return_dict=False)[0].chunk(2)
        update: Tensor = coefficients[0] * latent + coefficients[1] * (free + guidance * (guided - free))
        return update


class SingleStep(nn.Module):
    """One DDIM step at guidance 1, where e_u + g (e_c − e_u) is e_c: the conditional half alone, half the work."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, latent: Tensor, tokens: Tensor, timestep: Tensor, coefficients: Tensor) -> Tensor:
        """The next latents (b, c, h, w); tokens (b, n, d), timestep (1,) int64, coefficients (2,)."""
        noise = self.unet(latent, timestep, tokens, return_dict=False)[0]
        update: Tensor = coefficients[0] * latent + coefficients[1] * noise
        return update


class Render(nn.Module):
    """Final latents (b, c, h, w) to uint8 pictures (b, s, s, 3)."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator
        self.vae = generator.vae  # registered, so that an exporter finds its weights

    def forward(self, latent: Tensor) -> Tensor:
        return to_pixels(decode_latents(self.generator, latent))


@torch.no_grad()
def paint(
    generator: Generator,
    tokens: Tensor,
    items: Sequence[int],
    sampling: Sampling,
    null: Tensor | None = None,
    noise: Tensor | None = None,
) -> NDArray[np.uint8]:
    """Pictures (b, s, s, 3) of tokens (b, n, d); ``items`` (b) are the numbers that their noise is drawn by.

    All start from ``noise`` (c, h, w) where it is given, and from noise of their own where not. What DDPM adds at
    every step is an item's own in any case, so that a picture does not depend on the others of its batch.
    ``null`` (n, d) are learned unconditional tokens.
    """
    rngs = [item_rng(sampling.seed, "sampling", 0, item) for item in items]
    shape, device = generator.latent_shape, tokens.device
    x = noise.expand(len(tokens), *shape) if noise is not None else torch.stack([normal(rng, shape) for rng in rngs])
    x = x.to(device)
    step, single, schedule = Step(generator.unet, null).to(device), SingleStep(generator.unet), generator.schedule
    times = schedule.timesteps(sampling.steps, sampling.spacing)
    table = schedule.ddim(times) if sampling.sampler == "ddim" else schedule.ddpm(sampling.steps)
    guided = guidance_at(sampling.guidance, times.tolist())
    for t, strength, row in zip(times, guided, torch.from_numpy(table).float().to(device), strict=True):
        timestep = torch.tensor([int(t)], device=device)
        if strength == 1:
            x = single(x, tokens, timestep, row[:2])
        else:
            x = step(x, tokens, timestep, torch.tensor(strength, device=device), row[:2])
        if len(row) == 3:
            x = x + row[2] * torch.stack([normal(rng, shape) for rng in rngs]).to(device)
    return np.asarray(Render(generator)(x).cpu().numpy())
