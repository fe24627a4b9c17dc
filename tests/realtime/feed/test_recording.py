"""A recording gives back what was written, whatever happened to the writer, and never something else."""

import os
import struct
import subprocess
import sys
import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynadiff.base.errors import UserError
from realtime.feed.order import Position
from realtime.feed.recording import MAGIC, Recording, RecordingWriter
from realtime.feed.wire import MAX_BUFFER, MAX_HEADER, MAX_SEAL, Picture, RunEnd, RunStart, Volume, digest_of, pack
from replay.pace import recording_messages

EYE = tuple(tuple(float(i == j) for j in range(4)) for i in range(4))
TR = 1.5


def messages(n=6, source="replayed"):
    """A run of float volumes, with a NaN in each and a picture before the fourth."""
    position = Position()
    begin = RunStart(
        run_uid="u1", name="sub-01_run-01", subject="subj01", session=1, run=1, tr=TR, n_volumes=n,
        shape=(2, 3, 4), dtype="<f4", affine=EYE, source=source,
    )  # fmt: skip
    for index in range(-1, n):
        new = [begin] if index < 0 else []
        if index == 3:
            rgb = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
            new.append(Picture(seq=position.next_seq, run_uid="u1", name="7", rgb=rgb))
        if index >= 0:
            data = np.full((2, 3, 4), index, "<f4")
            data[0, 0, 0] = np.nan
            seq = position.next_seq + len(new)
            new.append(Volume(seq=seq, run_uid="u1", index=index, t_acquired=(index + 1) * TR, data=data))
        for message in new:
            position = position.after(message, digest_of(pack(message)))
            yield message
    yield position.ending("complete")


def frames(received):
    return [[bytes(frame) for frame in pack(message)] for message in received]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "feed.rec"


@pytest.fixture
def recorded(path):
    with RecordingWriter(path) as recorder:
        for message in messages():
            recorder.write(message)
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A recording that examples spoil and rewrite: its path and its content."""
    path = tmp_path_factory.mktemp("whole") / "feed.rec"
    with RecordingWriter(path) as recorder:
        for message in messages():
            recorder.write(message)
    return path, path.read_bytes()


def test_what_was_written_is_read_bit_for_bit(recorded):
    recording = Recording(recorded)
    assert frames(recording) == frames(messages())
    assert not recording.torn
    assert recording.intact == recorded.stat().st_size
    assert recording.position.end is not None


@settings(max_examples=150, deadline=None)
@given(cut=st.integers(0, 10**4))
def test_a_file_cut_anywhere_gives_its_whole_records_and_can_be_continued(whole, cut):
    path, content = whole
    cut %= len(content)
    path.write_bytes(content[:cut])
    recording = Recording(path)
    left = list(recording)
    everything = list(messages())
    assert frames(left) == frames(everything[: len(left)])
    assert recording.torn == (recording.intact < cut or cut == 0)
    assert recording.position.next_seq == len(left)
    with RecordingWriter(path, after=recording) as recorder:
        for message in everything[len(left) :]:
            recorder.write(message)
    again = Recording(path)
    assert frames(again) == frames(everything)
    assert not again.torn


@settings(max_examples=300, deadline=None)
@given(place=st.integers(0, 10**4), bit=st.integers(0, 7))
def test_a_flipped_bit_anywhere_is_damage(whole, place, bit):
    """Never a torn end, however far a damaged length would lead, and never another message."""
    path, content = whole
    spoilt = bytearray(content)
    spoilt[place % len(content)] ^= 1 << bit
    path.write_bytes(spoilt)
    read = []
    with pytest.raises(UserError):
        read.extend(Recording(path))
    assert frames(read) == frames(list(messages())[: len(read)])


def test_records_that_do_not_follow_each_other_are_damage(path):
    first, _, third, *_ = messages()
    with RecordingWriter(path) as recorder:
        recorder.write(first)
        recorder.write(third)
    with pytest.raises(UserError, match="damaged after 1 messages"):
        list(Recording(path))


def test_a_message_is_safe_from_the_death_of_its_writer(path):
    code = (
        "import os, sys, pathlib; from realtime.feed.recording import *\n"
        "recorder = RecordingWriter(pathlib.Path(sys.argv[2]))\n"
        "for message in Recording(pathlib.Path(sys.argv[1])): recorder.write(message)\n"
        "os.kill(os.getpid(), 9)"
    )
    source = path.with_name("source.rec")
    with RecordingWriter(source) as recorder:
        for message in messages():
            recorder.write(message)
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code, str(source), str(path)], env=env, check=False).returncode == -9
    assert path.read_bytes() == source.read_bytes()


def test_a_recording_is_never_overwritten(recorded):
    with pytest.raises(UserError, match="exists"):
        RecordingWriter(recorded)


@pytest.mark.parametrize("content", [b"PK\x03\x04 something else", MAGIC.replace(b"1", b"0")])
def test_another_file_is_no_recording(path, content):
    path.write_bytes(content)
    with pytest.raises(UserError, match="no recording"):
        list(Recording(path))


@pytest.mark.parametrize("number", [b"2", b"10", b"345"])
def test_a_recording_of_a_version_yet_to_come_is_refused_in_one_sentence(path, number):
    path.write_bytes(MAGIC.replace(b"1", number) + b"whatever it will be")
    with pytest.raises(UserError, match=rf"feed\.rec is of version {number.decode()} .* known here is 1: install"):
        list(Recording(path))


def test_messages_of_another_version_of_the_wire_are_no_damage(path, monkeypatch):
    monkeypatch.setattr("realtime.feed.wire.VERSION", 99)
    with RecordingWriter(path) as recorder:
        for message in messages():
            recorder.write(message)
    monkeypatch.undo()
    with pytest.raises(UserError, match=r"was recorded by another version: .* 2 here and 99 there: install the same"):
        list(Recording(path))


def test_a_file_that_is_not_there_is_one_sentence(path):
    with pytest.raises(UserError, match="cannot be read"):
        list(Recording(path))
    with pytest.raises(UserError, match="cannot be written"):
        RecordingWriter(path / "below")


def test_a_replayed_recording_is_the_same_run_at_its_own_times(recorded):
    served = list(recording_messages(recorded, speed=2.0))
    assert frames(message for _, message in served) == frames(messages())
    assert [due for due, _ in served] == [0, 0.75, 1.5, 2.25, 2.25, 3.0, 3.75, 4.5, 4.5]
    assert {due for due, _ in recording_messages(recorded, speed=0)} == {0.0}


def test_a_live_run_is_replayed_as_a_replayed_one(path):
    with RecordingWriter(path) as recorder:
        for message in messages(source="live"):
            recorder.write(message)
    assert frames(message for _, message in recording_messages(path, speed=0)) == frames(messages())


def test_a_torn_recording_is_served_without_an_end(recorded):
    os.truncate(recorded, recorded.stat().st_size - 1)
    served = [message for _, message in recording_messages(recorded, speed=0)]
    assert len(served) == 8
    assert not any(isinstance(message, RunEnd) for message in served)


@pytest.mark.parametrize("speed", [-1.0, float("nan"), float("inf")])
def test_a_speed_that_is_none_is_one_sentence(recorded, speed):
    with pytest.raises(UserError, match="speed"):
        list(recording_messages(recorded, speed=speed))


def test_times_of_sending_are_kept(path):
    start, volume, *_ = messages()
    with RecordingWriter(path) as recorder:
        recorder.write(start)
        recorder.write(replace(volume, t_sent=1.5e9))
    assert list(Recording(path))[1].t_sent == 1.5e9


@pytest.mark.parametrize(
    "lengths",
    [(0, 0, 0), (0, 100, 0), (100, 0, 100), (MAX_SEAL + 1, 100, 0), (100, MAX_HEADER + 1, 0), (1, 1, MAX_BUFFER + 1)],
)
def test_lengths_that_no_record_has_are_damage_and_no_end(recorded, lengths):
    """With a right checksum, in the middle of a file that is long enough for them."""
    prefix = struct.pack("<4I", *lengths, 0)
    content = recorded.read_bytes()
    recorded.write_bytes(content[: len(MAGIC)] + prefix + struct.pack("<I", zlib.crc32(prefix)) + content[len(MAGIC) :])
    os.truncate(recorded, 1 << 30)
    with pytest.raises(UserError, match="lengths of a record"):
        list(Recording(recorded))
