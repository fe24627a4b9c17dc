"""The frame of every training loop: numbered steps that checkpoint and resume, a learning rate, a log, sample sheets.

Each step draws all its randomness from (seed, step): a run that is interrupted and resumed is the run that was not.
Knows networks as modules with parameters; knows nothing of pictures' meaning, brains or losses.
"""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import nn

from dynadiff.base.files import atomic
from dynadiff.training.checkpoint import load_checkpoint, save_checkpoint

CHECKPOINT_EVERY = 250


def lr_factor(step: int, steps: int, warmup: int) -> float:
    """Linear warm-up, then a cosine to zero."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def steps_from(
    path: Path, modules: dict[str, nn.Module], optimiser: torch.optim.Optimizer, steps: int, lr: float, warmup: int,
    seed: int, description: str,
) -> Iterator[int]:  # fmt: skip
    """Yield the steps still to be done, each with its learning rate set and torch reseeded; checkpoints as it goes."""
    done, _ = load_checkpoint(path, modules, optimiser)
    for step in track(range(done, steps), description, total=steps, completed=done):
        for group in optimiser.param_groups:
            group["lr"] = lr * lr_factor(step, steps, warmup)
        torch.manual_seed(seed * 1_000_003 + step)
        yield step
        if (step + 1) % CHECKPOINT_EVERY == 0 or step + 1 == steps:
            save_checkpoint(path, step + 1, modules, optimiser)


def log_to(path: Path, done: int | None = None) -> Callable[..., None]:
    """A function that appends its keyword arguments as one JSON line.

    Lines of steps after ``done`` are dropped first: they were lost with what came after the last checkpoint.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if done is not None and path.exists():
        lines = [line for line in path.read_text().splitlines() if json.loads(line)["step"] <= done]
        with atomic(path) as new:
            new.write_text("".join(f"{line}\n" for line in lines))

    def log(**values: float) -> None:
        with path.open("a") as file:
            file.write(json.dumps({k: round(v, 6) for k, v in values.items()}) + "\n")

    return log


def save_sheet(path: Path, rows: list[NDArray[np.uint8]]) -> None:
    """Write rows of pictures, each (n, h, w, 3), under each other as one PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet = np.vstack([np.hstack(list(row)) for row in rows])
    cv2.imwrite(str(path), np.ascontiguousarray(sheet[..., ::-1]))
