"""The pictures of a report: what was shown above what was painted, chosen by score or not at all. Knows no judge."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dynadiff.evaluation.page.markup import Markup, element, joined, picture
from dynadiff.evaluation.page.wording import number, unit
from dynadiff.evaluation.scored import Cell, Column, Subject

CHOSEN, STRIP = 5, 8  # pictures of each kind, trials in a strip


@dataclass(frozen=True, eq=False)
class Gallery:
    """What was shown and painted, trials in the order of `Subject.trials`.

    Raises ValueError where a decoder painted another number of pictures than were shown.
    """

    shown: NDArray[np.uint8]  # (n, s, s, 3)
    painted: Mapping[str, NDArray[np.uint8]]  # by decoder, (n, s, s, 3)

    def __post_init__(self) -> None:
        if any(len(pictures) != len(self.shown) for pictures in self.painted.values()):
            raise ValueError("as many pictures must be painted by every decoder as were shown")


def chosen(scores: tuple[float, ...], higher_is_better: bool) -> dict[str, list[int]]:
    """Trials that are best, median and worst, up to `CHOSEN` of each and from the better to the worse.

    Of equal scores the earlier trial counts as the better one. Below 15 trials there are fewer of each, so that none is
    of two kinds.
    """
    order = np.argsort(-np.array(scores) if higher_is_better else np.array(scores), kind="stable").tolist()
    k = max(1, min(CHOSEN, len(order) // 3))
    middle = (len(order) - k) // 2
    return {"best": order[:k], "median": order[middle : middle + k], "worst": order[-k:]}


def chosen_pictures(subject: Subject, gallery: Gallery, column: Column, cell: Cell) -> Markup:
    """The best, median and worst pictures of the first decoder in a column; nothing where it painted none."""
    decoder = subject.rows[0].decoder
    if decoder not in gallery.painted:
        return Markup()
    parts: list[Markup] = []
    for kind, trials in chosen(cell.per_trial, column.higher_is_better).items():
        pairs = [_pair(subject, gallery, column, cell, k) for k in trials]
        parts += [element("h4", kind), element("div", *pairs, class_="strip box")]
    about = (
        f"Trials of {decoder} by {column.title}{unit(column)}, {column.space}; "
        "what was shown stands above what was painted."
    )
    return joined((element("h3", "Best, median and worst pictures"), element("p", about, class_="soft"), *parts))


def strips(subject: Subject, gallery: Gallery) -> Markup:
    """The same trials of every decoder, evenly spaced over all and not selected by any score."""
    which = np.unique(np.linspace(0, len(subject.trials) - 1, min(STRIP, len(subject.trials))).round().astype(int))
    rows = {"shown": gallery.shown} | {
        row.decoder: gallery.painted[row.decoder] for row in subject.rows if row.decoder in gallery.painted
    }
    parts: list[Markup] = []
    for name, pictures in rows.items():
        images = [picture(pictures[k], f"{name}: {subject.trials[k]}") for k in which.tolist()]
        parts += [element("p", name, class_="soft"), element("div", *images, class_="strip")]
    about = "Evenly spaced over all trials, selected by nothing else: " + ", ".join(subject.trials[k] for k in which)
    return joined((
        element("h3", "The same trials of every decoder"),
        element("p", about, class_="soft"),
        element("div", *parts, class_="box"),
    ))  # fmt: skip


def _pair(subject: Subject, gallery: Gallery, column: Column, cell: Cell, trial: int) -> Markup:
    name, decoder = subject.trials[trial], subject.rows[0].decoder
    return element(
        "figure",
        picture(gallery.shown[trial], f"shown: {name}"),
        picture(gallery.painted[decoder][trial], f"{decoder}: {name}"),
        element("figcaption", f"{name}, {number(cell.per_trial[trial], column)}{unit(column).removeprefix(',')}"),
    )
