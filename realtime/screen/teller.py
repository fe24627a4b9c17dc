"""Says lines in the terminal from a thread of its own, so that whoever has something to say neither waits nor fails.

A terminal that is paused, or one that has gone, must not hold up a run. Knows lines and a stream.
"""

import os
import sys
import threading
from queue import SimpleQueue
from typing import Self, TextIO

PATIENCE_S = 2.0  # for the last lines to be taken


class Teller:
    """Calling it with a line returns at once. Lines that nobody can read any more are dropped."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._lines: SimpleQueue[str | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._tell, name="teller", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.put(None)
        self._thread.join(PATIENCE_S)

    def __call__(self, line: str) -> None:
        self._lines.put(line)

    def _tell(self) -> None:
        while (line := self._lines.get()) is not None:
            try:
                self._stream.write(f"{line}\n")
                self._stream.flush()
            except OSError:  # whoever read it has gone
                return _into_nothing(self._stream)


def _into_nothing(stream: TextIO) -> None:
    """What still lies in the stream must not be an error when the process ends."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, stream.fileno())
    os.close(nothing)
