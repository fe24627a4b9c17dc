"""A position knows the whole way to it: what is missing, doubled, swapped or changed shows in its digest."""

import hashlib
from dataclasses import replace
from functools import reduce

import numpy as np
import pytest

from realtime.feed.order import SLACK, Position
from realtime.feed.wire import Picture, RunStart, Volume, WireError, digest_of, pack

START = RunStart(
    run_uid="u1",
    name="sub-01_run-01",
    subject="subj01",
    session=1,
    run=1,
    tr=2.0,
    n_volumes=4,
    shape=(2, 2, 2),
    dtype="<i2",
    affine=tuple(tuple(float(i == j) for j in range(4)) for i in range(4)),
    source="replayed",
)


def picture(seq, shade):
    return Picture(seq=seq, run_uid="u1", name=f"{shade}", rgb=np.full((2, 2, 3), shade, np.uint8))


def position(*messages):
    return reduce(lambda here, message: here.after(message, digest_of(pack(message))), messages, Position())


ONE = position(START, picture(1, 10), picture(2, 20), picture(3, 30))


@pytest.mark.parametrize(
    "other",
    [
        [picture(1, 10), picture(2, 20)],
        [picture(1, 20), picture(2, 10), picture(3, 30)],
        [picture(1, 11), picture(2, 20), picture(3, 30)],
        [picture(1, 10), picture(2, 20), picture(3, 20)],
    ],
    ids=["missing", "swapped", "changed first", "changed last"],
)
def test_another_way_has_another_digest_and_another_end(other):
    there = position(START, *other)
    assert there.digest != ONE.digest
    with pytest.raises(WireError):
        ONE.after(there.ending("complete"), "00" * 32)


def test_the_start_is_part_of_the_way():
    assert position(replace(START, tr=2.5)).digest != position(START).digest


def test_the_digest_is_the_documented_chain():
    chain = bytes(32)
    for message in (START, picture(1, 10), picture(2, 20), picture(3, 30)):
        chain = hashlib.sha256(chain + bytes.fromhex(digest_of(pack(message)))).digest()
    assert ONE.digest == chain.hex()


def test_only_its_own_end_ends_a_run():
    end = ONE.ending("stopped")
    assert ONE.after(end, "00" * 32).end == end
    with pytest.raises(WireError):
        ONE.after(replace(end, digest="00" * 32), "00" * 32)


def volume(index):
    return Volume(seq=1, run_uid="u1", index=index, t_acquired=1.0, data=np.zeros((2, 2, 2), "<i2"))


def test_a_run_may_go_on_for_longer_than_planned_but_not_for_ever():
    here = position(START)
    assert here.after(volume(2 * START.n_volumes + SLACK - 1), "00" * 32).n_volumes == 1
    for index in (2 * START.n_volumes + SLACK, 200_000):
        with pytest.raises(WireError, match=f"volume {index} is far beyond the 4 that the run was to have"):
            here.after(volume(index), "00" * 32)
