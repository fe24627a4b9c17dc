"""Tables for people: prints what the evaluation and the phantom study find. Knows no arithmetic of its own."""

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from dynadiff.evaluation.evaluate import Row, evaluate
from dynadiff.networks.model_folder import load_model
from dynadiff.recordings.nsd import NSD
from dynadiff.scores.identification import Interval, Level
from dynadiff.scores.pixels import PixelScores
from dynadiff.studies.judged import Judged, difference, verdict
from dynadiff.studies.phantom import measure
from dynadiff.studies.plan import METRICS, Study
from dynadiff.training.recipe import nsd_trials

ONE_SEED = "one training, from one seed, behind each row: the intervals do not say what another would give"
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
        table.add_row(row.decoder, *map(_cell, (row.two_way, row.top1, row.two_way_pixels)), f"{100 * row.named:.1f} %")
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


def print_study(study: Study, judged: Mapping[str, Judged]) -> None:
    """Every condition's scores, and which of the paper's orderings hold."""
    trials = len(next(iter(judged.values())).trials)
    title = f"{study.title}. {trials} held-out single trials, cleaned online [95 % interval over pictures]"
    rows = Table("model", "sessions learnt", *METRICS.values(), title=title, caption=ONE_SEED)
    for condition in study.conditions:
        if condition.name in judged:
            scores = (judged[condition.name].interval(metric) for metric in METRICS)
            learnt = len(study.sessions_of(condition)) - 1  # of each subject: one is held out
            rows.add_row(f"{condition.name}: {condition.row}", str(learnt), *map(_cell, scores))
    title = "The paper's orderings: differences in points, in pairs of the same trial [95 % interval over pictures]"
    orderings = Table("above", "below", "in", "difference", "here", "in the paper", title=title)
    for c in study.comparisons:
        found = difference(judged[c.above], judged[c.below], c.metric)
        points = f"{100 * found.mean:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"
        orderings.add_row(c.above, c.below, METRICS[c.metric], points, verdict(found), c.paper)
    for table in (rows, orderings):
        Console(width=150).print(table)


def print_phantom(root: Path, subject: int) -> None:
    """Measure the phantom beside the ranges it was made to match."""
    found = measure(root, subject)
    table = Table("quantity", "phantom", "meant to match", title=f"subject {subject}, {found.voxels} voxels")
    table.add_row("tSNR, median over nsdgeneral", f"{found.tsnr:.0f}", "60-110 (73 studyforrest 3 T, 104 Haxby slice)")
    table.add_row("tSNR, median over the brain", f"{found.tsnr_brain:.0f}", "")
    table.add_row("noise autocorrelation, 1 volume apart", f"{found.lag1:.2f}", "0.2-0.5, chosen")
    ridge, shuffled = found.ridge, found.shuffled
    top1 = f"{100 * ridge.top1:.1f} % [{100 * ridge.top1_ci95[0]:.1f}, {100 * ridge.top1_ci95[1]:.1f}]"
    table.add_row("50-way top-1, ridge, single trial", top1, "78 % (NSD, rtMindEye); 76 % (3 T)")
    table.add_row("  the same predictions shuffled", f"{100 * shuffled.top1:.1f} %", "2 % is chance")
    pair = f"{100 * ridge.two_way:.1f} % [{100 * ridge.two_way_ci95[0]:.1f}, {100 * ridge.two_way_ci95[1]:.1f}]"
    table.add_row("two-way, ridge, single trial", pair, "")
    Console(width=120).print(table)


def _cell(score: Interval) -> str:
    return f"{100 * score.mean:.1f} % [{100 * score.low:.1f}, {100 * score.high:.1f}]"
