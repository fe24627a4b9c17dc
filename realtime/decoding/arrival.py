"""When a volume arrived, which is not when somebody had time to take it. Knows times; knows no socket.

A decoder that is busy leaves volumes lying, and a latency that counted from the taking would hide that. So arrival is
told from the time of sending, which every volume carries: the shortest way seen in this run is what the network takes
(and what the two clocks differ by), anything longer is a volume that lay waiting.
"""

from math import inf


class Arrivals:
    """Of one run; ``here`` (unix s) is since when this decoder has been there to receive."""

    def __init__(self, here: float) -> None:
        self._here = here
        self._shortest = inf

    def lag(self, t_sent: float, taken: float) -> float | None:
        """Seconds that a volume had lain waiting when it was taken (both unix s), 0 where its sending is not known.

        None where it was sent before this decoder was there: that it came late says nothing about the decoder. Clocks
        of two machines must agree for this alone, and to within seconds.
        """
        if t_sent == 0:
            return 0.0
        if t_sent < self._here:
            return None
        self._shortest = min(self._shortest, taken - t_sent)
        return taken - t_sent - self._shortest
