"""The judge that ships can be trusted as far as its documentation says, and takes pictures as a user has them."""

import numpy as np
import pytest

from dynadiff.assets import JUDGE
from dynadiff.base.errors import UserError
from dynadiff.phantom.judge import SceneJudge
from dynadiff.phantom.scenes import draw, scene
from dynadiff.phantom.truth import truth
from dynadiff.scores.identification import correlations, two_way
from dynadiff.scores.scenes import hue_errors, mean_iou, named, object_f1

NUMBERS = range(3_000_000, 3_000_200)  # scenes that nobody learnt from


@pytest.fixture(scope="module")
def judge():
    return SceneJudge()


@pytest.fixture(scope="module")
def pictures():
    return np.stack([draw(scene(number), 64)[0] for number in NUMBERS])


def test_it_is_small_enough_to_ship():
    assert JUDGE.stat().st_size < 1e6


def test_it_sees_what_was_drawn(judge, pictures):
    said, true = judge.look(pictures), truth(NUMBERS)
    assert named(said, true).mean() > 0.9
    assert object_f1(said, true).mean() > 0.85
    assert mean_iou(said, true).mean() > 0.8
    assert (np.median(hue_errors(said, true), axis=0) < 12).all()


def test_it_sees_less_in_pictures_that_show_nothing(judge, pictures):
    noise = np.random.default_rng(0).integers(0, 256, pictures.shape, np.uint8)
    said, true = judge.look(noise), truth(NUMBERS)
    assert named(said, true).mean() < 0.15
    assert hue_errors(said, true).mean(axis=0) == pytest.approx(90, abs=20)


def test_its_space_finds_a_picture_again_that_was_made_worse(judge, pictures):
    worse = pictures[:, ::4, ::4].repeat(4, axis=1).repeat(4, axis=2)
    r = correlations(judge.features(worse), judge.features(pictures))
    assert two_way(r, [str(number) for number in NUMBERS]).mean() > 0.95


def test_it_takes_pictures_of_any_size_and_says_the_same_of_any_number_of_them(judge, pictures):
    large = pictures[:5].repeat(3, axis=1).repeat(3, axis=2)
    assert np.array_equal(judge.look(large).category, judge.look(pictures[:5]).category)
    assert np.allclose(judge.features(pictures)[:3], judge.features(pictures[:3]), atol=1e-4)


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((2, 64, 64), np.uint8), np.zeros((0, 64, 64, 3), np.uint8), np.full((1, 64, 64, 3), np.nan)],
)
def test_what_is_no_picture_is_one_sentence(judge, wrong):
    with pytest.raises(UserError, match="give it uint8 pictures"):
        judge.look(wrong)
