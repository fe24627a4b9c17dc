"""What an engine is, and how it paints: the one boundary between a trained model and whoever decodes with it.

An engine is three calls. ``encode`` and ``step`` hand out and take arrays of the engine's own kind (numpy, torch,
device memory); only the window goes in and only the picture comes out. What is sampled is a table that it is given
(`dynadiff.engines.sampler`), and how, ``sample``, is the same for all of them, so two engines can differ in nothing but
the numerics of their networks; one that does all steps faster in one go than one by one has its own ``sample``. This
module imports no runtime.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dynadiff.base.documents import read_document
from dynadiff.base.errors import UserError
from dynadiff.base.files import file_digest
from dynadiff.engines.build import NETWORKS, SINGLE, Build
from dynadiff.engines.sampler import Table, networks_of, spacing_of
from dynadiff.engines.versions import VERSIONS
from dynadiff.networks.choices import Sampling, guidance_at, guidance_of
from dynadiff.networks.schedule import Schedule
from dynadiff.scores.identification import Features
from dynadiff.signal.cleaning import Cleaning

MANIFEST = "engine.json"


@dataclass(frozen=True, eq=False)
class Encoded:
    """What the brain module says of a window; `Engine.step` and `Engine.sample` take it whole.

    A brain module that says more says it in a field more, None where it does not, and no call changes.
    """

    tokens: Any  # (1, n, d)


class Engine(Protocol):
    """Brain module, one sampling step, guided or of one half, and the VAE decoder of one subject.

    Where an engine takes its own latent (1, c, h, w) or tokens (1, n, d), it takes a float32 numpy array of that shape
    as well, and a latent without its first axis. What it hands out is valid until it is called again.
    """

    mode: str = ""  # how it runs, where it has more than one way and the user should know which
    table: Table = ()  # what it samples by

    def use(self, table: Table) -> None:
        """Sample by that table from now on. UserError where this engine cannot."""
        self.table = table

    def encode(self, window: NDArray[np.float32]) -> Encoded:
        """What the brain module says of a cleaned window (voxels, volumes)."""

    def step(self, latent: Any, encoded: Encoded, i: int) -> Any:
        """Step ``i`` of the table, guidance included, from a latent to the next."""

    def render(self, latent: Any) -> NDArray[np.uint8]:
        """Final latent to an RGB picture (height, width, 3)."""

    def sample(self, noise: NDArray[np.float32], encoded: Encoded) -> Any:
        """All steps of the table, from ``noise`` (c, h, w) to the final latent; an engine may have a faster way."""
        latent: Any = noise
        for i in range(len(self.table)):
            latent = self.step(latent, encoded, i)
        return latent


def other_sampler(models: str) -> str:
    """What an engine runs, where it is not what its model is set to; "" where it is."""
    return "" if models == "ddim" else f"DDIM, where its model is set to {models.upper()}, which no engine has"


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
    sampler: Table  # that its probe is of, and that it paints with unless the user says otherwise
    schedule: Schedule  # of the noise, for another table
    files: dict[str, str]  # file name to sha256, everything in the folder but the manifest
    build: Build | None = None  # None only for the torch engine, which is not built
    spacing: str = "leading"  # the name of the sampler's timesteps: leading, ays, or listed where they have none

    @property
    def steps(self) -> int:
        return len(self.sampler)

    @property
    def guidance(self) -> float | None:
        """Of all steps; None where it differs from step to step."""
        guidance = guidance_of([row.guidance for row in self.sampler])
        return None if isinstance(guidance, tuple) else guidance

    @property
    def sampling(self) -> Sampling:
        """The table as a choice; whether its coefficients are DDIM's it does not say."""
        times = tuple(row.timestep for row in self.sampler)
        guidance = guidance_of([row.guidance for row in self.sampler])
        return Sampling("ddim", len(times), guidance, spacing=times if self.spacing == "listed" else self.spacing)

    @property
    def networks(self) -> tuple[str, ...]:
        """The names of its networks; PyTorch has all that there are."""
        known = (*NETWORKS, SINGLE)
        return known if self.build is None else tuple(name for name in known if name in self.build.networks)

    @property
    def evaluations(self) -> tuple[int, ...]:
        """How many latents the U-Net sees at each step: two, and one where the conditional half stands alone."""
        both = self.build is None or "guidance" in self.build.networks["step"].inputs
        return tuple(2 if both and name != SINGLE else 1 for name in networks_of(self.sampler, self.networks))

    @property
    def precision(self) -> str:
        return self.build.precision if self.build else "float32"

    def save(self, folder: Path) -> None:
        (folder / MANIFEST).write_text(VERSIONS.write(self))

    @classmethod
    def load(cls, folder: Path) -> "Manifest":
        """Read and check a manifest and the files it lists; an altered or missing file is the user's to mend."""
        path = folder / MANIFEST
        try:
            manifest = cls.parse(path.read_bytes(), path)
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
    def parse(cls, text: bytes | str, source: object = MANIFEST) -> "Manifest":
        """The manifest that a file says. Raises ValueError where it is none of an engine that was built."""
        manifest = read_document(VERSIONS.current(text, source), cls)
        if manifest.build is None:
            raise ValueError("it does not say how the engine was built")
        if not manifest.sampler:
            raise ValueError("its sampler has no step")
        times = tuple(row.timestep for row in manifest.sampler)
        manifest.schedule.timesteps(len(times), times)  # that fall, and that it has
        guidance_at(tuple(row.guidance for row in manifest.sampler), times)
        if manifest.spacing != spacing_of(manifest.sampler, manifest.schedule):
            raise ValueError(f"the timesteps of its sampler are not {manifest.spacing}")
        if SINGLE in manifest.networks and len(set(networks_of(manifest.sampler, manifest.networks))) < 2:
            raise ValueError("its sampler does not need the two step networks that it has")
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
class Decoder:
    """An engine ready to paint, with what it must be fed."""

    engine: Engine
    manifest: Manifest
    mask: NDArray[np.bool_]  # (x, y, z), manifest.voxels of them True
    affine: NDArray[np.float64]  # (4, 4), of the mask's voxels to scanner space in mm, RAS+
    scorer: Features | None = None  # the feature space in which its pictures are compared, if it brings one


def paint(engine: Engine, window: NDArray[np.float32], noise: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Decode one cleaned window (voxels, volumes) from initial ``noise`` (c, h, w) to a picture (h, w, 3)."""
    return engine.render(engine.sample(noise, engine.encode(window)))
