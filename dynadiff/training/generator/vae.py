"""Trains the small generator's VAE on drawn scenes, then sharpens its decoder with the latents as they are.

The latents are fixed after the first part, so the U-Net may be trained before, after or beside the second.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional as F

from dynadiff.networks.draws import normals
from dynadiff.networks.generator import Generator, decode_latents, posterior, to_pixels, to_unit
from dynadiff.training.fit import Stage, fit
from dynadiff.training.logs import Log
from dynadiff.training.presets import Training
from dynadiff.trials.batches import RandomPictures

SHEET, SHEET_EVERY = 12, 1000  # pictures that are looked at, and steps between two looks


@dataclass(frozen=True)
class VaeTraining:
    steps: int = 5000
    batch: int = 16
    lr: float = 2e-3
    prior: float = 1e-3  # weight of the mean square of the latents, which holds them near unit variance
    noise: float = 0.1  # deviation of the latents that the decoder is given
    sharpen_steps: int = 7000  # of the decoder alone
    sharpen_batch: int = 16
    sharpen_lr: float = 1e-3
    seed: int = 0

    def choices(self, steps: int, batch: int, lr: float) -> Training:
        """Those of one stage."""
        return Training(
            steps=steps, batch=batch, lr=lr, weight_decay=0.0, warmup=100, clip=1.0, precision="auto", seed=self.seed
        )


class Reconstruction(nn.Module):
    """Error, per item (b,), of pictures (b, s, s, 3) that went through latents with noise, and their latents' size."""

    def __init__(
        self, generator: Generator, noise: float, prior: float, error: Callable[[Tensor, Tensor], Tensor]
    ) -> None:
        super().__init__()
        self.vae, self._patch = generator.vae, generator.patch
        self._noise, self._prior, self._error = noise, prior, error

    def forward(self, pictures: Tensor, rngs: Sequence[np.random.Generator]) -> Tensor:
        x = to_unit(pictures)
        mean = self.vae.encode(F.pixel_unshuffle(x, self._patch)).latent_dist.mean
        packed = self.vae.decode(mean + self._noise * normals(rngs, mean)).sample
        y = F.pixel_shuffle(packed, self._patch).float()
        size: Tensor = mean.float().square().mean((1, 2, 3))
        return self._error(y, x) + self._prior * size


class Sharpening(nn.Module):
    """Error, per item (b,), of pictures (b, s, s, 3) from given latents, posterior noise included."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self._generator = generator
        self.trained = nn.ModuleDict(decoding_half(generator))

    def forward(self, pictures: Tensor, mean: Tensor, deviation: Tensor, rngs: Sequence[np.random.Generator]) -> Tensor:
        mean, deviation = mean.float(), deviation.float()
        y = decode_latents(self._generator, mean + deviation * normals(rngs, mean)).float()
        return picture_error(y, to_unit(pictures))


def decoding_half(generator: Generator) -> dict[str, nn.Module]:
    """The parts of the VAE that make pictures of latents."""
    return {"decoder": generator.vae.decoder, "post_quant_conv": generator.vae.post_quant_conv}


def train_vae(generator: Generator, pictures: Tensor, config: VaeTraining, out: Path, accelerator: Accelerator) -> None:
    """Pixels and their differences (edges) through latents with fixed noise; then scaled to unit variance."""
    vae = generator.vae.to(memory_format=torch.channels_last)
    origin = {"prior": str(config.prior), "noise": str(config.noise), "pictures": str(len(pictures))}
    stage = Stage(
        "vae",
        config.choices(config.steps, config.batch, config.lr),
        out / "work",
        watch_every=SHEET_EVERY,
        origin=origin,
    )
    objective = Reconstruction(generator, config.noise, config.prior, picture_error)
    watch = _watch(generator, pictures)
    fit(stage, objective, {"vae": vae}, RandomPictures({"pictures": pictures}), accelerator, watch)
    vae.eval().requires_grad_(False)
    scale_latents(generator, to_unit(pictures[:512]))


def sharpen(
    generator: Generator, pictures: Tensor, latents: tuple[Tensor, Tensor], config: VaeTraining, out: Path,
    accelerator: Accelerator,
) -> None:  # fmt: skip
    """Train the decoder on from given latents (means and deviations, as `encode_all` gives them), the encoder fixed."""
    parts = decoding_half(generator)
    for part in parts.values():
        part.requires_grad_(True).train()
    choices = config.choices(config.sharpen_steps, config.sharpen_batch, config.sharpen_lr)
    stage = Stage("decoder", choices, out / "work", watch_every=SHEET_EVERY)
    source = RandomPictures({"pictures": pictures, "mean": latents[0], "deviation": latents[1]})
    fit(stage, Sharpening(generator), parts, source, accelerator, _watch(generator, pictures))
    for part in parts.values():
        part.eval().requires_grad_(False)


def picture_error(y: Tensor, x: Tensor) -> Tensor:
    """Per picture of (b, 3, s, s), mean absolute and squared error, and the absolute error of their differences."""
    edges = [(y.diff(dim=d) - x.diff(dim=d)).abs().mean((1, 2, 3)) for d in (2, 3)]
    return (y - x).abs().mean((1, 2, 3)) + (y - x).square().mean((1, 2, 3)) + edges[0] + edges[1]


@torch.no_grad()
def scale_latents(generator: Generator, pictures: Tensor) -> None:
    """Give the latents of pictures (b, 3, s, s) in [-1, 1] unit variance from now on."""
    mean, _ = posterior(generator, pictures.to(generator.vae.device))
    generator.vae.register_to_config(scaling_factor=1 / float(mean.std()))


@torch.no_grad()
def encode_all(generator: Generator, pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Posterior mean and deviation of the latents of all pictures (p, s, s, 3), in half precision."""
    batches = (batch.to(generator.vae.device) for batch in track(pictures.split(250), "encoding pictures"))
    parts = [posterior(generator, to_unit(batch)) for batch in batches]
    return torch.cat([m.half().cpu() for m, _ in parts]), torch.cat([s.half().cpu() for _, s in parts])


def _watch(generator: Generator, pictures: Tensor) -> Callable[[int, Log], None]:
    """The first pictures above what becomes of them, now and then."""

    @torch.no_grad()
    def watch(step: int, log: Log) -> None:
        x = to_unit(pictures[:SHEET].to(generator.vae.device))
        y = decode_latents(generator, posterior(generator, x)[0])
        log.scalars(step, l1=F.l1_loss(y, x).item())
        log.sheet(step, [to_pixels(p).cpu().numpy() for p in (x, y)])

    return watch
