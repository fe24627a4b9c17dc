"""Trains the small generator on drawn scenes: first the VAE, then the U-Net together with the image encoder.

The scenes have numbers above every 73k id, so no picture that a phantom subject sees is among them. Each step draws all
its randomness from (seed, step): a run that is interrupted and resumed is the run that was not.
"""

import copy
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional as F

from dynadiff.checkpoint import load_checkpoint, save_checkpoint
from dynadiff.generator import (
    Generator,
    decode,
    posterior,
    save_generator,
    tiny_generator,
    to_pixels,
    to_unit,
)
from dynadiff.image_encoder import ImageEncoder, ImageEncoderConfig
from dynadiff.scenes import CATEGORIES, draw, scene

FIRST_SCENE = 100_000  # NSD has 73,000 pictures
CHECKPOINT_EVERY = 250


@dataclass(frozen=True)
class GeneratorTraining:
    scenes: int = 24_000
    vae_steps: int = 5000
    vae_batch: int = 12
    vae_lr: float = 2e-3
    steps: int = 3200
    batch: int = 64
    lr: float = 1e-3
    prior: float = 1e-3  # weight of the mean square of the VAE's latents, which holds them near unit variance
    token_noise: float = 0.5  # largest deviation added to the tokens: makes the U-Net read what survives a noisy brain
    dropout: float = 0.1  # share of samples whose tokens are zero, for guidance
    category: float = 0.1  # weight of naming the category
    ema: float = 0.999
    seed: int = 0


def train_generator(config: GeneratorTraining, out: Path) -> None:
    """Train from scratch, or go on from the checkpoints in ``out/work``; writes ``out/generator``."""
    pictures, labels = _scenes(config, out / "work")
    generator = tiny_generator()
    _train_vae(generator, pictures, config, out)
    encoder = ImageEncoder(ImageEncoderConfig(categories=len(CATEGORIES)))
    unet, encoder = _train_unet(generator, encoder, pictures, labels, config, out)
    generator.unet = unet
    for network in (unet, generator.vae, encoder):
        network.half()  # half the size on disk; it is widened again when it is loaded
    save_generator(generator, encoder, out / "generator")


def lr_factor(step: int, steps: int, warmup: int) -> float:
    """Linear warm-up, then a cosine to zero."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def steps_from(
    path: Path, modules: dict[str, nn.Module], optimiser: torch.optim.Optimizer, steps: int, lr: float, warmup: int,
    seed: int, description: str,
) -> Iterator[int]:  # fmt: skip
    """Yield the steps still to be done, each with its learning rate set and torch reseeded; checkpoints as it goes."""
    done = load_checkpoint(path, modules, optimiser)
    for step in track(range(done, steps), description, total=steps, completed=done):
        for group in optimiser.param_groups:
            group["lr"] = lr * lr_factor(step, steps, warmup)
        torch.manual_seed(seed * 1_000_003 + step)
        yield step
        if (step + 1) % CHECKPOINT_EVERY == 0 or step + 1 == steps:
            save_checkpoint(path, step + 1, modules, optimiser)


def log_to(path: Path) -> Callable[..., None]:
    """A function that appends its keyword arguments as one JSON line."""
    path.parent.mkdir(parents=True, exist_ok=True)

    def log(**values: float) -> None:
        with path.open("a") as file:
            file.write(json.dumps({k: round(v, 6) for k, v in values.items()}) + "\n")

    return log


def save_sheet(path: Path, rows: list[NDArray[np.uint8]]) -> None:
    """Write rows of pictures, each (n, h, w, 3), under each other as one PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet = np.vstack([np.hstack(list(row)) for row in rows])
    cv2.imwrite(str(path), np.ascontiguousarray(sheet[..., ::-1]))


def _scenes(config: GeneratorTraining, work: Path) -> tuple[Tensor, Tensor]:
    """Training pictures (n, 64, 64, 3) uint8 and category numbers (n,), drawn once and kept in ``work``."""
    store = work / f"scenes-{config.scenes}.npz"
    if not store.exists():
        work.mkdir(parents=True, exist_ok=True)
        chosen = [scene(FIRST_SCENE + k) for k in range(config.scenes)]
        pictures = np.stack([draw(s, 64)[0] for s in track(chosen, "drawing scenes")])
        labels = np.array([CATEGORIES.index(s.category) for s in chosen])
        np.savez(store.with_suffix(".new.npz"), pictures=pictures, labels=labels)
        store.with_suffix(".new.npz").replace(store)
    with np.load(store) as data:
        return torch.from_numpy(data["pictures"]), torch.from_numpy(data["labels"])


def _train_vae(generator: Generator, pictures: Tensor, config: GeneratorTraining, out: Path) -> None:
    """Pixels and their differences (edges) through latents with fixed noise; then scaled to unit variance."""
    vae = generator.vae.to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(vae.parameters(), lr=config.vae_lr, weight_decay=0.0)
    log = log_to(out / "work" / "vae.jsonl")
    where = out / "work" / "vae.safetensors"
    for step in steps_from(where, {"vae": vae}, optimiser, config.vae_steps, config.vae_lr, 100, config.seed, "VAE"):
        x = to_unit(pictures[torch.randint(len(pictures), (config.vae_batch,))])
        with torch.autocast("cpu", torch.bfloat16):
            mean = vae.encode(F.pixel_unshuffle(x, generator.patch)).latent_dist.mean
            y = F.pixel_shuffle(vae.decode(mean + 0.1 * torch.randn_like(mean)).sample, generator.patch).float()
        edges = sum(F.l1_loss(y.diff(dim=d), x.diff(dim=d)) for d in (2, 3))
        loss = F.l1_loss(y, x) + F.mse_loss(y, x) + edges + config.prior * mean.float().square().mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimiser.step()
        if (step + 1) % 50 == 0:
            log(step=step + 1, loss=loss.item(), l1=F.l1_loss(y, x).item())
        if (step + 1) % 500 == 0:
            save_sheet(
                out / "samples" / f"vae-{step + 1:05d}.png",
                [to_pixels(p[:12]).numpy() for p in (x, y.detach())],
            )
    vae.eval().requires_grad_(False)
    mean, _ = posterior(generator, to_unit(pictures[:512]))
    vae.register_to_config(scaling_factor=1 / float(mean.std()))


def _train_unet(
    generator: Generator,
    encoder: ImageEncoder,
    pictures: Tensor,
    labels: Tensor,
    config: GeneratorTraining,
    out: Path,
) -> tuple[nn.Module, ImageEncoder]:
    """Noise prediction conditioned on the picture's own tokens; returns the averaged weights of both networks."""
    means, deviations = _latents(generator, pictures)
    abar = torch.from_numpy(generator.schedule.alphas_cumprod()).float()
    networks: tuple[Any, ...] = (generator.unet, encoder)
    for network in networks:
        network.to(memory_format=torch.channels_last)  # a fifth faster on CPU
    modules: dict[str, nn.Module] = {"unet": generator.unet, "encoder": encoder}
    averages = {f"ema_{k}": copy.deepcopy(m).requires_grad_(False) for k, m in modules.items()}
    parameters = [p for m in modules.values() for p in m.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=config.lr, weight_decay=0.01, fused=True)
    log = log_to(out / "work" / "generator.jsonl")
    every = modules | averages
    where = out / "work" / "generator.safetensors"
    for step in steps_from(where, every, optimiser, config.steps, config.lr, 200, config.seed, "generator"):
        pick = torch.randint(len(pictures), (config.batch,))
        x0 = means[pick].float() + deviations[pick].float() * torch.randn(config.batch, *means.shape[1:])
        t = torch.randint(generator.schedule.train_steps, (config.batch,))
        noise = torch.randn_like(x0)
        a = abar[t][:, None, None, None]
        with torch.autocast("cpu", torch.bfloat16):
            tokens = encoder(to_unit(pictures[pick]))
            naming = F.cross_entropy(encoder.classify(tokens).float(), labels[pick])
            seen = tokens + config.token_noise * torch.rand(config.batch, 1, 1) * torch.randn_like(tokens)
            seen = seen * (torch.rand(config.batch, 1, 1) >= config.dropout)
            predicted = generator.unet(a.sqrt() * x0 + (1 - a).sqrt() * noise, t, seen).sample.float()
        loss = F.mse_loss(predicted, noise)
        optimiser.zero_grad()
        (loss + config.category * naming).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        for name, module in modules.items():
            decay = min(config.ema, (step + 1) / (step + 10))
            for average, value in zip(averages[f"ema_{name}"].parameters(), module.parameters(), strict=True):
                average.lerp_(value, 1 - decay)
        if (step + 1) % 50 == 0:
            log(step=step + 1, loss=loss.item(), naming=naming.item())
        if (step + 1) % 500 == 0:
            sheet = _samples(generator, averages["ema_unet"], averages["ema_encoder"])
            save_sheet(out / "samples" / f"generator-{step + 1:05d}.png", sheet)
    unet, image_encoder = (averages[k].eval() for k in ("ema_unet", "ema_encoder"))
    assert isinstance(image_encoder, ImageEncoder)
    return unet, image_encoder


@torch.no_grad()
def _latents(generator: Generator, pictures: Tensor) -> tuple[Tensor, Tensor]:
    parts = [posterior(generator, to_unit(batch)) for batch in track(pictures.split(250), "encoding scenes")]
    return torch.cat([m.half() for m, _ in parts]), torch.cat([s.half() for _, s in parts])


@torch.no_grad()
def _samples(generator: Generator, unet: nn.Module, encoder: nn.Module) -> list[NDArray[np.uint8]]:
    """Unseen scenes, their VAE reconstruction, and pictures from their own tokens by 20 DDIM steps, guidance 2."""
    seen = torch.from_numpy(np.stack([draw(scene(FIRST_SCENE - 1 - k), 64)[0] for k in range(16)]))
    tokens = encoder(to_unit(seen))
    x = torch.randn(16, *generator.latent_shape, generator=torch.Generator().manual_seed(0))
    both = torch.cat([torch.zeros_like(tokens), tokens])
    for t, (a, b) in zip(generator.schedule.timesteps(20), generator.schedule.ddim(20), strict=True):
        eps0, eps1 = unet(torch.cat([x, x]), torch.full((32,), int(t)), both).sample.chunk(2)
        x = float(a) * x + float(b) * (eps0 + 2.0 * (eps1 - eps0))
    mean, _ = posterior(generator, to_unit(seen))
    return [seen.numpy(), *(to_pixels(decode(generator, z)).numpy() for z in (mean, x))]
