"""Tables of an evaluation, for people. Knows no arithmetic of its own."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from dynadiff.evaluation.evaluate import Row, evaluate
from dynadiff.networks.model_folder import load_held_out, load_model
from dynadiff.recordings.held_out import HeldOut
from dynadiff.recordings.nsd import NSD
from dynadiff.scores.intervals import Interval, Level
from dynadiff.scores.pixels import PixelScores
from dynadiff.trials.divide import judged_on
from dynadiff.trials.source import Trials, collect, nsd_runs

PIXEL_TITLE = "test trials: mean [95 % interval over pictures] (what chance reaches once in twenty times)"


def print_evaluation(folder: Path, tree: Callable[[int], Path], seed: int) -> None:
    """Score a model on the trials of a tree that were held out of its training; ``tree`` gives that of a subject."""
    held, learn, test = judged_trials(folder, tree)
    title = f"{_which(held, test)}; {len(learn)} trials to learn from"
    table = Table("decoder", "two-way", "50-way top-1", "two-way, pixels", "category named", title=title)
    rows = list(evaluate(folder, learn, test, seed))
    for row in rows:
        table.add_row(row.decoder, *map(cell, (row.two_way, row.top1, row.two_way_pixels)), f"{100 * row.named:.1f} %")
    first: Row = rows[0]
    levels = (first.two_way.chance, first.top1.chance, first.two_way_pixels.chance)
    table.add_row("chance (95th percentile of permutations)", *(f"{100 * level:.1f} %" for level in levels), "")
    Console(width=150).print(table)


def judged_trials(folder: Path, tree: Callable[[int], Path]) -> tuple[HeldOut, Trials, Trials]:
    """What a model says was held out; what baselines learn from, and what was held out, as windows such as it reads."""
    held, listed = load_held_out(folder)
    model = load_model(folder)
    subject, config = int(model.config.subject), model.config
    nsd = NSD(tree(subject))
    learn, test = judged_on(nsd, subject, held, listed)
    runs = list(nsd_runs(nsd, subject, nsd.sessions(subject)))
    cut = partial(
        collect, mask=model.mask, cleaning=config.cleaning, spec=config.window, size=model.generator.picture_size,
        single=True,
    )  # fmt: skip
    known = cut(track(runs, "reading runs"), keep=learn.__contains__)
    return held, known, cut(runs, keep=test.__contains__)


def _which(held: HeldOut, test: Trials) -> str:
    """Of the trials that are scored: how many there are, and by what they were held out."""
    of_all = "" if held.test is None or held.test.trials == len(test) else f" of {held.test.trials}"
    rule = f"split {held.rule}, seed {held.seed}"
    return f"{len(test)}{of_all} held-out single trials ({rule}), {len(test.names)} pictures"


def print_pixel_scores(scores: Mapping[str, PixelScores]) -> None:
    """Pixel correlation and identification of every decoder, with intervals and chance levels."""
    table = Table("decoder", "pixel r", "pairwise", "pairwise, truths", "own picture first", title=PIXEL_TITLE)
    for decoder, s in scores.items():
        levels = (_level(s.pixel_r, 1, 2), *(_level(v, 100, 1) for v in (s.two_way, s.two_way_truth, s.top1)))
        table.add_row(decoder, *levels)
    Console(width=160).print(table)


def _level(value: Level, times: float, digits: int) -> str:
    mean, low, high, chance = (f"{times * v:.{digits}f}" for v in (value.mean, value.low, value.high, value.chance))
    unit = " %" if times == 100 else ""
    return f"{mean}{unit} [{low}, {high}] ({chance})"


def cell(score: Interval) -> str:
    return f"{100 * score.mean:.1f} % [{100 * score.low:.1f}, {100 * score.high:.1f}]"
