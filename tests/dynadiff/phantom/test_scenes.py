"""Scenes are a function of their number, differ from each other, and know exactly where their object is."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynadiff.phantom.scenes import CATEGORIES, SCRAMBLED, draw, draw_category, scene

HAXBY = {"face", "house", "cat", "bottle", "scissors", "shoe", "chair", "scrambled"}


def test_there_are_enough_categories_and_all_of_them_occur() -> None:
    assert len(CATEGORIES) >= 20
    assert set(CATEGORIES) >= HAXBY
    assert {scene(k).category for k in range(400)} == set(CATEGORIES)


@given(number=st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_a_number_is_one_picture(number: int) -> None:
    picture, mask = draw(scene(number), 64)
    again, _ = draw(scene(number), 64)
    assert (picture.shape, picture.dtype, mask.shape) == ((64, 64, 3), np.uint8, (64, 64))
    np.testing.assert_array_equal(picture, again)
    assert 0.02 < mask.mean() <= 1


@pytest.mark.parametrize("category", [c for c in CATEGORIES if c != SCRAMBLED])
def test_outside_the_mask_is_background(category: str) -> None:
    one = replace(scene(5), category=category)
    other = replace(one, colour=(255 - one.colour[0], one.colour[1], 255 - one.colour[2]))
    (a, mask), (b, _) = draw(one, 128), draw(other, 128)
    changed = (a != b).any(2)
    assert changed[mask].any()
    grown = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0  # edges are drawn over two pixels
    assert not changed[~grown].any()


def test_sizes_show_the_same_scene() -> None:
    small, _ = draw(scene(77), 64)
    large, _ = draw(scene(77), 256)
    shrunk = large.reshape(64, 4, 64, 4, 3).mean((1, 3))
    assert np.abs(shrunk - small).mean() < 4


def test_scrambling_keeps_the_colours_and_loses_the_place() -> None:
    picture = draw_category(SCRAMBLED, 3, 64)
    tiles = picture.reshape(8, 8, 8, 8, 3).swapaxes(1, 2).reshape(64, -1)
    assert len(np.unique(tiles, axis=0)) > 32
