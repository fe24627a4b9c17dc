"""The page shows the evaluation's numbers and no others, needs nothing but itself, and takes no name for markup."""

import re
import statistics
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest

from dynadiff.evaluation.page.markup import SIDE
from dynadiff.evaluation.page.report import Gallery, html_report
from dynadiff.evaluation.scored import Column, Evaluation
from dynadiff.scores.intervals import interval
from support.evaluations import DECODERS, evaluation, galleries
from support.markup import sections, tables, tree_of, words

EVIL = (
    "<script>alert(1)</script>",
    "\"' onload='x' \"",
    "</title></style><img src=x>",
    "&lt;b&gt;&#60;\x00\u202e\ud800",
)
PAPER = ["95.82 ± 0.82", "98.20 ± 0.41", "93.53 ± 0.67", "91.30 ± 0.74"]  # AlexNet(2), AlexNet(5), CLIP, Inception


def printed(value: float, column: Column, sign: str = "") -> str:
    digits = 1 if column.unit in ("%", "°") or column.key in ("dreamsim", "miou") else 3
    return f"{value * column.times:{sign}.{digits}f}".replace("-", "−")


def in_order(found: Evaluation, space: str) -> list[Column]:
    return [column for column in found.columns if column.space == space]


def space_of(title: str) -> str:
    if title.startswith("the ten metrics of"):
        return "ten metrics"
    return title.split(":")[0]


def split(section: list[ET.Element]) -> tuple[dict, dict]:
    """The tables of a subject: scores, and differences."""
    kinds = [[], []]
    for element in section:
        heads = [row[0] for rows in tables([element]).values() for row in rows[:1]]
        if heads:
            kinds[heads[0] == "against"].append(element)
    return tables(kinds[0]), tables(kinds[1])


@pytest.mark.parametrize("data", ["phantom", "nsd"])
def test_every_cell_of_every_table_is_the_evaluations(data: str) -> None:
    found = evaluation(data=data)
    page = sections(html_report(found, {}))
    for subject in found.subjects:
        shown, _ = split(page[f"Subject {subject.subject}"])
        assert [space_of(title) for title in shown] == [
            "EfficientNet-Lite0", "the judge of scenes", "pixels", "its own tokens", *["ten metrics"] * (data == "nsd"),
        ]  # fmt: skip
        assert "its own tokens: the space that the decoder itself was trained in" in shown
        for title, (head, *rows) in shown.items():
            columns = in_order(found, space_of(title))
            assert [h.rstrip("↑↓ ").removesuffix(", %").removesuffix(", °") for h in head[1:]] == [
                c.title for c in columns
            ]
            assert [h[-1] for h in head[1:]] == ["↑" if c.higher_is_better else "↓" for c in columns]
            for row, cells in zip(subject.rows, rows, strict=False):
                wanted = [row.cell(column.key) for column in columns]
                assert cells == [row.decoder] + [
                    f"{printed(w.mean, c)} [{printed(w.low, c)}, {printed(w.high, c)}]"
                    for w, c in zip(wanted, columns, strict=True)
                ]
            chance = [subject.rows[0].cell(column.key).chance for column in columns]
            if space_of(title) == "ten metrics":
                assert len(rows) == len(DECODERS)  # nothing says what chance gives
            else:
                assert rows[-1][1:] == [printed(v, c) for v, c in zip(chance, columns, strict=True)]
                assert rows[-1][0].startswith("chance")


def test_differences_are_of_the_same_trials_and_those_that_are_sure_are_marked() -> None:
    found = evaluation(subjects=("7",), trials=16)
    subject, marks = found.subjects[0], set()
    _, shown = split(sections(html_report(found, {}))["Subject 7"])
    assert len(shown) == 4
    for title, (_, *rows) in shown.items():
        columns = in_order(found, space_of(title))
        assert [cells[0] for cells in rows] == list(DECODERS[1:])
        for other, cells in zip(subject.rows[1:], rows, strict=True):
            for column, cell in zip(columns, cells[1:], strict=True):
                ours, theirs = (np.array(row.cell(column.key).per_trial) for row in (subject.rows[0], other))
                ahead = interval(ours - theirs if column.higher_is_better else theirs - ours, subject.trials)
                mark = " ▲" if ahead.low > 0 else " ▼" if ahead.high < 0 else ""
                low, high = printed(ahead.low, column, "+"), printed(ahead.high, column, "+")
                assert cell == f"{printed(ahead.mean, column, '+')}{mark} [{low}, {high}]"
                marks.add(mark)
    assert marks == {" ▲", " ▼", ""}


def test_means_over_subjects_stand_where_there_are_several() -> None:
    found = evaluation(trials=16)
    lacking = replace(found.subjects[2], rows=found.subjects[2].rows[:-1])
    found = replace(found, subjects=(*found.subjects[:2], lacking))
    for title, (_, *rows) in tables(sections(html_report(found, {}))["Over 3 subjects"]).items():
        columns = in_order(found, space_of(title))
        assert [cells[0] for cells in rows] == list(DECODERS)
        for decoder, cells in zip(DECODERS[:-1], rows, strict=False):
            for column, cell in zip(columns, cells[1:], strict=True):
                means = [s.row(decoder).cell(column.key).mean for s in found.subjects]
                error = statistics.stdev(means) / 3**0.5
                assert cell == f"{printed(statistics.fmean(means), column)} ± {printed(error, column)}"
        assert rows[-1][1:] == ["–"] * len(columns)  # the last subject has no ceiling
    assert "Over 1 subjects" not in sections(html_report(replace(found, subjects=found.subjects[:1]), {}))


def test_the_papers_numbers_stand_beside_ours_on_nsd_alone_and_in_its_own_setting() -> None:
    found = evaluation(data="nsd", subjects=("01", "5"), trials=16)
    ((_, *rows),) = tables(sections(html_report(found, {}))["Beside the paper"]).values()
    assert [row[0] for row in rows[:3]] == [
        "Dynadiff, online, subject 01, here", "Dynadiff, online, subject 5, here",
        "Dynadiff, online, mean ± standard error, here",
    ]  # fmt: skip
    clip = next(column for column in found.columns if column.key == "clip")
    assert rows[0][5].startswith(printed(found.subjects[0].rows[0].cell("clip").mean, clip))
    assert rows[3][0] == "Dynadiff, mean of subjects 1, 2, 5, 7 (table 1)"
    assert rows[3][3:7] == PAPER
    assert [row[0] for row in rows[-2:]] == ["Dynadiff, subject 1 (table 6)", "Dynadiff, subject 5 (table 6)"]
    averaged = html_report(replace(found, repetitions="averaged"), {})
    assert "(table 7)" in averaged
    assert "(table 1)" not in averaged
    assert PAPER[0] not in averaged
    other = html_report(replace(found, setting="mindeye"), {})
    assert PAPER[0] not in other
    assert "do not compare" in other
    drawn = html_report(evaluation(trials=16), {})
    assert "Beside the paper" not in drawn
    assert PAPER[0] not in drawn


def test_the_page_loads_nothing_and_runs_nothing() -> None:
    found = evaluation(data="nsd", trials=16)
    page = html_report(found, galleries(found))
    tree = tree_of(page)
    (policy,) = (m.get("content") for m in tree.iter("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert re.search(r"https?:|url\(|@import|javascript", page) is None
    names = {element.get("id") for element in tree.iter()}
    for element in tree.iter():
        assert element.tag not in ("script", "link", "iframe", "object", "embed", "base", "form")
        for key, value in element.attrib.items():
            assert not key.startswith("on")
            assert key not in ("src", "href") or value.startswith("data:image/jpeg;base64,") or value[1:] in names
    assert page == html_report(found, galleries(found))


def test_no_name_becomes_markup() -> None:
    plain, harmless = evaluation(subjects=("1",), trials=16, decoders=DECODERS[:4]), "harmless"

    def named(said: tuple[str, ...]) -> str:
        subject = plain.subjects[0]
        rows = tuple(replace(row, decoder=name + row.decoder) for row, name in zip(subject.rows, said, strict=True))
        hostile = replace(
            subject, subject=said[0], model=said[1], model_sha256=said[2], split=said[3], rows=rows,
            trials=tuple(f"{said[k % 4]}{k // 2}" for k in range(16)),
        )  # fmt: skip
        columns = tuple(replace(c, title=said[0] + c.title, space=said[1], unit=said[2]) for c in plain.columns)
        found = replace(
            plain, subjects=(hostile,), columns=columns, setting=said[3], missing=said,
            files=dict(zip(said, said, strict=True)), made_with=dict(zip(said, said, strict=True)),
        )  # fmt: skip
        return html_report(found, galleries(found))

    page, other = named(EVIL), named(tuple(f"{harmless}{k}" for k in range(4)))
    page.encode("utf-8")
    # but for the class of a difference: pictures of other names are resampled in another order
    shape, usual = ([(e.tag, sorted(e.attrib.keys() - {"class"})) for e in tree_of(p).iter()] for p in (page, other))
    assert shape == usual
    assert words(next(tree_of(page).iter("ul"))).startswith(EVIL[0])  # and it is shown
    assert not set("\x00\u202e\ud800") & set(page)


@pytest.mark.parametrize("kept", [None, 0, 1])
def test_pictures_that_are_not_there_are_not_shown(kept: int | None) -> None:
    found = evaluation(subjects=("1",), trials=16)
    given = galleries(found)["1"]
    some = {} if kept is None else {"1": Gallery(given.shown, {DECODERS[kept]: given.painted[DECODERS[kept]]})}
    page = sections(html_report(found, some))["Subject 1"]
    counts = {None: 0, 0: 2 * 15 + 2 * 8, 1: 2 * 8}  # chosen pictures are the first decoder's
    assert sum(1 for element in page for _ in element.iter("img")) == counts[kept]


def test_pictures_of_other_trials_are_no_gallery() -> None:
    found = evaluation(subjects=("1",), trials=16)
    given = galleries(found)["1"]
    with pytest.raises(ValueError, match="15 pictures for 16 trials of subject 1"):
        html_report(found, {"1": Gallery(given.shown[1:], {})})
    with pytest.raises(ValueError, match="as many pictures"):
        Gallery(given.shown[1:], given.painted)


def test_what_is_undefined_is_a_dash_and_never_nan() -> None:
    found = evaluation(subjects=("1",), trials=16, decoders=DECODERS[:2])

    (subject,) = found.subjects
    same, none = {"mean": 0.5, "low": 0.5, "high": 0.5}, {"mean": np.nan, "low": np.nan, "high": np.nan}
    flat = [replace(cell, **same, chance=None, per_trial=(0.5,) * 16) for cell in subject.rows[0].cells]
    undefined = [replace(cell, **none, chance=np.nan) for cell in subject.rows[1].cells]
    rows = tuple(replace(row, cells=tuple(c)) for row, c in zip(subject.rows, (flat, undefined), strict=True))
    page = html_report(replace(found, subjects=(replace(subject, rows=rows),)), {})
    assert re.search(r"\b(nan|inf|None)\b", page) is None
    shown, _ = split(sections(page)["Subject 1"])
    assert {cell for _, _, cells in shown.values() for cell in cells[1:]} == {"– [–, –]"}


def test_what_was_evaluated_is_said() -> None:
    found = evaluation(subjects=("1",))
    page = words(tree_of(html_report(found, {})))
    for said in (
        "0, 1, 2; scores are means", "40 test trials of 48 that the model lists, 20 pictures", "01" * 32, "ab" * 32,
        "time-resolved, seed 1", "2500 trials", found.missing[0], "numpy2.4.0", "one repetition", "synthetic subject",
    ):  # fmt: skip
        assert said in page


def test_a_report_of_300_trials_is_small_whatever_the_pictures_are() -> None:
    found = evaluation(subjects=("1",), data="nsd", trials=300, decoders=DECODERS[:6])
    noise = np.random.default_rng(0).integers(0, 256, (300, SIDE, SIDE, 3), np.uint8)  # nothing compresses worse
    page = html_report(found, {"1": Gallery(noise, dict.fromkeys(DECODERS[:6], noise))})
    assert len(page.encode()) < 3_000_000
