"""The parity probe: one fixed input of a decoder and what the torch engine makes of it in float32.

Every engine folder carries one. An engine is opened only if it gives the same, so that a wrong one, on whatever
runtime and GPU, never shows a picture. Numpy only; the file is read without pickle.
"""

import io
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from dynadiff.base.errors import UserError
from dynadiff.engines.build import SINGLE
from dynadiff.engines.contract import Encoded, Engine, Manifest
from dynadiff.engines.sampler import networks_of

PROBE = "probe.npz"
SEED = 0


@dataclass(frozen=True)
class Tolerance:
    """Largest errors at which an engine still counts as the same decoder."""

    values: float  # of tokens and of the latent after one step: largest error, relative to the largest value
    loop: float  # of the latent after all steps, likewise
    levels: float  # of the picture: mean error in levels of 0 to 255


# The embedded decoder in ONNX Runtime is off by 5e-7 and over the loop 2e-6 in float32, by 4e-4, 2e-3 and 0.04 levels
# in half; other runtimes sum in other orders. A wrong weight, subject or binding is off by percents and more.
TOLERANCES = {"float32": Tolerance(1e-4, 1e-3, 0.1), "float16": Tolerance(1e-2, 5e-2, 1.0)}


@dataclass(frozen=True, eq=False)
class Probe:
    window: NDArray[np.float16]  # (voxels, volumes), and widened where it is used
    noise: NDArray[np.float16]  # (c, h, w)
    tokens: NDArray[np.float32]  # (1, n, d)
    first: NDArray[np.float32]  # latent (1, c, h, w) after the first step
    last: NDArray[np.float32]  # and after all of them
    picture: NDArray[np.uint8]  # (h, w, 3)
    single: NDArray[np.float32] | None = None  # latent after the first step of one half alone, taken from the noise

    def save(self, folder: Path) -> None:
        np.savez_compressed(
            folder / PROBE, **{name: values for name, values in asdict(self).items() if values is not None}
        )

    @classmethod
    def load(cls, folder: Path, manifest: Manifest) -> "Probe":
        if PROBE not in manifest.files:
            raise UserError(f"the engine in {folder} carries no probe to check it with: export the engine again")
        try:
            with np.load(io.BytesIO(manifest.read(folder, PROBE)), allow_pickle=False) as file:
                return cls(**file)
        except (BadZipFile, ValueError, TypeError) as error:
            raise UserError(f"{folder / PROBE} is no probe ({error}): export the engine again") from None


def make_probe(reference: Engine, manifest: Manifest) -> Probe:
    """What the reference engine makes of noise by the manifest's table, which it must have."""
    rng = np.random.default_rng(SEED)
    window = rng.standard_normal((manifest.voxels, manifest.window_length), np.float32).astype(np.float16)
    noise = rng.standard_normal(manifest.latent_shape, np.float32).astype(np.float16)
    start = noise.astype(np.float32)
    tokens = fetch(reference.encode(window.astype(np.float32)).tokens)
    first = fetch(reference.step(start, Encoded(tokens), 0))
    last = fetch(reference.sample(start, Encoded(tokens)))
    alone = _first_alone(manifest)
    single = None if alone is None else fetch(reference.step(start, Encoded(tokens), alone))
    return Probe(window, noise, tokens, first, last, reference.render(last), single)


def _first_alone(manifest: Manifest) -> int | None:
    """The first step of one half alone, where the table mixes both kinds."""
    networks = networks_of(manifest.sampler, manifest.networks)
    return networks.index(SINGLE) if {SINGLE, "step"} <= set(networks) else None


def check_probe(engine: Engine, probe: Probe, manifest: Manifest, name: str) -> None:
    """UserError unless each network of the engine, which has the manifest's table, gives what the probe expects.

    One step of each kind is taken, which is quick on any machine; all of them only where the engine has its own way of
    doing that.
    """
    allowed = TOLERANCES[manifest.precision]
    noise, encoded = probe.noise.astype(np.float32), Encoded(probe.tokens)
    tokens = relative_error(fetch(engine.encode(probe.window.astype(np.float32)).tokens), probe.tokens)
    first = relative_error(fetch(engine.step(noise, encoded, 0)), probe.first)
    errors = [("brain module", tokens, allowed.values), ("sampling step", first, allowed.values)]
    alone = _first_alone(manifest)
    if alone is not None:
        if probe.single is None:
            raise UserError(f"the {name} carries no probe of its step of one half: export the engine again")
        error = relative_error(fetch(engine.step(noise, encoded, alone)), probe.single)
        errors.append(("step of one half", error, allowed.values))
    if _has_its_own_loop(engine):
        last = relative_error(fetch(engine.sample(noise, encoded)), probe.last)
        errors.append(("sampling loop", last, allowed.loop))
    levels, _ = level_errors(engine.render(probe.last), probe.picture)
    for part, error, most in (*errors, ("picture in levels", levels, allowed.levels)):
        _refuse_over(part, error, most, manifest, name)


def check_loop(engine: Engine, probe: Probe, manifest: Manifest, name: str) -> None:
    """UserError unless all steps of the engine's table in one go, where it has such a way, are its steps one by one.

    For a table that the probe is not of: the networks were held against PyTorch before, and are the same.
    """
    if _has_its_own_loop(engine):
        noise, encoded = probe.noise.astype(np.float32), Encoded(probe.tokens)
        one_by_one = fetch(Engine.sample(engine, noise, encoded))
        error = relative_error(fetch(engine.sample(noise, encoded)), one_by_one)
        _refuse_over("sampling loop", error, TOLERANCES[manifest.precision].loop, manifest, name)


def _has_its_own_loop(engine: Engine) -> bool:
    return type(engine).sample is not Engine.sample


def _refuse_over(part: str, error: float, most: float, manifest: Manifest, name: str) -> None:
    if not error <= most:  # nan is a failure
        raise UserError(
            f"the {name} is not the decoder it was made from: its {part} is off by {error:.2g}, and {most:g} is "
            f"allowed in {manifest.precision}: export the engine again"
        )


def relative_error(ours: NDArray[Any], reference: NDArray[Any]) -> float:
    """Largest error relative to the largest value; infinite where the shapes differ."""
    if ours.shape != reference.shape:
        return float("inf")
    return float(np.abs(ours.astype(np.float64) - reference).max() / np.abs(reference).max())


def level_errors(ours: NDArray[np.uint8], reference: NDArray[np.uint8]) -> tuple[float, float]:
    """Mean and largest difference of two pictures, in levels; infinite where the shapes differ."""
    if ours.shape != reference.shape:
        return float("inf"), float("inf")
    off = np.abs(ours.astype(int) - reference)
    return float(off.mean()), float(off.max())


def fetch(values: Any) -> NDArray[np.float32]:
    """A copy, as numpy, of what an engine handed out; torch keeps arrays of a GPU to itself until they are moved."""
    return np.asarray(values.cpu() if hasattr(values, "cpu") else values).astype(np.float32)
