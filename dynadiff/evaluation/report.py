"""Tables of an evaluation, for people. Knows no arithmetic of its own."""

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from dynadiff.evaluation.against import Compared
from dynadiff.evaluation.scored import Averaged, Cell, Column, Evaluation, Subject, differences, mean_over_subjects
from dynadiff.scores.intervals import Interval, Level
from dynadiff.scores.pixels import PixelScores

PIXEL_TITLE = "test trials: mean [95 % interval over pictures] (what chance reaches once in twenty times)"
KINDS = {
    "one": "one repetition of each picture, drawn with seed 0",
    "averaged": "windows averaged over repetitions",
    "all": "all trials",
}


def print_evaluation(evaluation: Evaluation) -> None:
    """A table a space for every subject, then what several subjects have in common, and what could not be scored."""
    console = Console(width=160)
    for subject in evaluation.subjects:
        console.print(which(evaluation, subject), highlight=False)
        for space in dict.fromkeys(column.space for column in evaluation.columns):
            console.print(_table(evaluation, subject, space))
        for line in _ahead(evaluation, subject):
            console.print(line, highlight=False)
    if len(evaluation.subjects) > 1:
        console.print(_common(evaluation))
    for line in evaluation.missing:
        console.print(f"not scored: {line}", highlight=False)


def print_compared(evaluation: Evaluation, compared: Compared) -> None:
    """A table a subject and other model; nothing where nothing was compared."""
    for rivals in compared.rivals:
        title = f"subject {rivals.subject}: {rivals.model} against {rivals.other}, {rivals.decoder}, paired"
        table = Table("space", "score", rivals.model, rivals.other, "ahead by, 95 % over pictures", title=title)
        for lead in rivals.leads:
            column = evaluation.column(lead.column)
            mine, its, by, low, high = (
                number(v, column) for v in (lead.ours, lead.theirs, lead.ahead.mean, lead.ahead.low, lead.ahead.high)
            )
            table.add_row(column.space, heading(column), mine, its, f"{by} [{low}, {high}]")
        Console(width=160).print(table)


def which(evaluation: Evaluation, subject: Subject) -> str:
    """The trials that a subject's decoders were scored on, in a line."""
    pictures, n = len(set(subject.trials)), len(subject.trials)
    of_all = f", of {subject.listed} held out" if subject.listed not in (None, n) else " held out"
    return (
        f"subject {subject.subject}, model {subject.model}: {n} {evaluation.on} trials{of_all} (split {subject.split})"
        f", {pictures} pictures, {KINDS[evaluation.repetitions]}{over(subject.averaged)}{painted_by(subject)}; "
        f"baselines learnt from {subject.learnt} trials"
    )


def over(averaged: Averaged | None) -> str:
    """How many repetitions went into a mean, as a clause; nothing where that is unsaid."""
    if averaged is None:
        return ""
    return f", {averaged.fewest} to {averaged.most} in a mean (median {averaged.median})"


def painted_by(subject: Subject) -> str:
    """How pictures were sampled, as a clause; nothing where that is unsaid."""
    return f", painted by {subject.sampling}" if subject.sampling else ""


def _table(evaluation: Evaluation, subject: Subject, space: str) -> Table:
    columns = [column for column in evaluation.columns if column.space == space]
    table = Table("decoder", *map(heading, columns), title=space)
    for row in subject.rows:
        cells = [row.cell(column.key) for column in columns]
        table.add_row(row.decoder, *("" if c is None else value(c, k) for c, k in zip(cells, columns, strict=True)))
    first = subject.rows[0]
    levels = [None if (found := first.cell(column.key)) is None else found.chance for column in columns]
    said = [("" if level is None else number(level, k)) for level, k in zip(levels, columns, strict=True)]
    table.add_row("chance, once in twenty times", *said)
    return table


def _ahead(evaluation: Evaluation, subject: Subject) -> list[str]:
    """Where the first decoder and another differ beyond the interval of paired differences, in the first column."""
    first, column = subject.rows[0].decoder, evaluation.columns[0]
    lines = []
    for found in differences(evaluation, subject, first):
        if found.column == column.key:
            behind = found.ahead.mean < 0
            edges = (-found.ahead.high, -found.ahead.low) if behind else (found.ahead.low, found.ahead.high)
            low, high = (number(edge, column) for edge in edges)
            by = f"{number(abs(found.ahead.mean), column)} [{low}, {high}]{column.unit and f' {column.unit}'}"
            where = "behind" if behind else "ahead of"
            lines.append(f"{first} is {where} {found.other} by {by} in {column.title}, {column.space}")
    return lines


def _common(evaluation: Evaluation) -> Table:
    """Means over subjects with their standard errors, of the decoders that all of them have."""
    title = f"mean ± standard error over {len(evaluation.subjects)} subjects"
    decoders = [row.decoder for row in evaluation.subjects[0].rows]
    table = Table("space", "score", *decoders, title=title)
    for column in evaluation.columns:
        means = [mean_over_subjects(evaluation, decoder, column.key) for decoder in decoders]
        cells = ["" if m is None else f"{number(m[0], column)} ± {number(m[1], column)}" for m in means]
        table.add_row(column.space, heading(column), *cells)
    return table


def value(found: Cell, column: Column) -> str:
    """A score with its interval."""
    return f"{number(found.mean, column)} [{number(found.low, column)}, {number(found.high, column)}]"


def heading(column: Column) -> str:
    """What a column is, and in what it is counted."""
    return f"{column.title}, {column.unit}" if column.unit else column.title


def number(score: float, column: Column) -> str:
    """As tables print it, without the unit: percent and degrees with one digit, the rest with three."""
    return f"{column.times * score:.{1 if column.times == 100 or column.unit == '°' else 3}f}"


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
