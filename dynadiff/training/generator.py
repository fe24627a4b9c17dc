"""Trains the small generator on drawn scenes: the VAE, then the U-Net together with the image encoder.

The scenes have numbers above every 73k id, so no picture that a phantom subject sees is among them.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional as F

from dynadiff.base.files import atomic
from dynadiff.networks.generator import (
    Generator,
    decode_latents,
    posterior,
    save_generator,
    tiny_generator,
    to_pixels,
    to_unit,
)
from dynadiff.networks.image_encoder import ImageEncoder, ImageEncoderConfig, encode_pictures
from dynadiff.phantom.scenes import CATEGORIES, draw, scene
from dynadiff.training.loop import log_to, save_sheet, steps_from
from dynadiff.training.vae import VaeTraining, encode_all, sharpen, train_vae

FIRST_SCENE = 100_000  # NSD has 73,000 pictures


@dataclass(frozen=True)
class GeneratorTraining:
    scenes: int = 24_000
    vae: VaeTraining = field(default_factory=VaeTraining)
    steps: int = 3200
    batch: int = 64
    lr: float = 1e-3
    token_noise: float = 0.5  # largest deviation added to the tokens
    dropout: float = 0.1  # share of samples whose tokens are zero, for guidance
    category: float = 0.1  # weight of naming the category
    uncertain_steps: int = 2000  # of the U-Net alone, on tokens as uncertain as those that brains give
    uncertain_lr: float = 5e-4
    least_certain: float = 0.25  # smallest explained variance of such tokens
    ema: float = 0.999
    seed: int = 0


def train_generator(config: GeneratorTraining, out: Path) -> None:
    """Train from scratch, or go on from the checkpoints in ``out/work``; writes ``out/generator``."""
    pictures, labels = _scenes(config, out / "work")
    torch.manual_seed(config.seed)  # all first weights before any training, which a resumed run passes over
    generator, encoder = tiny_generator(), ImageEncoder(ImageEncoderConfig(categories=len(CATEGORIES)))
    train_vae(generator, pictures, config.vae, out)
    latents = encode_all(generator, pictures)
    generator.unet, encoder = _train_together(generator, encoder, pictures, labels, latents, config, out)
    generator.unet = _train_uncertain(generator, encoder, pictures, latents, config, out)
    sharpen(generator, pictures, latents, config.vae, out)
    for network in (generator.unet, generator.vae, encoder):
        network.half()  # half the size on disk; it is widened again when it is loaded
    save_generator(generator, encoder, out / "generator")


def _scenes(config: GeneratorTraining, work: Path) -> tuple[Tensor, Tensor]:
    """Training pictures (n, 64, 64, 3) uint8 and category numbers (n,), drawn once and kept in ``work``."""
    store = work / f"scenes-{config.scenes}.npz"
    if not store.exists():
        chosen = [scene(FIRST_SCENE + k) for k in range(config.scenes)]
        pictures = np.stack([draw(s, 64)[0] for s in track(chosen, "drawing scenes")])
        labels = np.array([CATEGORIES.index(s.category) for s in chosen])
        with atomic(store) as new:
            np.savez(new, pictures=pictures, labels=labels)
    with np.load(store) as data:
        return torch.from_numpy(data["pictures"]), torch.from_numpy(data["labels"])


def _train_together(
    generator: Generator, encoder: ImageEncoder, pictures: Tensor, labels: Tensor, latents: tuple[Tensor, Tensor],
    config: GeneratorTraining, out: Path,
) -> tuple[nn.Module, ImageEncoder]:  # fmt: skip
    """Noise prediction conditioned on the picture's own tokens; returns the averaged weights of both networks."""
    modules: dict[str, nn.Module] = {"unet": generator.unet, "encoder": encoder}

    def loss(pick: Tensor) -> Tensor:
        tokens = encoder(to_unit(pictures[pick]))
        naming = F.cross_entropy(encoder.classify(tokens).float(), labels[pick])
        seen = tokens + config.token_noise * torch.rand(len(pick), 1, 1) * torch.randn_like(tokens)
        return _noise_loss(generator, latents, pick, seen, config) + config.category * naming

    averaged = _averaged(modules, loss, len(pictures), config.steps, config.lr, config, "generator", out, generator)
    image_encoder = averaged["encoder"]
    assert isinstance(image_encoder, ImageEncoder)
    return averaged["unet"], image_encoder


def _train_uncertain(
    generator: Generator, encoder: ImageEncoder, pictures: Tensor, latents: tuple[Tensor, Tensor],
    config: GeneratorTraining, out: Path,
) -> nn.Module:  # fmt: skip
    """The U-Net learns to read `uncertain` tokens, the encoder fixed; returns its averaged weights."""
    tokens = torch.from_numpy(encode_pictures(encoder.eval().requires_grad_(False).float(), pictures.numpy()))
    mean = tokens.mean(0)

    def loss(pick: Tensor) -> Tensor:
        other = tokens[torch.randint(len(tokens), pick.shape)]
        certainty = config.least_certain + (1 - config.least_certain) * torch.rand(len(pick), 1, 1)
        seen = uncertain(tokens[pick], other, mean, certainty)
        return _noise_loss(generator, latents, pick, seen, config)

    unet: nn.Module = generator.unet.requires_grad_(True)
    steps, lr = config.uncertain_steps, config.uncertain_lr
    averaged = _averaged({"unet": unet}, loss, len(pictures), steps, lr, config, "uncertain", out, generator, encoder)
    return averaged["unet"]


def uncertain(tokens: Tensor, other: Tensor, mean: Tensor, certainty: Tensor) -> Tensor:
    """Tokens as a regression that explains ``certainty`` of their variance would predict them.

    A regression shrinks towards the mean by its explained variance r and errs with variance r (1 − r). Its error is no
    white noise: it looks like another picture. So here it is a random mixture of ``other`` pictures' tokens and noise.
    """
    share = torch.rand(len(tokens), 1, 1)
    white = torch.randn_like(tokens) * (other - mean).std()
    error = share.sqrt() * (other - mean) + (1 - share).sqrt() * white
    return mean + certainty * (tokens - mean) + (certainty * (1 - certainty)).sqrt() * error


def _noise_loss(
    generator: Generator, latents: tuple[Tensor, Tensor], pick: Tensor, tokens: Tensor, config: GeneratorTraining
) -> Tensor:
    """Mean squared error of the predicted noise at uniform timesteps, some of the tokens dropped."""
    mean, deviation = (part[pick].float() for part in latents)
    x0 = mean + deviation * torch.randn_like(mean)
    t = torch.randint(generator.schedule.train_steps, (len(pick),))
    a = torch.from_numpy(generator.schedule.alphas_cumprod()).float()[t][:, None, None, None]
    noise = torch.randn_like(x0)
    seen = tokens * (torch.rand(len(pick), 1, 1) >= config.dropout)
    predicted = generator.unet(a.sqrt() * x0 + (1 - a).sqrt() * noise, t, seen).sample.float()
    return F.mse_loss(predicted, noise)


def _averaged(
    modules: dict[str, nn.Module], loss_of: Callable[[Tensor], Tensor], pictures: int, steps: int, lr: float,
    config: GeneratorTraining, name: str, out: Path, generator: Generator, encoder: ImageEncoder | None = None,
) -> dict[str, nn.Module]:  # fmt: skip
    """Train the modules on the loss of random pictures; returns the running average of their weights."""
    for module in modules.values():
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a fifth faster on CPU
    averages = {k: copy.deepcopy(m).requires_grad_(False) for k, m in modules.items()}
    parameters = [p for m in modules.values() for p in m.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.01, fused=True)
    log = log_to(out / "work" / f"{name}.jsonl")
    every = modules | {f"ema_{k}": m for k, m in averages.items()}
    where = out / "work" / f"{name}.safetensors"
    for step in steps_from(where, every, optimiser, steps, lr, 200, config.seed, name):
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(torch.randint(pictures, (config.batch,)))
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        decay = min(config.ema, (step + 1) / (step + 10))
        for key, module in modules.items():
            for average, value in zip(averages[key].parameters(), module.parameters(), strict=True):
                average.lerp_(value.detach(), 1 - decay)
        if (step + 1) % 50 == 0:
            log(step=step + 1, loss=loss.item())
        if (step + 1) % 500 == 0:
            sheet = _samples(generator, averages["unet"], averages.get("encoder", encoder))
            save_sheet(out / "samples" / f"{name}-{step + 1:05d}.png", sheet)
    return {k: m.eval() for k, m in averages.items()}


@torch.no_grad()
def _samples(generator: Generator, unet: nn.Module, encoder: Any) -> list[NDArray[np.uint8]]:
    """Unseen scenes, their VAE reconstruction, and pictures from their own tokens by 20 DDIM steps, guidance 2."""
    seen = torch.from_numpy(np.stack([draw(scene(FIRST_SCENE - 1 - k), 64)[0] for k in range(16)]))
    tokens = encoder(to_unit(seen))
    x = torch.randn(16, *generator.latent_shape, generator=torch.Generator().manual_seed(0))
    both = torch.cat([torch.zeros_like(tokens), tokens])
    for t, (a, b) in zip(generator.schedule.timesteps(20), generator.schedule.ddim(20), strict=True):
        eps0, eps1 = unet(torch.cat([x, x]), torch.full((32,), int(t)), both).sample.chunk(2)
        x = float(a) * x + float(b) * (eps0 + 2.0 * (eps1 - eps0))
    mean, _ = posterior(generator, to_unit(seen))
    return [seen.numpy(), *(to_pixels(decode_latents(generator, z)).numpy() for z in (mean, x))]
