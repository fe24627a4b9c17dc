"""What a decode says in the terminal: how far it is, and then what came out. Knows views and summaries."""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from realtime.screen.display import View

EVERY = 25  # volumes between two lines where the output is no terminal


class Reporter:
    """A watcher that keeps one line up to date, or writes one now and then to a file or a pipe."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._seen: View | None = None
        self._said: str | int = ""  # the last line that was written: a note, or volumes received
        self._progress = Progress(
            TextColumn("{task.description}", markup=False), BarColumn(),
            TextColumn("{task.fields[state]}", markup=False),
            console=console, disable=not console.is_terminal,
        )  # fmt: skip
        self._task = self._progress.add_task("", total=None, state="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._progress.stop()

    def __call__(self, view: View) -> None:
        if view is self._seen:
            return
        self._seen = view
        if self._console.is_terminal:
            self._progress.update(
                self._task, description=view.run or view.note, total=view.planned or None,
                completed=view.received, state=state(view) if view.run else "",
            )  # fmt: skip
        elif view.received % EVERY == 0 and self._said != (new := view.received or view.note):
            self._said = new
            self._console.print(f"{view.run}: {state(view)}" if view.received else view.note, highlight=False)


def state(view: View) -> str:
    """How far a run is, in a few words."""
    words = [f"{view.received} of {view.planned} volumes", f"{view.painted} pictures"]
    if view.bad:
        words.append(f"{view.bad} bad")
    if view.behind:
        words.append(f"{view.lag:.1f} s behind")
    if view.skipped:
        words.append(f"{view.skipped} skipped")
    if view.moment is not None:
        words.append(f"{1000 * view.moment.latency:.0f} ms")
    words += [said for said in (view.score, view.note, view.alarm) if said]
    return ", ".join(words)


def report(folder: Path, summary: Mapping[str, Any]) -> list[str]:
    """A summary in a few lines."""
    lines = [
        f"{summary['volumes_received']} of {summary['volumes_expected']} volumes, "
        f"{summary['reconstructions']} pictures, {summary['skipped']} skipped"
    ]
    bad = ", ".join(f"{n} {mark}" for mark, n in summary["bad_volumes"].items())
    if bad:
        lines.append(f"volumes that are not as they should be: {bad}; {summary['marked_windows']} pictures hold one")
    latency = summary["latency_ms"]
    if latency:
        lines.append(
            f"volume to picture: median {latency['p50']:.0f} ms, p99 {latency['p99']:.0f} ms, "
            f"{summary['deadline_misses']} later than the TR of {summary['deadline_ms']:.0f} ms"
        )
        lag = summary["lag_ms"]
        if lag and lag["max"] > summary["deadline_ms"] / 2:
            lines.append(f"fell behind: volumes lay waiting for up to {lag['max'] / 1000:.1f} s before they were taken")
        if summary["caught_up"]:
            lines.append(
                f"{summary['caught_up']} volumes had been sent before this decoder was there: not in these times"
            )
    else:
        lines.append("no picture: a run must have as many volumes as a window")
    scores = [summary["identification"]] if "identification" in summary else []
    lines += [_identification(found) for found in (*scores, *summary.get("identification_beside", ()))]
    lines += summary.get("unscored", ())
    lines.append(f"files: {folder}")
    return lines


def _identification(scores: Mapping[str, Any]) -> str:
    low, high = scores["ci95"]
    return (
        f"identification of {scores['n_trials']} trials by {scores['features']}: "
        f"two-way {scores['two_way']:.1%} [{low:.1%}, {high:.1%}], chance 50%; "
        f"{scores['n_way']}-way top-1 {scores['top1']:.1%}, chance {scores['chance']['top1']:.1%}"
    )
