"""Painting many pictures at once, as training and evaluation do: DDIM or DDPM, with guidance, one seed an item.

Knows tokens, latents and the generator; knows no brains. A live decoder has the same steps in its engine.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dynadiff.draws import item_rng, normal
from dynadiff.generator import Generator
from dynadiff.model import Render, Step


@dataclass(frozen=True)
class Sampling:
    """How pictures are painted. The default is the paper's; DDPM with guidance 3.5 is the release's."""

    sampler: str = "ddim"  # or "ddpm"
    steps: int = 20
    guidance: float = 3.0
    seed: int = 0


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
    step, schedule = Step(generator.unet, null).to(device), generator.schedule
    table = schedule.ddim(sampling.steps) if sampling.sampler == "ddim" else schedule.ddpm(sampling.steps)
    guidance = torch.tensor(sampling.guidance, device=device)
    for t, row in zip(schedule.timesteps(sampling.steps), torch.from_numpy(table).float().to(device), strict=True):
        x = step(x, tokens, torch.tensor([int(t)], device=device), guidance, row[:2])
        if len(row) == 3:
            x = x + row[2] * torch.stack([normal(rng, shape) for rng in rngs]).to(device)
    return np.asarray(Render(generator)(x).cpu().numpy())
