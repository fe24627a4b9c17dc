"""Trains Dynadiff: one stage, one loss, the generator frozen but for adapters on its cross-attention.

Careil, Benchetrit & King (2025), sec. 2.3 and appendix B; the loss as in facebookresearch/dynadiff. Every step draws
its randomness from (seed, step), so a run that is interrupted and resumed is the run that was not.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from dynadiff.data import Trials
from dynadiff.engine import initial_noise
from dynadiff.generator import posterior, to_unit
from dynadiff.image_encoder import ImageEncoder, encode_pictures
from dynadiff.loop import log_to, save_sheet, steps_from
from dynadiff.lora import trained
from dynadiff.model import Model, paint_batch

DIAGNOSE_EVERY = 100
WARM_LR, WARM_BATCH = 1e-3, 256


@dataclass(frozen=True)
class Training:
    """The choices of a training run. The defaults are the paper's."""

    steps: int = 60_000
    batch: int = 320
    lr: float = 1e-3
    weight_decay: float = 0.01
    warmup: int = 1000
    condition_dropout: float = 0.1  # share of samples whose tokens become zero, for guidance
    offset_noise: float = 0.1  # deviation of the noise shared by all positions of a latent channel
    warm_start: int = 0  # steps of regression to the generator's own image tokens first; the paper has none
    anchor: float = 0.0  # weight of that regression beside the diffusion loss; the paper has none
    online: float = 0.0  # share of windows cleaned as a decoder of the live run cleans them; the paper has none
    width: int = 1552  # of the brain module
    dropout: float = 0.5  # inside the brain module
    guidance: float = 3.0  # of the pictures that are looked at while training, and then of the model
    seed: int = 0


PRESETS = {
    "paper": Training(),
    # two cores see a hundredth of the paper's 19 million windows: the brain module starts where regression ends
    "phantom": Training(
        steps=400,
        batch=64,
        lr=1e-4,
        weight_decay=0.05,
        warmup=50,
        warm_start=1500,
        anchor=0.1,
        online=0.5,
        width=256,
        dropout=0.4,
        guidance=5.0,
    ),
}


def cubic_timesteps(u: Tensor, train_steps: int = 1000) -> Tensor:
    """Timesteps ⌊n (1 − u³)⌋ of uniform ``u`` in [0, 1): more of them where the latent is mostly noise."""
    return (train_steps * (1 - u**3)).long().clamp(0, train_steps - 1)


def offset_noise(shape: torch.Size, strength: float) -> Tensor:
    """Normal noise (b, c, h, w) plus ``strength`` times one value a channel, which frees the mean of the picture."""
    return torch.randn(shape) + strength * torch.randn(*shape[:2], 1, 1)


def diffusion_loss(
    model: Model, windows: Tensor, mean: Tensor, deviation: Tensor, abar: Tensor, config: Training,
    targets: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Mean squared error of the predicted noise, for windows (b, voxels, volumes) and their latents' posteriors.

    With ``targets``, the pictures' own tokens (b, n, d), their squared error is added with weight ``anchor``.
    """
    x0 = mean + deviation * torch.randn_like(mean)
    t = cubic_timesteps(torch.rand(len(x0)), len(abar))
    noise = offset_noise(x0.shape, config.offset_noise)
    a = abar[t][:, None, None, None]
    tokens = model.brain(windows)
    anchor = config.anchor * F.mse_loss(tokens.float(), targets) if targets is not None else torch.zeros(())
    tokens = tokens * (torch.rand(len(tokens), 1, 1) >= config.condition_dropout)
    predicted = model.generator.unet(a.sqrt() * x0 + (1 - a).sqrt() * noise, t, tokens).sample
    return F.mse_loss(predicted.float(), noise) + anchor


def warm_start(
    model: Model, trials: Trials, unseen: Trials, encoder: ImageEncoder, config: Training, work: Path
) -> None:
    """Regress the image encoder's tokens of the seen pictures before the diffusion loss takes over.

    An option for generators with an image encoder of their own; Versatile Diffusion's is CLIP ViT-L/14.
    """
    windows, seen = _windows(trials), torch.from_numpy(trials.seen)
    targets = torch.from_numpy(encode_pictures(encoder, trials.pictures))
    truth = torch.from_numpy(encode_pictures(encoder, unseen.pictures))[torch.from_numpy(unseen.seen)]
    optimiser = torch.optim.AdamW(model.brain.parameters(), lr=WARM_LR, weight_decay=config.weight_decay)
    parts: dict[str, nn.Module] = {"brain": model.brain}
    log = log_to(work / "warm-start.jsonl")
    where = work / "warm-start.safetensors"
    for step in steps_from(where, parts, optimiser, config.warm_start, WARM_LR, 100, config.seed, "warm start"):
        model.brain.train()
        pick = torch.randint(len(trials), (WARM_BATCH,))
        loss = F.mse_loss(model.brain(_mixed(windows, pick, config.online)), targets[seen[pick]])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if (step + 1) % DIAGNOSE_EVERY == 0:
            model.brain.eval()
            with torch.no_grad():
                error = F.mse_loss(model.brain(torch.from_numpy(unseen.online).float()), truth)
            log(step=step + 1, loss=loss.item(), unseen=error.item())


def train(
    model: Model, trials: Trials, unseen: Trials, config: Training, work: Path, encoder: ImageEncoder | None = None
) -> None:
    """Train in place, or go on from ``work/dynadiff.safetensors``; logs and sample sheets go to ``work`` too.

    ``unseen`` trials are only looked at: their loss and pictures are written every few hundred steps. ``encoder`` is
    what the anchor needs, if there is one.
    Raises FloatingPointError, naming the step, when the loss is no number; the last checkpoint stays.
    """
    mean, deviation = latents(model, trials.pictures)
    abar = torch.from_numpy(model.generator.schedule.alphas_cumprod()).float()
    cleaned = _windows(trials)
    own = torch.from_numpy(encode_pictures(encoder, trials.pictures)) if encoder and config.anchor else None
    seen = torch.from_numpy(trials.seen)
    optimiser = torch.optim.AdamW(model.trainable(), lr=config.lr, weight_decay=config.weight_decay)
    parts: dict[str, nn.Module] = {"brain": model.brain, "lora": _Adapters(model)}
    log = log_to(work / "dynadiff.jsonl")
    where = work / "dynadiff.safetensors"
    for step in steps_from(where, parts, optimiser, config.steps, config.lr, config.warmup, config.seed, "dynadiff"):
        model.brain.train()
        pick = torch.randint(len(trials), (config.batch,))
        windows = _mixed(cleaned, pick, config.online)
        shown = seen[pick]
        with torch.autocast("cpu", torch.bfloat16):
            latent = mean[shown].float(), deviation[shown].float()
            targets = None if own is None else own[shown]
            loss = diffusion_loss(model, windows, *latent, abar, config, targets)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss.item()} at step {step}: lower the learning rate")
        optimiser.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.trainable(), float("inf"))
        optimiser.step()
        if (step + 1) % 50 == 0:
            log(step=step + 1, loss=loss.item(), gradient=float(norm))
        if (step + 1) % DIAGNOSE_EVERY == 0:
            log(step=step + 1, unseen=_unseen_loss(model, unseen, abar, config))
            save_sheet(work.parent / "samples" / f"dynadiff-{step + 1:05d}.png", _sheet(model, unseen))
    model.brain.eval()


@torch.no_grad()
def latents(model: Model, pictures: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
    """Posterior mean and deviation of every picture's latent, (p, c, h, w) in half precision, computed once."""
    batches = torch.from_numpy(pictures).split(64)
    parts = [posterior(model.generator, to_unit(batch)) for batch in batches]
    return torch.cat([m.half() for m, _ in parts]), torch.cat([s.half() for _, s in parts])


def _windows(trials: Trials) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(trials.offline), torch.from_numpy(trials.online)


def _mixed(windows: tuple[Tensor, Tensor], pick: Tensor, share: float) -> Tensor:
    """Picked windows, each cleaned online with probability ``share`` and as part of its whole run otherwise."""
    online = torch.rand(len(pick), 1, 1) < share
    return torch.where(online, windows[1][pick], windows[0][pick]).float()


class _Adapters(nn.Module):
    """What learns of a model's U-Net as a module of its own, so that a checkpoint holds nothing frozen."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        named = trained(model.generator.unet)
        self.adapters = nn.ParameterDict({name.replace(".", "/"): p for name, p in named.items()})


@torch.no_grad()
def _unseen_loss(model: Model, unseen: Trials, abar: Tensor, config: Training) -> float:
    model.brain.eval()
    torch.manual_seed(0)
    few = slice(0, 512)
    mean, deviation = latents(model, unseen.pictures[unseen.seen[few]])
    windows = torch.from_numpy(unseen.online[few]).float()
    return diffusion_loss(model, windows, mean.float(), deviation.float(), abar, config).item()


def _sheet(model: Model, unseen: Trials) -> list[NDArray[np.uint8]]:
    """Seen pictures above pictures decoded from single, causally cleaned trials that training never saw."""
    model.brain.eval()
    windows = torch.from_numpy(unseen.online[:16]).float()
    noise = torch.from_numpy(initial_noise(0, model.generator.latent_shape))
    with torch.no_grad():
        tokens = model.brain(windows)
    painted = paint_batch(model.generator, tokens, noise, model.config.steps, model.config.guidance)
    return [unseen.pictures[unseen.seen[:16]], painted]
