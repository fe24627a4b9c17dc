"""A real 3 T run through feed, statistics and window, beside nilearn on the same voxels.

    python benchmarks/localizer.py ../shared/data/studyforrest_localizer

`realtime replay --bold` serves the run from another process, as fast as this one takes it. Every voxel of nilearn's
brain mask goes through the stages that a decode runs. After volume n, nilearn cleans volumes 1 to n and the window
of the newest six is compared (without the ridge prior, which nilearn does not have, and beside it with the prior);
the run as it was received is compared with the file. Then the run is screened: how near its worst volume comes to what
is taken for a spike, and what is marked when the run is spoilt on purpose.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

import nibabel as nib
import numpy as np
from nilearn.masking import compute_epi_mask
from nilearn.signal import clean
from numpy.typing import NDArray

from dynadiff.recordings.masks import Masker
from dynadiff.signal.cleaning import Cleaning, OnlineCleaner
from dynadiff.signal.screening import SPIKE, START, Screen
from dynadiff.signal.windows import RollingWindow
from realtime.feed.connection import Feed
from realtime.feed.wire import RunEnd, RunStart, Volume

BOLD = "sub-02_task-oneback_run-1_bold.nii.gz"
TR, LENGTH = 2.0, 6
AT = (20, 50, 100, 156)
WAYS = {"exact": Cleaning(ridge=0), "ridge 5": Cleaning()}

Series = NDArray[np.float32]


def received(bold: Path) -> tuple[RunStart, list[Volume]]:
    """The run as it comes over the wire."""
    command = "from realtime.cli import main; main()"
    arguments = ["replay", "--bold", str(bold), "--tr", str(TR), "--speed", "0", "--bind", "tcp://127.0.0.1:*"]
    served = subprocess.Popen([sys.executable, "-c", command, *arguments], stdout=subprocess.PIPE, text=True)
    assert served.stdout is not None
    address = next(word.strip(",") for line in served.stdout for word in line.split() if word.startswith("tcp://"))
    volumes: list[Volume] = []
    start: RunStart | None = None
    with Feed(address, "benchmark") as feed:
        while not isinstance(message := feed.receive(60), RunEnd):
            if isinstance(message, RunStart):
                start = message
            elif isinstance(message, Volume):
                volumes.append(message)
        feed.confirm(message)
    assert start is not None
    assert served.wait(30) == 0
    return start, volumes


def windows(series: Series, cleaning: Cleaning) -> tuple[dict[int, Series], list[float]]:
    """Cleaned windows (6, voxels) after volumes ``AT``, and milliseconds of every volume."""
    cleaner, rolling = OnlineCleaner(cleaning, len(series), series.shape[1], TR), RollingWindow(LENGTH)
    found, spent = {}, []
    for row, sample in enumerate(series):
        began = perf_counter()
        cleaner.push(row, sample)
        newest = rolling.push(row, sample)
        window = cleaner.standardise(*newest) if newest else None
        spent.append(1e3 * (perf_counter() - began))
        if window is not None and row + 1 in AT:
            found[row + 1] = window
    return found, spent


def screening(series: Series) -> Iterator[str]:
    """What the screen makes of the run as it is, and of the run spoilt."""
    cleaner, beyond = OnlineCleaner(Cleaning(), len(series), series.shape[1], TR), [0.0]
    for row, sample in enumerate(series):
        expected, deviation = cleaner.expect(row)
        if row >= START:
            beyond.append(float(np.mean(np.abs(sample - expected) > SPIKE * deviation)))
        cleaner.push(row, sample)
    yield f"at most {max(beyond):.2%} of the voxels of a volume are beyond {SPIKE:g} deviations"
    moved, stuck, bright = series.copy(), series.copy(), series.copy()
    moved[80:] *= 1.05
    stuck[51:75] = stuck[50]
    bright[:2] *= 1.2
    cases = {"as it is": series, "5 % brighter from 80 on": moved, "51 to 74 repeated": stuck, "0, 1 brighter": bright}
    for name, spoilt in cases.items():
        screen = Screen(Cleaning(), len(series), series.shape[1], TR)
        for row, sample in enumerate(spoilt):
            screen.push(row, sample)
        found = ", ".join(f"{row} {mark}" for row, mark in screen.marks.items())
        yield f"{name}: {found or 'nothing'} marked, {screen.limited} of {series.size} values limited"


def main() -> None:
    """Print the table."""
    bold = Path(sys.argv[1]) / BOLD
    image = nib.load(bold)
    start, volumes = received(bold)
    stored = np.asarray(image.dataobj)
    same = all(np.array_equal(volume.data, stored[..., volume.index]) for volume in volumes)
    masker = Masker(np.asarray(compute_epi_mask(image).dataobj) > 0)
    series = np.array([masker(volume.data) for volume in volumes])
    shape = "×".join(map(str, start.shape))
    lines = [
        f"{len(volumes)} volumes of {shape} at {start.tr:g} s, {len(start.events)} events, equal to the file: {same}"
    ]
    lines.append(f"{series.shape[1]} voxels of the brain; z-scores of the newest {LENGTH} volumes against nilearn's:")
    by_way = {way: windows(series, cleaning) for way, cleaning in WAYS.items()}
    for n in AT:
        published = clean(series[:n].astype(np.float64), detrend=True, standardize="zscore_sample", t_r=TR)[-LENGTH:]
        line = f"after volume {n:3d}"
        for way, (found, _) in by_way.items():
            correlation = np.corrcoef(found[n].ravel(), published.ravel())[0, 1]
            line += f"   {way}: greatest difference {np.abs(found[n] - published).max():.1e}, r {correlation:.5f}"
        lines.append(line)
    median, p99 = np.percentile(by_way["ridge 5"][1], [50, 99])
    lines.append(f"statistics and window: median {median:.2f} ms, p99 {p99:.2f} ms a volume")
    lines += screening(series)
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
