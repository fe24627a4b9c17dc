"""Tables of an evaluation, for people. Knows no arithmetic of its own."""

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from dynadiff.evaluation.evaluate import Row, evaluate
from dynadiff.networks.model_folder import load_model
from dynadiff.recordings.nsd import NSD
from dynadiff.scores.intervals import Interval, Level
from dynadiff.scores.pixels import PixelScores
from dynadiff.trials.divide import nsd_trials

PIXEL_TITLE = "test trials: mean [95 % interval over pictures] (what chance reaches once in twenty times)"


def print_evaluation(folder: Path, root: Path, subject: int, seed: int) -> None:
    """Score a model on the held-out first session of a tree."""
    config = load_model(folder).config
    size = load_model(folder).generator.picture_size
    learn, test = nsd_trials(NSD(root), subject, config.cleaning, config.window, size)
    title = f"{len(test)} held-out single trials, {len(test.names)} pictures; {len(learn)} trials to learn from"
    table = Table("decoder", "two-way", "50-way top-1", "two-way, pixels", "category named", title=title)
    rows = list(evaluate(folder, learn, test, seed))
    for row in rows:
        table.add_row(row.decoder, *map(cell, (row.two_way, row.top1, row.two_way_pixels)), f"{100 * row.named:.1f} %")
    first: Row = rows[0]
    levels = (first.two_way.chance, first.top1.chance, first.two_way_pixels.chance)
    table.add_row("chance (95th percentile of permutations)", *(f"{100 * level:.1f} %" for level in levels), "")
    Console(width=150).print(table)


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
