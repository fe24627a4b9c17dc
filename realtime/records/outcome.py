"""What is left when a run is over: scores, ``montage.png`` and ``decode.mp4``, made from what was recorded.

Knows the record and the moments that were painted; knows no engine and no feed. The views it takes are one
per painted window, without their reconstructions, which are on disk.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dynadiff.base.errors import UserError
from realtime.records.decode_folder import DecodeFolder, write_png
from realtime.records.summary import Json, Space, identification
from realtime.records.video import Tile, montage, write_film
from realtime.screen.display import Moment, View, compose


def trial(moment: Moment) -> tuple[NDArray[np.uint8], str] | None:
    """The stimulus (h, w, 3) and its name where it appeared with the window's row; None: no trial of identification."""
    if not moment.onset or moment.event is None or moment.stimulus is None:
        return None
    return moment.stimulus, moment.event.picture


def identify_onsets(record: DecodeFolder, views: Sequence[View], space: Space) -> Json | None:
    """Identification over the windows of the onsets of known stimuli; None where these are too few.

    UserError where the space cannot say, or a picture cannot be read.
    """
    trials = [(record.read_picture(m.volume), *shown) for m in _moments(record, views) if (shown := trial(m))]
    reconstructions, stimuli, names = zip(*trials, strict=True) if trials else ((), (), ())
    return identification(reconstructions, stimuli, names, space)


def identify(record: DecodeFolder, views: Sequence[View], spaces: Sequence[Space], stopped: str) -> Json:
    """What summary.json says of identification at the end: in the first space, and beside it in the others.

    A space that breaks costs its own score. ``stopped`` is what the first one said when it broke in the run, and is not
    asked again then.
    """
    found: list[Json | None] = [None] if stopped else []
    unscored = [stopped] if stopped else []
    for space in spaces[len(found) :]:
        try:
            found.append(identify_onsets(record, views, space))
        except UserError as error:
            found.append(None)
            unscored.append(f"no score of the whole run: {error}")
    first, *beside = found
    return {
        **({"identification": first} if first else {}),
        "identification_beside": [scores for scores in beside if scores],
        **({"unscored": unscored} if unscored else {}),
    }


def illustrate(record: DecodeFolder, views: Sequence[View]) -> None:
    """Write a montage of the onsets of stimuli (of all if they are unknown) and a film of everything."""
    shown = [view for view in views if view.moment and record.has_picture(view.moment.volume)]
    if not shown or record.stopped:
        return
    moments = [m for m in _moments(record, shown) if m.onset] or _moments(record, shown)
    sheet = montage([_tile(record, m) for m in moments])
    record.attempt(lambda: write_png(record.folder / "montage.png", sheet))
    frames = (compose(replace(v, reconstruction=record.read_picture(v.moment.volume))) for v in shown if v.moment)
    record.attempt(lambda: write_film(record.folder / "decode.mp4", frames, len(shown)))


def _moments(record: DecodeFolder, views: Sequence[View]) -> list[Moment]:
    """The moments whose pictures are on disk: all of them, unless the disk was full."""
    moments = [view.moment for view in views if view.moment is not None]
    return [moment for moment in moments if record.has_picture(moment.volume)]


def _tile(record: DecodeFolder, moment: Moment) -> Tile:
    label = f"row {moment.seen_row}, volume {moment.volume}" if moment.onset else f"volume {moment.volume}"
    return Tile(record.read_picture(moment.volume), moment.stimulus, label)
