"""From betas to a model folder. Knows files and presets; its scores are in `dynadiff.evaluation.betas`."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dynadiff.networks.brain import BrainConfig
from dynadiff.networks.generator import Generator, load_generator
from dynadiff.networks.image_encoder import ImageEncoder
from dynadiff.networks.model import Model, ModelConfig, new_model
from dynadiff.networks.model_folder import generator_folder, load_model, save_model
from dynadiff.recordings.masks import mask_digest
from dynadiff.signal.cleaning import Cleaning
from dynadiff.signal.windows import WindowSpec
from dynadiff.training.dynadiff import Training, train, warm_start
from dynadiff.training.request import check_generator
from dynadiff.trials.betas import Betas
from dynadiff.trials.source import Trials

NO_TIME = WindowSpec(offset=0, length=1)


def betas_config(voxels: int, generator: Generator, name: str, config: Training, subject: str) -> ModelConfig:
    """What a model of betas says of itself: no time, so a TR of 0, and a mask that is a list of its voxels."""
    return ModelConfig(
        subject=subject, tr=0.0, mask_sha256=mask_digest(_mask(voxels)), window=NO_TIME, cleaning=Cleaning(),
        brain=BrainConfig.betas(voxels, config.width, generator.told(config.low_level), config.dropout), generator=name,
        steps=config.sampling_steps, guidance=config.guidance, sampler=config.sampler, spacing=config.spacing,
        unconditional=config.unconditional,
    )  # fmt: skip


def fit_betas(
    learn: Trials, generator: Generator, choices: ModelConfig, config: Training, folder: Path,
    encoder: torch.nn.Module | None,
) -> Model:  # fmt: skip
    """Train a model of betas, or go on with what is in ``folder``; ``encoder`` is for the warm start and the anchor.

    What is looked at on the way is learnt from: betas come with a test and no validation.
    """
    if not (folder / "model.json").exists():
        model = new_model(choices, generator, _mask(choices.brain.voxels), np.eye(4), config.seed)
        if encoder is not None and config.warm_start:
            warm_start(model, learn, learn, encoder, config, folder / "work")
        train(model, learn, learn, config, folder / "work", encoder)
        save_model(model, folder)
    return load_model(folder, merged=True)


def train_betas(
    betas: Betas, name: str, out: Path, preset: str, config: Training, generator: str, subject: int
) -> tuple[Model, Trials, Trials]:
    """Train on betas, whose file or folder has that name: the model, what it learnt from, the test."""
    check_generator(preset, generator, out, config)
    home = generator_folder(generator, out)
    network = load_generator(home)
    learn, test = (betas.trials(side, network.picture_size) for side in (False, True))
    needed = config.warm_start or config.anchor
    encoder = ImageEncoder.load(home / "image_encoder") if needed else None
    choices = betas_config(betas.values.shape[1], network, generator, config, f"{subject:02d}")
    choices = replace(choices, trained_on=f"{len(learn)} betas of {name}, preset {preset}")
    model = fit_betas(learn, network, choices, replace(config, online=0.0), out, encoder)
    return model, learn, test


def _mask(voxels: int) -> NDArray[np.bool_]:
    return np.ones((voxels, 1, 1), np.bool_)
