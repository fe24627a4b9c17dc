"""The noise of real recordings beside the phantom's: how strong it is, how slow, and how far it reaches.

    python benchmarks/noise.py FOLDER    # that holds haxby_slice and studyforrest_localizer

The same analysis of all three: a line is removed, and the mean response to whatever was shown; what is left counts as
noise. The phantom is the null phantom, which answers to nothing. The recordings' TR is 2 and 2.5 s, so they say nothing
above 0.25 Hz.
"""

import csv
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.spatial.distance import cdist

from dynadiff.phantom.design import design
from dynadiff.phantom.subject import Phantom
from dynadiff.recordings.nsd_facts import TR
from dynadiff.studies.haxby_slice import TR as HAXBY_TR

LOCALIZER, LOCALIZER_TR = "studyforrest_localizer", 2.0
RESPONSE_S, STEP_S = 24.0, 0.1
VOXELS = 2500  # drawn at random where there are more: correlations are of pairs
FEWEST = 200  # pairs that a mean correlation stands on
RUNS = 6  # of the phantom
LAGS_S = (2.0, 2.5, 4.0, 5.0, 8.0, 10.0, 16.0, 20.0)
DISTANCES_MM = (2.5, 5, 7.5, 10, 15, 20, 30, 45)
BANDS_HZ = (0.0, 0.01, 0.03, 0.06, 0.1, 0.15, 0.2, 0.25, 0.3, 0.375)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Recorded:
    """Of one run: volumes (T, V) in scanner units, where the voxels are (V, 3) in mm, and what was shown."""

    series: Floats
    places: Floats
    shown: list[tuple[float, float, str]]  # onset and duration in seconds, category
    tr: float


def localizer(folder: Path) -> Recorded:
    """The studyforrest localizer in the brain, which is what is brighter than a third of the brightest tissue."""
    image = nib.load(folder / "sub-02_task-oneback_run-1_bold.nii.gz")
    volumes = np.asarray(image.dataobj, np.float64)
    mean = volumes.mean(axis=3)
    brain = mean > np.quantile(mean, 0.98) / 3
    events = _events(folder / "sub-02_task-oneback_run-1_events.tsv")
    return _recorded(volumes, brain, image.affine, events, LOCALIZER_TR)


def haxby(folder: Path) -> list[Recorded]:
    """The twelve runs of the slice, in its mask."""
    mask = nib.load(folder / "mask.nii.gz").get_fdata() > 0
    runs = []
    for run in sorted(folder.glob("runs/run-*")):
        image = nib.load(run / "bold_1slice.nii.gz")
        affine = np.diag([3.1, 3.75, 3.75, 1.0])
        runs.append(_recorded(image.get_fdata(), mask, affine, _events(run / "bold_events.tsv"), HAXBY_TR))
    return runs


def phantom(runs: int) -> list[Recorded]:
    """Runs of the null phantom's first subject, in its brain."""
    subject = Phantom(1, response=0.0)
    found = []
    for run in range(1, runs + 1):
        rows = design().rows(1, 1, run)
        shown = [(row * TR, 3.0, "picture") for row in np.flatnonzero(rows).tolist()]
        found.append(
            _recorded(
                subject.run(1, run).astype(np.float64), subject.head.brain, np.diag([1.8, 1.8, 1.8, 1.0]), shown, TR
            )
        )
    return found


def _recorded(
    volumes: Floats, mask: NDArray[np.bool_], affine: Floats, shown: list[tuple[float, float, str]], tr: float
) -> Recorded:
    where = np.argwhere(mask)
    drawn = np.random.default_rng(0).permutation(len(where))[:VOXELS]
    return Recorded(volumes[mask][drawn].T, where[drawn] @ affine[:3, :3].T, shown, tr)


def _events(path: Path) -> list[tuple[float, float, str]]:
    with path.open(encoding="utf-8") as file:
        return [
            (float(row["onset"]), float(row["duration"]), row["trial_type"])
            for row in csv.DictReader(file, delimiter="\t")
        ]


def residuals(run: Recorded) -> Floats:
    """What a line and the mean response to any picture leave, (T, V), in percent of each voxel's mean."""
    n = len(run.series)
    fine = np.zeros(round(n * run.tr / STEP_S))
    for onset, duration, _ in run.shown:
        fine[round(onset / STEP_S) : round((onset + duration) / STEP_S)] = 1
    t = np.arange(0, RESPONSE_S, STEP_S)
    kernels = [t**k * np.exp(-t / 0.9) for k in (3, 5, 7, 14)]  # early, middle and late responses, and undershoot
    at = np.round(np.arange(n) * run.tr / STEP_S).astype(int)
    responses = [np.convolve(fine, kernel / kernel.sum())[at] for kernel in kernels]
    basis = np.linalg.qr(np.column_stack([np.ones(n), np.linspace(-1, 1, n), *responses]))[0]
    rest = run.series - basis @ (basis.T @ run.series)
    return np.asarray(100 * np.sqrt(n / (n - basis.shape[1])) * rest / run.series.mean(axis=0))


def table(runs: list[Recorded]) -> dict[str, float]:
    """Of the same person: medians over voxels, then over runs."""
    tr = runs[0].tr
    lags = [lag for lag in LAGS_S if abs(lag / tr - round(lag / tr)) < 1e-6]
    found: list[dict[str, float]] = []
    for run in runs:
        rest = residuals(run)
        one = {"deviation, %": float(np.median(rest.std(axis=0))), "logarithm's spread over voxels": _spread(rest)}
        one["end of the line, %"] = float(np.median(_slope(run)))
        one |= {f"correlation, {lag:g} s later": _lagged(rest, round(lag / tr)) for lag in lags}
        for low, high in pairwise(BANDS_HZ):
            if high <= 0.5 / tr + 1e-9:
                one[f"density, {low:g}-{high:g} Hz"] = _density(rest, tr, low, high)
        apart = _apart(rest, run.places)
        one |= {f"correlation, {low:g}-{high:g} mm apart": apart(low, high) for low, high in pairwise(DISTANCES_MM)}
        found.append(one)
    return {name: float(np.median([one[name] for one in found])) for name in found[0]}


def _spread(rest: Floats) -> float:
    """Half of what the middle two thirds of the voxels span: a deviation, whatever the tails."""
    low, high = np.quantile(np.log(rest.std(axis=0)), [0.16, 0.84])
    return float(high - low) / 2


def _slope(run: Recorded) -> Floats:
    line = np.linspace(-1, 1, len(run.series))
    return np.asarray(np.abs(100 * (line @ run.series) / (line @ line) / run.series.mean(axis=0)))


def _lagged(rest: Floats, lag: int) -> float:
    return float(np.median((rest[lag:] * rest[:-lag]).sum(axis=0) / np.square(rest).sum(axis=0)))


def _density(rest: Floats, tr: float, low: float, high: float) -> float:
    """Relative to white noise of the same variance."""
    power = np.square(np.abs(np.fft.rfft(rest * np.hanning(len(rest))[:, None], axis=0)))
    frequency = np.fft.rfftfreq(len(rest), tr)
    inside = (frequency >= low) & (frequency < high)
    return float(np.median((power / power[1:].mean(axis=0))[inside].mean(axis=0)))


def _apart(rest: Floats, places: Floats) -> Callable[[float, float], float]:
    """Mean correlation of the voxels that lie between two distances of each other; NaN where none do."""
    unit = (rest - rest.mean(axis=0)) / np.linalg.norm(rest - rest.mean(axis=0), axis=0)
    correlation, gaps = unit.T @ unit, cdist(places, places)

    def between(low: float, high: float) -> float:
        pairs = (gaps > low) & (gaps <= high)
        return float(correlation[pairs].mean()) if pairs.sum() > FEWEST else float("nan")

    return between


def main() -> None:
    data, console = Path(sys.argv[1]), Console(width=120)
    columns = {
        "localizer": table([localizer(data / LOCALIZER)]),
        "Haxby": table(haxby(data / "haxby_slice")),
        "phantom": table(phantom(RUNS)),
    }
    shown = Table("of the noise", *columns)
    for name in dict.fromkeys(name for column in columns.values() for name in column):
        shown.add_row(name, *(f"{column[name]:.3f}" if name in column else "" for column in columns.values()))
    console.print(shown)


if __name__ == "__main__":
    main()
