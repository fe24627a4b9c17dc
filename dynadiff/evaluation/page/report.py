"""An evaluation as one page for people, which needs nothing else. Knows no file and no network.

The page is a function of the evaluation and the pictures: no clock, no random number. `markup.py` says what a page may
do, `tables.py` has its tables, `plots.py` draws, `gallery.py` chooses pictures, `published.py` has the paper's numbers.
"""

from collections.abc import Iterator, Mapping

from dynadiff.evaluation.against import Compared
from dynadiff.evaluation.page.gallery import Gallery, chosen_pictures, strips
from dynadiff.evaluation.page.markup import Markup, element, joined, page, table
from dynadiff.evaluation.page.plots import Bar, interval_plot, sorted_curve
from dynadiff.evaluation.page.tables import (
    against_every_other,
    against_other_models,
    beside_the_paper,
    decoders,
    over_subjects,
)
from dynadiff.evaluation.page.wording import DATA, REPETITIONS, by_space, heading, number, unit
from dynadiff.evaluation.report import over
from dynadiff.evaluation.scored import Cell, Column, Evaluation, Subject

__all__ = ["Gallery", "html_report"]

INTERVALS = "Means over trials with 95 % bootstrap intervals over pictures; ↑ higher is better, ↓ lower is better."

MANY = (
    "each stands by itself: nothing is corrected for how many there are here, and of a hundred comparisons of equals "
    "about five exclude 0"
)


def html_report(evaluation: Evaluation, galleries: Mapping[str, Gallery], compared: Compared | None = None) -> str:
    """The whole page, as text; pictures come from ``galleries``, by subject, which may lack any.

    ``compared`` is how the first decoder stands against other models.

    Raises ValueError where a gallery has not a picture a trial of its subject.
    """
    several = len(evaluation.subjects) > 1
    parts = [_heading(evaluation)]
    if several:
        parts.append(over_subjects(evaluation))
    if evaluation.data == "nsd":
        parts.append(beside_the_paper(evaluation))
    parts += against_other_models(evaluation, compared or Compared(()))
    for k, subject in enumerate(evaluation.subjects):
        parts += [*_scores(evaluation, subject, f"s{k}"), *_pictures(evaluation, subject, galleries)]
    return page("Evaluation", *parts, *_made_of(evaluation))


def _heading(evaluation: Evaluation) -> Markup:
    averaged = "; scores are means over them" if len(evaluation.seeds) > 1 else ""
    facts = {
        "data": DATA[evaluation.data],
        "trials": REPETITIONS[evaluation.repetitions],
        "seeds of the noise": ", ".join(map(str, evaluation.seeds)) + averaged,
        "pictures on this page": f"of seed {evaluation.seeds[0]}",
        "intervals": MANY,
    }
    links = [element("a", f"subject {s.subject}", href=f"#s{k}") for k, s in enumerate(evaluation.subjects)]
    return joined((
        element("h1", "How good are the pictures?"),
        _facts(facts),
        element("nav", *links, element("a", "what it is made of", href="#made")),
    ))  # fmt: skip


def _scores(evaluation: Evaluation, subject: Subject, anchor: str) -> Iterator[Markup]:
    """Everything about a subject that is a number: tables and intervals a space, differences, the curve of trials."""
    n, spaces = len(subject.trials), by_space(evaluation)
    listed = "" if subject.listed in (None, n) else f" of {subject.listed} that the model lists"
    yield element("h2", f"Subject {subject.subject}", id=anchor)
    yield _facts({
        "scored": f"{n} {evaluation.on} trials{listed}, {len(set(subject.trials))} pictures{over(subject.averaged)}",
        "held out by": subject.split,
        "model": joined((f"{subject.model}, ", element("code", subject.model_sha256))),
        "baselines learnt from": f"{subject.learnt} trials",
    } | ({"painted by": subject.sampling} if subject.sampling else {}))  # fmt: skip
    yield element("p", INTERVALS, class_="soft")
    for space, columns in spaces.items():
        if kept := [c for c in columns if any(row.cell(c.key) for row in subject.rows)]:
            yield decoders(evaluation, subject, space, kept)
    yield from against_every_other(evaluation, subject)
    yield element("h3", "Intervals of every decoder")
    yield element("p", "Dashed: what chance reaches once in twenty times, for each decoder.", class_="soft")
    yield element("div", *(_intervals(subject, c) for group in spaces.values() for c in group), class_="plots")
    if (found := _first_cell(evaluation, subject)) is not None:
        column, cell = found
        title = f"{column.title}{unit(column)}, {column.space}"
        scores, chance = [column.times * v for v in cell.per_trial], _printed(column, cell.chance)
        yield element("h3", f"Every trial of {subject.rows[0].decoder}")
        about = f"{title}, trials from best to worst; dashed: the mean that chance reaches once in twenty times."
        yield element("p", about, class_="soft")
        yield element("figure", sorted_curve(title, scores, chance, column.higher_is_better))


def _intervals(subject: Subject, column: Column) -> Markup:
    cells = [(row.decoder, cell) for row in subject.rows if (cell := row.cell(column.key)) is not None]
    if not cells:
        return Markup()
    bars = [
        Bar(
            decoder, number(cell.mean, column), column.times * cell.mean, column.times * cell.low,
            column.times * cell.high, _printed(column, cell.chance), decoder == subject.rows[0].decoder,
        )
        for decoder, cell in cells
    ]  # fmt: skip
    said = f"{heading(column)}, {column.space}"
    return element("figure", element("figcaption", said), interval_plot(said, bars))


def _printed(column: Column, score: float | None) -> float | None:
    return None if score is None else column.times * score


def _pictures(evaluation: Evaluation, subject: Subject, galleries: Mapping[str, Gallery]) -> Iterator[Markup]:
    if (gallery := galleries.get(subject.subject)) is None:
        return
    if len(gallery.shown) != len(subject.trials):
        raise ValueError(f"{len(gallery.shown)} pictures for {len(subject.trials)} trials of subject {subject.subject}")
    if (found := _first_cell(evaluation, subject)) is not None:
        yield chosen_pictures(subject, gallery, *found)
    yield strips(subject, gallery)


def _first_cell(evaluation: Evaluation, subject: Subject) -> tuple[Column, Cell] | None:
    """The first decoder in the first column that it has, in the order of the page."""
    first = subject.rows[0] if subject.rows else None
    columns = [column for group in by_space(evaluation).values() for column in group]
    cells = ((column, first.cell(column.key)) for column in columns) if first is not None else ()
    return next(((column, cell) for column, cell in cells if cell is not None), None)


def _made_of(evaluation: Evaluation) -> Iterator[Markup]:
    if evaluation.missing:
        yield element("h2", "What is missing, and why")
        yield element("ul", *(element("li", line) for line in evaluation.missing))
    yield element("h2", "What it is made of", id="made")
    if evaluation.files:
        digests = {name: element("td", element("code", sha), class_="words") for name, sha in evaluation.files.items()}
        yield table(("file", "sha256"), ((None, item) for item in digests.items()), "files of the judges")
    yield table(("library", "version"), ((None, item) for item in evaluation.made_with.items()), "libraries")


def _facts(facts: Mapping[str, object]) -> Markup:
    parts = [part for name, said in facts.items() for part in (element("dt", name), element("dd", said))]
    return element("dl", *parts)
