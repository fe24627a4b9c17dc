"""A run, or a recording of one, as messages, each with the time at which it is due. Knows no sockets and no clock."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from dynadiff.base.errors import UserError
from dynadiff.recordings.run import Run
from realtime.feed.order import Position
from realtime.feed.recording import Recording
from realtime.feed.wire import Message, Picture, RunEnd, RunStart, Volume, WireError, digest_of, pack

MAX_PIXELS = 256  # of a picture's longer side: it is shown beside a reconstruction, not studied


def run_messages(
    run: Run,
    *,
    speed: float,
    run_uid: str,
    source: Literal["replayed", "live"] = "replayed",
    dummies: int = 0,
) -> Iterator[tuple[float, Message]]:
    """All messages of a run with the seconds after its start at which they are due; speed 0: all at once.

    Volume k is due at (k+1)·TR/speed, when its acquisition is complete. A picture is due at the start of the
    row where it first appears, before that row's volume. Raises ``UserError`` where the run cannot be served.
    """
    check_speed(speed)
    try:
        position = Position()
        for due, message in _messages(run, run_uid, source, dummies):
            position = position.after(message, digest_of(pack(message)))
            yield due / speed if speed else 0.0, message
        if position.n_volumes != run.n_volumes:
            raise WireError(f"it has {position.n_volumes} volumes, not the {run.n_volumes} it should.")
        yield (run.n_volumes * run.tr / speed if speed else 0.0), position.ending("complete")
    except WireError as error:
        raise UserError(f"run {run.name} cannot be served, correct it: {error}") from None


def recording_messages(path: Path, *, speed: float) -> Iterator[tuple[float, Message]]:
    """The messages of a recording with the seconds after its start when they are due; speed 0: all at once.

    Run, voxels and digests are the recorded ones, except that a live run is now a replayed one and says so.
    Raises ``UserError`` where the recording is damaged; one that was torn ends early.
    """
    check_speed(speed)
    due, position = 0.0, Position()
    for message in Recording(path):
        match message:
            case Volume() if speed:
                due = message.t_acquired / speed
            case RunStart():
                message = replace(message, source="replayed")
            case RunEnd():
                message = position.ending(message.reason)
        position = position.after(message, digest_of(pack(message)))
        yield due, message


def check_speed(speed: float) -> None:
    """A speed is a factor on the time of acquisition."""
    if not 0 <= speed < math.inf:
        raise UserError(f"a speed of {speed:g} is not possible: give 1 for real time, 0 for as fast as it goes.")


def _messages(
    run: Run, run_uid: str, source: Literal["replayed", "live"], dummies: int
) -> Iterator[tuple[float, Message]]:
    """As above at speed 1, without the end."""
    volumes = (_little_endian(volume) for volume in run.volumes())
    volume = next(volumes, None)
    if volume is None:
        raise WireError("it has no volumes.")
    yield (
        0.0,
        RunStart(
            run_uid=run_uid,
            name=run.name,
            subject=run.subject,
            session=run.session,
            run=run.run,
            tr=run.tr,
            n_volumes=run.n_volumes,
            shape=run.shape,
            dtype=volume.dtype.str,
            affine=tuple(tuple(float(value) for value in row) for row in run.affine),
            source=source,
            events=run.events,
            dummies=dummies,
        ),
    )
    first_rows: dict[str, int] = {}
    for event in sorted(run.events, key=lambda event: event.row):
        if event.picture:  # of some only the time and the category are known
            first_rows.setdefault(event.picture, event.row)
    seq, index = 1, 0
    while volume is not None:
        for name in [name for name, row in first_rows.items() if row == index]:
            yield index * run.tr, Picture(seq=seq, run_uid=run_uid, name=name, rgb=_small(run.picture(name)))
            seq += 1
        end = (index + 1) * run.tr
        yield end, Volume(seq=seq, run_uid=run_uid, index=index, t_acquired=end, data=volume)
        seq, index, volume = seq + 1, index + 1, next(volumes, None)


def _little_endian(volume: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(volume, volume.dtype.newbyteorder("<"))


def _small(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """At most MAX_PIXELS on the longer side."""
    height, width = rgb.shape[:2]
    scale = MAX_PIXELS / max(height, width)
    if scale >= 1:
        return rgb
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
