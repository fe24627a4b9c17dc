"""The whole way in one command: a phantom's run is served by a second process and decoded by this one."""

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

from rich.console import Console

from dynadiff.base.errors import UserError
from dynadiff.engines.open import check_engine
from dynadiff.phantom.tree import ensure_phantom
from realtime.decoding.options import Options
from realtime.decoding.session import check_place, decode_feed
from realtime.records.decode_folder import check_empty
from realtime.records.summary import Json
from replay.server import serve
from replay.sources import nsd_messages

SUBJECT, SESSION, RUN = 1, 1, 12  # a run that the embedded decoder was not trained on
ANY_PORT = "tcp://127.0.0.1:*"
STOP_S = 20.0  # for the second process to come to its end


def demo(options: Options, speed: float, headless: bool, console: Console) -> tuple[Path, Json]:
    """Serve and decode; the folder and the summary. Raises UserError, also for the second process."""
    check_engine(options.engine, Path(options.model))
    if check_place(options, headless) is not None and options.out is not None:
        check_empty(options.out)  # a demo is a new run and cannot go on with an unfinished one
    with console.status("making the phantom's run, once"):
        root = ensure_phantom(SUBJECT, (SESSION,), (RUN,))
    with feed_process(root, speed) as address:
        try:
            return decode_feed(replace(options, connect=address), headless, console)
        except KeyboardInterrupt:
            console.print("the feed of a demo ends with it: start another demo, with another --out", highlight=False)
            raise


@contextmanager
def feed_process(root: Path, speed: float) -> Iterator[str]:
    """The address at which a second process serves the run, which ends with the block."""
    here, there = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(there, root, speed), daemon=True)
    process.start()
    there.close()
    try:
        yield _said(here)
        process.join(STOP_S)
        if process.exitcode != 0:
            raise UserError(f"the feed's process did not end well: {_said(here)}")
    finally:
        process.terminate()
        process.join()
        here.close()


def _serve(pipe: Connection, root: Path, speed: float) -> None:
    """The second process. What goes wrong for the user there is said here."""
    try:
        serve(nsd_messages(root, SUBJECT, SESSION, RUN, speed), ANY_PORT, ready=pipe.send)
    except UserError as error:
        pipe.send(error)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _said(pipe: Connection) -> str:
    try:
        said = pipe.recv()
    except EOFError:
        raise UserError("the feed's process ended before it could say why: run the demo again") from None
    if isinstance(said, UserError):
        raise said
    return str(said)
