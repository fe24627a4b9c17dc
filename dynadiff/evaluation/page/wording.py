"""How an evaluation is told in a report: numbers as tables print them, columns under whose eye they are. No arithmetic
but units.
"""

from math import isfinite

from dynadiff.evaluation.scored import Column, Evaluation

JUDGE, OWN, PIXELS, TEN = "the judge of scenes", "its own tokens", "pixels", "ten metrics"
INNER = (JUDGE, PIXELS, OWN, TEN)  # behind every eye from outside, in this order
SPACES = {
    JUDGE: "the judge of scenes: a network of this project, trained on drawings that no decoder learnt from",
    OWN: "its own tokens: the space that the decoder itself was trained in",
    PIXELS: "pixels: layout and colours, coarsely, in which no network has a part",
    TEN: "the ten metrics of the paper",
}
DATA = {
    "phantom": "the phantom, a synthetic subject that sees drawings: it says nothing about photographs",
    "nsd": "a tree in the layout of the Natural Scenes Dataset",
}
REPETITIONS = {
    "one": "one repetition of each picture, drawn with seed 0: single trials",
    "averaged": "the mean of the windows of a picture's repetitions",
    "all": "all repetitions of each picture: single trials",
}


def by_space(evaluation: Evaluation) -> dict[str, list[Column]]:
    """The columns under their spaces, eyes from outside first."""
    spaces = sorted(
        dict.fromkeys(column.space for column in evaluation.columns),
        key=lambda space: INNER.index(space) + 1 if space in INNER else 0,
    )
    return {space: [column for column in evaluation.columns if column.space == space] for space in spaces}


def about(space: str, evaluation: Evaluation) -> str:
    """The title of a space's table."""
    return SPACES.get(space, space) + (f", in the setting “{evaluation.setting}”" if space == TEN else "")


def number(score: float, column: Column, signed: bool = False) -> str:
    """A score in the column's units, which are not printed: percent and degrees to one digit, the rest to three."""
    if not isfinite(score):
        return "–"
    digits = 1 if column.times == 100 or column.unit == "°" else 3
    return f"{column.times * score:{'+' if signed else ''}.{digits}f}".replace("-", "−")


def unit(column: Column) -> str:
    """Behind a title: ", %", or nothing."""
    return f",\u00a0{column.unit}" if column.unit else ""


def heading(column: Column) -> str:
    """A column's title, its unit, and an arrow to where it is better."""
    return f"{column.title}{unit(column)}\u00a0{'↑' if column.higher_is_better else '↓'}"
