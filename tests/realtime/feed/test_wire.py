"""What goes over the wire comes out as it went in, and anything else is a WireError."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dynadiff.recordings.run import Event
from realtime.feed.ranges import DTYPES
from realtime.feed.wire import (
    VERSION,
    Ack,
    Bye,
    Control,
    Done,
    Hello,
    Message,
    Picture,
    Refusal,
    RunEnd,
    RunStart,
    Status,
    Volume,
    WireError,
    digest_of,
    pack,
    unpack,
)

EYE = tuple(tuple(float(i == j) for j in range(4)) for i in range(4))
START = RunStart(
    run_uid="u1",
    name="sub-01_run-12",
    subject="subj01",
    session=1,
    run=12,
    tr=4 / 3,
    n_volumes=226,
    shape=(3, 4, 5),
    dtype="<i2",
    affine=EYE,
    source="replayed",
    events=(Event(3, 2, "4017", "dog"), Event(8, 2, "images/ä.jpg")),
    dummies=2,
)
DATA = np.arange(60, dtype="<i2").reshape(3, 4, 5)
VOLUME = Volume(seq=1, run_uid="u1", index=0, t_acquired=4 / 3, t_sent=1.5e9, data=DATA)
PICTURE = Picture(seq=2, run_uid="u1", name="4017", rgb=np.arange(24, dtype=np.uint8).reshape(2, 4, 3))
END = RunEnd(seq=3, run_uid="u1", n_volumes=1, digest="0f" * 32, reason="complete")
PLAIN = [
    START,
    END,
    Hello(role="decoder"),
    Hello(role="viewer", run_uid="u1", next_seq=9),
    Ack(next_seq=3),
    Done(run_uid="u1", n_volumes=226, digest="ab" * 32),
    Status(run_uid="u1", published=5, sent=4, confirmed=True),
    Refusal(reason="no"),
    Bye(reason="the run is of subject 02 and the engine of 01"),
]


def seal(header: object, *buffers: bytes, v: object = VERSION) -> list[bytes]:
    """Frames whose digest is right, whatever they hold."""
    content = [json.dumps(header).encode(), *buffers]
    digest = blake3(b"".join(content)).hexdigest()
    return [json.dumps({"v": v, "digest": digest, "t_sent": 0.0}).encode(), *content]


def header_of(message: Message | Control) -> dict[str, Any]:
    return dict(json.loads(bytes(pack(message)[1])))


@pytest.mark.parametrize("message", PLAIN, ids=lambda message: type(message).__name__)
def test_plain_messages_come_back_equal(message):
    assert unpack(pack(message)) == message


@given(
    st.sampled_from(DTYPES).flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=3, max_dims=3, max_side=6))
    ),
    st.sampled_from("CF"),
)
def test_volumes_come_back_bit_for_bit_from_any_memory_layout(data, order):
    """NaN and infinity too, whichever way the array lay in memory; as x fastest, and read-only."""
    sent = Volume(seq=1, run_uid="u", index=0, t_acquired=1.0, data=np.array(data, order=order))
    frames = pack(sent)
    assert bytes(frames[2]) == data.tobytes(order="F")
    back = unpack([bytes(frame) for frame in frames]).data
    assert (back.dtype, back.shape) == (data.dtype, data.shape)
    assert back.tobytes() == data.tobytes()
    assert back.flags.f_contiguous
    assert not back.flags.writeable


def test_an_array_in_wire_order_is_not_copied():
    data = np.asfortranarray(DATA)
    frames = pack(replace(VOLUME, data=data))
    assert np.shares_memory(np.frombuffer(frames[2], np.uint8), data)
    assert np.shares_memory(unpack(frames).data, data)


def test_pictures_come_back_row_by_row():
    back = unpack(pack(PICTURE))
    np.testing.assert_array_equal(back.rgb, PICTURE.rgb)
    assert (back.name, back.seq) == ("4017", 2)


def test_what_another_sender_packed_is_passed_on_as_it_came():
    """Its header may be written in another order: the run's digest is of its bytes, not of ours."""
    header = dict(reversed(header_of(VOLUME).items()))
    frames = seal(header, bytes(pack(VOLUME)[2]))
    received = unpack(frames)
    assert pack(received)[1:] == frames[1:] != pack(VOLUME)[1:]
    assert digest_of(pack(received)) == digest_of(frames) != digest_of(pack(VOLUME))


def test_a_received_message_that_is_changed_is_packed_anew():
    received = unpack(pack(VOLUME))
    assert isinstance(received, Volume)
    changed = unpack(pack(replace(received, index=7)))
    assert isinstance(changed, Volume)
    assert changed.index == 7


def test_the_time_of_sending_travels_but_is_no_content():
    later = replace(VOLUME, t_sent=1.6e9)
    assert unpack(pack(later)).t_sent == 1.6e9
    assert digest_of(pack(later)) == digest_of(pack(VOLUME))
    assert digest_of(pack(replace(VOLUME, index=1))) != digest_of(pack(VOLUME))


@pytest.mark.parametrize("message", [START, VOLUME, PICTURE, END], ids=lambda message: type(message).__name__)
def test_a_flipped_bit_anywhere_in_header_or_buffer_is_noticed(message):
    frames = [bytes(frame) for frame in pack(message)]
    for number in range(1, len(frames)):
        for place in range(0, len(frames[number]), 7):
            damaged = bytearray(frames[number])
            damaged[place] ^= 1 << place % 8
            with pytest.raises(WireError, match="damaged"):
                unpack([*frames[:number], bytes(damaged), *frames[number + 1 :]])


ARRAY = {"dtype": "<i2", "shape": [3, 4, 5], "order": "F"}
MALFORMED = {
    "no kind": {"seq": 0},
    "unknown kind": {"kind": "Pickle"},
    "kind is a list": {"kind": ["Ack"]},
    "not an object": [1],
    "a field too many": {"kind": "Ack", "next_seq": 1, "more": 1},
    "a field too few": {"kind": "Ack"},
    "a flag for a number": {"kind": "Ack", "next_seq": True},
    "a float for an integer": {"kind": "Ack", "next_seq": 1.0},
    "negative": {"kind": "Ack", "next_seq": -1},
    "too many": {"kind": "Ack", "next_seq": 10**9},
    "role with a slash": {"kind": "Hello", "role": "../x", "run_uid": "", "next_seq": 0},
    "role empty": {"kind": "Hello", "role": "", "run_uid": "", "next_seq": 0},
    "unprintable text": {"kind": "Refusal", "reason": "\u001b[2J"},
    "lone surrogate": {"kind": "Refusal", "reason": "\ud800"},
    "endless text": {"kind": "Refusal", "reason": "x" * 1000},
    "short digest": {"kind": "Done", "run_uid": "u", "n_volumes": 1, "digest": "ab"},
    "no hexadecimal": {"kind": "Done", "run_uid": "u", "n_volumes": 1, "digest": "xy" * 32},
    "another ending": header_of(END) | {"reason": "bored"},
    **{
        f"RunStart with {key} {value!r:.30}": header_of(START) | {key: value}
        for key, value in [
            ("seq", 1),
            ("run_uid", "a/b"),
            ("name", ".hidden"),
            ("name", ".."),
            ("name", "a/../../b"),
            ("name", "a\\b"),
            ("name", "a\0b"),
            ("name", "a\nb"),
            ("name", "x" * 161),
            ("name", "ä" * 81),
            ("subject", ""),
            ("tr", 0),
            ("tr", 1333.3),
            ("tr", "1.3"),
            ("tr", 10**400),
            ("n_volumes", 0),
            ("n_volumes", 20_001),
            ("shape", [3, 4]),
            ("shape", [3, 4, 0]),
            ("shape", [3, 4, 2000]),
            ("shape", [1024, 1024, 1024]),
            ("shape", "abc"),
            ("dtype", "<c8"),
            ("dtype", ">i2"),
            ("dtype", "O"),
            ("dtype", []),
            ("affine", [[1, 0, 0, 0]] * 3),
            ("affine", [[1, 0, 0]] * 4),
            ("affine", [[1e400, 0, 0, 0]] * 4),
            ("affine", [[None, 0, 0, 0]] * 4),
            ("source", "scanner"),
            ("source", []),
            ("events", {}),
            ("events", [[1, 2, "x"]]),
            ("events", [[-1, 2, "x", ""]]),
            ("events", [[1, 0, "x", ""]]),
            ("events", [[1, 50_001, "x", ""]] * 2),
            ("events", [[1, 1, 7, ""]]),
            ("events", [[1, 1, "x", None]]),
            ("dummies", 227),
        ]
    },
}
MALFORMED_VOLUMES = {
    "no description": None,
    "a shape of the wrong size": ARRAY | {"shape": [3, 4, 6]},
    "a dtype of the wrong size": ARRAY | {"dtype": "<i4"},
    "an order nobody sends": ARRAY | {"order": "C"},
    "a negative axis": ARRAY | {"shape": [-3, -4, 5]},
    "a huge axis": ARRAY | {"shape": [10**30, 4, 5]},
    "an object dtype": ARRAY | {"dtype": "|O"},
    "a big-endian dtype": ARRAY | {"dtype": ">i2"},
    "four axes": ARRAY | {"shape": [3, 4, 5, 1]},
    "fractions of voxels": ARRAY | {"shape": [3.0, 4, 5]},
    "a description too long": ARRAY | {"strides": [1]},
}


@pytest.mark.parametrize("header", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_headers_with_a_right_digest_are_refused(header):
    with pytest.raises(WireError):
        unpack(seal(header))


@pytest.mark.parametrize("array", MALFORMED_VOLUMES.values(), ids=MALFORMED_VOLUMES.keys())
def test_malformed_arrays_with_a_right_digest_are_refused(array):
    with pytest.raises(WireError):
        unpack(seal(header_of(VOLUME) | {"data": array}, DATA.tobytes()))


def test_the_number_of_frames_must_suit_the_message():
    for frames in ([], [b"{}"], seal(header_of(VOLUME)), seal(header_of(END), b"x"), [*pack(VOLUME), b""]):
        with pytest.raises(WireError):
            unpack(frames)


def test_another_version_is_named():
    with pytest.raises(WireError, match="install the same version"):
        unpack(seal(header_of(END), v=VERSION - 1))


@pytest.mark.parametrize("t_sent", [None, "now", True, float("nan"), float("inf"), -1.0, [], 10**400])
@pytest.mark.parametrize("message", [VOLUME, Ack(next_seq=1)], ids=["Volume", "Ack"])
def test_a_time_of_sending_that_is_none_is_refused(message, t_sent):
    frames = pack(message)
    given = json.loads(bytes(frames[0])) | {"t_sent": t_sent}
    with pytest.raises(WireError, match=r"t_sent|malformed"):
        unpack([json.dumps(given).encode(), *frames[1:]])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_no_number_of_a_header_may_be_infinite_or_none(value):
    for message, key in ((START, "tr"), (VOLUME, "t_acquired")):
        with pytest.raises(WireError, match=f"{key}|malformed"):
            unpack(seal(header_of(message) | {key: value}, *map(bytes, pack(message)[2:])))


def test_deep_nesting_and_broken_text_are_no_header():
    for header in (b'{"kind": NaN}', b'{"kind": Infinity}', b"[" * 100_000, b"1" * 5000, b"\xff", b"{", b""):
        digest = blake3(header).hexdigest()
        with pytest.raises(WireError):
            unpack([json.dumps({"v": VERSION, "digest": digest, "t_sent": 0}).encode(), header])


@pytest.mark.parametrize("limit", [(1 << 10) + 1, (1 << 20) + 1])
def test_frames_beyond_their_limit_are_refused_unread(limit):
    with pytest.raises(WireError, match="longer"):
        unpack([b" " * limit, b" " * limit])


text = st.text(alphabet="ab/. \u001b\ud800", max_size=5)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=8,
)


@given(st.lists(st.binary(max_size=200), max_size=4))
def test_any_bytes_are_a_wire_error(frames):
    with pytest.raises(WireError):
        unpack(frames)


@given(st.data())
def test_any_header_with_a_right_digest_is_a_message_or_a_wire_error(data):
    message = data.draw(st.sampled_from([*PLAIN, VOLUME, PICTURE]))
    header = header_of(message)
    for key in data.draw(st.lists(st.sampled_from(sorted(header)), max_size=3)):
        header[key] = data.draw(json_values)
    buffers = [bytes(frame) for frame in pack(message)[2:]]
    try:
        back = unpack(seal(header, *buffers))
    except WireError:
        return
    assert unpack(pack(back)) is not None


@pytest.mark.parametrize(
    "make",
    [
        lambda: replace(START, tr=1333.3),
        lambda: replace(START, events=[Event(1, 1, "x")]),
        lambda: replace(START, events=((1, 1, "x", ""),)),
        lambda: replace(START, events=None),
        lambda: replace(START, n_volumes=np.int64(3)),
        lambda: replace(VOLUME, data=DATA.astype(">i2")),
        lambda: replace(VOLUME, data=DATA.astype(complex)),
        lambda: replace(VOLUME, data=DATA[0]),
        lambda: replace(VOLUME, t_acquired=float("nan")),
        lambda: replace(PICTURE, rgb=np.zeros((2, 2, 4), np.uint8)),
    ],
)
def test_a_message_that_exists_is_legal(make):
    with pytest.raises(WireError):
        make()
