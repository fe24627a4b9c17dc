"""The columns of an evaluation: in whose eyes pictures are compared, and every score of every trial there.

First an eye that nobody here trained, EfficientNet-Lite0; for the phantom then the judge of scenes, to whom the truth
is known; pixels; the decoder's own tokens, with their name on them, for the decoder was trained in that space; and
those of the ten metrics whose networks the user has. Knows pictures and names of them; knows no decoder.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from dynadiff.evaluation.scored import Cell, Column
from dynadiff.phantom.judge import SceneJudge
from dynadiff.phantom.truth import truth
from dynadiff.scores.identification import Floats, n_way_top1, two_way, two_way_level
from dynadiff.scores.intervals import bootstrap_ci, permutation_level
from dynadiff.scores.pixels import pixel_features
from dynadiff.scores.scenes import Shown, hue_errors, mean_iou, named, object_f1
from dynadiff.scores.settings import DYNADIFF, Setting
from dynadiff.scores.ten import Eye, Segment, resemblance, score_pictures

LITE0, JUDGE, OWN, PIXELS, TEN = "EfficientNet-Lite0", "the judge of scenes", "its own tokens", "pixels", "ten metrics"
N_WAY, DRAWS = 50, 100  # pictures to choose from; dealings at random for a level of chance
Score = tuple[Column, NDArray[np.float64], float | None]  # a column, a value a trial, and what chance gives


@dataclass(frozen=True)
class Eyes:
    """Whoever compares pictures."""

    spaces: Mapping[str, Eye]  # feature spaces by their names, in the order of the table
    scenes: SceneJudge | None = None  # only where pictures are drawn scenes, named by their numbers
    metrics: Mapping[str, Eye] = field(default_factory=dict)  # networks of the ten metrics, by the metrics' keys
    setting: Setting = DYNADIFF
    segment: Segment | None = None  # label maps of pictures, for mIoU


class Remembering:
    """An eye that looks at each picture once, however many decoders it is compared with: features are small."""

    def __init__(self, eye: Eye) -> None:
        self._eye, self._seen = eye, dict[bytes, Floats]()

    def __call__(self, pictures: NDArray[np.uint8]) -> Floats:
        keys = [blake3(picture.tobytes()).digest() for picture in pictures]
        if new := {key: k for k, key in enumerate(keys) if key not in self._seen}:
            self._seen |= zip(new, self._eye(pictures[list(new.values())]), strict=True)
        return np.stack([self._seen[key] for key in keys])


def scored(
    eyes: Eyes, painted: Sequence[NDArray[np.uint8]], shown: NDArray[np.uint8], names: Sequence[str]
) -> list[tuple[Column, Cell]]:
    """Every column of pictures painted (n, s, s, 3), once a seed, and shown (n, s, s, 3) under these names (n,).

    A trial's score is its mean over the seeds, and chance that of the first.
    """
    each = [_scores(eyes, pictures, shown, names, first=k == 0) for k, pictures in enumerate(painted)]
    by_seed = [{score[0].key: score for score in scores} for scores in each]
    found = []
    for key, (column, _, chance) in by_seed[0].items():
        if not all(key in scores for scores in by_seed):  # label maps are lacking for a seed
            continue
        same = [scores[key] for scores in by_seed]
        per_trial = np.mean([values for _, values, _ in same], axis=0)
        found.append(_cell((column, per_trial, chance), names))
    return found


def scored_hues(hues: NDArray[np.float64], names: Sequence[str]) -> list[tuple[Column, Cell]]:
    """The columns of hues alone: those (n, 2), in degrees, that are said of drawn scenes with these names (n,)."""
    nothing = np.zeros(len(hues), np.int64)
    said = Shown(nothing, np.zeros((len(hues), 1, 1), np.uint8), hues)
    return [_cell(score, names) for score in _hues(said, truth([int(name) for name in names]))]


def _cell(score: Score, names: Sequence[str]) -> tuple[Column, Cell]:
    column, values, chance = score
    low, high = bootstrap_ci(values, names)
    return column, Cell(column.key, float(values.mean()), low, high, chance, tuple(values.round(6).tolist()))


def _scores(
    eyes: Eyes, painted: NDArray[np.uint8], shown: NDArray[np.uint8], names: Sequence[str], first: bool
) -> Iterator[Score]:
    outside = {space: eye for space, eye in eyes.spaces.items() if space != OWN}
    for space, eye in outside.items():
        yield from _identified(space, eye, painted, shown, names)
    if eyes.scenes is not None:
        yield from _identified(JUDGE, eyes.scenes.features, painted, shown, names)
        yield from _seen(eyes.scenes.look(painted), truth([int(name) for name in names]))
    yield from _identified(PIXELS, pixel_features, painted, shown, names)
    if OWN in eyes.spaces:  # never first: the decoder was trained in it
        yield from _identified(OWN, eyes.spaces[OWN], painted, shown, names)
    for one in score_pictures(painted, shown, names, eyes.setting, eyes.metrics, eyes.segment, first):
        key = f"{one.metric.key}{'' if one.headline else '-other-way'}"
        unit = "%" if one.metric.times == 100 and one.metric.key != "dreamsim" else ""
        yield (
            Column(key, one.title, TEN, one.metric.times, unit, one.metric.higher_is_better),
            one.per_trial,
            one.chance,
        )


def _identified(
    space: str, eye: Eye, painted: NDArray[np.uint8], shown: NDArray[np.uint8], names: Sequence[str]
) -> Iterator[Score]:
    """Two-way in both directions, and one of 50, or of as many pictures as there are."""
    r, n = resemblance(eye, painted, shown), min(N_WAY, len(set(names)))
    for title, way in (("two-way", r), ("two-way, against truths", r.T)):
        yield Column(f"{space}: {title}", title, space, 100, "%", True), two_way(way, names), two_way_level(way, names)
    score, title = partial(n_way_top1, n=n), f"one of {n}"
    chance = permutation_level(r, names, score, draws=DRAWS)
    yield Column(f"{space}: {title}", title, space, 100, "%", True), score(r, names), chance


def _seen(said: Shown, true: Shown) -> Iterator[Score]:
    """What the judge of scenes says is shown, against the drawings' own truth."""
    shares = {"category named": named, "object F1": object_f1, "overlap of what is where": mean_iou}
    for title, score in shares.items():
        yield Column(f"{JUDGE}: {title}", title, JUDGE, 100, "%", True), score(said, true), _dealt(score, said, true)
    yield from _hues(said, true)


def _hues(said: Shown, true: Shown) -> Iterator[Score]:
    for k, what in enumerate(("object", "background")):
        title, score = f"hue error, {what}", partial(_hue_error, which=k)
        column = Column(f"{JUDGE}: {title}", title, JUDGE, 1, "°", False)
        yield column, score(said, true), _dealt(score, said, true, best=0.05)


def _hue_error(said: Shown, true: Shown, which: int) -> NDArray[np.float64]:
    return np.asarray(hue_errors(said, true)[:, which])


def _dealt(score: Callable[[Shown, Shown], NDArray[np.float64]], said: Shown, true: Shown, best: float = 0.95) -> float:
    """The mean score that is reached once in twenty times when pictures are dealt to trials at random."""
    rng, means = np.random.default_rng(0), []
    for _ in range(DRAWS):
        deal = rng.permutation(len(said))
        means.append(score(Shown(said.category[deal], said.classes[deal], said.hues[deal]), true).mean())
    return float(np.quantile(means, best))
