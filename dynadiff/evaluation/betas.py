"""How good is a decoder of betas? Its pictures of the held-out trials, beside ridge and what needs no brain."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dynadiff.base.files import atomic
from dynadiff.base.random import initial_noise
from dynadiff.evaluation.evaluate import BATCH, brain_tokens
from dynadiff.networks.model import Model
from dynadiff.networks.sampling import paint
from dynadiff.scores.pixels import PixelScores, pixel_scores
from dynadiff.training.logs import save_sheet
from dynadiff.trials.baselines import ridge
from dynadiff.trials.source import Trials

SCORES, PICTURES = "scores.json", "samples/test-trials.png"
SHEET = 16  # pictures side by side


def judge_betas(model: Model, learn: Trials, test: Trials, out: Path) -> dict[str, PixelScores]:
    """Scores of the model, of ridge regression to pixels, and of the mean picture of the training.

    They are written to ``out/scores.json``, and a trial of each of the first test pictures to ``out/samples``: what was
    shown, and below what each of these made of it.
    """
    shown = learn.pictures[learn.seen].reshape(len(learn), -1).astype(np.float32)
    fitted = ridge(learn.offline, shown, learn.runs, test.offline)
    mean = np.repeat(shown.mean(axis=0, keepdims=True), len(test), axis=0)
    painted: dict[str, NDArray[np.generic]] = {
        "Dynadiff": paint_betas(model, test),
        "ridge to pixels": fitted,
        "mean training picture": mean,
    }
    scores = {name: pixel_scores(pictures, test.pictures, test.seen) for name, pictures in painted.items()}
    first = np.unique(test.seen, return_index=True)[1][:SHEET]
    made = (np.reshape(pictures, (len(test), *test.pictures.shape[1:]))[first] for pictures in painted.values())
    rows = [test.pictures[test.seen[first]], *(np.clip(row, 0, 255).astype(np.uint8) for row in made)]
    save_sheet(out / PICTURES, rows)
    figures = {name: asdict(score) for name, score in scores.items()}
    with atomic(out / SCORES) as new:
        content = {"trials": len(test), "pictures": len(test.pictures), "decoders": figures}
        new.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    return scores


def paint_betas(model: Model, trials: Trials, seed: int = 0) -> NDArray[np.uint8]:
    """Pictures (n, s, s, 3) of the trials, all from the same initial noise."""
    noise = torch.from_numpy(initial_noise(seed, model.generator.latent_shape))
    tokens = torch.from_numpy(brain_tokens(model, trials.offline))
    sampling = model.config.sampling(seed)
    batches = zip(tokens.split(BATCH), torch.arange(len(tokens)).split(BATCH), strict=True)
    return np.concatenate(
        [paint(model.generator, batch, items.tolist(), sampling, model.null, noise) for batch, items in batches]
    )
