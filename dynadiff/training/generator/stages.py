"""Trains the small generator on drawn scenes: the VAE, then the U-Net together with the image encoder.

The scenes have numbers above every 73k id, so no picture that a phantom subject sees is among them.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional as F

from dynadiff.base.files import atomic
from dynadiff.networks.choices import Sampling
from dynadiff.networks.draws import normals, uniforms
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
from dynadiff.networks.layout import layout_tokens
from dynadiff.networks.sampling import paint
from dynadiff.phantom.scenes import CATEGORIES, draw, scene
from dynadiff.training.fit import Stage, fit
from dynadiff.training.generator.said import Said
from dynadiff.training.generator.vae import VaeTraining, encode_all, sharpen, train_vae
from dynadiff.training.logs import Log
from dynadiff.training.objective import denoising_error, uniform_timesteps
from dynadiff.training.presets import Training
from dynadiff.training.processes import open_accelerator
from dynadiff.trials.batches import RandomPictures

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
    ema: float = 0.999
    seed: int = 0

    def at_most(self, steps: int) -> "GeneratorTraining":
        """For a short run: no stage takes more steps, and no more scenes are drawn than these can see."""
        vae = replace(
            self.vae, steps=min(self.vae.steps, steps), sharpen_steps=min(self.vae.sharpen_steps, steps)
        )  # fmt: skip
        return replace(
            self, vae=vae, steps=min(self.steps, steps), uncertain_steps=min(self.uncertain_steps, steps),
            scenes=min(self.scenes, self.batch * steps),
        )  # fmt: skip

    def choices(self, steps: int, lr: float) -> Training:
        """Those of one stage."""
        return Training(
            steps=steps, batch=self.batch, lr=lr, weight_decay=0.01, warmup=200, clip=1.0, ema=self.ema,
            precision="auto", seed=self.seed,
        )  # fmt: skip


SHEET, SHEET_EVERY = 16, 500  # pictures that are looked at, and steps between two looks


def _stage(name: str, choices: Training, config: GeneratorTraining, out: Path) -> Stage:
    """Its checkpoint is gone on from with the same numbers only, those of the scenes and the tokens included."""
    own = {key: str(value) for key, value in asdict(config).items() if key != "vae"}
    return Stage(name, choices, out / "work", watch_every=SHEET_EVERY, origin=own)


def train_generator(config: GeneratorTraining, out: Path, listen: Callable[[Generator, ImageEncoder], Said]) -> None:
    """Train from scratch, or go on from the checkpoints in ``out/work``; writes ``out/generator``.

    ``listen`` gives what brains say of pictures, by the tokens and latents of the networks that it is given.
    """
    accelerator = open_accelerator(config.choices(config.steps, config.lr))
    with accelerator.main_process_first():
        pictures, labels = _scenes(config, out / "work")
    torch.manual_seed(config.seed)  # all first weights before any training, which a resumed run passes over
    generator, encoder = tiny_generator(), ImageEncoder(ImageEncoderConfig(categories=len(CATEGORIES)))
    train_vae(generator, pictures, config.vae, out, accelerator)
    latents = encode_all(generator, pictures)
    _train_together(generator, encoder, pictures, labels, latents, config, out, accelerator)
    if config.uncertain_steps:
        _train_uncertain(generator, encoder, pictures, latents, listen, config, out, accelerator)
    if config.vae.sharpen_steps:
        sharpen(generator, pictures, latents, config.vae, out, accelerator)
    if accelerator.is_main_process:
        for network in (generator.unet, generator.vae, encoder):
            network.half().cpu()  # half the size on disk; it is widened again when it is loaded
        save_generator(generator, encoder, out / "generator")
    accelerator.wait_for_everyone()


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


class Naming(nn.Module):
    """Noise predicted from the picture's own tokens, noise on them too, and its category named: error of each (b,)."""

    def __init__(self, generator: Generator, encoder: ImageEncoder, config: GeneratorTraining) -> None:
        super().__init__()
        self.unet, self.encoder, self._config = generator.unet, encoder, config
        self.abar = nn.Buffer(torch.from_numpy(generator.schedule.alphas_cumprod()).float(), persistent=False)

    def forward(
        self, pictures: Tensor, labels: Tensor, mean: Tensor, deviation: Tensor, rngs: Sequence[np.random.Generator]
    ) -> Tensor:
        tokens = self.encoder(to_unit(pictures))
        naming = F.cross_entropy(self.encoder.classify(tokens).float(), labels, reduction="none")
        seen = tokens + self._config.token_noise * uniforms(rngs, tokens) * normals(rngs, tokens)
        error = dropped_error(self.unet, self.abar, (mean, deviation), seen, self._config.dropout, rngs)
        return error + self._config.category * naming


class Uncertainty(nn.Module):
    """Noise predicted from tokens as uncertain as those that brains give, which ``say`` makes of a picture's own.

    Error per item (b,). Where the U-Net takes a layout, that is dropped in some items more.
    """

    def __init__(self, generator: Generator, say: nn.Module, dropout: float) -> None:
        super().__init__()
        self.unet, self.say, self._dropout = generator.unet, say, dropout
        self._image_tokens = generator.tokens[0]
        self.abar = nn.Buffer(torch.from_numpy(generator.schedule.alphas_cumprod()).float(), persistent=False)

    def forward(self, tokens: Tensor, mean: Tensor, deviation: Tensor, rngs: Sequence[np.random.Generator]) -> Tensor:
        image, layout = self.say(tokens.float(), rngs).tensor_split([self._image_tokens], dim=1)
        if layout.shape[1]:
            image = torch.cat([image, layout * (uniforms(rngs, layout) >= self._dropout)], 1)
        return dropped_error(self.unet, self.abar, (mean, deviation), image, self._dropout, rngs)


def dropped_error(
    unet: nn.Module, abar: Tensor, latents: tuple[Tensor, Tensor], tokens: Tensor, dropout: float,
    rngs: Sequence[np.random.Generator],
) -> Tensor:  # fmt: skip
    """Squared error (b,) of the predicted noise at uniform timesteps, the tokens of some items dropped."""
    mean, deviation = (part.float() for part in latents)
    latent, noise = mean + deviation * normals(rngs, mean), normals(rngs, mean)
    t = uniform_timesteps(uniforms(rngs, mean).flatten(), len(abar))
    kept = uniforms(rngs, tokens) >= dropout
    return denoising_error(unet, abar, latent, noise, t, tokens * kept)


def _train_together(
    generator: Generator, encoder: ImageEncoder, pictures: Tensor, labels: Tensor, latents: tuple[Tensor, Tensor],
    config: GeneratorTraining, out: Path, accelerator: Accelerator,
) -> None:  # fmt: skip
    """U-Net and image encoder, from the picture's own tokens."""
    parts: dict[str, nn.Module] = {"unet": generator.unet, "encoder": encoder}
    for part in parts.values():
        part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a fifth faster on CPU
    columns = {"pictures": pictures, "labels": labels, "mean": latents[0], "deviation": latents[1]}
    stage = _stage("generator", config.choices(config.steps, config.lr), config, out)
    objective = Naming(generator, encoder, config)
    fit(stage, objective, parts, RandomPictures(columns), accelerator, _watch(generator, encoder))
    for part in parts.values():
        part.eval()


def _train_uncertain(
    generator: Generator, encoder: ImageEncoder, pictures: Tensor, latents: tuple[Tensor, Tensor],
    listen: Callable[[Generator, ImageEncoder], Said], config: GeneratorTraining, out: Path, accelerator: Accelerator,
) -> None:  # fmt: skip
    """The U-Net learns from tokens and latents as brains say them, the encoder fixed."""
    encoder.requires_grad_(False).float().cpu()
    with accelerator.main_process_first():
        say = listen(generator, encoder)
    tokens = torch.from_numpy(encode_pictures(encoder, pictures.numpy()))
    own = torch.cat([tokens, layout_tokens(latents[0].float(), generator.tokens[1])], 1)
    columns = {"tokens": own.half(), "mean": latents[0], "deviation": latents[1]}
    stage = _stage("uncertain", config.choices(config.uncertain_steps, config.uncertain_lr), config, out)
    objective = Uncertainty(generator, say, config.dropout)
    watch = _watch(generator, encoder)
    fit(stage, objective, {"unet": generator.unet}, RandomPictures(columns), accelerator, watch)
    generator.unet.eval()


def _watch(generator: Generator, encoder: ImageEncoder) -> Callable[[int, Log], None]:
    """Unseen scenes, their VAE reconstruction, and pictures from their own tokens by 20 DDIM steps, guidance 2."""
    seen = torch.from_numpy(np.stack([draw(scene(FIRST_SCENE - 1 - k), 64)[0] for k in range(SHEET)]))

    @torch.no_grad()
    def watch(step: int, log: Log) -> None:
        device = generator.unet.device
        tokens = encoder.to(device)(to_unit(seen.to(device))).float()
        painted = paint(generator, tokens, range(SHEET), Sampling(guidance=2.0))
        mean, _ = posterior(generator, to_unit(seen.to(generator.vae.device)))
        log.sheet(step, [seen.numpy(), to_pixels(decode_latents(generator, mean)).cpu().numpy(), painted])

    return watch
