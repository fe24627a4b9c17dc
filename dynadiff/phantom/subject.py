"""A synthetic subject in a synthetic scanner: the volumes that a run of scenes would have given.

Knows scenes, tuning, haemodynamics and noise; knows no files. A run follows from seed, subject, session and
file run alone. No NSD data went into it: published figures set the amplitudes only.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dynadiff.phantom.design import design
from dynadiff.phantom.features import Features, features
from dynadiff.phantom.head import Field, Head, Shape, Tuning, make_head, make_tuning, smooth_fields
from dynadiff.recordings.nsd_facts import TR, VOLUMES

VERSION = 1  # of the phantom: another one gives other volumes
SHAPES: dict[int, Shape] = {
    1: (24, 28, 20), 2: (25, 27, 21), 3: (24, 27, 21), 4: (26, 26, 20),
    5: (23, 28, 21), 6: (25, 28, 20), 7: (24, 26, 22), 8: (25, 26, 21),
}  # fmt: skip
PICTURE_S = 3.0
HRF_VOLUMES = 24  # 32 s
HRF_PEAK_S, HRF_SPREAD_S = 5.3, 0.3  # of the response to an impulse; its delay varies by at most 0.7 s
COMPRESSION = 0.6
EVOKED = 4.0  # mean response to a picture, in standard deviations over pictures
REFERENCE = range(1_000_000, 1_000_128)  # scenes outside every tree that set each voxel's mean and deviation


@dataclass(frozen=True)
class Noise:
    """Standard deviations in percent of the baseline, typical voxel."""

    response: float = 0.25  # of the responses to pictures: this is signal, everything below is noise
    autoregressive: float = 0.9  # AR(1), coefficient 0.3 to 0.4 at the TR
    thermal: float = 0.4  # white
    physiology: float = 0.5  # heart and breath as aliased by the TR, and slow fluctuation; shared between voxels
    drift: float = 1.0  # a line and three slow cosines
    spikes: float = 0.5  # expected number in a run of one-volume displacements
    displacement: float = 0.15  # voxels


class Phantom:
    """One subject. ``shape`` is that of its volumes; without it the subject's own of `SHAPES`."""

    def __init__(self, subject: int, seed: int = 0, shape: Shape | None = None, noise: Noise | None = None) -> None:
        self.subject, self.seed, self.noise = subject, seed, noise or Noise()
        rng = np.random.default_rng([seed, subject])
        shape = shape or SHAPES[subject]
        self.head: Head = make_head(rng, shape)
        self.tuning: Tuning = make_tuning(rng, self.head)
        visual, brain = self.head.nsdgeneral > 0, self.head.brain
        delay, dispersion, strength = smooth_fields(rng, 3, shape, 2.0)[:, visual]
        self.hrf: Field = haemodynamic_response(HRF_SPREAD_S * delay, np.exp(0.08 * dispersion))
        self._strength = np.exp(0.35 * strength.clip(-2, 2))  # of the response, around 1
        self._rho = (0.35 + 0.025 * smooth_fields(rng, 1, shape, 2.0)[0, brain]).clip(0.3, 0.4)
        self._gain = np.exp(0.2 * smooth_fields(rng, 1, shape, 1.0)[0, brain])  # of the noise, around 1
        self._shared = smooth_fields(rng, 6, shape, 2.5)[:, brain] / np.sqrt(6)
        self._drifting = smooth_fields(rng, 4, shape, 3.0)[:, brain] / 2
        self._slope = np.array(np.gradient(self.head.baseline), np.float32)[:, brain]  # per voxel
        self._visual = self.head.nsdgeneral[brain] > 0
        self._responses: dict[int, Field] = {}
        raw = np.array([self._drive(seen) for seen in _reference()])
        self._mean, self._deviation = raw.mean(axis=0), raw.std(axis=0)

    def responses(self, scenes: NDArray[np.integer]) -> Field:
        """Of each voxel of nsdgeneral to each scene: (scenes, V), mean `EVOKED`, variance 1 over scenes."""
        for number in set(scenes.tolist()) - self._responses.keys():
            self._responses[number] = EVOKED + (self._drive(features(number)) - self._mean) / self._deviation
        return np.array([self._responses[number] for number in scenes.tolist()], np.float32).reshape(
            len(scenes), len(self._mean)
        )

    def run(self, session: int, run: int) -> NDArray[np.int16]:
        """Volumes (x, y, z, 226) of the run of that file number, 0 outside the brain."""
        rng = np.random.default_rng([self.seed, self.subject, session, run])
        rows = design(self.seed).file_rows(self.subject, session, run)
        percent = self._fluctuation(rng)
        percent[:, self._visual] += self.signal(rows)
        baseline = self.head.baseline[self.head.brain] * np.float32(rng.normal(1, 0.02))
        series = baseline * (1 + percent / 100)
        for volume in rng.integers(VOLUMES, size=rng.poisson(self.noise.spikes)):
            series[volume] += (self.noise.displacement * rng.standard_normal(3, np.float32)) @ self._slope
        volumes = np.zeros((*self.head.brain.shape, VOLUMES), np.int16)
        volumes[self.head.brain] = np.rint(series).clip(0, np.iinfo(np.int16).max).T
        return volumes

    def signal(self, rows: NDArray[np.integer]) -> Field:
        """What the pictures of a run add, (226, V) in percent of the baseline; responses add up linearly."""
        onsets = np.flatnonzero(rows)
        evoked = self.responses(rows[onsets]) * (self._strength * self.noise.response)
        signal = np.zeros((VOLUMES + HRF_VOLUMES, evoked.shape[1]), np.float32)
        for lag, weight in enumerate(self.hrf):
            signal[onsets + lag] += evoked * weight
        return signal[:VOLUMES]

    def _drive(self, seen: Features) -> Field:
        """Compressed drive of every visual voxel by a scene, before it is scaled."""
        tuning = self.tuning
        maps = np.concatenate([seen.gabor, seen.colour, seen.mask[None]]).reshape(-1, len(tuning.pooling))
        pooled = (maps @ tuning.pooling).T
        n_gabor = len(seen.gabor)
        contours = (pooled[:, :n_gabor] * tuning.gabor).sum(axis=1)
        colour = (pooled[:, n_gabor:-1] * tuning.colour).sum(axis=1)
        objects = pooled[:, -1] * tuning.category[:, seen.category]
        # Each drive is divided by its typical size, so that the shares of an area mean what they say.
        typical = np.array([0.02, 0.08, 0.02], np.float32)
        drive = (np.column_stack([contours, colour, objects]) / typical * tuning.drives).sum(axis=1)
        return np.asarray(drive**COMPRESSION, np.float32)

    def _fluctuation(self, rng: np.random.Generator) -> Field:
        """Noise of every brain voxel, (226, brain voxels) in percent of the baseline."""
        noise, voxels = self.noise, len(self._rho)
        series = rng.standard_normal((VOLUMES, voxels), np.float32)
        series[1:] *= np.sqrt(1 - self._rho**2)
        for t in range(1, VOLUMES):
            series[t] += self._rho * series[t - 1]
        series *= noise.autoregressive
        series += noise.thermal * rng.standard_normal((VOLUMES, voxels), np.float32)
        series += noise.physiology * (_physiology(rng) @ self._shared)
        series *= self._gain
        series += noise.drift * (_drift(rng) @ self._drifting)
        return series


@lru_cache(maxsize=1)
def _reference() -> tuple[Features, ...]:
    return tuple(features(number) for number in REFERENCE)


def haemodynamic_response(delay: Field, dispersion: Field) -> Field:
    """Response to a 3 s picture at the volumes that follow its onset, (24, V), of peak 1.

    A double gamma (Glover 1999, NeuroImage 9, 416-429) whose peak lies ``delay`` (V,) seconds after
    `HRF_PEAK_S`, and whose width is multiplied by ``dispersion`` (V,).
    """
    step = 0.1
    t = np.arange(0, HRF_VOLUMES * TR, step)[:, None]
    peak = HRF_PEAK_S + np.clip(delay, -0.7, 0.7)
    impulse = _gamma(t, peak, 0.9 * dispersion) - 0.2 * _gamma(t, peak + 7, 0.9 * dispersion)
    total = np.vstack([np.zeros((1, len(peak))), np.cumsum(impulse, axis=0)])
    ends = np.round(np.arange(HRF_VOLUMES) * TR / step).astype(int)
    boxcar = total[ends] - total[np.maximum(ends - round(PICTURE_S / step), 0)]
    return np.asarray(boxcar / boxcar.max(axis=0), np.float32)


def _gamma(t: NDArray[np.float64], peak: NDArray[np.float32], scale: NDArray[np.float32]) -> NDArray[np.float64]:
    """A gamma density without its factor: 1 at its peak."""
    power = peak / scale
    with np.errstate(divide="ignore"):
        return np.asarray(np.exp(power * (np.log(t / peak) - t / peak + 1)))


def _drift(rng: np.random.Generator) -> Field:
    """Four slow courses, (226, 4): each a line and cosines of one to three half periods in the run."""
    t = np.linspace(-1, 1, VOLUMES)
    courses = np.stack([t, *(np.cos(np.pi * k * (t + 1) / 2) for k in (1, 2, 3))], axis=1)
    weights = rng.standard_normal((4, 4)) * np.array([[1.0], [0.7], [0.5], [0.35]])
    return np.asarray(courses @ weights, np.float32)


def _physiology(rng: np.random.Generator) -> Field:
    """Six courses, (226, 6): two each of heart, breath and slow fluctuation, the strongest of them."""
    frequency = np.fft.rfftfreq(VOLUMES, TR)
    # The heart beats at about 1.1 Hz, which a volume every 4/3 s turns into 1.1 - 3/4 = 0.35 Hz.
    bands = ((0.35, 0.02), (0.28, 0.03), (0.0, 0.06))
    spectra = np.repeat([np.exp(-(((frequency - f) / width) ** 2) / 2) for f, width in bands], 2, axis=0)
    spectra[:, 0] = 0
    phases = rng.standard_normal((*spectra.shape, 2)) @ np.array([1, 1j])
    courses = np.fft.irfft(spectra * phases, VOLUMES, axis=1)
    strength = np.sqrt(6 / 10) * np.repeat([1, 1, np.sqrt(3)], 2)  # mean square 1
    return np.asarray(strength * (courses / courses.std(axis=1, keepdims=True)).T, np.float32)
