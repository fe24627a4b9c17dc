"""A position knows the whole way to it: what is missing, doubled, swapped or changed shows in its digest."""

import hashlib
from dataclasses import replace
from functools import reduce

import numpy as np
import pytest

from realtime.feed.order import Position
from realtime.feed.wire import Picture, RunStart, WireError, digest_of, pack

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
