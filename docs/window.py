"""The picture of the live window: decodes the demo's run over its feed and keeps what the window shows at one moment.

python docs/window.py [VOLUME]

Over a minute, at the demo's own speed. The window shows what `compose` draws and nothing else, so no display is needed.
"""

import sys
import tempfile
from pathlib import Path

from dynadiff.assets import EMBEDDED
from dynadiff.base import commands
from dynadiff.base.errors import UserError
from dynadiff.base.numbers import number
from dynadiff.engines.open import open_decoder
from dynadiff.phantom.tree import ensure_phantom
from realtime.decoding.decode import decode
from realtime.decoding.options import Options
from realtime.decoding.spaces import spaces_of
from realtime.demo import RUN, SESSION, SUBJECT, feed_process
from realtime.feed.connection import Feed
from realtime.records.decode_folder import write_png
from realtime.screen.display import View, compose

PICTURE = Path(__file__).parent / "window.png"
SPEED = 4.0  # of the demo
VOLUME = 188  # newest of the window: far into the run, and what was seen can be named in what was painted


def view_at(volume: int) -> View:
    """The last view of the picture whose window ends with that volume, of the decoder and the judge that ship.

    UserError where there is no such picture.
    """
    decoder, kept = open_decoder("onnx", EMBEDDED), View()

    def watch(view: View) -> None:
        nonlocal kept
        if view.moment is not None and view.moment.volume == volume:
            kept = view

    root = ensure_phantom(SUBJECT, (SESSION,), (RUN,))
    with tempfile.TemporaryDirectory() as made, feed_process(root, SPEED) as address, Feed(address, "decoder") as feed:
        options = Options(model=str(EMBEDDED), connect=address, out=Path(made) / "decode")
        decode(feed, decoder, options, watch, spaces_of(decoder, "onnx", EMBEDDED))
    if kept.moment is None:
        raise UserError(f"no picture was painted with volume {volume}: name another one of the demo's run")
    return kept


def main() -> None:
    write_png(PICTURE, compose(view_at(number("VOLUME", sys.argv[1]) if sys.argv[1:] else VOLUME)))


if __name__ == "__main__":
    commands.run(main)
