"""What a scanner and a body add to the signal: noise as slow, as wide and as uneven as that of real recordings.

Knows voxels and volumes; knows no pictures. The constants were fitted to two recordings, the studyforrest localizer
(3 T, TR 2 s) and the one-slice reduction of Haxby et al. (TR 2.5 s), by `benchmarks/noise.py`, which prints them beside
the phantom. They say nothing above 0.25 Hz: what is fitted below that is continued as a first-order process and white
noise.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.signal import lfilter

from dynadiff.phantom.head import Field, Head, smooth_fields, uneven_fields
from dynadiff.recordings.nsd_facts import TR, VOLUMES

MEMORY_S = 3.0  # of what voxels share: correlated by exp(-t / memory) at t seconds
NEAR_VOXELS, REGION_VOXELS = 1.5, 5.5  # 2.7 and 9.9 mm: how far what neighbours and regions share reaches
BENDS = 3  # cosines of 2, 3 and 4 half periods in a run
REGIONS = 16  # patterns that a region's noise is made of: vessels, breath, motion; they stay with the subject


@dataclass(frozen=True)
class Noise:
    """How much there is of it, of the typical voxel."""

    deviation: float = 1.1  # percent of the baseline, without what follows below
    spread: float = 0.55  # standard deviation of its logarithm over voxels
    near: float = 0.14  # share of the variance that neighbours have in common
    region: float = 0.05  # and regions
    whole: float = 0.04  # and the whole brain; the rest is white
    drift: float = 1.25  # percent of the baseline at the end of a line through the run
    bend: float = 0.3  # percent, of the slow curves on that line
    spikes: float = 0.5  # expected number in a run of one-volume displacements
    displacement: float = 0.15  # voxels


class Fluctuation:
    """The noise of one subject's brain."""

    def __init__(self, rng: np.random.Generator, head: Head, noise: Noise) -> None:
        self.noise, self._brain = noise, head.brain
        shape = head.brain.shape
        uneven = uneven_fields(rng, 1, shape)[0]
        self._deviation = noise.deviation * np.exp(noise.spread * uneven[self._brain])
        self._regions = smooth_fields(rng, REGIONS, shape, REGION_VOXELS)[:, self._brain] / np.sqrt(REGIONS)
        self._whole = 1 + np.float32(0.3) * smooth_fields(rng, 1, shape, 3.0)[0, self._brain]
        self._slope = np.array(np.gradient(head.baseline), np.float32)[:, self._brain]  # per voxel

    def draw(self, rng: np.random.Generator) -> Field:
        """Of a run, (226, brain voxels) in percent of the baseline."""
        noise, voxels = self.noise, len(self._deviation)
        white = rng.standard_normal((VOLUMES, voxels), np.float32)
        near = self._neighbours(coloured(rng, (VOLUMES, *self._brain.shape)))
        region = coloured(rng, (VOLUMES, REGIONS)) @ self._regions
        whole = coloured(rng, (VOLUMES, 1)) * self._whole
        series = np.sqrt(1 - noise.near - noise.region - noise.whole) * white
        for share, part in ((noise.near, near), (noise.region, region), (noise.whole, whole)):
            series += np.float32(np.sqrt(share)) * part
        series *= self._deviation
        drifting = smooth_fields(rng, 1 + BENDS, self._brain.shape, 3.0)[:, self._brain]
        amounts = np.array([noise.drift, *(noise.bend * np.sqrt(2 / BENDS) * np.ones(BENDS))], np.float32)
        series += (_slow_curves() * amounts) @ drifting
        return np.asarray(series, np.float32)

    def displace(self, rng: np.random.Generator, series: Field) -> None:
        """Move the head for a volume, here and there, in a run (226, brain voxels) in scanner units."""
        for volume in rng.integers(VOLUMES, size=rng.poisson(self.noise.spikes)):
            series[volume] += (self.noise.displacement * rng.standard_normal(3, np.float32)) @ self._slope

    def _neighbours(self, volumes: Field) -> Field:
        """White over voxels, made alike among neighbours, of unit variance."""
        smooth = gaussian_filter(volumes, (0, *3 * (NEAR_VOXELS,)), mode="wrap", truncate=3.0)[:, self._brain]
        impulse = np.zeros(self._brain.shape, np.float32)
        impulse[tuple(np.array(impulse.shape) // 2)] = 1
        kept = np.square(gaussian_filter(impulse, NEAR_VOXELS, mode="wrap", truncate=3.0)).sum()
        return np.asarray(smooth / np.sqrt(kept), np.float32)


def coloured(rng: np.random.Generator, shape: tuple[int, ...]) -> Field:
    """Noise over the volumes of a run, the first axis: a first-order process of unit variance."""
    rho = np.float32(np.exp(-TR / MEMORY_S))
    white = rng.standard_normal(shape, np.float32)
    white[1:] *= np.sqrt(1 - rho**2)
    return np.asarray(lfilter(np.ones(1, np.float32), np.array([1, -rho], np.float32), white, axis=0), np.float32)


def _slow_curves() -> Field:
    """A line from -1 to 1 and the cosines, (226, 1 + BENDS)."""
    t = np.linspace(-1, 1, VOLUMES)
    return np.stack([t, *(np.cos(np.pi * k * (t + 1) / 2) for k in range(2, 2 + BENDS))], axis=1).astype(np.float32)
