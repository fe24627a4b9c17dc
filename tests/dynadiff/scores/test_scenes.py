"""What scores of scenes promise: right is 1 and 0 degrees, wrong is not, and chance is where it must be."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynadiff.phantom.scenes import CATEGORIES
from dynadiff.phantom.truth import truth
from dynadiff.scores.scenes import Shown, hue_errors, mean_iou, named, object_f1

TRUE = truth(range(500_000, 500_120))


def one(classes, category=0, hues=(0.0, 0.0)):
    return Shown(np.array([category]), np.array([classes], np.uint8), np.array([hues], float))


def test_the_truth_agrees_with_itself():
    assert (named(TRUE, TRUE) == 1).all()
    assert (object_f1(TRUE, TRUE) == 1).all()
    assert (mean_iou(TRUE, TRUE) == 1).all()
    assert (hue_errors(TRUE, TRUE) == 0).all()


def test_another_scene_is_told_from_the_truth():
    """Scenes against the next ones: categories agree as often as chance says, and hues are off by 90 degrees."""
    moved = Shown(*(np.roll(part, 1, axis=0) for part in (TRUE.category, TRUE.classes, TRUE.hues)))
    assert named(moved, TRUE).mean() < 4 / len(CATEGORIES)
    assert object_f1(moved, TRUE).mean() < 4 / len(CATEGORIES)
    assert mean_iou(moved, TRUE).mean() < 0.5
    assert hue_errors(moved, TRUE).mean(axis=0) == pytest.approx(90, abs=15)


def test_known_overlaps():
    there = one([[1, 1], [0, 0]])
    assert mean_iou(one([[1, 0], [0, 0]]), there) == pytest.approx([(1 / 2 + 2 / 3) / 2])
    assert mean_iou(one([[2, 2], [0, 0]]), there) == pytest.approx([(0 + 0 + 1) / 3])
    assert object_f1(one([[1, 2], [0, 0]]), there) == pytest.approx([2 / 3])  # one found, one that is not there
    assert object_f1(one([[0, 0], [0, 0]]), there) == pytest.approx([0])


def test_a_few_places_are_an_edge_and_no_object():
    classes = np.zeros((32, 32), np.uint8)
    classes[:20, :20] = 4
    more = classes.copy()
    more[-1, -19:] = 7  # 19 of 1,024
    assert object_f1(one(more), one(classes)) == pytest.approx([1])
    more[-2, -2:] = 7
    assert object_f1(one(more), one(classes)) == pytest.approx([2 / 3])


@given(st.floats(0, 360), st.floats(0, 360))
def test_hues_go_round(a, b):
    (error,) = hue_errors(one([[0]], hues=(a, b)), one([[0]], hues=(b, a)))
    apart = abs(a - b)
    assert error == pytest.approx([min(apart, 360 - apart)] * 2, abs=1e-9)


def test_parts_of_other_lengths_are_no_answer():
    with pytest.raises(ValueError, match="as many pictures"):
        Shown(TRUE.category[1:], TRUE.classes, TRUE.hues)
