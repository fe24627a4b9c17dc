"""What is true of a scene is what is drawn."""

import numpy as np

from dynadiff.phantom.scenes import CATEGORIES, SCRAMBLED, draw, scene
from dynadiff.phantom.truth import MAP, hue, truth


def test_maps_are_where_the_object_is_and_name_it():
    numbers = [n for n in range(600_000, 600_060) if scene(n).category != SCRAMBLED]
    true = truth(numbers)
    for number, classes, category in zip(numbers, true.classes, true.category, strict=True):
        mask = draw(scene(number), 64)[1]
        assert set(np.unique(classes)) == {0, 1 + category}
        assert CATEGORIES[category] == scene(number).category
        assert abs((classes > 0).mean() - mask.mean()) < 0.05
        inside = mask.reshape(MAP, 2, MAP, 2).all(axis=(1, 3))
        assert (classes[inside] > 0).all()


def test_hues_are_those_of_the_colours():
    assert [round(hue(colour)) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0))] == [
        0,
        120,
        240,
        60,
    ]
    true = truth(range(600_000, 600_100))
    apart = np.abs((true.hues[:, 0] - true.hues[:, 1] + 180) % 360 - 180)
    assert (apart >= 89).all()  # a background never has the hue of its object


def test_a_scrambled_picture_is_object_everywhere():
    number = next(n for n in range(600_000, 601_000) if scene(n).category == SCRAMBLED)
    assert (truth([number]).classes == 1 + CATEGORIES.index(SCRAMBLED)).all()
