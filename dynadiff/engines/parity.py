"""How far an engine is from the reference, per network and over the whole sampling loop. Numpy and two engines.

Per network, both are given what the reference made so far, so that each error is one network's own; over the loop,
each goes its own way from the same window and noise, so that errors add up as they do in use.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dynadiff.base.random import initial_noise
from dynadiff.engines.contract import Decoder, Encoded, Engine, Manifest
from dynadiff.engines.probe import TOLERANCES, fetch

WINDOWS = 3
PARTS = ("brain module", "one step", "VAE decoder", "whole loop, latent", "whole loop, picture")


@dataclass(frozen=True)
class Error:
    """Of one part, over all windows: in its own unit, which is levels of 0 to 255 for pictures."""

    part: str
    scale: float  # largest value of the reference, 255 for pictures
    largest: float
    mean: float
    allowed: float  # of the mean for pictures, of the largest for the rest

    @property
    def within(self) -> bool:
        return bool((self.mean if self.scale == 255 else self.largest) <= self.allowed)


def noise_windows(manifest: Manifest, n: int = WINDOWS) -> list[NDArray[np.float32]]:
    """Windows (voxels, volumes) of standardised noise, the same at every call."""
    rng = np.random.default_rng(0)
    return [rng.standard_normal((manifest.voxels, manifest.window_length), np.float32) for _ in range(n)]


def compare(reference: Engine, other: Decoder) -> list[Error]:
    """The error of each part of ``other`` by its table, which is the reference's too from then on."""
    reference.use(other.engine.table)
    manifest, tolerance = other.manifest, TOLERANCES[other.manifest.precision]
    noise = initial_noise(0, manifest.latent_shape)
    pairs: dict[str, list[tuple[NDArray[np.float64], NDArray[np.float64]]]] = {part: [] for part in PARTS}
    for window in noise_windows(manifest):
        for part, ours, theirs in _outputs(reference, other.engine, window, noise):
            pairs[part].append((ours.astype(np.float64), theirs.astype(np.float64)))
    allowed = dict.fromkeys(PARTS[:2], tolerance.values) | {PARTS[3]: tolerance.loop}
    errors = []
    for part, both in pairs.items():
        scale = 255.0 if part not in allowed else max(float(np.abs(theirs).max()) for _, theirs in both)
        off = np.stack([np.abs(ours - theirs) for ours, theirs in both])
        most = scale * allowed[part] if part in allowed else tolerance.levels
        errors.append(Error(part, scale, float(off.max()), float(off.mean()), most))
    return errors


def _outputs(
    reference: Engine, other: Engine, window: NDArray[np.float32], noise: NDArray[np.float32]
) -> Iterable[tuple[str, NDArray[np.generic], NDArray[np.generic]]]:
    """Part, what the engine makes of it and what the reference does."""
    encoded = Encoded(fetch(reference.encode(window).tokens))
    yield PARTS[0], fetch(other.encode(window).tokens), encoded.tokens
    latent = noise[None]
    for i in range(len(other.table)):
        after = fetch(reference.step(latent, encoded, i))
        yield PARTS[1], fetch(other.step(latent, encoded, i)), after
        latent = after
    picture = reference.render(latent)
    yield PARTS[2], other.render(latent), picture
    own = other.sample(noise, other.encode(window))
    yield PARTS[3], fetch(own), latent
    yield PARTS[4], other.render(own), picture
