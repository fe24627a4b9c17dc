"""Time per volume of online cleaning, beside a refit of the run so far with nilearn, in one process.

    OMP_NUM_THREADS=1 python benchmarks/cleaning.py

Random BOLD of the size of NSD's subject 1 (15,724 voxels, 225 volumes at 4/3 s); milliseconds of wall clock.
Online is the statistics of one volume and the z-score of the newest six; beside volume n stand the last 25
up to it, of several runs. nilearn cleans volumes 1 to n, in float64 (as the released Dynadiff does) and
in float32.
"""

import sys
from collections.abc import Callable
from time import perf_counter

import numpy as np
from nilearn.signal import clean
from numpy.typing import NDArray

from dynadiff.signal.cleaning import Cleaning, OnlineCleaner

VOXELS, VOLUMES, TR, LENGTH = 15_724, 225, 4 / 3, 6
RUNS, REFITS = 5, 15
AT = (20, 100, 225)
ONLINE = {
    "online linear, ridge 5": Cleaning(),
    "online linear, no prior": Cleaning(ridge=0),
    "online cosine, ridge 5": Cleaning("cosine"),
}


def milliseconds(call: Callable[[], object]) -> float:
    start = perf_counter()
    call()
    return 1e3 * (perf_counter() - start)


def online(series: NDArray[np.float32], cleaning: Cleaning) -> NDArray[np.float64]:
    """Milliseconds of each volume of one run, (volumes,)."""
    cleaner = OnlineCleaner(cleaning, VOLUMES, VOXELS, TR)

    def volume(row: int) -> None:
        cleaner.push(row, series[row])
        first = max(row - LENGTH + 1, 0)
        cleaner.standardise(range(first, row + 1), series[first : row + 1])

    def timed(row: int) -> float:
        return milliseconds(lambda: volume(row))

    return np.array([timed(row) for row in range(VOLUMES)])


def refit(series: NDArray[np.floating]) -> NDArray[np.float64]:
    """Milliseconds of each of several refits of a run so far, (refits,)."""

    def once() -> None:
        clean(series, detrend=True, high_pass=None, standardize="zscore_sample", t_r=TR)

    return np.array([milliseconds(once) for _ in range(REFITS)])


def table() -> list[str]:
    noise = np.random.default_rng(0).standard_normal((VOLUMES, VOXELS), dtype=np.float32)
    series = 1000 + 10 * noise
    double = {n: refit(series[:n].astype(np.float64)) for n in AT}
    single = {n: refit(series[:n]) for n in AT}
    lines = [f"{'':<26}{'volume':>8}{'median':>9}{'p99':>9}{'max':>9}   refit / online (float64, float32)"]
    for name, cleaning in ONLINE.items():
        times = np.stack([online(series, cleaning) for _ in range(RUNS)])
        for n in AT:
            near = times[:, max(n - 25, LENGTH) : n]
            ratios = [np.median(refits[n]) / np.median(near) for refits in (double, single)]
            lines.append(line(name, f"{n}", near) + f"{ratios[0]:>11.0f}×{ratios[1]:>6.0f}×")
        lines.append(line(name, "all", times[:, LENGTH:]))
    for name, refits in {"nilearn refit, float64": double, "nilearn refit, float32": single}.items():
        lines += [line(name, f"{n}", refits[n]) for n in AT]
    return lines


def line(name: str, volume: str, times: NDArray[np.float64]) -> str:
    median, p99 = np.percentile(times, [50, 99])
    return f"{name:<26}{volume:>8}{median:>9.2f}{p99:>9.2f}{times.max():>9.2f}"


if __name__ == "__main__":
    sys.stdout.write("\n".join(table()) + "\n")
