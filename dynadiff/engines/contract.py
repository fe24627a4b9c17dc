"""What an engine is, and how it paints: the one boundary between a trained model and whoever decodes with it.

An engine is three calls. ``encode`` and ``step`` hand out and take arrays of the engine's own kind (numpy, torch,
device memory); only the window goes in and only the picture comes out. The sampler, ``sample``, is the same for all of
them, so two engines can differ in nothing but the numerics of three networks; one that does all steps faster in one go
than one by one has its own. This module imports no runtime.
"""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dynadiff.base.documents import read_document, write_document
from dynadiff.base.errors import UserError
from dynadiff.base.files import file_digest
from dynadiff.engines.build import Build
from dynadiff.networks.schedule import Schedule
from dynadiff.scores.identification import Features
from dynadiff.signal.cleaning import Cleaning

MANIFEST = "engine.json"


class Engine(Protocol):
    """Brain module, one guided sampling step, and the VAE decoder of one subject.

    Where an engine takes its own latent (1, c, h, w) or tokens (1, n, d), it takes a float32 numpy array of that shape
    as well, and a latent without its first axis. What it hands out is valid until it is called again.
    """

    mode: str = ""  # how it runs, where it has more than one way and the user should know which

    def encode(self, window: NDArray[np.float32]) -> Any:
        """Cleaned window (voxels, volumes) to image tokens."""

    def step(self, latent: Any, tokens: Any, i: int) -> Any:
        """Sampling step ``i`` of the latent, guidance included."""

    def render(self, latent: Any) -> NDArray[np.uint8]:
        """Final latent to an RGB picture (height, width, 3)."""

    def sample(self, noise: NDArray[np.float32], tokens: Any, steps: int) -> Any:
        """All sampling steps, from ``noise`` (c, h, w) to the final latent; an engine may have a faster way."""
        latent: Any = noise
        for i in range(steps):
            latent = self.step(latent, tokens, i)
        return latent


@dataclass(frozen=True)
class Manifest:
    """What a decoder must know of an engine before it loads it; stored as ``engine.json`` in the engine's folder."""

    kind: str  # onnx, trt or trt-rtx
    subject: str  # whose brain: models do not transfer between subjects
    tr: float  # seconds
    voxels: int
    mask_sha256: str  # of the mask as stored in this folder, see mask_digest
    window_offset: int  # volumes from the picture's onset to the first volume of the window
    window_length: int  # volumes
    cleaning: Cleaning  # what the windows of training went through
    latent_shape: tuple[int, int, int]
    picture_size: int  # pixels, square
    steps: int
    guidance: float
    schedule: Schedule
    files: dict[str, str]  # file name to sha256, everything in the folder but the manifest
    build: Build | None = None  # None only for the torch engine, which is not built

    @property
    def precision(self) -> str:
        return self.build.precision if self.build else "float32"

    def save(self, folder: Path) -> None:
        (folder / MANIFEST).write_text(write_document(self))

    @classmethod
    def load(cls, folder: Path) -> "Manifest":
        """Read and check a manifest and the files it lists; an altered or missing file is the user's to mend."""
        path = folder / MANIFEST
        try:
            manifest = cls.parse(path.read_bytes())
        except FileNotFoundError:
            raise UserError(
                f"no engine in {folder}: make one with `dynadiff export onnx --model MODEL --out {folder}`"
            ) from None
        except ValueError as error:
            raise UserError(
                f"{path} is not an engine manifest of this version ({error}): export the engine again"
            ) from None
        for name in manifest.files:
            manifest.check(folder, name)
        return manifest

    @classmethod
    def parse(cls, text: bytes | str) -> "Manifest":
        """The manifest that a file says. Raises ValueError where it is none of an engine that was built."""
        manifest = read_document(text, cls)
        if manifest.build is None:
            raise ValueError("it does not say how the engine was built")
        for name in manifest.files:
            if name in ("", ".", "..", MANIFEST) or set(name) & set("/\\\0"):
                raise ValueError(f"{name!r} is no name of a file in this folder")
        return manifest

    def check(self, folder: Path, name: str) -> None:
        """UserError unless the file is the one that was exported."""
        if not (folder / name).is_file() or file_digest(folder / name) != self.files.get(name):
            raise UserError(f"{folder / name} is missing or not the file that was exported: export the engine again")

    def read(self, folder: Path, name: str) -> bytes:
        """The bytes of a file that the manifest lists; what is given back is what was checked."""
        content = (folder / name).read_bytes() if (folder / name).is_file() else b""
        if hashlib.sha256(content).hexdigest() != self.files.get(name):
            raise UserError(f"{folder / name} is missing or not the file that was exported: export the engine again")
        return content


@dataclass(frozen=True)
class Sampler:
    """What a user may change about the sampling of an engine; None keeps what its manifest says."""

    steps: int | None = None
    guidance: float | None = None

    def over(self, manifest: Manifest) -> Manifest:
        steps = manifest.steps if self.steps is None else self.steps
        return replace(manifest, steps=steps, guidance=manifest.guidance if self.guidance is None else self.guidance)


ENGINES_OWN = Sampler()


@dataclass(frozen=True)
class Decoder:
    """An engine ready to paint, with what it must be fed."""

    engine: Engine
    manifest: Manifest
    mask: NDArray[np.bool_]  # (x, y, z), manifest.voxels of them True
    affine: NDArray[np.float64]  # (4, 4), of the mask's voxels to scanner space in mm, RAS+
    scorer: Features | None = None  # the feature space in which its pictures are compared, if it brings one


def paint(engine: Engine, window: NDArray[np.float32], noise: NDArray[np.float32], steps: int) -> NDArray[np.uint8]:
    """Decode one cleaned window (voxels, volumes) from initial ``noise`` (c, h, w) to a picture (h, w, 3)."""
    return engine.render(engine.sample(noise, engine.encode(window), steps))


def step_inputs(manifest: Manifest, names: set[str]) -> dict[str, NDArray[Any]]:
    """What step i is given beside latent and tokens, as row i of an array for each of those names of the step graph.

    Raises UserError where the graph was exported for guidance 1, without the unconditional half, and another is asked.
    """
    steps, schedule = manifest.steps, manifest.schedule
    if "guidance" not in names and manifest.guidance != 1:
        raise UserError(
            f"the engine was exported for guidance 1, not {manifest.guidance:g}: export it again for that guidance"
        )
    known: dict[str, NDArray[Any]] = {
        "timestep": schedule.timesteps(steps)[:, None], "coefficients": schedule.ddim(steps).astype(np.float32),
        "guidance": np.full(steps, manifest.guidance, np.float32),
    }  # fmt: skip
    return {name: rows for name, rows in known.items() if name in names}
