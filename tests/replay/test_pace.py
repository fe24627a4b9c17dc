"""A run becomes messages that say what it is, in the order and at the times of a scanner."""

from dataclasses import replace

import numpy as np
import pytest

from dynadiff.base.errors import UserError
from dynadiff.recordings.run import Event, Run
from realtime.feed.order import Position
from realtime.feed.wire import Picture, RunEnd, RunStart, Volume, digest_of, pack, unpack
from replay.pace import run_messages

SHAPE = (3, 4, 5)
EVENTS = (Event(0, 2, "b"), Event(2, 1, "a", "dog"), Event(3, 1, "b"), Event(2, 1, "c"), Event(99, 1, "z"))


def run(volumes=None, **changes):
    data = [np.full(SHAPE, k, ">i2") for k in range(4)] if volumes is None else volumes
    return replace(
        Run(
            name="sub-01_run-01",
            subject="subj01",
            session=1,
            run=1,
            tr=4 / 3,
            shape=SHAPE,
            affine=np.diag([1.8, 1.8, 1.8, 1]),
            n_volumes=len(data),
            events=EVENTS,
            volumes=lambda: iter(data),
            picture=lambda name: np.full((300, 600, 3), ord(name), np.uint8),
        ),
        **changes,
    )


def paced(run, speed=1.0, **options):
    return list(run_messages(run, speed=speed, run_uid="u1", **options))


def test_a_volume_is_due_when_its_acquisition_is_complete():
    for speed in (1.0, 2.0, 0.5):
        dues = {m.index: due for due, m in paced(run(), speed) if isinstance(m, Volume)}
        assert dues == pytest.approx({k: (k + 1) * 4 / 3 / speed for k in range(4)})
    assert {due for due, _ in paced(run(), speed=0)} == {0.0}


def test_times_of_acquisition_are_those_of_the_scan_at_any_speed():
    for speed in (0.0, 1.0, 7.0):
        times = [m.t_acquired for _, m in paced(run(), speed) if isinstance(m, Volume)]
        assert times == pytest.approx([4 / 3, 8 / 3, 4, 16 / 3])


def test_each_picture_comes_once_before_the_volume_of_its_first_row_and_dues_never_fall():
    served = paced(run())
    story = [m.name if isinstance(m, Picture) else getattr(m, "index", type(m).__name__) for _, m in served]
    assert story == ["RunStart", "b", 0, 1, "a", "c", 2, 3, "RunEnd"]
    dues = [due for due, _ in served]
    assert dues == sorted(dues)
    assert [due for due, m in served if isinstance(m, Picture)] == pytest.approx([0, 8 / 3, 8 / 3])


def test_pictures_are_made_small_and_small_ones_are_left_alone():
    pictures = [m.rgb for _, m in paced(run()) if isinstance(m, Picture)]
    assert {rgb.shape for rgb in pictures} == {(128, 256, 3)}
    assert (pictures[0] == ord("b")).all()
    small = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    kept = [m.rgb for _, m in paced(run(picture=lambda _: small)) if isinstance(m, Picture)]
    np.testing.assert_array_equal(kept[0], small)


def test_the_header_is_the_run():
    start = paced(run(), dummies=2, source="live")[0][1]
    assert isinstance(start, RunStart)
    assert (start.name, start.tr, start.n_volumes, start.shape) == ("sub-01_run-01", 4 / 3, 4, SHAPE)
    assert (start.dtype, start.dummies, start.source) == ("<i2", 2, "live")
    assert start.events == EVENTS
    np.testing.assert_array_equal(start.affine, np.diag([1.8, 1.8, 1.8, 1]))


@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<u2", ">i2", "|u1"])
def test_voxels_pass_the_wire_unchanged_whatever_the_file_holds(dtype):
    chance = np.random.default_rng(0)
    data = [(100 * chance.random(SHAPE)).astype(dtype) for _ in range(3)]
    if np.dtype(dtype).kind == "f":
        data[1][0, 1, 2], data[2][:] = np.nan, np.inf
    back = [unpack(pack(m)).data for _, m in paced(run(data)) if isinstance(m, Volume)]
    for before, after in zip(data, back, strict=True):
        np.testing.assert_array_equal(before, after)


def test_the_end_agrees_with_what_came_before():
    position = Position()
    for _, message in paced(run()):
        position = position.after(message, digest_of(pack(message)))
    assert isinstance(position.end, RunEnd)
    assert (position.end.n_volumes, position.end.reason) == (4, "complete")


@pytest.mark.parametrize(
    ("broken", "word"),
    [
        (run(tr=1333.3), "tr"),
        (run(tr=0.0), "tr"),
        (run(tr=float("nan")), "tr"),
        (run([]), "no volumes"),
        (run(n_volumes=5), "4 volumes"),
        (run(n_volumes=3), "4 volumes"),
        (run(shape=(3, 4, 6)), "volume 0"),
        (run([np.zeros(SHAPE, "<i2"), np.zeros(SHAPE, "<f4")]), "volume 1"),
        (run([np.zeros(SHAPE, complex)]), "dtype"),
        (run(affine=np.full((4, 4), np.nan)), "affine"),
        (run(name="../elsewhere"), "name"),
        (run(events=(Event(-1, 1, "a"),)), "row"),
    ],
)
def test_a_run_that_cannot_be_served_is_one_sentence(broken, word):
    with pytest.raises(UserError, match=word):
        paced(broken)
