"""Trains Dynadiff: one stage, one loss, the generator frozen but for adapters on its cross-attention.

Careil, Benchetrit & King (2025), sec. 2.3 and appendix B; the loss is in `dynadiff.objective`, the loop in
`dynadiff.fit`. Knows how windows and pictures become what they are called with.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional as F

from dynadiff.data import TrialSource
from dynadiff.draws import item_rng
from dynadiff.engine import initial_noise
from dynadiff.fit import Stage, fit
from dynadiff.generator import Generator, posterior, to_unit
from dynadiff.image_encoder import ImageEncoder, encode_pictures
from dynadiff.logs import Log
from dynadiff.machines import open_accelerator
from dynadiff.model import Model
from dynadiff.objective import Objective, Regression
from dynadiff.presets import PRESETS, Training
from dynadiff.sampling import Sampling, paint
from dynadiff.whole import new_array, whole

__all__ = ["PRESETS", "Training", "train", "warm_start"]

WARM_LR, WARM_BATCH, WARM_UP = 1e-3, 256, 100
LOOKED_AT, SHEET = 256, 16  # unseen trials of which the loss, and the pictures, are looked at
BATCH = 64  # pictures or windows that are only looked at, at a time


class Windows:
    """Items of training: a window of a random trial, and what was seen. Each by a generator of its own."""

    def __init__(
        self, trials: TrialSource, online: float, latents: NDArray[np.float16] | None, tokens: Tensor | None
    ) -> None:
        self._trials, self._online, self._latents, self._tokens = trials, online, latents, tokens

    def draw(self, rngs: Sequence[np.random.Generator]) -> tuple[NDArray[np.int64], dict[str, Any]]:
        picked = np.array([rng.integers(len(self._trials)) for rng in rngs], np.int64)
        online = np.array([rng.random() < self._online for rng in rngs])
        inputs: dict[str, Any] = {"windows": torch.from_numpy(self._trials.windows(picked, online))}
        seen = self._trials.seen[picked]
        if self._latents is not None:
            mean, deviation = np.asarray(self._latents[:, seen], np.float32)
            inputs |= {"mean": torch.from_numpy(mean), "deviation": torch.from_numpy(deviation)}
        if self._tokens is not None:
            inputs["targets"] = self._tokens[torch.from_numpy(seen)]
        return picked, inputs

    def runs_of(self, trials: NDArray[np.int64]) -> list[str]:
        return [self._trials.run_names[k] for k in np.unique(self._trials.runs[trials])]


def warm_start(
    model: Model, trials: TrialSource, unseen: TrialSource, encoder: ImageEncoder, config: Training, work: Path,
    accelerator: Accelerator | None = None,
) -> None:  # fmt: skip
    """Regress the image encoder's tokens of the seen pictures before the diffusion loss takes over.

    An option for generators with an image encoder of their own; Versatile Diffusion's is CLIP ViT-L/14.
    """
    accelerator = accelerator or open_accelerator(config)
    warm = replace(config, steps=config.warm_start, batch=WARM_BATCH, lr=WARM_LR, warmup=WARM_UP, ema=0.0)
    source = Windows(trials, config.online, None, torch.from_numpy(encode_pictures(encoder, np.array(trials.pictures))))
    few = np.arange(min(len(unseen), LOOKED_AT))
    truth = torch.from_numpy(encode_pictures(encoder, unseen.pictures[unseen.seen[few]]))
    windows = torch.from_numpy(unseen.windows(few, np.full(len(few), config.online > 0)))

    @torch.no_grad()
    def watch(step: int, log: Log) -> None:
        model.brain.eval()
        tokens = torch.cat([model.brain(part.to(accelerator.device)).cpu() for part in windows.split(BATCH)])
        log.scalars(step, unseen=F.mse_loss(tokens, truth).item())
        model.brain.train()

    model.brain.train()
    fit(Stage("warm start", warm, work), Regression(model), {"brain": model.brain}, source, accelerator, watch)
    model.brain.eval()


def train(
    model: Model, trials: TrialSource, unseen: TrialSource, config: Training, work: Path,
    encoder: ImageEncoder | None = None, accelerator: Accelerator | None = None, tensorboard: bool = False,
) -> None:  # fmt: skip
    """Train in place, or go on from ``work/dynadiff.safetensors``; logs and sample sheets go to ``work`` too.

    ``unseen`` trials are only looked at: their loss and pictures are written every few hundred steps. ``encoder`` is
    what the anchor needs, if there is one. Raises UserError as `dynadiff.fit.fit` does.
    """
    accelerator = accelerator or open_accelerator(config)
    unet = model.generator.unet
    if config.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    with accelerator.main_process_first():
        latents = latents_of(model.generator, trials.pictures, work / "latents")
    own = torch.from_numpy(encode_pictures(encoder, np.array(trials.pictures))) if encoder and config.anchor else None
    parts: dict[str, nn.Module] = {"brain": model.brain, "lora": _Trained(model)}
    objective = Objective(model, config)
    watch = _watch(model, objective, unseen, config, accelerator)
    stage = Stage("dynadiff", config, work, tensorboard)
    model.brain.train()
    fit(stage, objective, parts, Windows(trials, config.online, latents, own), accelerator, watch)
    model.brain.eval()
    if config.gradient_checkpointing:
        unet.disable_gradient_checkpointing()


@torch.no_grad()
def latents_of(generator: Generator, pictures: NDArray[np.uint8], folder: Path) -> NDArray[np.float16]:
    """Posterior mean and deviation of every picture's latent, (2, p, c, h, w), computed once and kept in ``folder``.

    Mapped from the file: NSD's 10,000 pictures of a subject at 512 pixels make 655 MB.
    """
    path = folder / f"latents-{_digest(generator, pictures)}.npy"
    if not path.exists():
        shape = (2, len(pictures), *generator.latent_shape)
        with whole(path) as new:
            made = new_array(new, np.float16, shape)
            for start in track(range(0, len(pictures), BATCH), "encoding pictures"):
                few = slice(start, start + BATCH)
                for k, part in enumerate(posterior(generator, to_unit(torch.from_numpy(np.array(pictures[few]))))):
                    made[k, few] = part.half().numpy()
            made.flush()
            del made
    mapped: NDArray[np.float16] = np.load(path, mmap_mode="r")
    return mapped


def _digest(generator: Generator, pictures: NDArray[np.uint8]) -> str:
    """Of the VAE's weights and the pictures: other ones have other latents."""
    digest = hashlib.sha256(str(pictures.shape).encode())
    for name, value in generator.vae.state_dict().items():
        digest.update(name.encode() + value.detach().cpu().numpy().tobytes())
    for start in range(0, len(pictures), BATCH):
        digest.update(pictures[start : start + BATCH].tobytes())
    return digest.hexdigest()[:16]


class _Trained(nn.Module):
    """What learns of a model beside its brain module, as a module of its own: a checkpoint holds nothing frozen."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        named = [(n, p) for n, p in model.generator.unet.named_parameters() if p.requires_grad]
        self.adapters = nn.ParameterDict({name.replace(".", "/"): p for name, p in named})
        if model.null is not None:
            self.null = model.null


def _watch(
    model: Model, objective: Objective, unseen: TrialSource, config: Training, accelerator: Accelerator
) -> Callable[[int, Log], None]:
    """Loss and pictures of single trials that training never saw, causally cleaned if any are; always the same ones."""
    few = np.arange(min(len(unseen), LOOKED_AT))
    windows = torch.from_numpy(unseen.windows(few, np.full(len(few), config.online > 0)))
    shown = unseen.pictures[unseen.seen[few]]
    noise = torch.from_numpy(initial_noise(0, model.generator.latent_shape))
    sampling = Sampling(config.sampler, config.sampling_steps, config.guidance)

    @torch.no_grad()
    def watch(step: int, log: Log) -> None:
        model.brain.eval()
        model.generator.vae.to(accelerator.device)
        losses = []
        for start in range(0, len(few), BATCH):
            part = slice(start, start + BATCH)
            latent = posterior(model.generator, to_unit(torch.from_numpy(shown[part]).to(accelerator.device)))
            rngs = [item_rng(config.seed, "validation", 0, int(k)) for k in few[part]]
            losses.append(objective(windows[part].to(accelerator.device), *latent, rngs))
        log.scalars(step, unseen=torch.cat(losses).mean().item())
        tokens = model.brain(windows[:SHEET].to(accelerator.device))
        log.sheet(
            step, [shown[:SHEET], paint(model.generator, tokens, range(len(tokens)), sampling, model.null, noise)]
        )
        model.brain.train()

    return watch
