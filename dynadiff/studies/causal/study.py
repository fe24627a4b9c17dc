"""`dynadiff study causal`: every cleaner on every recording, each judged once and kept, and the tables of it.

The columns say by windows of which cleaning the judge learnt; what is judged is always cleaned online. Knows files and
the networks that see pictures; the arithmetic is `dynadiff.studies.causal` and `dynadiff.studies.causal.scores`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from blake3 import blake3
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from dynadiff.assets import EMBEDDED
from dynadiff.base.documents import read_document, write_document
from dynadiff.base.errors import UserError
from dynadiff.base.files import atomic
from dynadiff.evaluation.report import cell
from dynadiff.networks.generator import load_generator
from dynadiff.networks.image_encoder import ImageEncoder, encode_pictures
from dynadiff.recordings.nsd import NSD
from dynadiff.scores.intervals import Interval, interval
from dynadiff.signal.windows import WindowSpec
from dynadiff.studies.causal.cleaners import DEFAULT, CausalRun, Cleaner, agreement, offline, online, possible
from dynadiff.studies.causal.runs import BLOCK, haxby_runs, localizer_run, tree_runs
from dynadiff.studies.causal.scores import N_WAY, Fold, Judge, Scores, identified, named, neighboured
from dynadiff.trials.splits import drawn

HELD_OUT = 10  # of the pictures, one in so many
PARTS = 5  # of a run
WAYS = ("online", "offline")


@dataclass(frozen=True, eq=False)
class Material:
    """A recording, and how windows of it are judged."""

    name: str
    title: str
    runs: Sequence[CausalRun]
    spec: WindowSpec
    folds: Sequence[Fold]
    judge: Judge
    units: tuple[str, ...]  # of every window: what the intervals resample
    chance: Mapping[str, float]  # by metric, the first one leads

    @property
    def tests(self) -> NDArray[np.int64]:
        return np.concatenate([fold.test for fold in self.folds])


@dataclass(frozen=True)
class Outcome:
    """What one cleaner came to. Windows are those judged, in the order of the folds."""

    asked: dict[str, Any]
    parity: list[float]  # correlation of each window with that of the run cleaned as published
    scores: dict[str, dict[str, list[float]]]  # by what was learnt from, by metric


def tree_material(root: Path, subject: int, sessions: Sequence[int]) -> Material:
    """A tenth of the subject's own pictures is held out. Trials of the first session, which lends, are not judged."""
    spec, nsd = WindowSpec(), NSD(root)
    runs, first = tree_runs(root, subject, sessions, spec)
    seen, number = _seen(runs)
    pictures = sorted(set(seen))
    held = np.isin(seen, drawn(pictures, max(2, len(pictures) // HELD_OUT)))
    fold = Fold(np.flatnonzero(~held), np.flatnonzero(held & ~np.isin(number, first)), first)
    n_way = min(N_WAY, len({seen[k] for k in fold.test}))
    if n_way < 2:
        raise UserError(f"{root} shows fewer than two pictures that can be held out: add sessions")
    tokens = _tokens([nsd.picture(int(picture)) for picture in pictures])
    judge = identified(tokens[np.searchsorted(pictures, seen)], seen, number)
    shown = f"{len(fold.test)} single trials of {len({seen[k] for k in fold.test})} held-out pictures"
    title = f"Subject {subject}, {len(sessions)} sessions: {shown}, top-1 of {n_way}"
    return Material("tree", title, runs, spec, [fold], judge, seen, {"two-way": 1 / 2, "top-1": 1 / n_way})


def haxby_material(data: Path, home: Path) -> Material:
    """Each run is left out in turn; the others lend their variance."""
    runs = haxby_runs(data, home)
    seen, number = _seen(runs)
    folds = [Fold(np.flatnonzero(number != k), np.flatnonzero(number == k), [j for j in range(len(runs)) if j != k])
             for k in range(len(runs))]  # fmt: skip
    units = tuple(runs[k].name for k in number)
    title = f"Haxby slice: {len(seen)} windows, each of {len(runs)} runs left out in turn"
    return Material("haxby", title, runs, BLOCK, folds, named(seen, number), units, {"category": 1 / len(set(seen))})


def localizer_material(data: Path) -> Material:
    """One run: nothing earlier lends anything."""
    run = localizer_run(data)
    every = np.arange(len(run.seen))
    title = f"Studyforrest localizer: {len(every)} blocks, {run.series.shape[1]} voxels"
    units, judge = tuple(str(block) for block in run.blocks), neighboured(run.seen)
    folds, chance = [Fold(every, every, [])], {"nearest block": 1 / (len(every) - 1)}
    return Material("localizer", title, [run], BLOCK, folds, judge, units, chance)


def run_material(
    material: Material, cleaners: Sequence[Cleaner], home: Path, say: Callable[[str], None]
) -> dict[str, Outcome]:
    """Every cleaner that the recording allows; what ``home`` holds of this very recording is taken from there."""
    there = _digest(material)
    published, outcomes = offline(DEFAULT, material.runs, material.spec), {}
    for cleaner in cleaners:
        if not possible(cleaner, material.runs, material.folds[0].lenders):
            continue
        asked = json.loads(json.dumps({"recording": there, **asdict(cleaner)}))
        path = home / material.name / f"{blake3(json.dumps(asked).encode()).hexdigest(8)}.json"
        if not path.exists():
            say(f"{material.name}: {cleaner.name}")
            parity, scores = _judged(material, cleaner, published)
            with atomic(path) as new:
                new.write_text(write_document(Outcome(asked, parity, scores)), "utf-8")
        try:
            outcomes[cleaner.name] = read_document(path.read_bytes(), Outcome)
        except ValueError as error:
            raise UserError(f"{path} is damaged ({error}): delete it, and it is made again") from None
    return outcomes


def print_causal(material: Material, outcomes: Mapping[str, Outcome]) -> None:
    """How well each cleaner does, how it differs from today's, and how it does along a run."""
    units = [material.units[k] for k in material.tests]
    parts = _parts(material)
    chance = ", ".join(f"{metric} {100 * level:.1f} %" for metric, level in material.chance.items())
    caption = f"chance: {chance}. Brackets: 95 % intervals; differences to the first row, in pairs of the same window"
    for metric in material.chance:
        base = np.array(outcomes[DEFAULT.name].scores["online"][metric])
        table = Table("cleaner", "parity", title=f"{material.title}. {metric}, judged online", caption=caption)
        for way in WAYS:
            table.add_column(f"learnt {way}")
            table.add_column("difference")
        for part in range(PARTS):
            table.add_column(f"fifth {part + 1}")
        for name, outcome in outcomes.items():
            scores = {way: np.array(outcome.scores[way][metric]) for way in WAYS}
            row = [f"{np.mean(outcome.parity):.3f}"]
            for way in WAYS:
                row += [cell(interval(scores[way], units)), _points(interval(scores[way] - base, units))]
            row += [
                f"{100 * scores['online'][parts == p].mean():.1f}" if (parts == p).any() else "–" for p in range(PARTS)
            ]
            table.add_row(name, *row)
        Console(width=200).print(table)


def write_causal(material: Material, outcomes: Mapping[str, Outcome], home: Path) -> None:
    """All figures of the tables, and of every window judged, as ``home``/RECORDING.json."""
    tests = material.tests.tolist()
    document = {
        "title": material.title, "chance": dict(material.chance), "units": [material.units[k] for k in tests],
        "fifth": (_parts(material) + 1).tolist(),
        "cleaners": {name: {"parity": outcome.parity, "scores": outcome.scores} for name, outcome in outcomes.items()},
    }  # fmt: skip
    with atomic(home / f"{material.name}.json") as new:
        new.write_text(write_document(document), "utf-8")


def _judged(
    material: Material, cleaner: Cleaner, published: NDArray[np.float16]
) -> tuple[list[float], dict[str, dict[str, list[float]]]]:
    whole, live = offline(cleaner, material.runs, material.spec), None
    parity: list[float] = []
    found: dict[str, list[Scores]] = {way: [] for way in WAYS}
    for fold in material.folds:
        if live is None or cleaner.earlier:  # who lends differs
            live = online(cleaner, material.runs, fold.lenders, material.spec)
        parity += agreement(live[fold.test], published[fold.test]).round(6).tolist()
        for way, learn in zip(WAYS, (live, whole), strict=True):
            found[way].append(material.judge(learn, live, fold))
    return parity, {way: _joined(scores, material.chance) for way, scores in found.items()}


def _joined(scores: Sequence[Scores], metrics: Mapping[str, float]) -> dict[str, list[float]]:
    return {m: np.concatenate([fold[m] for fold in scores]).round(6).tolist() for m in metrics}


def _parts(material: Material) -> NDArray[np.int64]:
    """In which fifth of its run each judged window ends."""
    ends = [(start + material.spec.length - 1) / len(run.series) for run in material.runs for start in run.starts]
    return np.asarray(np.array(ends)[material.tests] * PARTS, np.int64)


def _points(found: Interval) -> str:
    return f"{100 * found.mean:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"


def _seen(runs: Sequence[CausalRun]) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """What each window shows, and of which run it is."""
    seen = tuple(name for run in runs for name in run.seen)
    return seen, np.repeat(np.arange(len(runs)), [len(run.starts) for run in runs])


def _tokens(pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Of pictures (h, w, 3), by the image encoder that ships: (n, d)."""
    size = load_generator(EMBEDDED / "generator").picture_size
    small = np.stack([cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA) for picture in pictures])
    encoder = ImageEncoder.load(EMBEDDED / "generator" / "image_encoder")
    return encode_pictures(encoder, small.astype(np.uint8)).reshape(len(pictures), -1)


def _digest(material: Material) -> str:
    """Of everything that is judged, and what it is judged by."""
    digest = blake3(repr((material.spec, material.units, material.tests.tolist())).encode())
    for run in material.runs:
        digest.update(repr((run.name, run.starts, run.seen)).encode())
        for values in (run.series, run.courses, run.motion):
            digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest(16)
