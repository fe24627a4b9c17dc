"""A real recording: patterns of 10×10 pixels from V1, each left out in turn. Miyawaki et al. (2008), figure images.

Ten patterns, eight trials of each. For every pattern a decoder is trained on the trials of the other nine, with a
generator that learned from random patterns and never saw any of the ten, and paints the eight trials of the left-out
one. Beside it stand ridge regression and what needs no brain at all, the mean of the nine.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.io import loadmat

from dynadiff.base.errors import UserError
from dynadiff.base.random import initial_noise
from dynadiff.evaluation.betas import paint_betas
from dynadiff.evaluation.report import print_pixel_scores
from dynadiff.networks.choices import Sampling
from dynadiff.networks.generator import Generator, load_generator
from dynadiff.networks.image_encoder import encode_pictures
from dynadiff.networks.sampling import paint
from dynadiff.scores.pixels import pixel_scores
from dynadiff.studies.patterns import SIDE, PatternEncoder, PatternTraining, as_pictures, train_patterns
from dynadiff.training.betas import betas_config, fit_betas
from dynadiff.training.dynadiff import Training
from dynadiff.training.logs import save_sheet
from dynadiff.trials.baselines import ridge
from dynadiff.trials.betas import Betas, checked
from dynadiff.trials.source import Trials

FILE = "V1_mean_figure.mat"
# those of the Haxby study, but for the last: here the voxels are betas, and the generator was not fitted to guidance 5
TRAINING = Training(
    steps=200, batch=32, lr=1e-4, weight_decay=0.1, warmup=50, warm_start=400, anchor=0.1, width=96, guidance=3.0
)  # fmt: skip
QUICK = replace(TRAINING, steps=4, warm_start=20, warmup=2)
QUICK_PATTERNS = PatternTraining(patterns=500, vae_steps=20, steps=20)
DECODERS = ("Dynadiff", "ridge to pixels", "ridge to tokens, same generator", "mean of the other nine")


def print_miyawaki(data: Path, out: Path, quick: bool = False) -> None:
    """Train what is missing of generator and ten decoders, and print the table; ``quick`` proves that it runs."""
    responses, patterns = read_miyawaki(data)
    home = out / ("miyawaki-quick" if quick else "miyawaki")
    shown, seen = np.unique(patterns, axis=0, return_inverse=True)
    never = frozenset(pattern.tobytes() for pattern in shown)
    if not (home / "generator" / "generator.json").exists():
        train_patterns(QUICK_PATTERNS if quick else PatternTraining(), home, never)
    seen = seen.reshape(-1).astype(np.int64)
    folds = [
        run_fold(left_out(responses, patterns, seen == k), home / f"fold-{k + 1:02d}", QUICK if quick else TRAINING)
        for k in range(len(shown))
    ]
    painted = {name: np.empty((len(seen), SIDE, SIDE)) for name in DECODERS}
    for k, fold in enumerate(folds):
        for name in DECODERS:
            painted[name][seen == k] = fold[name]
    painted["ceiling: the pattern's own tokens"] = _own(load_generator(home / "generator"), shown)[seen]
    print_pixel_scores({name: pixel_scores(pictures, shown, seen) for name, pictures in painted.items()})
    rows = [as_pictures(shown)[seen], *(_visible(painted[name]) for name in DECODERS)]
    order = np.argsort(seen, kind="stable")[::8]
    save_sheet(home / "pictures.png", [np.kron(row[order], np.ones((1, 8, 8, 1), np.uint8)) for row in rows])


def read_miyawaki(data: Path) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Responses (80, voxels) and upright patterns (80, 10, 10) of 0 and 1."""
    path = data / FILE
    try:
        mat = loadmat(path, variable_names=["R2", "I2"])
        responses, pixels = mat["R2"].T, mat["I2"].T
    except (OSError, KeyError, ValueError, NotImplementedError) as error:
        raise UserError(f"{path} cannot be read: give the folder that holds {FILE} with --data") from error
    if len(responses) != len(pixels) or pixels.shape[1:] != (SIDE**2,) or not np.isin(pixels, (0, 1)).all():
        raise UserError(f"{path} is not 100 pixels of 0 and 1 for each trial: copy it again")
    upright = pixels.reshape(-1, SIDE, SIDE).transpose(0, 2, 1)  # they are stored column by column
    return np.asarray(responses, np.float64), np.ascontiguousarray(upright, np.uint8)


def left_out(responses: NDArray[np.float64], patterns: NDArray[np.uint8], test: NDArray[np.bool_]) -> Betas:
    """Betas of one fold: standardised, and so on, as those of a file in which these trials are the test."""
    return checked(responses, as_pictures(patterns), np.where(test, "test", "train"), FILE)


def run_fold(betas: Betas, folder: Path, training: Training) -> dict[str, NDArray[np.float64]]:
    """What each decoder makes of the left-out trials, (n, 10, 10) from 0 to 255; trains what ``folder`` lacks."""
    generator, encoder = load_generator(folder.parent / "generator"), PatternEncoder()
    learn, test = betas.trials(False, SIDE), betas.trials(True, SIDE)
    choices = betas_config(betas.values.shape[1], generator, "../generator", training, "1")
    choices = replace(choices, trained_on="Miyawaki et al. (2008), every figure but one")
    model = fit_betas(learn, generator, choices, training, folder, encoder)
    shown = learn.pictures[learn.seen].astype(np.float32).mean(axis=3)
    own = encode_pictures(encoder, learn.pictures)[learn.seen]
    tokens = _ridge(learn, own, test)
    noise = torch.from_numpy(initial_noise(0, generator.latent_shape))
    plain = load_generator(folder.parent / "generator")  # the other one may have learned meanwhile
    by_tokens = _painted(plain, torch.from_numpy(tokens), noise, model.config.sampling())
    made = (paint_betas(model, test).mean(axis=3), _ridge(learn, shown, test), by_tokens.mean(axis=3),
            np.repeat(shown.mean(axis=0, keepdims=True), len(test), axis=0))  # fmt: skip
    return {name: np.asarray(pictures, np.float64) for name, pictures in zip(DECODERS, made, strict=True)}


def _ridge(learn: Trials, targets: NDArray[np.float32], test: Trials) -> NDArray[np.float32]:
    fitted = ridge(learn.offline, targets.reshape(len(learn), -1), learn.runs, test.offline)
    return fitted.reshape(-1, *targets.shape[1:])


def _own(generator: Generator, shown: NDArray[np.uint8]) -> NDArray[np.float64]:
    noise = torch.from_numpy(initial_noise(0, generator.latent_shape))
    tokens = torch.from_numpy(encode_pictures(PatternEncoder(), as_pictures(shown)))
    return np.asarray(_painted(generator, tokens, noise, TRAINING.sampling).mean(axis=3), np.float64)


def _visible(painted: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.repeat(painted.clip(0, 255).astype(np.uint8)[..., None], 3, axis=3)


def _painted(generator: Generator, tokens: torch.Tensor, noise: torch.Tensor, sampling: Sampling) -> NDArray[np.uint8]:
    return paint(generator, tokens, range(len(tokens)), sampling, noise=noise)
