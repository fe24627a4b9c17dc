"""One decode from the command line: engine, feed, window and terminal put together."""

import math
import os
from contextlib import ExitStack, closing
from pathlib import Path

from rich.console import Console

from dynadiff.base.errors import UserError
from dynadiff.engines.open import open_decoder
from realtime.decoding.decode import decode
from realtime.decoding.options import Options
from realtime.decoding.spaces import spaces_of
from realtime.feed.connection import Feed
from realtime.feed.keys import consumer_keys
from realtime.records.decode_folder import alone_in, check_empty
from realtime.records.resume import Earlier, earlier
from realtime.records.summary import Json
from realtime.screen.console import Reporter, report
from realtime.screen.display import LiveWindow, View, require_display

TITLE = "Dynadiff"


def decode_feed(options: Options, headless: bool, console: Console, keys: Path | None = None) -> tuple[Path, Json]:
    """Decode one run of the feed at ``options.connect``, and say what came out. Raises UserError.

    ``keys`` is a folder of a consumer's keys, for a feed that is encrypted.
    """
    own_keys = consumer_keys(keys) if keys else None
    before = check_place(options, headless)
    decoder = open_decoder(options.engine, Path(options.model), sampler=options.sampler)
    if decoder.engine.mode:
        console.print(f"the {options.engine} engine runs {decoder.engine.mode}", highlight=False, soft_wrap=True)
    spaces = spaces_of(decoder, options.engine, Path(options.model))
    with ExitStack() as open_things:
        position = before.recording.position if before else None
        feed = open_things.enter_context(
            Feed(
                options.connect,
                "decoder",
                resume=position,
                keys=own_keys,
                wait_s=math.inf if options.wait_s is None else options.wait_s,
            )
        )
        reporter = open_things.enter_context(Reporter(console))
        window = None if headless else open_things.enter_context(closing(LiveWindow(TITLE)))

        def watch(view: View) -> None:
            reporter(view)
            if window is not None and window.open:
                window.show(view)
                if not window.open:
                    console.print(
                        "the window is closed: decoding goes on, and every picture is written", highlight=False
                    )

        try:
            folder, summary = decode(feed, decoder, options, watch, spaces, before=before)
        except KeyboardInterrupt as stop:
            for note in getattr(stop, "__notes__", ()):
                console.print(note, highlight=False, soft_wrap=True)
            raise
    for line in report(folder, summary):
        console.print(line, highlight=False, soft_wrap=True)
    if summary["recording"] != "complete":
        raise UserError(
            f"the run was decoded, but its recording {summary['recording']}: what {folder} holds is not the whole "
            "run; make room on that disk before the next one"
        )
    return folder, summary


def check_place(options: Options, headless: bool) -> Earlier | None:
    """The unfinished decode in the folder, if there is one.

    UserError where the window or the folder cannot be had, before anything is waited for.
    """
    if not headless:
        require_display(os.environ)
    if options.out is None:
        return None
    before = None
    if options.out.is_dir():
        with alone_in(options.out):  # only for a look: the decode takes it again
            before = earlier(options.out)
    if before is None:
        check_empty(options.out)
    return before
