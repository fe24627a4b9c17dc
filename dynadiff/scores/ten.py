"""The ten metrics of the paper, a score for every trial, in one of two settings. Pictures in, numbers out.

What a network sees in a picture is handed in as a judge, pictures to features, and mIoU as numbers: this module knows
no network and opens no file. A trial's score needs the other trials in two-way identification alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dynadiff.base.errors import UserError
from dynadiff.scores.identification import Floats, standardised, two_way
from dynadiff.scores.pairs import pixel_correlation, ssim
from dynadiff.scores.settings import Pictures, Rivals, Setting

Eye = Callable[[Any], Floats]  # pictures (n, h, w, 3) of the kind that it takes to features (n, d)
BLOCK = 64  # pictures whose features are held at a time, beside those of all truths


@dataclass(frozen=True)
class Metric:
    """One of the ten."""

    key: str  # of its judge too
    title: str  # as tables print it
    how: Literal["pairs", "two-way", "distance", "measured"]
    higher_is_better: bool
    times: int  # what tables multiply it with: a score is a share, a correlation or a distance, and has no other unit


METRICS = (
    Metric("pixcorr", "PixCorr", "pairs", True, 1),
    Metric("ssim", "SSIM", "pairs", True, 1),
    Metric("alexnet2", "AlexNet(2)", "two-way", True, 100),
    Metric("alexnet5", "AlexNet(5)", "two-way", True, 100),
    Metric("clip", "CLIP", "two-way", True, 100),
    Metric("inception", "Inception", "two-way", True, 100),
    Metric("efficientnet", "EffNet-B1", "distance", False, 1),
    Metric("swav", "SwAV", "distance", False, 1),
    Metric("dreamsim", "DreamSim", "distance", False, 100),
    Metric("miou", "mIoU", "measured", True, 100),
)


@dataclass(frozen=True)
class Scored:
    """What one metric says of every trial. Two-way identification comes twice, once against each kind of rivals."""

    metric: Metric
    per_trial: NDArray[np.float64]  # (n,)
    rivals: Rivals | None = None  # what a trial's own had to beat, in two-way identification
    headline: bool = True  # False for the direction that is not the setting's own

    @property
    def title(self) -> str:
        """The metric's name, with the rivals where there are any."""
        return f"{self.metric.title}, against {self.rivals}" if self.rivals else self.metric.title


def score_pictures(
    painted: Pictures,
    shown: Pictures,
    names: Sequence[str],
    setting: Setting,
    judges: Mapping[str, Eye],
    measured: Mapping[str, NDArray[np.float64]] | None = None,
) -> list[Scored]:
    """Every metric that can be had, of pictures painted and shown (n, h, w, 3) each, uint8 or in [0, 1].

    ``names`` (n,) are those of the pictures shown: trials of the same one are no rivals. ``judges`` are called by the
    metrics' keys, ``measured`` holds scores (n,) that were computed elsewhere; what is in neither has no row.
    Raises UserError where pictures, names or measured scores do not belong together.
    """
    _check(painted, shown, names)
    found: list[Scored] = []
    pixels = _pixel_scores(painted, shown, setting)
    for metric in METRICS:
        if metric.how == "pairs":
            found.append(Scored(metric, pixels[metric.key]))
        elif metric.how == "measured" and metric.key in setting.measured and measured and metric.key in measured:
            found.append(Scored(metric, _fitting(measured[metric.key], len(names), metric)))
        elif metric.key in judges and metric.key in setting.sides:
            r = resemblance(judges[metric.key], painted, shown)
            found += (
                _two_way(metric, r, names, setting) if metric.how == "two-way" else [Scored(metric, 1 - np.diag(r))]
            )
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


def read_measured(text: str, where: str) -> NDArray[np.float64]:
    """Scores (n,) of the trials in order, from a table ``trial,miou`` with a line for each, from 0.

    Raises UserError, naming ``where`` it stands, for anything else.
    """
    lines = [line.split(",") for line in text.split()]
    try:
        values = np.array([float(value) for _, value in lines[1:]])
        whole = lines[0] == ["trial", "miou"] and [int(k) for k, _ in lines[1:]] == list(range(len(values)))
    except (ValueError, IndexError):
        whole = False
    if not whole or not len(values) or not ((values >= 0) & (values <= 1)).all():
        raise UserError(f"{where} is no table of mIoU: write a line trial,miou, then one a trial, from 0, a share each")
    return values


def _two_way(metric: Metric, r: NDArray[np.float64], names: Sequence[str], setting: Setting) -> list[Scored]:
    ways: dict[Rivals, NDArray[np.float64]] = {"reconstructions": two_way(r, names), "truths": two_way(r.T, names)}
    return [Scored(metric, values, rivals, rivals == setting.rivals) for rivals, values in ways.items()]


def _pixel_scores(painted: Pictures, shown: Pictures, setting: Setting) -> dict[str, NDArray[np.float64]]:
    scores = np.empty((2, len(painted)))
    for k in range(len(painted)):  # one pair at a time: at this size a picture is 4 MB
        a, b = (setting.for_pixels(pictures[k : k + 1])[0] for pictures in (painted, shown))
        scores[:, k] = pixel_correlation(a, b), ssim(a, b)
    return {"pixcorr": scores[0], "ssim": scores[1]}


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


def _fitting(values: NDArray[np.float64], n: int, metric: Metric) -> NDArray[np.float64]:
    if values.shape != (n,):
        raise UserError(f"there are {len(values)} measured scores of {metric.title} and {n} trials: give one each")
    return values
