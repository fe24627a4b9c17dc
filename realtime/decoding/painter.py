"""Paints windows one at a time, beside whoever receives them. Knows an engine and a clock, no run, no file.

Between the two is a slot for one window: who offers a window while the slot is taken pushes the older one
out, or waits until it is free.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dynadiff.base.random import initial_noise
from dynadiff.engines.contract import Decoder, Engine
from dynadiff.signal.windows import Window

Clock = Callable[[], float]  # seconds


@dataclass(frozen=True, eq=False)
class Painted:
    """What the painter gives back; times on its clock, durations in seconds."""

    window: Window
    picture: NDArray[np.uint8]
    began: float
    ready: float
    stages: dict[str, float]


def paint_timed(
    engine: Engine, window: NDArray[np.float32], noise: NDArray[np.float32], now: Clock
) -> tuple[NDArray[np.uint8], dict[str, float]]:
    """A picture as `dynadiff.engines.contract.paint` makes it, and how long the engine's calls took, in seconds.

    On a GPU, calls return when they are queued, and the last one, ``render``, waits for all of them.
    """
    times = [now()]
    encoded = engine.encode(window)
    times.append(now())
    latent = engine.sample(noise, encoded)
    times.append(now())
    picture = engine.render(latent)
    times.append(now())
    return picture, dict(zip(("encode", "steps", "render"), np.diff(times).tolist(), strict=True))


class Painter:
    """One worker, and the slot in front of it. Its methods belong to one thread, painting to another."""

    def __init__(self, decoder: Decoder, seed: int, now: Clock) -> None:
        self._decoder, self._now = decoder, now
        self._noise = initial_noise(seed, decoder.manifest.latent_shape)
        self._worker = ThreadPoolExecutor(1, "painter")
        self._running: Future[Painted] | None = None
        self._slot: Window | None = None

    @property
    def full(self) -> bool:
        return self._slot is not None

    @property
    def idle(self) -> bool:
        return self._running is None and self._slot is None

    def offer(self, window: Window) -> Window | None:
        """Put a window into the slot; give back the older one that it pushed out."""
        pushed_out, self._slot = self._slot, window
        self._begin()
        return pushed_out

    def poll(self, timeout: float = 0.0) -> Painted | None:
        """The picture that was finished, if any, waiting up to ``timeout`` seconds for it.

        Whatever the engine raised is raised here, once; the painter is idle from then on.
        """
        if self._running is None or not wait([self._running], timeout).done:
            return None
        done, self._running = self._running, None
        if done.exception() is not None:
            self._slot = None
        painted = done.result()
        self._begin()
        return painted

    def close(self) -> None:
        self._worker.shutdown(cancel_futures=True)

    def _begin(self) -> None:
        if self._running is None and self._slot is not None:
            self._running, self._slot = self._worker.submit(self._paint, self._slot), None

    def _paint(self, window: Window) -> Painted:
        began = self._now()
        picture, stages = paint_timed(self._decoder.engine, window.values, self._noise, self._now)
        return Painted(window, picture, began, self._now(), stages)
