"""A generator of 10×10 black and white patterns, trained on random ones: for recordings of such patterns.

Its tokens are not learned: one for each 2×2 pixels, their values and a code of their place. So a brain module has to
find pixels, and the generator knows what patterns look like: half are random dots, half are random strokes and frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from diffusers import AutoencoderKL, UNet2DConditionModel
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from dynadiff.networks.draws import normals, uniforms
from dynadiff.networks.generator import Generator, save_generator, to_unit
from dynadiff.networks.schedule import Schedule
from dynadiff.training.fit import Stage, fit
from dynadiff.training.generator.stages import Uncertainty
from dynadiff.training.generator.vae import Reconstruction, encode_all, scale_latents
from dynadiff.training.presets import Training
from dynadiff.training.processes import open_accelerator
from dynadiff.trials.batches import RandomPictures

SIDE = 10  # pixels
PLACE = 12  # numbers that say where a token is


@dataclass(frozen=True)
class PatternTraining:
    """How the generator is trained: a minute or two on two cores."""

    patterns: int = 10_000
    vae_steps: int = 800
    steps: int = 2500
    batch: int = 32
    lr: float = 2e-3
    dropout: float = 0.1  # share of samples whose tokens are zero, for guidance
    least_certain: float = 0.1  # smallest explained variance of the pixels in the tokens it learns to read
    seed: int = 0

    def choices(self, steps: int) -> Training:
        """Those of one stage."""
        return Training(
            steps=steps, batch=self.batch, lr=self.lr, weight_decay=0.01, warmup=50, clip=1.0, seed=self.seed
        )


class PatternEncoder(nn.Module):
    """Patterns (b, 3, 10, 10) in [-1, 1] to tokens (b, 25, 16): four pixels, then the code of their place."""

    def __init__(self) -> None:
        super().__init__()
        at = torch.arange(SIDE // 2) / (SIDE // 2) * torch.pi
        waves = torch.cat([f(at[:, None] * k) for k in (0.5, 1, 2) for f in (torch.sin, torch.cos)], 1)  # (5, 6)
        n = len(at)
        place = torch.cat([waves[:, None].expand(n, n, -1), waves[None].expand(n, n, -1)], 2)
        self.register_buffer("place", place.reshape(n * n, PLACE), persistent=False)

    def forward(self, patterns: Tensor) -> Tensor:
        pixels = F.pixel_unshuffle(patterns.mean(1, keepdim=True), 2).flatten(2).transpose(1, 2)
        place: Tensor = self.get_buffer("place")
        return torch.cat([pixels, place.expand(len(pixels), -1, -1)], 2)


def pattern_generator() -> Generator:
    """An untrained generator of 10-pixel pictures: latents 4×5×5, 25 tokens of 16."""
    unet = UNet2DConditionModel(
        sample_size=SIDE // 2, in_channels=4, out_channels=4, block_out_channels=(48,), layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",), up_block_types=("CrossAttnUpBlock2D",),
        cross_attention_dim=4 + PLACE, attention_head_dim=4, norm_num_groups=8,
    )  # fmt: skip
    vae = AutoencoderKL(
        in_channels=12, out_channels=12, block_out_channels=(32,), layers_per_block=1, norm_num_groups=1,
        sample_size=SIDE // 2, scaling_factor=1.0, mid_block_add_attention=False,
    )  # fmt: skip
    return Generator(unet, vae, Schedule(), patch=2, picture_size=SIDE, tokens=(SIDE * SIDE // 4, 4 + PLACE))


def draw_patterns(rng: np.random.Generator, count: int, never: frozenset[bytes] = frozenset()) -> NDArray[np.uint8]:
    """Random patterns (count, 10, 10) of 0 and 1; those whose bytes are in ``never`` are drawn again."""
    patterns: list[NDArray[np.uint8]] = []
    while len(patterns) < count:
        pattern = _dots(rng) if rng.random() < 0.5 else _strokes(rng)
        if pattern.tobytes() not in never:
            patterns.append(pattern)
    return np.stack(patterns)


def as_pictures(patterns: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Patterns (n, 10, 10) of 0 and 1 as pictures (n, 10, 10, 3)."""
    return np.repeat(255 * patterns[..., None], 3, axis=3)


def train_patterns(config: PatternTraining, out: Path, never: frozenset[bytes] = frozenset()) -> None:
    """Train from scratch, or go on from the checkpoints in ``out/work``; writes ``out/generator``.

    Not one of the patterns in ``never`` is learned from.
    """
    drawn = draw_patterns(np.random.default_rng(config.seed), config.patterns, never)
    pictures = torch.from_numpy(as_pictures(drawn))
    torch.manual_seed(config.seed)
    generator, accelerator = pattern_generator(), open_accelerator(config.choices(config.steps))
    _train_vae(generator, pictures, config, out / "work", accelerator)
    _train_unet(generator, pictures, config, out / "work", accelerator)
    save_generator(generator, None, out / "generator")


class Blurred(nn.Module):
    """Tokens (b, n, d) whose pixels, the first four numbers, are `uncertain`; their place is as it was."""

    def __init__(self, tokens: Tensor, least_certain: float) -> None:
        super().__init__()
        self.all, self._least = nn.Buffer(tokens, persistent=False), least_certain
        self.mean = nn.Buffer(tokens.mean(0), persistent=False)

    def forward(self, tokens: Tensor, rngs: Sequence[np.random.Generator]) -> Tensor:
        other = self.all[torch.tensor([int(rng.integers(len(self.all))) for rng in rngs], device=tokens.device)]
        certainty = self._least + (1 - self._least) * uniforms(rngs, tokens)
        share, white = uniforms(rngs, tokens), normals(rngs, tokens)
        seen = uncertain(tokens[..., :4], other[..., :4], self.mean[..., :4], certainty, share, white[..., :4])
        return torch.cat([seen, tokens[..., 4:]], 2)


def uncertain(tokens: Tensor, other: Tensor, mean: Tensor, certainty: Tensor, share: Tensor, white: Tensor) -> Tensor:
    """Tokens as a regression that explains ``certainty`` of their variance would predict them.

    A regression shrinks towards the mean by its explained variance r and errs with variance r (1 − r). Its error is no
    white noise: it looks like another picture. So here it is a random mixture of ``other`` pictures' tokens and of
    ``white`` noise of unit variance.
    """
    error = share.sqrt() * (other - mean) + (1 - share).sqrt() * white * (other - mean).std()
    return mean + certainty * (tokens - mean) + (certainty * (1 - certainty)).sqrt() * error


def _dots(rng: np.random.Generator) -> NDArray[np.uint8]:
    return (rng.random((SIDE, SIDE)) < rng.uniform(0.2, 0.8)).astype(np.uint8)


def _strokes(rng: np.random.Generator) -> NDArray[np.uint8]:
    """One to five bars, frames, blocks and diagonals, each of random place and size, one or two pixels wide."""
    pattern = np.zeros((SIDE, SIDE), np.uint8)
    for _ in range(rng.integers(1, 6)):
        (top, bottom), (left, right) = (np.sort(rng.integers(0, SIDE + 1, 2)) for _ in range(2))
        width, kind = rng.integers(1, 3), rng.choice(["bar", "pillar", "frame", "block", "falling", "rising"])
        box = np.zeros((bottom - top, right - left), np.uint8)
        if kind in ("bar", "pillar", "block"):
            box[: width if kind == "bar" else None, : width if kind == "pillar" else None] = 1
        elif kind == "frame":
            box[:] = 1
            box[width:-width, width:-width] = 0
        else:
            step = np.subtract.outer(np.arange(box.shape[0]), np.arange(box.shape[1]))
            box[(step >= 0) & (step < width)] = 1
            box = box[::-1] if kind == "rising" else box
        pattern[top:bottom, left:right] |= box
    return pattern


def _train_vae(
    generator: Generator, pictures: Tensor, config: PatternTraining, work: Path, accelerator: Accelerator
) -> None:
    vae = generator.vae
    with torch.no_grad():  # the posterior's deviation is not learned
        vae.quant_conv.weight[4:] = 0
        vae.quant_conv.bias[4:] = 2 * float(np.log(0.05))
    objective = Reconstruction(generator, 0.05, 1e-3, lambda y, x: (y - x).square().mean((1, 2, 3)))
    stage = Stage("pattern vae", config.choices(config.vae_steps), work)
    fit(stage, objective, {"vae": vae}, RandomPictures({"pictures": pictures}), accelerator, lambda step, log: None)
    vae.eval().requires_grad_(False)
    scale_latents(generator, to_unit(pictures[:512]))


def _train_unet(
    generator: Generator, pictures: Tensor, config: PatternTraining, work: Path, accelerator: Accelerator
) -> None:
    with torch.no_grad():
        tokens = PatternEncoder()(to_unit(pictures))
    mean, deviation = encode_all(generator, pictures)
    objective = Uncertainty(generator, Blurred(tokens, config.least_certain), config.dropout)
    source = RandomPictures({"tokens": tokens, "mean": mean, "deviation": deviation})
    stage = Stage("pattern unet", config.choices(config.steps), work)
    fit(stage, objective, {"unet": generator.unet}, source, accelerator, lambda step, log: None)
    generator.unet.eval()
