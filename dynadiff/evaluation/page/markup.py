"""A page of HTML that needs nothing but itself, and its elements. Knows no evaluation.

Whatever goes into an element is escaped unless an element made it, so that no name in the data can become markup. The
page forbids its reader to load or run anything: pictures are in it, and there is no script.
"""

import base64
import html
import unicodedata
from collections.abc import Iterable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
VOID = ("meta", "img")  # elements without an end
SIDE, QUALITY = 128, 80  # of a picture in the page, in pixels at most and as JPEG's quality

STYLE = """
:root { color-scheme: light dark; --ink: #1c1e21; --soft: #5d6470; --rule: #d5d9df; --paper: #fff; --accent: #0a5ca8 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e6ea; --soft: #9aa2ae; --rule: #3a4049; --paper: #15171b; --accent: #6cb2f7 }
}
* { box-sizing: border-box }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 76rem;
  margin: 0 auto; padding: 1.5rem 1rem 4rem; overflow-wrap: anywhere }
h1 { font-size: 1.6rem; margin: 0 0 .5rem } h2 { font-size: 1.25rem; margin: 3rem 0 .5rem }
h3 { font-size: 1rem; margin: 1.8rem 0 .4rem } h4 { font-size: .9rem; margin: 1.2rem 0 .2rem }
p { max-width: 46rem; margin: .4rem 0 } a { color: var(--accent) }
.soft, figcaption { color: var(--soft); font-size: .86rem } nav a { margin-right: 1.2em; white-space: nowrap }
.box { overflow-x: auto; margin: .4rem 0 }
table { border-collapse: collapse; font-size: .86rem; font-variant-numeric: tabular-nums }
th, td { text-align: right; vertical-align: top; padding: .3rem .7rem; border-bottom: 1px solid var(--rule);
  overflow-wrap: normal }
th { font-weight: 600; min-width: 6.5em }
th:first-child { text-align: left; padding-left: 0; min-width: 12rem; font-weight: 400;
  position: sticky; left: 0; background: var(--paper) }
thead th { vertical-align: bottom; border-bottom: 2px solid var(--rule) } .first > * { color: var(--accent) }
.first > th:first-child { font-weight: 600 } .chance > * { color: var(--soft); font-style: italic }
.range { display: block; color: var(--soft); font-size: .88em; white-space: nowrap } .sure { font-weight: 700 }
td { white-space: nowrap } td.words { text-align: left; white-space: normal; min-width: 12rem;
  overflow-wrap: anywhere } code { font-size: .8rem }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.2rem; margin: .6rem 0 }
dt { color: var(--soft) } dd { margin: 0 }
figure { margin: 0 } .plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(20rem, 100%), 1fr));
  gap: 1.4rem 2rem }
svg { width: 100%; max-width: 26rem; height: auto; font: 11px system-ui, sans-serif; fill: var(--ink) }
svg line, svg polyline { stroke: var(--ink); fill: none } svg path, svg .grid { stroke: var(--rule) }
svg .level { stroke: var(--soft); stroke-dasharray: 3 2 } svg .small { fill: var(--soft); font-size: 9px }
svg .own line, svg .own polyline { stroke: var(--accent); stroke-width: 2 } svg .own { fill: var(--accent) }
img { display: block; width: 5.5rem; height: auto; margin-bottom: 2px } .strip { display: flex; gap: .5rem }
.strip figure { flex: 0 0 5.5rem } .strip figcaption { font-size: .72rem; line-height: 1.3 }
@media (max-width: 34rem) { dl { grid-template-columns: 1fr } dd { margin-bottom: .4rem } body { font-size: 14px }
  th:first-child { min-width: 7.5rem } }
@media print {
  @page { size: A4 landscape; margin: 12mm }
  :root { --ink: #000; --soft: #444; --rule: #bbb; --paper: #fff; --accent: #0a5ca8 }
  body { font-size: 9pt; padding: 0; max-width: none } nav { display: none } .box { overflow: visible }
  table { font-size: 7.5pt } th, td { padding: .2rem .4rem } figure, tr { break-inside: avoid }
  h2, h3, h4 { break-after: avoid }
}
"""


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def element(name: str, /, *inside: object, **attributes: object) -> Markup:
    """An element of HTML or SVG. ``class_`` stands for class, ``stroke_width`` for stroke-width; None is left out."""
    said = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_escaped(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{said}>" if name in VOID else f"<{name}{said}>{joined(inside)}</{name}>")


def joined(parts: Iterable[object]) -> Markup:
    """One after the other; what is no Markup is escaped."""
    return Markup("".join(part if isinstance(part, Markup) else _escaped(part) for part in parts))


def table(head: Sequence[object], rows: Iterable[tuple[str | None, Sequence[object]]], caption: object) -> Markup:
    """A table under its caption, in a box in which it scrolls alone. Each row has its class and its cells, the first of
    them its head; a cell that is an element td already stays as it is.
    """
    body = [
        element("tr", element("th", cells[0], scope="row"), *map(_cell, cells[1:]), class_=kind) for kind, cells in rows
    ]
    top = element("tr", *(element("th", cell, scope="col") for cell in head))
    inner = element("table", element("thead", top), element("tbody", *body), aria_label=caption)
    return joined((element("h4", caption), element("div", inner, class_="box", tabindex=0)))


def picture(pixels: NDArray[np.uint8], alt: str) -> Markup:
    """An RGB picture (h, w, 3), made smaller where it is larger than the page needs, as a JPEG in the page itself."""
    height, width = pixels.shape[:2]
    if (scale := SIDE / max(height, width)) < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
    whole = [cv2.IMWRITE_JPEG_QUALITY, QUALITY, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    jpeg = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), whole)[1]
    return element("img", src=f"data:image/jpeg;base64,{base64.b64encode(jpeg.tobytes()).decode()}", alt=alt)


def page(title: str, *inside: object) -> str:
    """The whole document."""
    head = (
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", Markup(STYLE)),
    )
    whole = element("html", element("head", *head), element("body", element("main", *inside)), lang="en")
    return f"<!DOCTYPE html>\n{whole}\n"


def _cell(cell: object) -> Markup:
    return cell if isinstance(cell, Markup) and cell.startswith("<td") else element("td", cell)


def _escaped(value: object) -> str:
    """What neither HTML nor UTF-8 can say, or what turns a line around, becomes a blank."""
    return html.escape("".join(" " if unicodedata.category(c).startswith("C") else c for c in str(value)))
