"""Reads a page as a browser would, into a tree: elements must close in the order in which they opened."""

import xml.etree.ElementTree as ET
from html.parser import HTMLParser

VOID = ("meta", "img")


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.builder, self.open = ET.TreeBuilder(), []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.builder.start(tag, {name: value or "" for name, value in attrs})
        self.open.append(tag)
        if tag in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self.builder.end(tag)

    def handle_data(self, data: str) -> None:
        if self.open:
            self.builder.data(data)


def tree_of(page: str) -> ET.Element:
    reader = _Reader()
    reader.feed(page)
    reader.close()
    assert not reader.open
    return reader.builder.close()


def words(element: ET.Element) -> str:
    """What is written in it, with single blanks."""
    return " ".join("".join(element.itertext()).split())


def sections(page: str) -> dict[str, list[ET.Element]]:
    """The elements of the page's main part under each heading h2; those before the first under the empty one."""
    found: dict[str, list[ET.Element]] = {"": []}
    for element in tree_of(page).find("body/main"):
        if element.tag == "h2":
            found[words(element)] = []
        else:
            found[list(found)[-1]].append(element)
    return found


def tables(elements: list[ET.Element]) -> dict[str, list[list[str]]]:
    """Of some elements, the tables by what they are called: rows of cells, the head first."""
    inner = [table for element in elements for table in element.iter("table")]
    return {t.get("aria-label"): [[words(cell) for cell in row] for row in t.iter("tr")] for t in inner}
