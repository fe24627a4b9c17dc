"""A synthetic subject in a synthetic scanner: the volumes that a run of scenes would have given.

Knows scenes and how a brain answers to them; what blood makes of that, what a session changes and what noise adds
stands in files of their own. Knows no files. A run follows from seed, subject, session and file run alone. No NSD data
went into it.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from dynadiff.phantom.design import design
from dynadiff.phantom.features import Features, features
from dynadiff.phantom.haemodynamics import USUAL_S, evoked, haemodynamic_response
from dynadiff.phantom.head import Field, Head, Shape, Tuning, make_head, make_tuning, uneven_fields
from dynadiff.phantom.noise import Fluctuation, Noise
from dynadiff.phantom.visit import DRIFTS, draw_visit
from dynadiff.recordings.nsd_facts import TR, VOLUMES

VERSION = 2  # of the phantom: another one gives other volumes
SHAPES: dict[int, Shape] = {
    1: (24, 28, 20), 2: (25, 27, 21), 3: (24, 27, 21), 4: (26, 26, 20),
    5: (23, 28, 21), 6: (25, 28, 20), 7: (24, 26, 22), 8: (25, 26, 21),
}  # fmt: skip
RESPONSE = 0.3  # percent of the baseline: deviation over pictures of the typical voxel's response
STRENGTH = 0.5  # deviation of its logarithm over voxels
PEAK_S, DISPERSION = 0.9, 0.08  # deviation over voxels of the haemodynamic peak, and of the logarithm of its width
COMPRESSION = 0.6
EVOKED = 4.0  # mean response to a picture, in standard deviations over pictures
ADAPTATION, ADAPTATION_S = 0.15, 4.0  # share that an equal response before it takes from one, and for how long
ATTENTION, ATTENTION_KEPT = 0.12, 0.6  # deviation of the gain over trials, and its correlation with the one before
REFERENCE = range(1_000_000, 1_000_128)  # scenes outside every tree that set each voxel's mean and deviation


class Phantom:
    """One subject. ``shape`` is that of its volumes; without it the subject's own of `SHAPES`.

    ``response`` is in percent of the baseline; a brain of 0 answers to nothing.
    """

    def __init__(
        self,
        subject: int,
        seed: int = 0,
        shape: Shape | None = None,
        noise: Noise | None = None,
        response: float = RESPONSE,
    ) -> None:
        self.subject, self.seed, self.response = subject, seed, response
        rng = np.random.default_rng([seed, subject])
        shape = shape or SHAPES[subject]
        self.head: Head = make_head(rng, shape)
        self.tuning: Tuning = make_tuning(rng, self.head)
        visual = self.head.nsdgeneral > 0
        late, wide, strong = uneven_fields(rng, 3, shape)[:, visual]
        self.hrf: Field = haemodynamic_response(USUAL_S + PEAK_S * late, np.exp(DISPERSION * wide))
        self.strength: Field = np.exp(STRENGTH * strong)  # of the response, around 1
        self._fluctuation = Fluctuation(rng, self.head, noise or Noise())
        self._tunings = (self.tuning, *(make_tuning(rng, self.head) for _ in range(DRIFTS)))
        self._responses: dict[int, Field] = {}
        raw = np.array([self._drives(seen) for seen in _reference()])
        self._mean, self._deviation = raw.mean(axis=0), raw.std(axis=0)
        self._session = lru_cache(maxsize=2)(self._open_session)

    def responses(self, scenes: NDArray[np.integer], session: int | None = None) -> Field:
        """Of each voxel of nsdgeneral to each scene: (scenes, V), mean `EVOKED`, variance about 1 over scenes.

        Without a session by the voxel's own tuning, from which those of sessions deviate.
        """
        for number in set(scenes.tolist()) - self._responses.keys():
            self._responses[number] = (self._drives(features(number)) - self._mean) / self._deviation
        own = np.eye(1, 1 + DRIFTS, dtype=np.float32)[0]
        tunings = own if session is None else self._session(session)[0]
        drives = np.array([self._responses[number] for number in scenes.tolist()], np.float32)
        return np.asarray(EVOKED + np.tensordot(drives.reshape(len(scenes), *self._mean.shape), tunings, (1, 0)))

    def run(self, session: int, run: int) -> NDArray[np.int16]:
        """Volumes (x, y, z, 226) of the run of that file number, 0 outside the brain."""
        rng = np.random.default_rng([self.seed, self.subject, session, run])
        rows = design(self.seed).file_rows(self.subject, session, run)
        _, baseline, spread = self._session(session)
        percent = self._fluctuation.draw(rng)
        percent += (spread @ self.signal(rows, session, rng).T).T
        series = np.asarray(baseline * rng.normal(1, 0.02) * (1 + percent / 100), np.float32)
        self._fluctuation.displace(rng, series)
        volumes = np.zeros((*self.head.brain.shape, VOLUMES), np.int16)
        volumes[self.head.brain] = np.rint(series).clip(0, np.iinfo(np.int16).max).T
        return volumes

    def signal(self, rows: NDArray[np.integer], session: int, rng: np.random.Generator) -> Field:
        """What the pictures of a run make of the visual voxels, (226, V) in percent of the baseline."""
        onsets = np.flatnonzero(rows)
        answers = serial(self.responses(rows[onsets], session), onsets, rng)
        return evoked(answers * (self.strength * self.response), onsets, self.hrf)

    def _open_session(self, session: int) -> tuple[Field, Field, sparse.csr_array]:
        """Weights of tunings, baseline of the brain's voxels, what spreads visual voxels over them with their gain."""
        seen = draw_visit(np.random.default_rng([self.seed, self.subject, session, 0, 0]), self.head)
        baseline, spread = seen.place(self.head)
        return seen.tunings, baseline, (spread * seen.gain).tocsr()

    def _drives(self, seen: Features) -> Field:
        """Compressed drive of every visual voxel by a scene, in each of its tunings, (1 + DRIFTS, V), not scaled."""
        maps = np.concatenate([seen.gabor, seen.colour, seen.mask[None]]).reshape(-1, len(self.tuning.pooling))
        pooled = (maps @ self.tuning.pooling).T
        return np.stack([_drive(pooled, seen.category, len(seen.gabor), tuning) for tuning in self._tunings])


def serial(responses: Field, onsets: NDArray[np.integer], rng: np.random.Generator) -> Field:
    """Responses (n, V) as trials leave them on each other: less after the like of it, more while attention lasts."""
    if not len(onsets):
        return responses
    gap_s = np.diff(onsets, prepend=onsets[0]) * TR
    before = np.vstack([np.zeros_like(responses[:1]), responses[:-1]]) / EVOKED
    tired = ADAPTATION * np.exp(-np.maximum(gap_s - ADAPTATION_S, 0) / ADAPTATION_S)[:, None]
    attention = rng.standard_normal(len(onsets))
    for trial in range(1, len(onsets)):
        attention[trial] = ATTENTION_KEPT * attention[trial - 1] + np.sqrt(1 - ATTENTION_KEPT**2) * attention[trial]
    return np.asarray(responses * (1 - tired * before) * np.exp(ATTENTION * attention)[:, None], np.float32)


@lru_cache(maxsize=1)
def _reference() -> tuple[Features, ...]:
    return tuple(features(number) for number in REFERENCE)


def _drive(pooled: Field, category: int, n_gabor: int, tuning: Tuning) -> Field:
    """Of maps pooled by receptive fields (V, maps): contours, then colours, then the object."""
    contours = (pooled[:, :n_gabor] * tuning.gabor).sum(axis=1)
    colour = (pooled[:, n_gabor:-1] * tuning.colour).sum(axis=1)
    objects = pooled[:, -1] * tuning.category[:, category]
    # Each drive is divided by its typical size, so that the shares of an area mean what they say.
    typical = np.array([0.02, 0.08, 0.02], np.float32)
    drive = (np.column_stack([contours, colour, objects]) / typical * tuning.drives).sum(axis=1)
    return np.asarray(drive**COMPRESSION, np.float32)
