"""Painting the pictures that are to be scored: shared by processes, kept on disk, gone on with after an interruption.

Knows tokens, generators and a folder; knows no brain and no score.
"""

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object
from numpy.typing import NDArray
from torch import Tensor

from dynadiff.base.errors import UserError
from dynadiff.base.files import atomic
from dynadiff.base.random import initial_noise
from dynadiff.networks.choices import Sampling
from dynadiff.networks.generator import Generator
from dynadiff.networks.sampling import paint

BATCH = 64  # pictures of one pass through the U-Net, where they are small
PIXELS = 8 * 512**2  # of one pass: eight pictures as large as Versatile Diffusion's take the VAE to about 4 GB


def batch_of(side: int, most: int) -> int:
    """How many pictures (side, side) go through a network at once: by their size alone, never by the machine's."""
    return max(1, min(most, PIXELS // side**2))


def paint_all(
    generator: Generator, tokens: NDArray[np.float32], sampling: Sampling, null: Tensor | None = None,
    accelerator: Accelerator | None = None,
) -> NDArray[np.uint8]:  # fmt: skip
    """Pictures (n, s, s, 3) of tokens (n, k, d); all start from the same noise.

    Processes take whole batches in turn, so that a batch, and hence a picture, is the same however many there are.
    """
    device = accelerator.device if accelerator else torch.device("cpu")
    first, step = (accelerator.process_index, accelerator.num_processes) if accelerator else (0, 1)
    noise = torch.from_numpy(initial_noise(sampling.seed, generator.latent_shape)).to(device)
    moved(generator, device)
    batch = batch_of(generator.picture_size, BATCH)
    starts = range(0, len(tokens), batch)
    mine = []
    for start in starts[first::step]:
        part = torch.from_numpy(tokens[start : start + batch]).to(device)
        mine.append((start, paint(generator, part, range(start, start + len(part)), sampling, null, noise)))
    everyones = gather_object(mine) if accelerator and step > 1 else mine
    return np.concatenate([pictures for _, pictures in sorted(everyones, key=lambda one: one[0])])


def moved(generator: Generator, device: torch.device) -> None:
    """Put a generator's networks there."""
    for network in (generator.unet, generator.vae):
        network.to(device)


class Kept:
    """Pictures in a folder, each file under the digest of what its pictures follow from."""

    def __init__(self, folder: Path, origin: str, accelerator: Accelerator | None = None) -> None:
        """``origin`` says everything that pictures follow from but their own name: model, trials, libraries."""
        self._folder, self._origin, self._accelerator = folder, origin, accelerator

    def pictures(self, name: str, make: Callable[[], NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """Those of that name, from the folder or else made; every process makes, the first writes."""
        digest = hashlib.sha256(f"{self._origin}/{name}".encode()).hexdigest()[:16]
        path = self._folder / f"{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}-{digest}.npz"
        if self._is_there(path):
            return _read(path)
        made = make()
        if self._accelerator is None or self._accelerator.is_main_process:
            self._folder.mkdir(parents=True, exist_ok=True)
            with atomic(path) as new:
                np.savez_compressed(new, pictures=made)
        return made

    def _is_there(self, path: Path) -> bool:
        """As the first process sees it, so that all go the same way."""
        there = [path.exists()]
        if self._accelerator is not None:
            broadcast_object_list(there)
        return there[0]


def _read(path: Path) -> NDArray[np.uint8]:
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            return np.asarray(file["pictures"], np.uint8)
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise UserError(f"{path} cannot be read ({error}): remove it, and let all processes share one --out") from None
