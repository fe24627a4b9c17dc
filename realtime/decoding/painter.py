"""Paints windows one at a time, beside whoever receives them. Knows an engine and a clock, no run, no file.

Between the two is a slot for one window: who offers a window while the slot is taken pushes the older one
out, or waits until it is free.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynadiff.base.random import initial_noise
from dynadiff.engines.contract import Decoder, Engine, paint, sample
from realtime.decoding.stages import Window

Clock = Callable[[], float]  # seconds


@dataclass(frozen=True, eq=False)
class Job:
    """A window on its way to the painter."""

    window: Window
    line: dict[str, object]  # what is known of its volume so far, for volumes.jsonl
    received: float  # clock, s
    cleaned: float


@dataclass(frozen=True, eq=False)
class Painted:
    """What the painter gives back; durations in seconds."""

    job: Job
    picture: NDArray[np.uint8]
    stages: dict[str, float]
    latency: float  # volume received to picture ready


class Timed:
    """An engine that notes how long its calls took; all sampling steps count as one stage.

    On a GPU, calls return when they are queued, and the last one, ``render``, waits for all of them.
    """

    def __init__(self, engine: Engine, now: Clock) -> None:
        self._engine, self._now = engine, now
        self.seconds = {"encode": 0.0, "steps": 0.0, "render": 0.0}

    def encode(self, window: NDArray[np.float32]) -> Any:
        return self._note("encode", self._engine.encode, window)

    def step(self, latent: Any, tokens: Any, i: int) -> Any:
        return self._note("steps", self._engine.step, latent, tokens, i)

    def sample(self, noise: NDArray[np.float32], tokens: Any, steps: int) -> Any:
        return self._note("steps", sample, self._engine, noise, tokens, steps)

    def render(self, latent: Any) -> NDArray[np.uint8]:
        picture: NDArray[np.uint8] = self._note("render", self._engine.render, latent)
        return picture

    def _note(self, stage: str, call: Callable[..., Any], *arguments: Any) -> Any:
        began = self._now()
        result = call(*arguments)
        self.seconds[stage] += self._now() - began
        return result


class Painter:
    """One worker, and the slot in front of it. Its methods belong to one thread, painting to another."""

    def __init__(self, decoder: Decoder, seed: int, now: Clock) -> None:
        self._decoder, self._now = decoder, now
        self._noise = initial_noise(seed, decoder.manifest.latent_shape)
        self._worker = ThreadPoolExecutor(1, "painter")
        self._running: Future[Painted] | None = None
        self._slot: Job | None = None

    @property
    def full(self) -> bool:
        return self._slot is not None

    @property
    def idle(self) -> bool:
        return self._running is None and self._slot is None

    def offer(self, job: Job) -> Job | None:
        """Put a job into the slot; give back the older one that it pushed out."""
        pushed_out, self._slot = self._slot, job
        self._begin()
        return pushed_out

    def poll(self, timeout: float = 0.0) -> Painted | None:
        """The picture that was finished, if any, waiting up to ``timeout`` seconds for it.

        Whatever the engine raised is raised here.
        """
        if self._running is None or not wait([self._running], timeout).done:
            return None
        painted = self._running.result()
        self._running = None
        self._begin()
        return painted

    def close(self) -> None:
        self._worker.shutdown(cancel_futures=True)

    def _begin(self) -> None:
        if self._running is None and self._slot is not None:
            self._running, self._slot = self._worker.submit(self._paint, self._slot), None

    def _paint(self, job: Job) -> Painted:
        began = self._now()
        engine = Timed(self._decoder.engine, self._now)
        picture = paint(engine, job.window.values, self._noise, self._decoder.manifest.steps)
        stages = {"clean": job.cleaned - job.received, "wait": began - job.cleaned, **engine.seconds}
        return Painted(job, picture, stages, self._now() - job.received)
