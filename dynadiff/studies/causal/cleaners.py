"""Which cleaning a live run should have: what is tried, and the windows that it gives, online and of whole runs.

Knows runs in memory and the arithmetic of `dynadiff.signal`; knows no file, no picture and no score. What only loses
here stays here: a quadratic drift is one more course that is known beforehand, and a volume that keeps the statistics
of its arrival is a window of one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from dynadiff.signal.cleaning import Cleaning, Earlier, left_variance
from dynadiff.signal.windows import WindowSpec, offline_windows, online_windows

MOST = 7  # noise components
ONE = WindowSpec(0, 1)
Windows = NDArray[np.float16]  # (n, voxels, volumes)


@dataclass(frozen=True)
class Cleaner:
    """One way to clean a run while it goes on."""

    name: str
    cleaning: Cleaning = field(default_factory=Cleaning)
    quadratic: bool = False  # time squared beside the line
    components: int = 0  # of the noise outside the mask
    motion: bool = False  # six parameters a volume
    earlier: float = 0.0  # volumes that the variance of earlier runs counts for
    frozen: bool = False  # each volume keeps the statistics of its arrival


@dataclass(frozen=True, eq=False)
class CausalRun:
    """One run in memory, with its windows."""

    name: str
    tr: float  # seconds
    series: NDArray[np.float32]  # (volumes, voxels) inside the mask, raw
    courses: NDArray[np.float32]  # (volumes, MOST or 0): noise components, learnt from other runs
    motion: NDArray[np.float32]  # (volumes, 6 or 0), of a scale of 1
    rows: int  # volumes that whole-run cleaning is of
    starts: tuple[int, ...]  # of the windows
    seen: tuple[str, ...]  # of each window, what was shown: a picture, or a category
    blocks: tuple[int, ...]  # of each window, which presentation


DEFAULT = Cleaner("linear, λ 5, as today")
CLEANERS = (
    DEFAULT,
    Cleaner("no drift", Cleaning("none")),
    Cleaner("linear, no prior", Cleaning(ridge=0.0)),
    *(Cleaner(f"linear, λ {ridge:g}", Cleaning(ridge=ridge)) for ridge in (1.0, 20.0, 80.0)),
    *(Cleaner(f"quadratic, λ {ridge:g}", Cleaning(ridge=ridge), quadratic=True) for ridge in (5.0, 20.0)),
    *(Cleaner(f"cosine, λ {ridge:g}", Cleaning("cosine", ridge=ridge)) for ridge in (5.0, 20.0)),
    *(Cleaner(f"λ 5, variance of earlier runs, ν {n}", earlier=float(n)) for n in (20, 60)),
    *(Cleaner(f"λ 5, noise components: {k}", components=k) for k in (1, 3, 5, MOST)),
    Cleaner("λ 5, motion", motion=True),
    Cleaner(f"λ 5, motion, noise components: {MOST}", components=MOST, motion=True),
    Cleaner("λ 5, frozen at arrival", frozen=True),
    Cleaner(f"λ 20, ν 20, noise components: {MOST}", Cleaning(ridge=20.0), components=MOST, earlier=20.0),
    Cleaner("λ 20, ν 20", Cleaning(ridge=20.0), earlier=20.0),
    Cleaner("λ 20, ν 20, frozen at arrival", Cleaning(ridge=20.0), earlier=20.0, frozen=True),
    Cleaner("no drift, ν 20", Cleaning("none"), earlier=20.0),
)
QUICK = tuple(
    cleaner for cleaner in CLEANERS if cleaner.name in (DEFAULT.name, "no drift", f"λ 5, noise components: {MOST}")
)


def possible(cleaner: Cleaner, runs: Sequence[CausalRun], lenders: Sequence[int]) -> bool:
    """Whether there is what a cleaner needs: voxels outside the mask, motion, earlier runs."""
    return not (
        (cleaner.components and not runs[0].courses.shape[1])
        or (cleaner.motion and not all(run.motion.shape[1] for run in runs))
        or (cleaner.earlier and not lenders)
    )


def online(cleaner: Cleaner, runs: Sequence[CausalRun], lenders: Sequence[int], spec: WindowSpec) -> Windows:
    """All windows of the runs as a live run has them; ``lenders`` are the runs whose variance may be borrowed."""
    earlier = _lent(cleaner, [runs[k] for k in lenders])
    return np.concatenate([_online(cleaner, run, earlier, spec).astype(np.float16) for run in runs])


def offline(cleaner: Cleaner, runs: Sequence[CausalRun], spec: WindowSpec) -> Windows:
    """The same of runs that are cleaned as wholes: priors and what is frozen play no part."""
    cut = (
        offline_windows(run.series[: run.rows], cleaner.cleaning, run.tr, spec, run.starts, known[: run.rows])
        for run, known in ((run, _nuisance(cleaner, run)) for run in runs)
    )
    return np.concatenate([windows.astype(np.float16) for windows in cut])


def agreement(one: Windows, other: Windows) -> NDArray[np.float64]:
    """Correlation (n,) over voxels of windows averaged over their volumes."""
    a, b = (windows.mean(axis=2, dtype=np.float64) for windows in (one, other))
    a, b = (values - values.mean(axis=1, keepdims=True) for values in (a, b))
    size = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray(np.divide((a * b).sum(axis=1), size, out=np.zeros(len(a)), where=size > 0))


def _online(cleaner: Cleaner, run: CausalRun, earlier: Earlier | None, spec: WindowSpec) -> NDArray[np.float32]:
    known = _nuisance(cleaner, run)
    if not cleaner.frozen:
        return online_windows(run.series, cleaner.cleaning, run.tr, spec, run.starts, known, earlier)
    each = online_windows(run.series, cleaner.cleaning, run.tr, ONE, range(len(run.series)), known, earlier)[..., 0]
    return each[np.array(run.starts)[:, None] + np.arange(spec.length)].transpose(0, 2, 1)


def _nuisance(cleaner: Cleaner, run: CausalRun) -> NDArray[np.float32]:
    time = np.linspace(-1, 1, len(run.series), dtype=np.float32)[:, None]
    columns = [run.courses[:, : cleaner.components]]
    columns += [1.5 * time**2 - 0.5] if cleaner.quadratic else []
    columns += [run.motion] if cleaner.motion else []
    return np.hstack(columns)


def _lent(cleaner: Cleaner, lenders: Sequence[CausalRun]) -> Earlier | None:
    if not cleaner.earlier:
        return None
    plain = replace(cleaner.cleaning, ridge=0.0)
    left = [
        left_variance(run.series[: run.rows], plain, run.tr, _nuisance(cleaner, run)[: run.rows]) for run in lenders
    ]
    return Earlier(np.mean(left, axis=0), cleaner.earlier)
