"""The paper's numbers agree with each other: a number that was copied wrongly would not."""

import pytest

from dynadiff.evaluation.page.published import KEYS, published
from dynadiff.scores.ten import METRICS


@pytest.mark.parametrize(("repetitions", "tables"), [("one", (1, 6)), ("all", (1, 6)), ("averaged", (7, 7))])
def test_the_means_are_those_of_the_subjects(repetitions: str, tables: tuple[int, int]) -> None:
    means, *_ = rows = published(repetitions)
    each = [row for row in rows if row.of.startswith("subject ")]
    assert (means.model, means.table, {row.table for row in each}) == ("Dynadiff", tables[0], {tables[1]})
    assert [row.of for row in each] == ["subject 1", "subject 2", "subject 5", "subject 7"]
    for key in KEYS:
        values = [float(row.values[key]) for row in each]
        digits = len(each[0].values[key].split(".")[1])
        mean = float(means.values[key].split(" ± ")[0])
        assert mean == pytest.approx(sum(values) / 4, abs=1.001 * 10**-digits), key  # both are rounded


def test_every_metric_has_its_column_and_single_trials_have_five_models() -> None:
    assert set(KEYS) == {metric.key for metric in METRICS}
    models = [row.model for row in published("one") if row.table == 1]
    assert models == ["Dynadiff", "MindEye2", "MindEye1", "Brain-Diffuser", "WAVE"]
    assert [row.model for row in published("averaged") if row.of.startswith("mean")] == [
        "Dynadiff", "MindEye2", "MindEye1", "WAVE",
    ]  # fmt: skip
    assert all(set(row.values) == set(KEYS) for row in published("one") + published("averaged"))
