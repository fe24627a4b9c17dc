"""An evaluation is its file: what is kept is read back, and what is said of two decoders follows from it alone."""

import json
from dataclasses import replace

import numpy as np
import pytest

from dynadiff.base.errors import UserError
from dynadiff.evaluation.scored import (
    SCORES,
    VERSIONS,
    Cell,
    Column,
    Evaluation,
    Row,
    Subject,
    differences,
    load_evaluation,
    mean_over_subjects,
)

TWO_WAY = Column("lite0: two-way", "two-way", "EfficientNet-Lite0", 100, "%", True)
HUE = Column("hue", "hue error, object", "the judge of scenes", 1, "°", False)
TRIALS = tuple(f"picture {k // 2}" for k in range(40))


def cell(column, values):
    return Cell(column.key, float(np.mean(values)), 0.0, 1.0, 0.5, tuple(map(float, values)))


def subject(name, shift=0.0):
    rng = np.random.default_rng(3)
    base = rng.uniform(0.2, 0.8, 40)
    rows = (
        Row("Dynadiff", (cell(TWO_WAY, base + shift), cell(HUE, 90 * base))),
        Row("ridge", (cell(TWO_WAY, base + shift - 0.1), cell(HUE, 90 * base + 5))),
        Row("only pixels", ()),
    )
    return Subject(name, "model", "00", "first-session, seed 0", TRIALS, None, 40, 10, rows)


def evaluation(*subjects):
    return Evaluation(
        "phantom", "one", (0,), "dynadiff", (TWO_WAY, HUE), subjects or (subject("01"),), {"a.pth": "00"}, ("x",),
        {"numpy": "2"},
    )  # fmt: skip


def test_what_is_saved_is_read_back(tmp_path):
    evaluation().save(tmp_path / "out")
    assert load_evaluation(tmp_path / "out") == load_evaluation(tmp_path / "out" / SCORES) == evaluation()


def test_what_is_no_evaluation_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="make it with `dynadiff evaluate --out"):
        load_evaluation(tmp_path)
    (tmp_path / SCORES).write_text('{"version": 1, "data": "phantom"}')
    with pytest.raises(UserError, match="is no evaluation of this version"):
        load_evaluation(tmp_path)
    (tmp_path / SCORES).write_text('{"version": 99}')
    with pytest.raises(UserError, match="install a newer"):
        load_evaluation(tmp_path)


def test_ahead_is_better_whichever_way_a_column_goes():
    """The same everywhere, so the interval of paired differences has no width, though scores spread over 0.6."""
    found = {d.column: d.ahead for d in differences(evaluation(), subject("01"), "Dynadiff") if d.other == "ridge"}
    assert found.keys() == {TWO_WAY.key, HUE.key}
    for key, by in ((TWO_WAY.key, 0.1), (HUE.key, 5.0)):
        assert (found[key].mean, found[key].low, found[key].high) == pytest.approx((by, by, by))
    assert not [d for d in differences(evaluation(), subject("01"), "Dynadiff") if d.other == "only pixels"]
    assert differences(evaluation(), subject("01"), "nobody") == []


def test_means_over_subjects_have_the_standard_error_of_subjects():
    several = evaluation(subject("01"), subject("02", 0.1), subject("05", 0.2))
    mean, error = mean_over_subjects(several, "Dynadiff", TWO_WAY.key)
    first = several.subjects[0].row("Dynadiff").cell(TWO_WAY.key).mean
    assert mean == pytest.approx(first + 0.1)
    assert error == pytest.approx(0.1 / np.sqrt(3))
    assert mean_over_subjects(evaluation(), "Dynadiff", TWO_WAY.key) is None
    lacking = replace(several.subjects[2], rows=several.subjects[2].rows[1:])
    assert mean_over_subjects(replace(several, subjects=(*several.subjects[:2], lacking)), "Dynadiff", HUE.key) is None


def test_the_first_version_is_read_and_says_nothing_of_what_was_averaged(tmp_path):
    document = json.loads(VERSIONS.write(evaluation()))
    for one in document["subjects"]:
        del one["averaged"], one["sampling"]
    del document["version"], document["on"]
    (tmp_path / SCORES).write_text(json.dumps(document))
    assert load_evaluation(tmp_path) == evaluation()
    (tmp_path / SCORES).write_text(json.dumps(document | {"subjects": 3}))
    with pytest.raises(UserError, match="no list of subjects"):
        load_evaluation(tmp_path)
