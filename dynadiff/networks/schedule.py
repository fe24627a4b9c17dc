"""The noise schedule and its samplers as arithmetic. Numpy only: it knows no network and no device.

DDIM with eta = 0 is affine in the latent and the predicted noise, ``x <- a x + b eps``, so a sampler is a table of
two columns (Song, Meng & Ermon, 2021, eq. 12; Dynadiff, sec. 2.3 samples with 20 such steps). Ancestral DDPM, with
which the released code samples, has a third: ``x <- a x + b eps + s z`` with fresh normal z (Ho et al., 2020, eq. 7).
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from dynadiff.networks.choices import Spacing, spacing_words

# Align Your Steps (Sabour, Fidler & Kreis, 2024): ten timesteps found for Stable Diffusion 1.5, as diffusers has them
AYS = (999, 850, 736, 645, 545, 455, 343, 233, 124, 24)


@dataclass(frozen=True)
class Schedule:
    """Noise schedule of Stable and Versatile Diffusion: betas linear in their square root.

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

    def log_sigmas(self) -> NDArray[np.float64]:
        """Logarithm of the noise beside a signal of 1 at each timestep of training, (train_steps,), rising."""
        abar = self.alphas_cumprod()
        return np.asarray(np.log((1 - abar) / abar) / 2)

    def timesteps(self, steps: int, spacing: Spacing = "leading") -> NDArray[np.int64]:
        """Timesteps visited by a sampler of ``steps`` steps, noisiest first, (steps,).

        ValueError for a number of steps, or for timesteps, that this schedule has not.
        """
        if not 1 <= steps < self.train_steps:
            raise ValueError(f"{steps} sampling steps are outside 1 to {self.train_steps - 1}")
        if spacing == "leading":  # as diffusers names it: evenly from 0 on, the offset added
            stride = self.train_steps // steps
            return (np.arange(steps)[::-1] * stride + self.steps_offset).astype(np.int64)
        times = self._ays(steps) if isinstance(spacing, str) else spacing
        falling = all(earlier > later for earlier, later in pairwise((*times, 0) if spacing == "ays" else times))
        if len(times) != steps or not falling or not 0 <= times[-1] <= times[0] < self.train_steps:
            raise ValueError(f"{steps} steps at {spacing_words(spacing)} are not among {self.train_steps} timesteps")
        return np.array(times, np.int64)

    def _ays(self, steps: int) -> tuple[int, ...]:
        """`AYS`, and other numbers of steps as its authors make them: between its levels of noise, in their logarithm.

        The levels are those of Stable Diffusion's schedule at the ten timesteps and at 0, where the last step ends.
        """
        known = Schedule().log_sigmas()[[*AYS, 0]]
        levels = np.interp(np.linspace(0, len(AYS), steps + 1)[:-1], np.arange(len(known)), known)
        times = np.rint(np.interp(levels, self.log_sigmas(), np.arange(self.train_steps)))
        return tuple(times.astype(int).tolist())

    def ddim(self, timesteps: NDArray[np.int64]) -> NDArray[np.float64]:
        """Columns a, b of ``x <- a x + b eps`` for each step, (steps, 2); timesteps (steps,), noisiest first.

        A step ends at the next one's timestep, the last at timestep 0 (``set_alpha_to_one = False``).
        """
        abar = self.alphas_cumprod()
        now = abar[timesteps]
        then = abar[np.append(timesteps[1:], 0)]
        a = np.sqrt(then / now)
        return np.stack([a, np.sqrt(1 - then) - a * np.sqrt(1 - now)], axis=1)

    def ddpm(self, steps: int) -> NDArray[np.float64]:
        """Columns a, b, s of ``x <- a x + b eps + s z`` for each of so many leading steps, noisiest first, (steps, 3).

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
