"""What was on the screen of the scanner at a volume, as far as the feed has told. Knows rows and pictures."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dynadiff.recordings.run import Event


class Stimuli:
    """The events of a run, and those of their pictures that have come."""

    def __init__(self, events: Sequence[Event]) -> None:
        self._on_screen = {row: e for e in events for row in range(e.row, e.row + e.rows)}
        self._names = {event.picture for event in events}
        self._pictures: dict[str, NDArray[np.uint8]] = {}

    @property
    def known(self) -> bool:
        """Whether the feed says what was shown."""
        return bool(self._on_screen)

    def add(self, name: str, rgb: NDArray[np.uint8]) -> None:
        """Keep the picture of an event; what no event names would never be shown."""
        if name in self._names:
            self._pictures[name] = rgb

    def at(self, row: int) -> tuple[Event | None, NDArray[np.uint8] | None]:
        """What was on the screen during the volume of ``row``, and its picture (h, w, 3); None: not known."""
        event = self._on_screen.get(row)
        return event, self._pictures.get(event.picture) if event else None
