"""Two models are compared on the same trials, as the same eyes saw them, or not at all."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dynadiff.base.errors import UserError
from dynadiff.evaluation.against import AGAINST, Compared, check_alike, compared
from dynadiff.evaluation.page.report import html_report
from dynadiff.evaluation.scored import Cell, Evaluation, Row
from support.evaluations import evaluation

FILE = Path("other/scores.json")


def shifted(of: Evaluation, by: float) -> Evaluation:
    """The same, but every score of every trial is higher."""

    def moved(cell: Cell) -> Cell:
        values = tuple((np.array(cell.per_trial) + by).tolist())
        return replace(cell, mean=cell.mean + by, per_trial=values)

    def rows(given: tuple[Row, ...]) -> tuple[Row, ...]:
        return tuple(replace(row, cells=tuple(map(moved, row.cells))) for row in given)

    return replace(of, subjects=tuple(replace(s, model="other", rows=rows(s.rows)) for s in of.subjects))


def test_a_model_is_ahead_by_what_separates_them_in_the_columns_own_direction() -> None:
    ours = evaluation(subjects=("1", "2"))
    found = compared(ours, [(FILE, shifted(ours, 0.25))])
    assert [rivals.subject for rivals in found.rivals] == ["1", "2"]
    for rivals in found.rivals:
        assert rivals.other == "other"
        assert len(rivals.leads) == len(ours.columns)
        for lead in rivals.leads:
            sign = -1 if ours.column(lead.column).higher_is_better else 1
            assert (lead.ahead.mean, lead.ahead.low, lead.ahead.high) == pytest.approx((sign * 0.25,) * 3)


def test_pairs_make_the_interval_narrower_than_those_of_the_two_means() -> None:
    ours, theirs = evaluation(subjects=("1",)), evaluation(subjects=("1",))
    noisy = shifted(theirs, 0.01)
    (rivals,) = compared(ours, [(FILE, noisy)]).rivals
    cell = ours.subjects[0].rows[0].cells[0]
    assert rivals.leads[0].ahead.high - rivals.leads[0].ahead.low < 0.1 * (cell.high - cell.low)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (evaluation(data="nsd"), "other data"),
        (replace(evaluation(), on="validation"), "other trials"),
        (evaluation(repetitions="all"), "repetitions taken otherwise"),
        (evaluation(setting="mindeye"), "another setting"),
        (evaluation(subjects=("7",)), "other subjects"),
        (evaluation(trials=30), "scored other trials of subject 1"),
        (replace(evaluation(), files={"judge.onnx": "00" * 32}), "judged by another judge.onnx"),
    ],
)
def test_what_does_not_compare_is_one_sentence(other: Evaluation, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        compared(evaluation(), [(FILE, other)])
    assert str(caught.value).startswith(str(FILE))


def test_what_is_alike_passes() -> None:
    found = evaluation()
    check_alike(FILE, found, found.data, found.on, found.repetitions, found.setting)


def test_it_is_kept_and_stands_on_the_page(tmp_path: Path) -> None:
    ours = evaluation(subjects=("1",))
    found = compared(ours, [(FILE, shifted(ours, -0.25))])
    found.save(tmp_path)
    assert '"other": "other"' in (tmp_path / AGAINST).read_text()
    page = html_report(ours, {}, found)
    assert "Against other models" in page
    assert "model-1 against other" in page
    assert "Against other models" not in html_report(ours, {}, Compared(()))
