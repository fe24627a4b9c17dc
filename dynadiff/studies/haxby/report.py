"""The table of the Haxby study, for people. Knows no arithmetic of its own."""

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from dynadiff.evaluation.report import cell
from dynadiff.scores.intervals import Level
from dynadiff.studies.haxby.figures import SURE, UNITS, Ahead, Figures

CAPTION = (
    "[95 % interval, runs resampled] (95th percentile when the categories of a run's blocks are dealt out). "
    "p: two-sided, of all flips of the runs' differences. Above or below where the interval leaves out 0 and "
    f"p < {SURE}, not corrected for several opponents"
)


def print_figures(found: Figures) -> None:
    """Each way to name the category, Dynadiff's lead over it, and a sentence that says what that shows."""
    counts = " and ".join(f"{found.counts[unit]} {unit}" for unit in UNITS)
    title = (
        f"Category of {counts}, {found.runs} runs left out in turn, cleaned online; chance {100 * found.chance:.1f} %"
    )
    leads = (f"Dynadiff minus it, {unit}" for unit in UNITS)
    table = Table("named by", *UNITS, *leads, title=title, caption=CAPTION)
    for name, row in found.rows.items():
        table.add_row(name, *(_share(row[unit]) for unit in UNITS), *_leads(found.ahead.get(name)))
    console = Console(width=160)
    console.print(table)
    console.print(found.says, highlight=False, soft_wrap=True)


def _share(found: Level) -> str:
    return f"{cell(found)} ({100 * found.chance:.1f})"


def _leads(ahead: Mapping[str, Ahead] | None) -> tuple[str, ...]:
    if ahead is None:
        return ("",) * len(UNITS)
    return tuple(_lead(ahead[unit]) for unit in UNITS)


def _lead(a: Ahead) -> str:
    return f"{100 * a.mean:+.1f} [{100 * a.low:+.1f}, {100 * a.high:+.1f}], p {a.p:.4f}"
