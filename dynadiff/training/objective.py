"""The training loss: one stage, the noise of a latent is predicted from the tokens of a window.

Careil, Benchetrit & King (2025), sec. 2.3 and appendix B; timesteps, offset noise and dropout of the condition as in
the training loss of facebookresearch/dynadiff. Everything random is drawn item by item (`dynadiff.base.random`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dynadiff.networks.draws import Items, dropout_by_item, normal
from dynadiff.networks.model import Model, SharedModel
from dynadiff.training.presets import Training


def cubic_timesteps(u: Tensor, train_steps: int = 1000) -> Tensor:
    """Timesteps ⌊n (1 − u³)⌋ of uniform ``u`` in [0, 1): more of them where the latent is mostly noise."""
    return (train_steps * (1 - u**3)).long().clamp(0, train_steps - 1)


def uniform_timesteps(u: Tensor, train_steps: int = 1000) -> Tensor:
    """Timesteps ⌊n u⌋ of uniform ``u`` in [0, 1): each as often as any other."""
    return (train_steps * u).long().clamp(0, train_steps - 1)


TIMESTEPS = {"cubic": cubic_timesteps, "uniform": uniform_timesteps}


def offset_noise(rng: np.random.Generator, shape: Sequence[int], strength: float) -> Tensor:
    """Normal noise (c, h, w) plus ``strength`` times one value a channel, which frees the mean of the picture."""
    return normal(rng, shape) + strength * normal(rng, (shape[0], 1, 1))


def denoising_error(unet: Any, abar: Tensor, latent: Tensor, noise: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
    """Squared error (b,) of the noise that is predicted from noisy latents (b, c, h, w) at timesteps ``t`` (b,)."""
    a = abar[t][:, None, None, None]
    predicted = unet(a.sqrt() * latent + (1 - a).sqrt() * noise, t, tokens).sample
    error: Tensor = (predicted.float() - noise).square().mean((1, 2, 3))
    return error


class Objective(nn.Module):
    """Squared error of the predicted noise, per item (b,), with the parts of the model that are trained in it.

    ``forward`` takes windows as the brain module does, (b, voxels, volumes), posterior means and deviations of the
    latents (b, c, h, w), the items' generators, and the pictures' own tokens (b, n, d) where they anchor the brain's.
    """

    abar: Tensor

    def __init__(self, model: Model | SharedModel, config: Training) -> None:
        super().__init__()
        self.brain, self.unet, self.null = model.brain, model.generator.unet, model.null
        self.config = config
        self.items: Items = dropout_by_item(model.brain)
        abar = torch.from_numpy(model.generator.schedule.alphas_cumprod()).float()
        self.register_buffer("abar", abar, persistent=False)

    def forward(
        self,
        windows: Tensor | Mapping[str, Tensor],
        mean: Tensor,
        deviation: Tensor,
        rngs: Sequence[np.random.Generator],
        targets: Tensor | None = None,
    ) -> Tensor:
        config, device = self.config, mean.device
        drawn = [self._draw(rng, mean.shape[1:]) for rng in rngs]
        numbers, coins, *noises = zip(*drawn, strict=True)
        u, kept = torch.tensor(numbers, device=device), torch.tensor(coins, device=device)
        own, noise = (torch.stack(column).to(device) for column in noises)
        t = TIMESTEPS[config.timesteps](u, len(self.abar))
        with self.items.of(rngs):
            tokens = self.brain(windows)
        loss: Tensor = torch.zeros(len(mean), device=device)
        if targets is not None:
            loss = config.anchor * (tokens.float() - targets).square().mean((1, 2))
        tokens = torch.where(kept[:, None, None], tokens, self._null(tokens))
        return loss + denoising_error(self.unet, self.abar, mean + deviation * own, noise, t, tokens)

    def _draw(self, rng: np.random.Generator, shape: Sequence[int]) -> tuple[float, bool, Tensor, Tensor]:
        """Of one item: the uniform number of its timestep, is its condition kept, posterior noise, noise."""
        u, kept = np.float32(rng.random()), rng.random() >= self.config.condition_dropout
        return float(u), kept, normal(rng, shape), offset_noise(rng, shape, self.config.offset_noise)

    def _null(self, tokens: Tensor) -> Tensor:
        return torch.zeros_like(tokens) if self.null is None else self.null.to(tokens.dtype).expand_as(tokens)


class Regression(nn.Module):
    """Squared error, per item (b,), of the brain module's tokens against the pictures' own: the warm start.

    In float32 whatever the precision of what follows: it is cheap.
    """

    def __init__(self, model: Model | SharedModel) -> None:
        super().__init__()
        self.brain = model.brain
        self.items: Items = dropout_by_item(model.brain)

    def forward(
        self, windows: Tensor | Mapping[str, Tensor], rngs: Sequence[np.random.Generator], targets: Tensor
    ) -> Tensor:
        with self.items.of(rngs), torch.autocast(targets.device.type, enabled=False):
            tokens = self.brain(windows)
        error: Tensor = (tokens - targets).square().mean((1, 2))
        return error
