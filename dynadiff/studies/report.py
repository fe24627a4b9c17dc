"""Tables of studies, for people. Knows no arithmetic of its own."""

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from dynadiff.evaluation.report import cell
from dynadiff.studies.judged import Judged, difference, verdict
from dynadiff.studies.phantom import measure
from dynadiff.studies.plan import METRICS, Study

ONE_SEED = "one training, from one seed, behind each row: the intervals do not say what another would give"


def print_study(study: Study, judged: Mapping[str, Judged]) -> None:
    """Every condition's scores, and which of the paper's orderings hold."""
    trials = len(next(iter(judged.values())).trials)
    title = f"{study.title}. {trials} held-out single trials, cleaned online [95 % interval over pictures]"
    rows = Table("model", "sessions learnt", *METRICS.values(), title=title, caption=ONE_SEED)
    for condition in study.conditions:
        if condition.name in judged:
            scores = (judged[condition.name].interval(metric) for metric in METRICS)
            learnt = len(study.sessions_of(condition)) - 1  # of each subject: one is held out
            rows.add_row(f"{condition.name}: {condition.row}", str(learnt), *map(cell, scores))
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
    table.add_row("tSNR, median over nsdgeneral", f"{found.tsnr:.0f}", "60-110 (73 studyforrest, 104 Haxby)")
    table.add_row("tSNR, median over the brain", f"{found.tsnr_brain:.0f}", "")
    table.add_row("noise autocorrelation, 1 volume apart", f"{found.lag1:.2f}", "0.12 at 2 s, 0.30 at 2.5 s in the two")
    ridge, shuffled = found.ridge, found.shuffled
    top1 = f"{100 * ridge.top1:.1f} % [{100 * ridge.top1_ci95[0]:.1f}, {100 * ridge.top1_ci95[1]:.1f}]"
    table.add_row("50-way top-1, ridge, single trial", top1, "60-78 %: rtMindEye offline, 3 T, 76, re-scored 62, ±12")
    table.add_row("  the same predictions shuffled", f"{100 * shuffled.top1:.1f} %", "2 % is chance")
    pair = f"{100 * ridge.two_way:.1f} % [{100 * ridge.two_way_ci95[0]:.1f}, {100 * ridge.two_way_ci95[1]:.1f}]"
    table.add_row("two-way, ridge, single trial", pair, "")
    Console(width=120).print(table)
