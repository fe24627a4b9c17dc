"""How good are the pictures? Held-out single trials, against baselines, ceiling and chance, with intervals.

Every row of the table is a set of pictures for the same trials, scored in the same two feature spaces: the image
encoder's tokens (what a picture shows) and coarse pixels (its layout). Knows models and trials; knows no streams.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dynadiff.base.random import initial_noise
from dynadiff.evaluation.baselines import nearest, ridge
from dynadiff.networks.generator import Generator, load_generator, posterior, to_unit
from dynadiff.networks.image_encoder import ImageEncoder, encode_pictures
from dynadiff.networks.model import Model
from dynadiff.networks.model_folder import generator_folder, load_model
from dynadiff.networks.sampling import Render, paint
from dynadiff.networks.schedule import Sampling
from dynadiff.phantom.scenes import CATEGORIES
from dynadiff.scores.identification import Features, correlations, n_way_top1, two_way
from dynadiff.scores.intervals import Level, level, permutation_level
from dynadiff.scores.pixels import pixel_features
from dynadiff.trials.source import Trials

BATCH = 64
WindowArray = NDArray[np.float16] | NDArray[np.float32]


@dataclass(frozen=True)
class Row:
    """One decoder's scores."""

    decoder: str
    two_way: Level
    top1: Level  # of 50
    two_way_pixels: Level
    named: float  # share of pictures whose category the image encoder names right, NaN where categories are unknown


def evaluate(folder: Path, train: Trials, test: Trials, seed: int = 0) -> Iterator[Row]:
    """Score a model on ``test`` trials beside baselines fitted on ``train``; rows come as they are ready.

    Ridge regression stands there twice: to the VAE's latents, and to tokens from which the unadapted generator paints.
    """
    model = load_model(folder, merged=True)
    home = generator_folder(model.config.generator, folder)
    plain, encoder = load_generator(home).freeze(), ImageEncoder.load(home / "image_encoder")

    def row(decoder: str, pictures: NDArray[np.uint8]) -> Row:
        return _row(decoder, pictures, test, encoder)

    def painted(tokens: NDArray[np.float32]) -> NDArray[np.uint8]:
        return paint_all(plain, tokens, _sampling(model, seed))

    for how, windows in (("online", test.online), ("offline cleaning", test.offline)):
        yield row(f"Dynadiff, {how}", decoded(model, windows, seed))
    seen = train.pictures[train.seen]
    yield row("nearest neighbour, online", seen[nearest(train.online, test.online)])
    latents = latent_means(plain, train.pictures)[train.seen]
    own = encode_pictures(encoder, train.pictures)[train.seen]
    targets = np.hstack([latents.reshape(len(seen), -1), own.reshape(len(seen), -1)])
    fitted = ridge(train.online, targets, train.runs, test.online)
    low, tokens = np.split(fitted, [latents[0].size], axis=1)
    yield row("ridge to VAE latents, online", render(plain, low.reshape(-1, *latents.shape[1:])))
    yield row("ridge to tokens, same generator, online", painted(tokens.reshape(-1, *own.shape[1:])))
    yield row("ceiling: the picture's own tokens", painted(encode_pictures(encoder, test.pictures)[test.seen]))


def decoded(model: Model, windows: WindowArray, seed: int = 0) -> NDArray[np.uint8]:
    """Pictures (n, s, s, 3) of cleaned windows (n, voxels, volumes), painted as the model was judged."""
    return paint_all(model.generator, brain_tokens(model, windows), _sampling(model, seed), model.null)


def paint_all(
    generator: Generator, tokens: NDArray[np.float32], sampling: Sampling, null: Tensor | None = None
) -> NDArray[np.uint8]:
    """Pictures (n, s, s, 3) of tokens (n, k, d), batch after batch; all start from the same noise."""
    noise, numbers = torch.from_numpy(initial_noise(sampling.seed, generator.latent_shape)), range(len(tokens))
    batches = [(torch.from_numpy(tokens[k : k + BATCH]), numbers[k : k + BATCH]) for k in numbers[::BATCH]]
    return np.concatenate([paint(generator, b, items, sampling, null, noise) for b, items in batches])


def likeness(
    painted: NDArray[np.uint8], shown: NDArray[np.uint8], encoder: ImageEncoder
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """R (n, n) of pictures painted and shown, (n, s, s, 3) each: in the encoder's tokens, and in coarse pixels."""

    def tokens(pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
        return encode_pictures(encoder, pictures).reshape(len(pictures), -1).astype(np.float64)

    spaces: tuple[Features, Features] = (tokens, pixel_features)
    in_tokens, in_pixels = (correlations(features(painted), features(shown)) for features in spaces)
    return in_tokens, in_pixels


@torch.no_grad()
def brain_tokens(model: Model, windows: WindowArray) -> NDArray[np.float32]:
    """Tokens (n, k, d) of cleaned windows (n, voxels, volumes)."""
    return torch.cat([model.brain(b.float()) for b in torch.from_numpy(windows).split(BATCH)]).numpy()


@torch.no_grad()
def latent_means(generator: Generator, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Posterior means (n, c, h, w) of the latents of pictures (n, s, s, 3)."""
    batches = torch.from_numpy(pictures).split(256)
    return torch.cat([posterior(generator, to_unit(b))[0] for b in batches]).numpy()


@torch.no_grad()
def render(generator: Generator, latents: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Pictures (n, s, s, 3) of final latents (n, c, h, w)."""
    return np.concatenate([Render(generator)(b).numpy() for b in torch.from_numpy(latents).split(256)])


def _sampling(model: Model, seed: int) -> Sampling:
    return Sampling(model.config.sampler, model.config.steps, model.config.guidance, seed)


def _row(decoder: str, pictures: NDArray[np.uint8], test: Trials, encoder: ImageEncoder) -> Row:
    names = [test.names[k] for k in test.seen]

    def score(r: NDArray[np.float64], of: Callable[..., NDArray[np.float64]]) -> Level:
        return level(of(r, names), names, permutation_level(r, names, of, draws=100))

    tokens, pixels = likeness(pictures, test.pictures[test.seen], encoder)
    said = encoder.classify(torch.from_numpy(encode_pictures(encoder, pictures))).argmax(1).numpy()
    true = [CATEGORIES.index(test.categories[k]) if test.categories[k] in CATEGORIES else -1 for k in test.seen]
    named = float(np.mean(said == true)) if min(true) >= 0 else float("nan")
    return Row(decoder, score(tokens, two_way), score(tokens, n_way_top1), score(pixels, two_way), named)
