"""Trains Dynadiff: one stage, one loss, the generator frozen but for adapters on its cross-attention.

Careil, Benchetrit & King (2025), sec. 2.3 and appendix B; the loss is in `dynadiff.training.objective`, the loop in
`dynadiff.training.fit`. Knows how windows and pictures become what they are called with.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional as F

from dynadiff.base.files import atomic, new_array
from dynadiff.base.random import initial_noise, item_rng
from dynadiff.networks.generator import Generator, posterior, to_unit
from dynadiff.networks.image_encoder import encode_pictures
from dynadiff.networks.layout import layout_tokens
from dynadiff.networks.model import Model, SharedModel
from dynadiff.networks.sampling import paint
from dynadiff.training.fit import Stage, fit, moved
from dynadiff.training.logs import Log
from dynadiff.training.objective import Objective, Regression
from dynadiff.training.presets import PRESETS, Training
from dynadiff.training.processes import open_accelerator
from dynadiff.trials.batches import ItemsOfOne, ItemsOfSeveral, ItemSource, Look, TrialSources, looks
from dynadiff.trials.source import TrialSource

__all__ = ["PRESETS", "Training", "own_tokens", "train", "warm_start"]

WARM_LR, WARM_BATCH, WARM_UP = 1e-3, 256, 100
LOOKED_AT, SHEET = 256, 16  # watched trials of which the loss, and the pictures, are looked at
WATCH_EVERY = 100  # steps
BATCH = 64  # pictures or windows that are only looked at, at a time


def warm_start(
    model: Model | SharedModel, trials: TrialSources, watched: TrialSources, encoder: nn.Module, config: Training,
    work: Path, accelerator: Accelerator | None = None,
) -> None:  # fmt: skip
    """Regress the image encoder's tokens of the seen pictures before the diffusion loss takes over.

    An option for generators with an image encoder of their own; Versatile Diffusion's is CLIP ViT-L/14.
    """
    accelerator = accelerator or open_accelerator(config)
    warm = replace(config, steps=config.warm_start, batch=WARM_BATCH, lr=WARM_LR, warmup=WARM_UP, ema=0.0)
    own = partial(own_tokens, model.generator, encoder, layout=config.low_level)
    source = _source(trials, lambda one: ItemsOfOne(one, config.online, None, own(np.array(one.pictures))))
    seen = [look for several in looks(watched, config.online > 0, LOOKED_AT, BATCH) for look in several]
    truth = torch.cat([own(look.shown) for look in seen])

    @torch.no_grad()
    def watch(step: int, log: Log) -> None:
        model.brain.eval()
        tokens = torch.cat([model.brain(moved(look.windows, accelerator.device)).cpu() for look in seen])
        log.scalars(step, watched=F.mse_loss(tokens, truth).item())
        model.brain.train()

    model.brain.train()
    stage = Stage("warm start", warm, work, watch_every=WATCH_EVERY, origin=_origin(model))
    fit(stage, Regression(model), {"brain": model.brain}, source, accelerator, watch)
    model.brain.eval()


def train(
    model: Model | SharedModel, trials: TrialSources, watched: TrialSources, config: Training, work: Path,
    encoder: nn.Module | None = None, accelerator: Accelerator | None = None, tensorboard: bool = False,
) -> None:  # fmt: skip
    """Train in place, or go on from ``work/dynadiff.safetensors``; the log goes there, sheets to ``samples`` beside.

    Trials are those of one subject, or of every subject of a `SharedModel` by name. ``watched`` ones, none of a test,
    are only looked at: their loss and pictures are written every hundred steps and at the end. ``encoder`` is what the
    anchor needs, if there is one. Raises UserError as `dynadiff.training.fit.fit` does.
    """
    accelerator = accelerator or open_accelerator(config)
    generator = model.generator
    if config.gradient_checkpointing:
        generator.unet.enable_gradient_checkpointing()

    def windows(one: TrialSource) -> ItemsOfOne:
        latents = latents_of(generator, one.pictures, work / "latents")
        if encoder is None or not config.anchor:
            return ItemsOfOne(one, config.online, latents, None)
        own = own_tokens(generator, encoder, np.array(one.pictures), config.low_level)
        return ItemsOfOne(one, config.online, latents, own)

    with accelerator.main_process_first():
        source = _source(trials, windows)
    parts: dict[str, nn.Module] = {"brain": model.brain, "lora": _Trained(model)}
    objective = Objective(model, config)
    watch = _watch(model, objective, watched, config, accelerator)
    stage = Stage("dynadiff", config, work, tensorboard, WATCH_EVERY, _origin(model))
    model.brain.train()
    fit(stage, objective, parts, source, accelerator, watch)
    model.brain.eval()
    if config.gradient_checkpointing:
        generator.unet.disable_gradient_checkpointing()


def _origin(model: Model | SharedModel) -> dict[str, str]:
    config = model.config if isinstance(model, Model) else next(iter(model.configs.values()))
    return {"trials": config.trained_on, "generator": Path(config.generator).name}  # the name: folders are moved


def _source(trials: TrialSources, windows: Callable[[TrialSource], ItemsOfOne]) -> ItemSource:
    if isinstance(trials, Mapping):
        return ItemsOfSeveral({name: windows(one) for name, one in trials.items()})
    return windows(trials)


@torch.no_grad()
def own_tokens(generator: Generator, encoder: nn.Module, pictures: NDArray[np.uint8], layout: bool) -> Tensor:
    """The tokens (p, n, d) that pictures (p, s, s, 3) have of their own, with their ``layout``: what brains say."""
    tokens = torch.from_numpy(encode_pictures(encoder, pictures))
    if not layout:
        return tokens
    batches = (to_unit(batch.to(generator.vae.device)) for batch in torch.from_numpy(pictures).split(BATCH))
    means = torch.cat([posterior(generator, batch)[0].float().cpu() for batch in batches])
    return torch.cat([tokens, layout_tokens(means, tokens.shape[2])], 1)


@torch.no_grad()
def latents_of(generator: Generator, pictures: NDArray[np.uint8], folder: Path) -> NDArray[np.float16]:
    """Posterior mean and deviation of every picture's latent, (2, p, c, h, w), computed once and kept in ``folder``.

    Mapped from the file: NSD's 10,000 pictures of a subject at 512 pixels make 655 MB.
    """
    path = folder / f"latents-{_digest(generator, pictures)}.npy"
    if not path.exists():
        shape = (2, len(pictures), *generator.latent_shape)
        with atomic(path) as new:
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

    def __init__(self, model: Model | SharedModel) -> None:
        super().__init__()
        named = [(n, p) for n, p in model.generator.unet.named_parameters() if p.requires_grad]
        self.adapters = nn.ParameterDict({name.replace(".", "/"): p for name, p in named})
        if model.null is not None:
            self.null = model.null


def _watch(
    model: Model | SharedModel, objective: Objective, watched: TrialSources, config: Training, accelerator: Accelerator
) -> Callable[[int, Log], None]:
    """Loss and pictures of the watched single trials, causally cleaned if any are; always the same ones."""
    subjects, device = list(looks(watched, config.online > 0, LOOKED_AT, BATCH)), accelerator.device
    noise = torch.from_numpy(initial_noise(0, model.generator.latent_shape))

    def losses(look: Look) -> Tensor:
        latent = posterior(model.generator, to_unit(torch.from_numpy(look.shown).to(device)))
        rngs = [item_rng(config.seed, "validation", 0, number) for number in look.numbers]
        values: Tensor = objective(moved(look.windows, device), *latent, rngs)
        return values

    @torch.no_grad()
    def watch(step: int, log: Log) -> None:
        model.brain.eval()
        model.generator.vae.to(device)
        log.scalars(step, watched=torch.cat([losses(look) for several in subjects for look in several]).mean().item())
        rows = []
        for first, *_ in subjects:
            tokens = model.brain(moved(first.windows, device))[:SHEET]
            painted = paint(model.generator, tokens, range(len(tokens)), config.sampling, model.null, noise)
            rows += [first.shown[: len(tokens)], painted]
        log.sheet(step, rows)
        model.brain.train()

    return watch
