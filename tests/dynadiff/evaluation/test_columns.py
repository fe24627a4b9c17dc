"""In every column what was shown is best and noise is at chance, and whose eye it is stands beside it."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynadiff.evaluation.columns import JUDGE, OWN, PIXELS, TEN, Eyes, Remembering, scored, scored_hues
from dynadiff.evaluation.evaluate import _circled, _degrees
from dynadiff.phantom.judge import SceneJudge
from dynadiff.phantom.scenes import draw, scene
from dynadiff.phantom.truth import truth
from dynadiff.scores.pixels import pixel_features

NUMBERS = range(5_000_000, 5_000_060)  # scenes that nobody learns from
NAMES = [str(number) for number in NUMBERS]


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    monkeypatch.setattr("dynadiff.evaluation.columns.DRAWS", 20)
    monkeypatch.setattr("dynadiff.scores.ten.SHIFTS", 5)


@pytest.fixture(scope="module")
def shown():
    return np.stack([draw(scene(number), 64)[0] for number in NUMBERS])


@pytest.fixture(scope="module")
def eyes():
    return Eyes({"an outside eye": pixel_features, OWN: lambda p: p.reshape(len(p), -1) / 255}, SceneJudge())


@pytest.fixture(scope="module")
def noise(shown):
    return np.random.default_rng(1).integers(0, 256, shown.shape, np.uint8)


def by_key(found):
    return {column.key: (column, cell) for column, cell in found}


def test_an_outside_eye_comes_first_and_the_decoders_own_is_named(eyes, shown):
    columns = [column for column, _ in scored(eyes, [shown], shown, NAMES)]
    assert list(dict.fromkeys(c.space for c in columns)) == ["an outside eye", JUDGE, PIXELS, OWN, TEN]
    assert len({c.key for c in columns}) == len(columns)


def test_what_was_shown_is_right_in_every_column(eyes, shown):
    for column, cell in scored(eyes, [shown], shown, NAMES):
        if column.unit == "°":
            assert cell.mean < 15, column
        elif column.higher_is_better:
            assert cell.mean > 0.9, column
        assert cell.low <= cell.mean <= cell.high
        assert len(cell.per_trial) == len(NAMES)
        if cell.chance is not None:
            better = cell.low > cell.chance if column.higher_is_better else cell.high < cell.chance
            assert better, column


def test_every_column_says_what_chance_gives(eyes, shown, noise):
    metrics = dict.fromkeys(("alexnet2", "swav", "dreamsim"), pixel_features)
    asked = replace(eyes, metrics=metrics, segment=lambda pictures: lambda trial: pictures[trial, ..., 1] // 64)
    keys = set()
    for column, cell in scored(asked, [noise[:12], shown[:12]], shown[:12], NAMES[:12]):
        assert cell.chance is not None, column
        keys.add(column.key)
    assert {"pixcorr", "ssim", "alexnet2", "alexnet2-other-way", "swav", "dreamsim", "miou"} <= keys


def test_a_seed_without_label_maps_leaves_no_miou_but_the_rest(shown, noise):
    def segment(pictures):
        return None if pictures is noise else lambda trial: pictures[trial, ..., 1] // 64

    asked = Eyes({"x": pixel_features}, segment=segment)
    few, noise = shown[:12], noise[:12]
    found = [by_key(scored(asked, [few, pictures], few, NAMES[:12])) for pictures in (few, noise)]
    assert found[0].keys() - found[1].keys() == {"miou"}


def test_noise_is_at_chance(eyes, shown, noise):
    for column, cell in scored(eyes, [noise], shown, NAMES):
        if "two-way" in column.title:
            assert cell.low < 0.5 < cell.high or cell.mean == pytest.approx(0.5, abs=0.1), column
        if column.title.startswith("hue"):
            assert cell.mean == pytest.approx(90, abs=25)
        if column.title == "category named":
            assert cell.mean < 0.2


def test_a_score_is_the_mean_over_seeds(eyes, shown, noise):
    both = by_key(scored(eyes, [shown, noise], shown, NAMES))
    each = [by_key(scored(eyes, [pictures], shown, NAMES)) for pictures in (shown, noise)]
    for key, (_, cell) in both.items():
        expected = np.mean([found[key][1].per_trial for found in each], axis=0)
        assert np.allclose(cell.per_trial, expected, atol=2e-6), key
        assert cell.mean == pytest.approx(expected.mean(), abs=1e-5)


def test_how_many_pictures_one_is_chosen_of_is_said(eyes, shown):
    few = [column.title for column, _ in scored(eyes, [shown[:20]], shown[:20], NAMES[:20]) if column.space == PIXELS]
    assert few == ["two-way", "two-way, against truths", "one of 20"]


def test_where_pictures_are_no_drawn_scenes_nobody_judges_them_as_such(shown):
    columns = [c for c, _ in scored(Eyes({"x": pixel_features}), [shown], shown, [f"photo {n}" for n in NAMES])]
    assert {c.space for c in columns} == {"x", PIXELS, TEN}


def test_an_eye_that_remembers_looks_once_and_sees_the_same(shown):
    looked = []
    eye = Remembering(lambda pictures: looked.append(len(pictures)) or pixel_features(pictures))
    twice = np.concatenate([shown[:7], shown[3:9], shown[:1]])
    assert np.array_equal(eye(twice), pixel_features(twice))
    assert np.array_equal(eye(twice), pixel_features(twice))
    assert looked == [9]


@pytest.mark.parametrize("scenes", [True, False])
def test_the_space_that_a_decoder_was_trained_in_is_never_first(scenes, shown):
    eyes = Eyes({OWN: pixel_features}, SceneJudge() if scenes else None)
    columns = [column for column, _ in scored(eyes, [shown[:12]], shown[:12], NAMES[:12])]
    assert columns[0].space == (JUDGE if scenes else PIXELS)
    assert OWN in {column.space for column in columns}


def test_hues_that_are_said_without_a_picture_stand_in_the_judges_columns_alone(eyes, shown):
    true = truth(list(NUMBERS)).hues
    columns = {column.key: column for column, _ in scored(eyes, [shown], shown, NAMES)}
    for off in (0, 30, 180):
        found = by_key(scored_hues((true + off) % 360, NAMES))
        assert list(found) == [f"{JUDGE}: hue error, object", f"{JUDGE}: hue error, background"]
        for key, (column, cell) in found.items():
            assert column == columns[key]
            np.testing.assert_allclose(cell.per_trial, off, atol=1e-6)


@given(st.lists(st.tuples(st.floats(0, 359.9), st.floats(0, 359.9)), min_size=1, max_size=5), st.floats(0.1, 9))
def test_a_hue_is_a_direction_whatever_its_length(hues, length):
    hues = np.array(hues)
    back = _degrees((length * _circled(hues)).astype(np.float32))
    assert np.abs((back - hues + 180) % 360 - 180).max() < 1e-2
