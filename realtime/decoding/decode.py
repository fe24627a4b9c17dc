"""Decodes a feed: hands every message to the run it belongs to, until a run ends. Knows no sockets and no window."""

import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Protocol

from dynadiff.base.errors import UserError
from dynadiff.engines.contract import Decoder
from realtime.decoding.options import Options
from realtime.decoding.painter import Clock
from realtime.decoding.run import POLL_S, RunDecoder, Setup, Watch
from realtime.decoding.stages import check_run
from realtime.feed.wire import Message, Picture, RunEnd, RunStart, Volume
from realtime.records.decode_folder import free_name, new_folder
from realtime.records.resume import Earlier
from realtime.records.summary import PIXELS, Json, Space
from realtime.screen.display import View


class MessageSource(Protocol):
    """What a decode needs of a feed."""

    def receive(self, timeout_s: float) -> Message | None: ...
    def confirm(self, end: RunEnd) -> None: ...

    @property
    def trouble(self) -> str: ...
    @property
    def duplicates(self) -> int: ...
    @property
    def gaps(self) -> int: ...
    @property
    def damaged(self) -> int: ...
    @property
    def reconnects(self) -> int: ...


def decode(
    source: MessageSource, decoder: Decoder, options: Options, watch: Watch, spaces: Sequence[Space] = (PIXELS,),
    now: Clock = time.monotonic, wall: Clock = time.time, before: Earlier | None = None,
) -> tuple[Path, Json]:  # fmt: skip
    """Decode until a run ends; give its folder and summary. A run that is broken off has a folder as well.

    ``before`` is an unfinished decode in that folder: it is gone through again, and the source, which must go on
    where its recording ends, is listened to from there. What was painted is not painted again.

    Pictures are compared in the first of ``spaces`` while the run goes on, and in all of them at its end.

    Raises UserError where the run does not suit the engine, the folder cannot be made or the feed falls
    silent. The files of what was received are finished then, and also where the engine fails or after a
    KeyboardInterrupt, whose note says what is kept.
    """
    setup = Setup(decoder, options, spaces, watch, now, wall, here=wall())
    run: RunDecoder | None = None
    recorded = before.messages() if before else iter(())
    ended = "failed"
    try:
        while True:
            message = next(recorded, None) or source.receive(POLL_S)
            match message:
                case RunStart():
                    if run is not None:
                        run.break_off("broken off", _faults(source))
                    run = _begin(message, setup, before if run is None else None, again=run is not None)
                case Picture() if run:
                    run.picture(message)
                case Volume() if run:
                    run.volume(message)
                case RunEnd() if run:
                    source.confirm(message)
                    whole, run = run, None  # what happens from here on does not make the run less whole
                    return whole.folder, whole.finish(message, _faults(source))
            if run is not None:
                run.poll()
            else:
                watch(View(note=source.trouble or f"waiting for a run at {options.connect}"))
    except KeyboardInterrupt as stop:
        ended = "interrupted"
        if run is not None:
            stop.add_note(
                f"interrupted: {run.folder} keeps what was received and decoded; `realtime decode --out {run.folder}` "
                "with the same options goes on, as long as the feed serves this run"
            )
        raise
    except UserError:
        ended = "broken off"
        raise
    finally:
        if run is not None:
            run.break_off(ended, _faults(source))


def _begin(start: RunStart, setup: Setup, before: Earlier | None, again: bool) -> RunDecoder:
    """A run in the folder of the unfinished decode, or in a new one; ``again``: it is not the first of this decode."""
    check_run(start, setup.decoder, setup.options.any_space)
    if before is not None:
        return RunDecoder(start, setup, before.folder, before)
    out = free_name(setup.options.out) if again and setup.options.out else setup.options.out
    return RunDecoder(start, setup, new_folder(out, start.name, datetime.fromtimestamp(setup.wall())))


def _faults(source: MessageSource) -> Json:
    """How often the link was at fault, and mended."""
    return {
        "duplicates": source.duplicates,
        "gaps": source.gaps,
        "damaged": source.damaged,
        "reconnects": source.reconnects,
    }
