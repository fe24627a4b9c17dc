"""Trains the judge of drawn scenes, on scenes that neither a subject sees nor the generator learns from.

The drawings know their masks, categories, colours and places, so nothing is labelled by a network. What it is shown is
blurred, noisy and of other contrast at random, since it is to judge pictures that a decoder painted.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional as F

from dynadiff.base.files import atomic
from dynadiff.networks.draws import normals, uniforms
from dynadiff.phantom.scenes import CATEGORIES, draw, scene
from dynadiff.phantom.truth import class_map, hue
from dynadiff.scene_judge.network import SIZE, SceneJudge
from dynadiff.training.fit import Stage, fit
from dynadiff.training.logs import Log
from dynadiff.training.presets import Training
from dynadiff.training.processes import open_accelerator
from dynadiff.trials.batches import RandomPictures

FIRST_SCENE = 1_000_000  # NSD has 73,000 pictures, the generator's begin at 100,000
HUE, PLACE, WHERE = 0.5, 4.0, 1.0  # weights of the errors beside that of the category
BLUR, NOISE, CONTRAST, LIGHT = 2.0, 0.08, 0.25, 0.08  # largest: pixels, and of the range of values
RADIUS = 4  # pixels of the blur's kernel to each side


@dataclass(frozen=True)
class JudgeTraining:
    """The choices of the judge's training."""

    scenes: int = 30_000
    steps: int = 2500
    batch: int = 64
    lr: float = 3e-3
    seed: int = 7  # not that of the decoder's training

    @property
    def training(self) -> Training:
        return Training(
            steps=self.steps, batch=self.batch, lr=self.lr, weight_decay=0.02, warmup=100, clip=1.0, precision="bf16",
            seed=self.seed,
        )  # fmt: skip


class Judgement(nn.Module):
    """Error, per item (b,), of what the judge says of pictures (b, s, s, 3) that were made worse at random."""

    def __init__(self, judge: SceneJudge) -> None:
        super().__init__()
        self.judge = judge

    def forward(
        self, pictures: Tensor, labels: Tensor, classes: Tensor, colours: Tensor, places: Tensor,
        rngs: Sequence[np.random.Generator],
    ) -> Tensor:  # fmt: skip
        said = self.judge(worsened(pictures.permute(0, 3, 1, 2).float() / 255, rngs))
        hues = F.normalize(said["colours"].float().reshape(-1, 2, 2), dim=2)
        error = F.cross_entropy(said["category"].float(), labels, reduction="none")
        error = error + WHERE * F.cross_entropy(said["classes"].float(), classes.long(), reduction="none").mean((1, 2))
        error = error + HUE * (1 - (hues * colours.reshape(-1, 2, 2)).sum(2)).mean(1)
        whole: Tensor = error + PLACE * (said["place"].float() - places).square().sum(1)
        return whole


def worsened(pictures: Tensor, rngs: Sequence[np.random.Generator]) -> Tensor:
    """Pictures (b, 3, s, s) from 0 to 1 with a blur, noise, contrast and light of each item's own."""
    sigma, noise, contrast, light = (uniforms(rngs, pictures) for _ in range(4))
    at = torch.arange(-RADIUS, RADIUS + 1, device=pictures.device)
    kernel = torch.exp(-(at**2) / (2 * (BLUR * sigma.flatten(1) + 0.05) ** 2))  # (b, taps)
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(3, 0)
    one = F.pad(pictures, [RADIUS] * 4, mode="replicate").reshape(1, -1, *(s + 2 * RADIUS for s in pictures.shape[2:]))
    one = F.conv2d(one, kernel[:, None, :, None], groups=len(kernel))
    one = F.conv2d(one, kernel[:, None, None, :], groups=len(kernel))
    blurred = one.reshape(pictures.shape)
    changed = (blurred - 0.5) * (1 + CONTRAST * (2 * contrast - 1)) + 0.5 + LIGHT * (2 * light - 1)
    return (changed + NOISE * noise * normals(rngs, pictures)).clamp(0, 1)


def train_judge(config: JudgeTraining, out: Path) -> SceneJudge:
    """Train from scratch, or go on from the checkpoint in ``out/work``."""
    accelerator = open_accelerator(config.training)
    with accelerator.main_process_first():
        drawn = drawn_scenes(FIRST_SCENE, config.scenes, out / "work" / f"scenes-{config.scenes}.npz")
    torch.manual_seed(config.seed)
    judge = SceneJudge(len(CATEGORIES))
    stage = Stage("judge", config.training, out / "work", origin={k: str(v) for k, v in asdict(config).items()})
    fit(stage, Judgement(judge.train()), {"judge": judge}, RandomPictures(drawn), accelerator, _watch(judge, drawn))
    return judge.eval().requires_grad_(False)


def drawn_scenes(first: int, n: int, store: Path) -> dict[str, Tensor]:
    """Scenes of the numbers from ``first``, drawn once: pictures (n, 64, 64, 3) uint8 and what is true of them."""
    if not store.exists():
        rows = [_drawn(number) for number in track(range(first, first + n), "drawing scenes")]
        columns: dict[str, Any] = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
        with atomic(store) as new:
            np.savez(new, **columns)
    with np.load(store) as data:
        return {name: torch.from_numpy(data[name]) for name in data.files}


def _drawn(number: int) -> dict[str, NDArray[np.generic]]:
    what = scene(number)
    hues = np.deg2rad([hue(what.colour), hue(what.ground[0])])
    return {
        "pictures": draw(what, SIZE)[0],
        "labels": np.array(CATEGORIES.index(what.category), np.int64),
        "classes": class_map(what),
        "colours": np.array([f(angle) for angle in hues for f in (np.cos, np.sin)], np.float32),
        "places": np.array([what.x, what.y, what.size], np.float32),
    }


def _watch(judge: SceneJudge, drawn: dict[str, Tensor]) -> Callable[[int, Log], None]:
    """How well the first scenes are named, now and then: whether it learns, not how good it is."""

    @torch.no_grad()
    def watch(step: int, log: Log) -> None:
        judge.eval()
        pictures = drawn["pictures"][:256].permute(0, 3, 1, 2).float() / 255
        said = judge(pictures)["category"].argmax(1)
        log.scalars(step, named=float((said == drawn["labels"][:256]).float().mean()))
        judge.train()

    return watch
