"""The noise schedule and its samplers as arithmetic. Numpy only: it knows no network and no device.

DDIM with eta = 0 is affine in the latent and the predicted noise, ``x <- a x + b eps``, so a sampler is a table of
two columns (Song, Meng & Ermon, 2021, eq. 12; Dynadiff, sec. 2.3 samples with 20 such steps). Ancestral DDPM, with
which the released code samples, has a third: ``x <- a x + b eps + s z`` with fresh normal z (Ho et al., 2020, eq. 7).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Sampling:
    """How pictures are painted. The default is the paper's."""

    sampler: str = "ddim"  # or "ddpm"
    steps: int = 20
    guidance: float = 3.0
    seed: int = 0

    def __str__(self) -> str:
        return f"{self.sampler.upper()}, {self.steps} steps, guidance {self.guidance:g}"


PUBLISHED = Sampling()
RELEASED = Sampling("ddpm", 20, 3.5)  # as facebookresearch/dynadiff paints; DDPM is ancestral


@dataclass(frozen=True)
class Schedule:
    """Noise schedule of Stable and Versatile Diffusion: betas linear in their square root, "leading" timesteps.

    Raises ValueError where betas are no shares that grow, or the offset is neither 0 nor 1.
    """

    train_steps: int = 1000
    beta_start: float = 0.00085
    beta_end: float = 0.012
    steps_offset: int = 1

    def __post_init__(self) -> None:
        if not (self.train_steps > 1 and 0 < self.beta_start <= self.beta_end < 1 and self.steps_offset in (0, 1)):
            raise ValueError(f"{self} is no noise schedule")

    def alphas_cumprod(self) -> NDArray[np.float64]:
        """Share of signal variance left at each of the ``train_steps`` timesteps, (train_steps,)."""
        betas = np.linspace(self.beta_start**0.5, self.beta_end**0.5, self.train_steps) ** 2
        return np.cumprod(1 - betas)

    def timesteps(self, steps: int) -> NDArray[np.int64]:
        """Timesteps visited by a sampler of ``steps`` steps, noisiest first, (steps,)."""
        if not 1 <= steps < self.train_steps:
            raise ValueError(f"{steps} sampling steps are outside 1 to {self.train_steps - 1}")
        stride = self.train_steps // steps
        return (np.arange(steps)[::-1] * stride + self.steps_offset).astype(np.int64)

    def ddim(self, steps: int) -> NDArray[np.float64]:
        """Columns a, b of ``x <- a x + b eps`` for each step, noisiest first, (steps, 2).

        After the last step the signal share is that of timestep 0 (``set_alpha_to_one = False``).
        """
        abar = self.alphas_cumprod()
        t = self.timesteps(steps)
        now = abar[t]
        then = abar[np.maximum(t - self.train_steps // steps, 0)]
        a = np.sqrt(then / now)
        return np.stack([a, np.sqrt(1 - then) - a * np.sqrt(1 - now)], axis=1)

    def ddpm(self, steps: int) -> NDArray[np.float64]:
        """Columns a, b, s of ``x <- a x + b eps + s z`` for each step, noisiest first, (steps, 3).

        The mean of the posterior of the earlier latent, and its variance "fixed_small". After the last step no noise
        is left (signal share 1), so that its variance is nothing but the floor of 1e-20.
        """
        abar = self.alphas_cumprod()
        t = self.timesteps(steps)
        earlier = t - self.train_steps // steps
        now, then = abar[t], np.where(earlier >= 0, abar[np.maximum(earlier, 0)], 1.0)
        kept = now / then  # the alpha of this step
        a = np.sqrt(then) * (1 - kept) / (1 - now) / np.sqrt(now) + np.sqrt(kept) * (1 - then) / (1 - now)
        b = -np.sqrt(then) * (1 - kept) / (1 - now) * np.sqrt(1 - now) / np.sqrt(now)
        variance = np.maximum((1 - then) / (1 - now) * (1 - kept), 1e-20)
        return np.stack([a, b, np.sqrt(variance)], axis=1)
