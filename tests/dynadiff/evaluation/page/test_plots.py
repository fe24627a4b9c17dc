"""The plots are XML, and where they put a value is where their own axis says that it is."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from dynadiff.evaluation.page.plots import Bar, Scale, interval_plot, sorted_curve
from dynadiff.evaluation.page.report import html_report
from support.evaluations import evaluation

BARS = [
    Bar("ours", "62.0", 62.0, 58.5, 66.0, 51.0, True),
    Bar("theirs <&>", "55.0", 55.0, 54.0, 57.0, 52.5, False),
    Bar("no chance", "71.0", 71.0, 69.0, 72.0, None, False),
]


def axis(plot: ET.Element, along: str) -> np.poly1d:
    """From places to values, by the numbers that stand at the axis; they must be on one line."""
    across = "y" if along == "x" else "x"
    small = [word for word in plot.iter("text") if word.get("class") == "small" and "%" not in word.text]
    assert len({word.get(across) for word in small}) == 1
    assert len(small) >= 3
    places, values = (np.array(v, float) for v in zip(*((w.get(along), w.text) for w in small), strict=True))
    line, (error, *_), *_ = np.polyfit(places, values, 1, full=True)
    assert error < 1e-3 * abs(values).max()
    return np.poly1d(line)


def inside(plot: ET.Element) -> bool:
    """Nothing is drawn beyond the edges."""
    _, _, width, height = map(float, plot.get("viewBox").split())
    edges = {"x": width, "x1": width, "x2": width, "cx": width, "y": height, "y1": height, "y2": height, "cy": height}
    return all(0 <= float(e.get(key, 0)) <= edge for e in plot.iter() for key, edge in edges.items())


def test_an_interval_is_where_the_axis_says() -> None:
    plot = ET.fromstring(interval_plot("two-way", BARS))
    value = axis(plot, "x")
    assert inside(plot)
    groups = plot.findall("g")
    for group, bar in zip(groups, BARS, strict=True):
        line, dot = group.find("line"), group.find("circle")
        assert [value(float(line.get(k))) for k in ("x1", "x2")] == pytest.approx([bar.low, bar.high], abs=0.05)
        assert value(float(dot.get("cx"))) == pytest.approx(bar.mean, abs=0.05)
        assert dot.get("cy") == line.get("y1") == line.get("y2")
        assert [word.text for word in group.findall("text")] == [bar.name, bar.said]
    assert [group.get("class") for group in groups] == ["own", None, None]
    levels = [line for line in plot.findall("line") if line.get("class") == "level"]
    assert [value(float(line.get("x1"))) for line in levels] == pytest.approx([51.0, 52.5], abs=0.05)
    heights = [float(group.find("circle").get("cy")) for group in groups]
    assert all(float(v.get("y1")) < y < float(v.get("y2")) for v, y in zip(levels, heights, strict=False))


@pytest.mark.parametrize(("higher", "n"), [(True, 50), (False, 50), (True, 3000)])
def test_the_curve_falls_from_the_best_trial_to_the_worst(higher: bool, n: int) -> None:
    scores = np.random.default_rng(1).random(n)
    plot = ET.fromstring(sorted_curve("two-way", scores.tolist(), 0.52, higher))
    assert inside(plot)
    drawn = np.array([p.split(",") for p in plot.find("g/polyline").get("points").split()], float)
    labels = [word for word in plot.iter("text") if word.text.endswith("%")]
    marks = np.array([(float(w.get("x")), float(w.text[:-1])) for w in labels])
    shares = np.interp(drawn[:, 0], *marks.T)
    down = [(float(line.get("y1")), line.get("class")) for line in plot.findall("line")]
    grid = [y for y, kind in down if kind == "grid"]
    ticks = [float(w.text) for w in plot.iter("text") if w.get("class") == "small" and "%" not in w.text]
    value = np.poly1d(np.polyfit(grid, ticks, 1))
    wanted = np.quantile(scores, 1 - shares / 100 if higher else shares / 100)
    assert value(drawn[:, 1]) == pytest.approx(wanted, abs=0.01)
    assert value(drawn[[0, -1], 1]) == pytest.approx([scores.max(), scores.min()][:: 1 if higher else -1], abs=0.005)
    assert [value(y) for y, kind in down if kind == "level"] == pytest.approx([0.52], abs=0.005)
    assert len(drawn) <= 200


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (48.3, 100.2), (-0.012, 0.003), (0.5, 0.500001), (0, 178.0)])
def test_ticks_are_round_and_within(low: float, high: float) -> None:
    ticks = Scale(low, high, 0, 100).ticks()
    assert 2 <= len(ticks) <= 9
    assert low - 1e-9 <= ticks[0] < ticks[-1] <= high + 1e-9
    step = ticks[1] - ticks[0]
    assert re.fullmatch(r"[125](\.0+)?e[+-]\d+", f"{step:.4e}")


def test_plots_of_equal_or_undefined_values_are_drawn() -> None:
    nothing = float("nan")
    for bars in ([], [Bar("a", "1", 1, 1, 1, 1, True)], [Bar("b", "–", nothing, nothing, nothing, nothing, True)]):
        assert "nan" not in interval_plot("flat", bars)
        ET.fromstring(interval_plot("flat", bars))
    for scores in ([], [0.0], [1.0, 1.0]):
        plot = ET.fromstring(sorted_curve("flat", scores, None, True))
        assert len(plot.find("g/polyline").get("points").split()) == len(scores)


def test_every_plot_of_a_report_is_xml() -> None:
    found = evaluation(subjects=("1",), data="nsd", trials=16)
    plots = re.findall(r"<svg.*?</svg>", html_report(found, {}), re.DOTALL)
    assert len(plots) == len(found.columns) + 1
    for plot in plots:
        ET.fromstring(plot)
