"""Pictures of a report are those of the trials that the scores say, shown above painted."""

import base64
from dataclasses import replace

import cv2
import numpy as np
import pytest

from dynadiff.evaluation.page.gallery import chosen, chosen_pictures, strips
from dynadiff.evaluation.page.markup import element
from support.evaluations import evaluation, galleries
from support.markup import tree_of, words


def pixels_of(image) -> np.ndarray:
    jpeg = base64.b64decode(image.get("src").removeprefix("data:image/jpeg;base64,"))
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def which(image, pictures: np.ndarray) -> int:
    """The one of the pictures that is nearest."""
    return int(np.abs(pictures.astype(float) - pixels_of(image)).mean(axis=(1, 2, 3)).argmin())


def test_best_median_and_worst_follow_the_scores_in_the_direction_of_the_column() -> None:
    scores = tuple(float(k % 20) for k in range(3, 23))  # the trial with score s is (s - 3) % 20
    trial = {kind: [int(scores[k]) for k in trials] for kind, trials in chosen(scores, True).items()}
    assert trial == {"best": [19, 18, 17, 16, 15], "median": [12, 11, 10, 9, 8], "worst": [4, 3, 2, 1, 0]}
    trial = {kind: [int(scores[k]) for k in trials] for kind, trials in chosen(scores, False).items()}
    assert trial == {"best": [0, 1, 2, 3, 4], "median": [7, 8, 9, 10, 11], "worst": [15, 16, 17, 18, 19]}
    assert chosen((1.0,) * 15, True) == {"best": [0, 1, 2, 3, 4], "median": [5, 6, 7, 8, 9], "worst": [*range(10, 15)]}


@pytest.mark.parametrize("n", [2, 3, 7, 14, 15, 301])
def test_no_trial_is_of_two_kinds(n: int) -> None:
    picked = [k for trials in chosen(tuple(np.random.default_rng(n).random(n)), True).values() for k in trials]
    assert len(picked) == (3 * min(5, n // 3) if n > 2 else 3)
    assert len(set(picked)) == min(len(picked), n)


def test_what_was_shown_stands_above_what_was_painted_with_its_name_and_score() -> None:
    found = evaluation(subjects=("1",), trials=40)
    subject = replace(found.subjects[0], trials=tuple(f"picture {k}" for k in range(40)))
    gallery, column = galleries(found)["1"], found.columns[0]
    cell = subject.rows[0].cell(column.key)
    tree = tree_of(element("div", chosen_pictures(subject, gallery, column, cell)))
    ranked = sorted(range(40), key=lambda k: -cell.per_trial[k])
    wanted = ranked[:5] + ranked[17:22] + ranked[-5:]
    for figure, trial in zip(tree.iter("figure"), wanted, strict=True):
        above, below = figure.iter("img")
        assert which(above, gallery.shown) == which(below, gallery.painted[subject.rows[0].decoder]) == trial
        assert words(figure.find("figcaption")) == f"picture {trial}, {100 * cell.per_trial[trial]:.1f} %"


def test_the_same_eight_trials_of_every_decoder_are_selected_by_no_score() -> None:
    found = evaluation(subjects=("1",), trials=36)
    subject, gallery = found.subjects[0], galleries(found)["1"]
    tree = tree_of(element("div", strips(subject, gallery)))
    rows = [row for row in tree.iter("div") if row.get("class") == "strip"]
    pictures = [gallery.shown, *gallery.painted.values()]
    for row, of in zip(rows, pictures, strict=True):
        assert [which(image, of) for image in row] == [0, 5, 10, 15, 20, 25, 30, 35]


def test_large_pictures_are_made_smaller() -> None:
    found = evaluation(subjects=("1",), trials=16)
    tree = tree_of(element("div", strips(found.subjects[0], galleries(found, 200)["1"])))
    assert {pixels_of(image).shape for image in tree.iter("img")} == {(128, 128, 3)}
