"""Which volumes of a run can be believed, judged as they come, and statistics that no single one can spoil.

Knows rows and voxels; knows no files, no network and no window. A volume that is not believed is marked and left out
of the statistics, as if it had not been acquired; in a believed one no voxel counts for more than `LIMIT` deviations.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dynadiff.signal.cleaning import Cleaning, Earlier, OnlineCleaner

# In a spike more than a twentieth of the voxels lie beyond five deviations of what their own volumes predict.
# `benchmarks/localizer.py` prints the largest share in a real run.
SPIKE, SHARE = 5.0, 0.05
FEW = 5  # voxels; in a small mask so many are chance
LIMIT = 12.0  # deviations that a value may count for
START = 6  # volumes that are judged together, by their median: until then deviations are not known
PATIENCE = 3  # spikes in a row; what goes on for longer is no spike: the subject has moved
CHANGED = "changed"  # the one mark of a volume that is believed


class Screen:
    """Judges the volumes of one run and keeps its statistics in ``cleaner``, whose arguments these are.

    ``marks`` names, by row, what is wrong with a volume: "not finite" (more than half of it), "flat" (one value
    everywhere), "clipped" (many voxels at its largest value), "repeated" (the one before, to the bit), "spike", and
    "changed" for what comes after `PATIENCE` spikes and must be believed. Of the first volumes a mark may come, or go,
    with the next ones.
    """

    def __init__(
        self, cleaning: Cleaning, n_planned: int, n_voxels: int, tr: float,
        nuisance: int = 0, earlier: Earlier | None = None,
    ) -> None:  # fmt: skip
        self._new = (cleaning, n_planned, n_voxels, tr, nuisance, earlier)
        self.cleaner = OnlineCleaner(*self._new)
        self.marks: dict[int, str] = {}
        self.limited = 0  # values that counted for less than they said, over all volumes and voxels
        self._first: dict[int, tuple[NDArray[np.float32], ArrayLike]] = {}  # rows that are judged together
        self._started = False
        self._spikes = 0  # in a row
        self._before: NDArray[np.float32] | None = None

    def push(self, row: int, sample: NDArray[np.float32], nuisance: ArrayLike = ()) -> None:
        """Judge the volume (voxels,) of ``row``, and take it into the statistics if it can be believed.

        ``nuisance`` (k,) is what else is known of it.
        """
        sample = np.where(np.isfinite(sample), sample, np.float32(np.nan))
        mark = _at_sight(sample, self._before)
        self._before = sample
        if mark is not None:
            self.marks[row] = mark
        elif self._started:
            self._judge(row, sample, nuisance)
        else:
            self._first[row] = sample, nuisance
            self._judge_first()

    def believed(self, row: int) -> bool:
        """Whether the volume of a row is in the statistics."""
        return self.marks.get(row, CHANGED) == CHANGED

    def _judge(self, row: int, sample: NDArray[np.float32], nuisance: ArrayLike) -> None:
        expected, deviation = self.cleaner.expect(row, nuisance)
        limited, n_limited, spike = _limited(sample, expected, deviation)
        self._spikes = self._spikes + 1 if spike else 0
        if spike:
            self.marks[row] = "spike" if self._spikes <= PATIENCE else CHANGED
        if self.believed(row):
            self.limited += n_limited
            self.cleaner.push(row, limited, nuisance)

    def _judge_first(self) -> None:
        """All of the first volumes once more, now that there is one more to compare them with."""
        samples = np.stack([sample for sample, _ in self._first.values()])
        middle = _median(samples)
        spread = 1.4826 * _median(np.abs(samples - middle))  # of few volumes: never below a typical voxel's
        deviation = np.maximum(spread, np.nanmedian(spread)) if np.isfinite(spread).any() else np.zeros_like(spread)
        judged = [_limited(sample, middle, deviation) for sample in samples]
        untouched = not any(n_limited or spike for _, n_limited, spike in judged)
        if untouched and self.cleaner.n == len(samples) - 1 and not self.limited:
            newest = next(reversed(self._first))
            self.cleaner.push(newest, *self._first[newest])
        else:
            self._start_again(judged)
        self._started = self.cleaner.n >= START or len(self._first) >= 2 * START
        if self._started:
            self._first.clear()

    def _start_again(self, judged: Sequence[tuple[NDArray[np.float32], int, bool]]) -> None:
        """Statistics of the first volumes from nothing: some are believed no more, or again."""
        self.cleaner, self.limited = OnlineCleaner(*self._new), 0
        for row, (limited, n_limited, spike) in zip(self._first, judged, strict=True):
            self.marks.pop(row, None)
            if spike:
                self.marks[row] = "spike"
            else:
                self.limited += n_limited
                self.cleaner.push(row, limited, self._first[row][1])


def _at_sight(sample: NDArray[np.float32], before: NDArray[np.float32] | None) -> str | None:
    """What is wrong with a volume (voxels,) that needs no statistics to see."""
    finite = sample[np.isfinite(sample)]
    if len(finite) < len(sample) / 2:
        return "not finite"
    top = finite.max()
    if len(finite) > 1 and finite.min() == top:
        return "flat"
    if before is not None and np.array_equal(sample, before, equal_nan=True):
        return "repeated"
    if np.count_nonzero(finite == top) > max(SHARE * len(sample), FEW):
        return "clipped"
    return None


def _median(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of each voxel of (volumes, voxels), nan where a value is; for few volumes a third of the time of numpy's."""
    ordered, n = np.sort(samples, axis=0), len(samples)
    middle = (ordered[(n - 1) // 2] + ordered[n // 2]) / 2
    return np.where(np.isnan(ordered[-1]), np.float32(np.nan), middle)


def _limited(
    sample: NDArray[np.float32], expected: NDArray[np.floating], deviation: NDArray[np.floating]
) -> tuple[NDArray[np.float32], int, bool]:
    """The sample within `LIMIT` deviations of what is expected, how many values that changed, and is it a spike?

    A voxel whose deviation is 0 or not known is not judged.
    """
    known = np.where(deviation > 0, deviation, np.inf)
    away = np.abs(sample - expected) / known
    spike = np.count_nonzero(away > SPIKE) > max(SHARE * len(sample), FEW)
    wild = away > LIMIT
    n_wild = int(np.count_nonzero(wild))
    if n_wild:
        reach = LIMIT * known[wild]
        sample = sample.copy()
        sample[wild] = np.clip(sample[wild], expected[wild] - reach, expected[wild] + reach)
    return sample, n_wild, bool(spike)
