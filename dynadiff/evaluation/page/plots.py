"""Two plots as SVG, written by hand. Knows numbers and names; no evaluation, and no colour, which the style has."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, isfinite, log10

import numpy as np

from dynadiff.evaluation.page.markup import Markup, element

WIDTH, EDGE = 340, 12  # of a plot and its margins, in units of its own
LINE = 28  # height of one decoder
CURVE = 150  # height of a curve
POINTS = 200  # of a curve at most


@dataclass(frozen=True)
class Bar:
    """One decoder in an interval plot, in the units that are printed."""

    name: str
    said: str  # the value as tables print it
    mean: float
    low: float
    high: float
    chance: float | None
    own: bool  # the one that the report is about


@dataclass(frozen=True)
class Scale:
    """Values from ``low`` to ``high`` to places from ``start`` to ``end``."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> str:
        return f"{self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start):.2f}"

    def ticks(self) -> list[float]:
        """Round values within, about four."""
        rough = (self.high - self.low) / 4
        size = 10.0 ** floor(log10(rough))
        step = min((size * k for k in (1, 2, 5, 10)), key=lambda s: abs(s - rough))
        first = int(np.ceil(self.low / step - 1e-9))
        return [k * step for k in range(first, int(np.floor(self.high / step + 1e-9)) + 1)]


def interval_plot(title: str, bars: Sequence[Bar]) -> Markup:
    """Means with their intervals, one decoder a line; chance is a dashed line.

    Each decoder has its own level of chance, so the line may have steps.
    """
    edges = [v for bar in bars for v in (bar.low, bar.high, bar.mean, bar.chance) if v is not None and isfinite(v)]
    x, bottom = _scale(edges, EDGE, WIDTH - EDGE), LINE * len(bars) + 4
    bands = [(LINE * k + 15, LINE * k + 26) for k in range(len(bars))]  # below the words of each line, not through them
    parts = [element("path", d="".join(f"M{x(tick)} {top}V{end}" for tick in x.ticks() for top, end in bands))]
    parts += [_word(x(tick), bottom + 11, f"{tick:g}", "middle", "small") for tick in x.ticks()]
    for bar, (top, end) in zip(bars, bands, strict=True):
        middle = (top + end) / 2
        if bar.chance is not None and isfinite(bar.chance):
            parts.append(_line(x(bar.chance), top, x(bar.chance), end, "level"))
        inside = [_word(EDGE, top - 4, bar.name, "start"), _word(WIDTH - EDGE, top - 4, bar.said, "end")]
        if all(map(isfinite, (bar.low, bar.mean, bar.high))):
            dot = element("circle", cx=x(bar.mean), cy=middle, r=3.5)
            inside += [_line(x(bar.low), middle, x(bar.high), middle), dot]
        parts.append(element("g", *inside, class_="own" if bar.own else None))
    return _plot(f"{title}: means with 95 % intervals", bottom + 16, parts)


def sorted_curve(title: str, scores: Sequence[float], chance: float | None, higher_is_better: bool) -> Markup:
    """The scores of all trials from the best to the worst, and the mean that chance reaches once in twenty times."""
    ranked = np.sort(np.asarray(scores, np.float64))[:: -1 if higher_is_better else 1]
    kept = np.unique(np.linspace(0, len(ranked) - 1, min(POINTS, len(ranked))).round().astype(int))
    level = [] if chance is None or not isfinite(chance) else [chance]
    y = _scale([*ranked[kept].tolist(), *level], CURVE, 8)
    x = Scale(0, 100, 40, WIDTH - 2 * EDGE)
    parts = [_line(x(0), y(tick), x(100), y(tick), "grid") for tick in y.ticks()]
    parts += [_word(34, float(y(tick)) + 3, f"{tick:g}", "end", "small") for tick in y.ticks()]
    parts += [_word(x(share), CURVE + 14, f"{share} %", "middle", "small") for share in (0, 25, 50, 75, 100)]
    parts += [_line(x(0), y(value), x(100), y(value), "level") for value in level]
    shares = [100 * k / max(1, len(ranked) - 1) for k in kept.tolist()]
    points = " ".join(f"{x(share)},{y(ranked[k])}" for share, k in zip(shares, kept.tolist(), strict=True))
    parts.append(element("g", element("polyline", points=points), class_="own"))
    return _plot(f"{title}: scores of all trials, best to worst", CURVE + 20, parts)


def _scale(values: Sequence[float], start: float, end: float) -> Scale:
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    return Scale(low - margin, high + margin, start, end)


def _plot(name: str, height: float, parts: Sequence[Markup]) -> Markup:
    title = element("title", name)
    return element("svg", title, *parts, viewBox=f"0 0 {WIDTH} {height:g}", role="img", aria_label=name)


def _line(x1: object, y1: object, x2: object, y2: object, kind: str | None = None) -> Markup:
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=kind)


def _word(x: object, y: float, said: str, anchor: str, kind: str | None = None) -> Markup:
    return element("text", said, x=x, y=f"{y:g}", text_anchor=anchor, class_=kind)
