"""The tables of a report: decoders under whose eye they are, their differences, means over subjects, and the paper's.

Knows an evaluation and elements of a page; chooses nothing and computes nothing.
"""

from collections.abc import Iterator, Sequence

from dynadiff.evaluation.against import Compared
from dynadiff.evaluation.page.markup import Markup, element, joined, table
from dynadiff.evaluation.page.published import KEYS, PAPER, published
from dynadiff.evaluation.page.wording import TEN, about, by_space, heading, number, unit
from dynadiff.evaluation.scored import Cell, Column, Difference, Evaluation, Subject, differences, mean_over_subjects
from dynadiff.scores.intervals import Interval
from dynadiff.scores.ten import METRICS

NONE = "–"
Rows = Iterator[tuple[str | None, Sequence[object]]]


def over_subjects(evaluation: Evaluation) -> Markup:
    """Means over subjects, a table a space."""
    rows_of = list(dict.fromkeys(row.decoder for subject in evaluation.subjects for row in subject.rows))
    parts = [element("h2", f"Over {len(evaluation.subjects)} subjects")]
    said = "Mean of the subjects' means ± its standard error, of what all of them have."
    parts.append(element("p", said, class_="soft"))
    for space, columns in by_space(evaluation).items():
        rows = (
            ("first" if k == 0 else None, (decoder, *(_mean(evaluation, decoder, c) for c in columns)))
            for k, decoder in enumerate(rows_of)
        )
        parts.append(table(("decoder", *map(heading, columns)), rows, about(space, evaluation)))
    return joined(parts)


def beside_the_paper(evaluation: Evaluation) -> Markup:
    """The ten metrics beside what the paper prints, where both are of one setting."""
    title = element("h2", "Beside the paper")
    if evaluation.setting != "dynadiff":
        said = (
            f"The ten metrics are in the setting “{evaluation.setting}”, the paper's in another: "
            "numbers of the two do not compare."
        )
        return joined((title, element("p", said)))
    arrows = {m.key: f"{m.title}\u00a0{'↑' if m.higher_is_better else '↓'}" for m in METRICS}
    said = (
        f"Below the numbers of this evaluation stand those of {PAPER}, as printed, ± included; shares and DreamSim are "
        "times 100. The paper's ± is the population's SD of four subjects over √4 (MindEye1's 2.21 was not divided, "
        "WAVE's in table 7 is the sample's SD); here it is the standard error, the sample's SD over √n, larger by "
        "√(n / (n − 1)). Trials, voxels and weights of judges may differ: docs/metrics.md names what is known to."
    )
    rows = [*_ours(evaluation), *_theirs(evaluation)]
    head = ("", *(arrows[key] for key in KEYS))
    return joined((title, element("p", said, class_="soft"), table(head, rows, "the ten metrics, here and there")))


def decoders(evaluation: Evaluation, subject: Subject, space: str, columns: Sequence[Column]) -> Markup:
    """Every decoder in the columns of a space."""
    return table(("decoder", *map(heading, columns)), _decoders(subject, columns), about(space, evaluation))


def against_every_other(evaluation: Evaluation, subject: Subject) -> Iterator[Markup]:
    """By how much the first decoder is ahead of the others, a table a space; nothing where it has no other."""
    if len(subject.rows) < 2:
        return
    first = subject.rows[0].decoder
    found = {(d.other, d.column): d for d in differences(evaluation, subject, first)}
    yield element("h3", f"{first}, against every other")
    said = (
        f"By how much {first} is better, in pairs of the same trial; below 0, the other one is. "
        "Bold with ▲ or ▼: the 95 % interval over pictures excludes 0."
    )
    yield element("p", said, class_="soft")
    for space, columns in by_space(evaluation).items():
        if kept := [c for c in columns if any(column == c.key for _, column in found)]:
            rows = (
                (None, (row.decoder, *(_ahead(found.get((row.decoder, c.key)), c) for c in kept)))
                for row in subject.rows[1:]
            )
            titles = (f"{c.title}{unit(c).replace('%', 'points')}" for c in kept)
            yield table(("against", *titles), rows, about(space, evaluation))


def against_other_models(evaluation: Evaluation, compared: Compared) -> Iterator[Markup]:
    """The first decoder beside that of another model on the same trials, a table a subject and model."""
    if compared.rivals:
        yield element("h2", "Against other models")
        said = "Ahead in pairs of the same trial. Bold with ▲ or ▼: the 95 % interval over pictures excludes 0."
        yield element("p", said, class_="soft")
    for rivals in compared.rivals:
        title = f"subject {rivals.subject}: {rivals.model} against {rivals.other}, {rivals.decoder}"
        columns = [(lead, evaluation.column(lead.column)) for lead in rivals.leads]
        rows = (
            (None, (f"{c.space}: {heading(c)}", number(lead.ours, c), number(lead.theirs, c), _lead(lead.ahead, c)))
            for lead, c in columns
        )
        yield table(("score", rivals.model, rivals.other, "ahead by"), rows, title)


def _decoders(subject: Subject, columns: Sequence[Column]) -> Rows:
    for k, row in enumerate(subject.rows):
        yield "first" if k == 0 else None, (row.decoder, *(_cell(row.cell(c.key), c) for c in columns))
    cells = [subject.rows[0].cell(c.key) if subject.rows else None for c in columns]
    levels = [None if cell is None else cell.chance for cell in cells]
    if any(level is not None for level in levels):
        said = [NONE if v is None else number(v, c) for v, c in zip(levels, columns, strict=True)]
        yield "chance", ("chance, once in twenty times", *said)


def _cell(cell: Cell | None, column: Column) -> Markup:
    """Mean and interval; what chance gives this very decoder is said where the pointer rests."""
    if cell is None:
        return element("td", NONE)
    chance = None if cell.chance is None else f"chance reaches {number(cell.chance, column)} once in twenty times"
    return element("td", number(cell.mean, column), _range(cell.low, cell.high, column), title=chance)


def _ahead(found: Difference | None, column: Column) -> Markup:
    if found is None:
        return element("td", NONE)
    return _lead(found.ahead, column)


def _lead(ahead: Interval, column: Column) -> Markup:
    mean, low, high = ahead.mean, ahead.low, ahead.high
    mark = " ▲" if low > 0 else " ▼" if high < 0 else ""
    inside = (f"{number(mean, column, signed=True)}{mark}", _range(low, high, column, signed=True))
    return element("td", *inside, class_="sure" if mark else None)


def _range(low: float, high: float, column: Column, signed: bool = False) -> Markup:
    return element("span", f" [{number(low, column, signed)}, {number(high, column, signed)}]", class_="range")


def _mean(evaluation: Evaluation, decoder: str, column: Column) -> str:
    found = mean_over_subjects(evaluation, decoder, column.key)
    return NONE if found is None else f"{number(found[0], column)} ± {number(found[1], column)}"


def _ours(evaluation: Evaluation) -> Rows:
    columns = {c.key: c for c in evaluation.columns if c.space == TEN}
    for subject in evaluation.subjects:
        for row in subject.rows[:1]:
            cells = [(row.cell(key), columns.get(key)) for key in KEYS]
            said = [NONE if cell is None or c is None else _cell(cell, c) for cell, c in cells]
            yield "first", (f"{row.decoder}, subject {subject.subject}, here", *said)
    if len(evaluation.subjects) > 1 and evaluation.subjects[0].rows:
        decoder = evaluation.subjects[0].rows[0].decoder
        means = [_mean(evaluation, decoder, columns[k]) if k in columns else NONE for k in KEYS]
        yield "first", (f"{decoder}, mean ± standard error, here", *means)


def _theirs(evaluation: Evaluation) -> Rows:
    here = {f"subject {subject.subject.removeprefix('subj').lstrip('0')}" for subject in evaluation.subjects}
    for row in published(evaluation.repetitions):
        if row.of in here or not row.of.startswith("subject "):
            name = f"{row.model}, {row.of} (table {row.table})"
            yield None, (name, *(row.values[key] for key in KEYS))
