"""The ten metrics of the paper, a score for every trial, in one of two settings, and what chance gives. Pictures in,
numbers out.

What a network sees in a picture is handed in as a judge, pictures to features, or for mIoU to label maps: this module
knows no network and opens no file. A trial's score needs the other trials in two-way identification alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dynadiff.base.errors import UserError
from dynadiff.scores.dealing import SHIFTS, Dealt, deal, dealt_level
from dynadiff.scores.identification import Floats, standardised, two_way, two_way_level
from dynadiff.scores.pairs import Labels, Prepared, correlation_of, mean_overlap, prepared, ssim_of
from dynadiff.scores.settings import Pictures, Rivals, Setting

Eye = Callable[[Any], Floats]  # pictures (n, h, w, 3) of the kind that it takes to features (n, d)
Maps = Callable[[int], Labels]  # a trial to the label map (h, w) of its picture
Segment = Callable[[Pictures], Maps | None]  # None where there is no map of one of the pictures
BLOCK = 64  # pictures whose features are held at a time, beside those of all truths


@dataclass(frozen=True)
class Metric:
    """One of the ten."""

    key: str  # of its judge too
    title: str  # as tables print it
    how: Literal["pixels", "two-way", "distance", "labels"]
    higher_is_better: bool
    times: int  # what tables multiply it with: a score is a share, a correlation or a distance, and has no other unit


METRICS = (
    Metric("pixcorr", "PixCorr", "pixels", True, 1),
    Metric("ssim", "SSIM", "pixels", True, 1),
    Metric("alexnet2", "AlexNet(2)", "two-way", True, 100),
    Metric("alexnet5", "AlexNet(5)", "two-way", True, 100),
    Metric("clip", "CLIP", "two-way", True, 100),
    Metric("inception", "Inception", "two-way", True, 100),
    Metric("efficientnet", "EffNet-B1", "distance", False, 1),
    Metric("swav", "SwAV", "distance", False, 1),
    Metric("dreamsim", "DreamSim", "distance", False, 100),
    Metric("miou", "mIoU", "labels", True, 100),
)


@dataclass(frozen=True)
class Scored:
    """What one metric says of every trial. Two-way identification comes twice, once against each kind of rivals."""

    metric: Metric
    per_trial: NDArray[np.float64]  # (n,)
    chance: float | None  # mean that is reached once in twenty times when pictures are dealt to trials; None: not asked
    rivals: Rivals | None = None  # what a trial's own had to beat, in two-way identification
    headline: bool = True  # False for the direction that is not the setting's own

    @property
    def title(self) -> str:
        """The metric's name, with the rivals where there are any."""
        return f"{self.metric.title}, against {self.rivals}" if self.rivals else self.metric.title


def score_pictures(
    painted: Pictures, shown: Pictures, names: Sequence[str], setting: Setting, judges: Mapping[str, Eye],
    segment: Segment | None = None, levels: bool = True,
) -> list[Scored]:  # fmt: skip
    """Every metric that can be had, of pictures painted and shown (n, h, w, 3) each, uint8 or in [0, 1].

    ``names`` (n,) are those of the pictures shown: trials of the same one are no rivals. ``judges`` are called by the
    metrics' keys; what is not in them has no row, nor has mIoU without label maps. ``levels``: say what chance gives.
    Raises UserError where pictures and names do not belong together.
    """
    _check(painted, shown, names)
    shifts = SHIFTS if levels else 0
    found: list[Scored] = []
    pixels = _pixel_scores(painted, shown, setting, shifts)
    for metric in METRICS:
        if metric.how == "pixels":
            found.append(_of_pairs(metric, pixels[metric.key], levels))
        elif metric.how == "labels":
            maps = _maps(segment, painted, shown) if segment is not None and metric.key in setting.sides else None
            if maps is not None:
                overlaps, *_ = deal(len(names), *maps, lambda a, b: (mean_overlap(a, b),), shifts)
                found.append(_of_pairs(metric, overlaps, levels))
        elif metric.key in judges and metric.key in setting.sides:
            r = resemblance(judges[metric.key], painted, shown)
            if metric.how == "two-way":
                found += _two_way(metric, r, names, setting, levels)
            else:
                found.append(_distance(metric, r, levels))
    return found


def resemblance(judge: Eye, painted: Pictures, shown: Pictures) -> NDArray[np.float64]:
    """R (n, n): Pearson correlation of a judge's features, rows painted, columns shown.

    Each picture is judged once however often it occurs, so that equal pictures tie to the last bit. Of features, those
    of the pictures shown and of `BLOCK` painted ones are held: 1,000 times 139,968 floats for AlexNet(2), 0.6 GB.
    """
    (own, of_painted), (true, of_shown) = _distinct(painted), _distinct(shown)
    columns = _standardised_features(judge, true)
    rows = [standardised(judge(own[k : k + BLOCK])) @ columns.T for k in range(0, len(own), BLOCK)]
    return np.asarray(np.concatenate(rows)[np.ix_(of_painted, of_shown)], np.float64)


def _of_pairs(metric: Metric, dealt: Dealt, levels: bool) -> Scored:
    return Scored(metric, dealt.own, dealt.level(_once_in_twenty(metric)) if levels else None)


def _distance(metric: Metric, r: NDArray[np.float64], levels: bool) -> Scored:
    return Scored(metric, 1 - np.diag(r), dealt_level(1 - r, _once_in_twenty(metric)) if levels else None)


def _two_way(
    metric: Metric, r: NDArray[np.float64], names: Sequence[str], setting: Setting, levels: bool
) -> list[Scored]:
    ways: dict[Rivals, NDArray[np.float64]] = {"reconstructions": r, "truths": r.T}
    return [
        Scored(
            metric, two_way(way, names), two_way_level(way, names) if levels else None, rivals, rivals == setting.rivals
        )
        for rivals, way in ways.items()
    ]


def _once_in_twenty(metric: Metric) -> float:
    return 0.95 if metric.higher_is_better else 0.05


def _pixel_scores(painted: Pictures, shown: Pictures, setting: Setting, shifts: int) -> dict[str, Dealt]:
    def ready(pictures: Pictures, trial: int) -> Prepared:
        return prepared(setting.for_pixels(pictures[trial : trial + 1])[0])

    def both(a: Prepared, b: Prepared) -> tuple[float, float]:
        return correlation_of(a, b), ssim_of(a, b)

    found = deal(len(painted), partial(ready, painted), partial(ready, shown), both, shifts)
    return dict(zip(("pixcorr", "ssim"), found, strict=True))


def _maps(segment: Segment, painted: Pictures, shown: Pictures) -> tuple[Maps, Maps] | None:
    of_painted, of_shown = segment(painted), segment(shown)  # both asked for: what is lacking is then known at once
    return None if of_painted is None or of_shown is None else (of_painted, of_shown)


def _standardised_features(judge: Eye, pictures: Pictures) -> Floats:
    first = standardised(judge(pictures[:BLOCK]))
    features = np.empty((len(pictures), first.shape[1]), first.dtype)
    features[:BLOCK] = first
    for k in range(BLOCK, len(pictures), BLOCK):
        features[k : k + BLOCK] = standardised(judge(pictures[k : k + BLOCK]))
    return features


def _distinct(pictures: Pictures) -> tuple[Pictures, NDArray[np.int64]]:
    """The different pictures in the order in which they first occur, and which of them each one is."""
    known: dict[bytes, int] = {}
    which = np.array([known.setdefault(p.tobytes(), len(known)) for p in pictures])
    return pictures[np.unique(which, return_index=True)[1]], which


def _check(painted: Pictures, shown: Pictures, names: Sequence[str]) -> None:
    for what, pictures in (("painted", painted), ("shown", shown)):
        if pictures.ndim != 4 or pictures.shape[-1] != 3:
            raise UserError(f"the pictures {what} are an array {pictures.shape}: give RGB of one size, (n, h, w, 3)")
        if pictures.dtype != np.uint8 and not (
            np.isfinite(pictures).all() and 0 <= pictures.min() <= pictures.max() <= 1
        ):
            raise UserError(f"the pictures {what} have values beyond [0, 1] or NaN: give uint8, or floats in [0, 1]")
    if not len(painted) == len(shown) == len(names):
        counts = f"{len(painted)} pictures painted, {len(shown)} shown and {len(names)} names"
        raise UserError(f"there are {counts}: give one of each a trial")
    if painted.shape != shown.shape:
        sizes = " and ".join(f"{p.shape[2]}×{p.shape[1]}" for p in (painted, shown))
        raise UserError(f"the pictures painted and shown are of different sizes, {sizes}: bring them to one first")
    if len(set(names)) < 2:
        raise UserError("all trials show the same picture: identification needs at least two")
