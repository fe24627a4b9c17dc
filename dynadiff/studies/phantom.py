"""Is the phantom as hard as the real thing? Its tSNR, the colour of its noise, how well a ridge decoder does.

Knows phantom trees, whose pictures it draws again by number; knows no neural network. The yardstick on real
data is single-trial identification among 50: 76 % offline at 3 T as rtMindEye reports, 62 % re-scored, each ±12.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dynadiff.phantom.features import SIZE, gabor_energy
from dynadiff.phantom.scenes import CATEGORIES, draw, scene
from dynadiff.recordings.nsd import NSD
from dynadiff.recordings.nsd_facts import ROWS, TR, VOLUMES
from dynadiff.recordings.run import Run
from dynadiff.scores.identification import correlations, n_way_top1, two_way
from dynadiff.scores.intervals import bootstrap_ci
from dynadiff.signal.cleaning import Cleaning, drift_terms
from dynadiff.signal.windows import WindowSpec, offline_windows
from dynadiff.trials.baselines import ridge

WAYS = 50
FIR_LAGS = 18  # 24 s
SESSIONS = range(1, 8)  # the first is the test
GABOR_GRID, LAB_SIDE = 4, 8

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Identification:
    """Of single trials among the pictures of their session, with 95 % bootstrap intervals over pictures."""

    top1: float  # the true picture first of 50, mean over all draws of the other 49; chance 1/50
    top1_ci95: tuple[float, float]
    two_way: float  # chance 1/2
    two_way_ci95: tuple[float, float]


@dataclass(frozen=True)
class PhantomQuality:
    """What `measure` found."""

    subject: int
    voxels: int  # of nsdgeneral
    tsnr: float  # median over these, after a linear trend is removed
    tsnr_brain: float
    lag1: float  # autocorrelation of what drift and the mean response to a picture leave, one volume apart
    training_trials: int
    test_trials: int
    ridge: Identification
    shuffled: Identification  # the same predictions dealt to trials at random


@dataclass(frozen=True)
class FlatTrials:
    """Single trials in order of presentation; runs are counted through all sessions."""

    windows: Floats  # (n, voxels * volumes)
    ids: NDArray[np.int64]  # (n,) 73k ids
    runs: NDArray[np.int64]  # (n,)


def measure(
    root: Path,
    subject: int = 1,
    train: Collection[int] = SESSIONS[1:],
    test: int = SESSIONS[0],
    window: WindowSpec | None = None,
) -> PhantomQuality:
    """Put numbers on a subject of a phantom tree; the default window is Dynadiff's, 4 to 10.7 s after onset.

    No image of the test session and no shared image is trained on. UserError where a session is missing.
    """
    nsd = NSD(root)
    spec = window or WindowSpec()
    tested, known = load_trials(nsd, subject, [test], spec), load_trials(nsd, subject, train, spec)
    keep = ~np.isin(known.ids, [*tested.ids.tolist(), *nsd.shared_ids()])
    known = FlatTrials(known.windows[keep], known.ids[keep], known.runs[keep])
    truth = picture_features(np.concatenate([known.ids, tested.ids]), n_known=len(known.ids))
    predicted = ridge(known.windows, truth[: len(known.ids)], known.runs, tested.windows)
    dealt = np.random.default_rng(0).permutation(len(predicted))
    tsnr, tsnr_brain, lag1 = noise(nsd, subject, test)
    return PhantomQuality(
        subject=subject,
        voxels=int(nsd.mask(subject).sum()),
        tsnr=tsnr,
        tsnr_brain=tsnr_brain,
        lag1=lag1,
        training_trials=len(known.ids),
        test_trials=len(tested.ids),
        ridge=identify(predicted, truth[len(known.ids) :], tested.ids),
        shuffled=identify(predicted[dealt], truth[len(known.ids) :], tested.ids),
    )


def load_trials(nsd: NSD, subject: int, sessions: Collection[int], spec: WindowSpec) -> FlatTrials:
    """Windows of runs that were cleaned as a whole; a window that leaves its run is dropped."""
    mask = nsd.mask(subject)
    windows, ids, runs = [], [], []
    for number, run in enumerate(nsd.run(subject, s, r) for s in sessions for r in nsd.runs(subject, s)):
        events = [event for event in run.events if spec.starts(event, ROWS)]
        starts = [event.row + spec.offset for event in events]
        cut = offline_windows(_series(run, mask), Cleaning(), TR, spec, starts)
        windows.append(cut.reshape(len(cut), -1))
        ids.append([int(event.picture) for event in events])
        runs.append(np.full(len(events), number))
    return FlatTrials(np.concatenate(windows), np.concatenate(ids), np.concatenate(runs))


def picture_features(ids: NDArray[np.int64], n_known: int) -> Floats:
    """Of scenes, (n, d): Lab pixels, Gabor energies and category, each block centred and of variance 1.

    Mean and variance are those of the first ``n_known``.
    """
    distinct, back = np.unique(ids, return_inverse=True)
    blocks = [np.array(block)[back] for block in zip(*map(_blocks, distinct.tolist()), strict=True)]
    scaled = []
    for block in blocks:
        known = block[:n_known]
        scaled.append((block - known.mean(axis=0)) / np.sqrt(known.var(axis=0).sum()))
    return np.hstack(scaled).astype(np.float32)


def identify(predicted: Floats, truth: Floats, ids: NDArray[np.int64]) -> Identification:
    """Score predictions (n, d) against the features (n, d) of the pictures that were seen."""
    names = [str(number) for number in ids.tolist()]
    r = correlations(predicted.astype(np.float64), truth.astype(np.float64))
    top1, pair = n_way_top1(r, names, WAYS), two_way(r, names)
    return Identification(
        top1=float(top1.mean()),
        top1_ci95=bootstrap_ci(top1, names),
        two_way=float(pair.mean()),
        two_way_ci95=bootstrap_ci(pair, names),
    )


def noise(nsd: NSD, subject: int, session: int) -> tuple[float, float, float]:
    """Medians over voxels and runs: tSNR in nsdgeneral and in the brain, lag-1 correlation in nsdgeneral."""
    region = nsd.mask(subject)
    found = []
    for run in (nsd.run(subject, session, r) for r in nsd.runs(subject, session)):
        volumes = np.array(list(run.volumes()))[:ROWS]
        brain = volumes[0] != 0
        series = volumes[:, brain].astype(np.float64)
        inside = region[brain]
        tsnr = series.mean(axis=0) / _residual(series, drift_terms(Cleaning(), len(series), TR)).std(axis=0)
        onsets = np.zeros(VOLUMES + FIR_LAGS)
        onsets[[event.row + FIR_LAGS for event in run.events]] = 1
        responses = [onsets[FIR_LAGS - lag :][: len(series)] for lag in range(FIR_LAGS)]
        model = np.column_stack([drift_terms(Cleaning("cosine"), len(series), TR), *responses])
        rest = _residual(series[:, inside], model)
        lag1 = (rest[1:] * rest[:-1]).sum(axis=0) / np.square(rest).sum(axis=0)
        found.append([np.median(tsnr[inside]), np.median(tsnr), np.median(lag1)])
    first, second, third = np.median(found, axis=0).tolist()
    return first, second, third


def _series(run: Run, mask: NDArray[np.bool_]) -> Floats:
    return np.array([volume[mask] for volume in run.volumes()], np.float32)[:ROWS]


def _residual(series: NDArray[np.float64], model: NDArray[np.float64]) -> NDArray[np.float64]:
    basis = np.linalg.qr(model)[0]
    return np.asarray(series - basis @ (basis.T @ series))


def _blocks(number: int) -> tuple[Floats, Floats, Floats]:
    shown = scene(number)
    picture = draw(shown, SIZE)[0].astype(np.float32) / np.float32(255)
    small = cv2.resize(picture, (LAB_SIDE, LAB_SIDE), interpolation=cv2.INTER_AREA)
    lab = np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2LAB), np.float32)
    side = SIZE // GABOR_GRID
    energy = gabor_energy(picture.mean(axis=2)).reshape(-1, GABOR_GRID, side, GABOR_GRID, side)
    category = np.array([name == shown.category for name in CATEGORIES], np.float32)
    return lab.ravel(), np.asarray(energy.mean(axis=(2, 4)).ravel(), np.float32), category
