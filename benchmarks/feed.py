"""How long a volume takes from a feed to a consumer in another process, over TCP on this machine.

    python benchmarks/feed.py [--volumes 226] [--step 0.1]

Prints median, p95, p99 and the greatest one-way latency in ms: from just before the feed packs the volume to
when a consumer holds the checked array, both on the clock that the processes of a machine share. Plain and
encrypted (CURVE), to one consumer and to three.
"""

import argparse
import multiprocessing
import sys
import time
from collections.abc import Iterator
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from realtime.feed.connection import Feed
from realtime.feed.keys import consumer_keys, feed_keys, make_keys
from realtime.feed.order import Position
from realtime.feed.wire import Message, RunEnd, RunStart, Volume, digest_of, pack
from replay.server import serve

CASES = [("<i2", n, link) for link in ("plain", "CURVE") for n in (1, 3)] + [("<f4", 1, "plain")]
SHAPE = (81, 104, 83)  # of NSD at 1.8 mm, 1.40 MB in int16


def run(n: int, step: float, dtype: str) -> Iterator[tuple[float, Message]]:
    """A run of noise, a volume each ``step`` seconds."""
    chance = np.random.default_rng(0)
    noise = [np.asfortranarray(chance.integers(0, 3000, SHAPE).astype(dtype)) for _ in range(4)]
    affine = tuple(tuple(float(row == column) for column in range(4)) for row in range(4))
    position = Position()
    start = RunStart(
        run_uid="benchmark", name="benchmark", subject="noise", session=1, run=1, tr=max(step, 1e-3),
        n_volumes=n, shape=SHAPE, dtype=dtype, affine=affine, source="replayed",
    )  # fmt: skip
    position = position.after(start, digest_of(pack(start)))
    yield 0.0, start
    for index in range(n):
        end = (index + 1) * step
        data = noise[index % len(noise)]
        volume = Volume(seq=index + 1, run_uid="benchmark", index=index, t_acquired=end, data=data)
        position = position.after(volume, digest_of(pack(volume)))
        yield end, volume
    yield n * step, position.ending("complete")


def consume(address: str, keys: Path | None, latencies: "SimpleQueue[list[float]]") -> None:
    """Receive a run and give its latencies in seconds."""
    seen = []
    with Feed(address, "benchmark", keys=consumer_keys(keys) if keys else None) as feed:
        while not isinstance(message := feed.receive(10), RunEnd):
            if isinstance(message, Volume):
                seen.append(time.time() - message.t_sent)
        feed.confirm(message)
    latencies.put(seen)


def measure(n: int, step: float, dtype: str, keys: Path | None, consumers: int) -> list[float]:
    """One-way latencies in ms, of all consumers."""
    context = multiprocessing.get_context("spawn")
    latencies: SimpleQueue[list[float]] = context.SimpleQueue()
    children = []

    def ready(address: str) -> None:
        for _ in range(consumers):
            children.append(context.Process(target=consume, args=(address, keys, latencies)))
            children[-1].start()

    own = feed_keys(keys) if keys else None
    serve(run(n, step, dtype), "tcp://127.0.0.1:*", keys=own, wait_for=consumers, ready=ready)
    seen = [value for _ in children for value in latencies.get()]
    for child in children:
        child.join()
    return [1000 * value for value in seen]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--volumes", type=int, default=226)
    parser.add_argument("--step", type=float, default=0.1, help="seconds between volumes")
    options = parser.parse_args()
    lines = [f"{'volume':<24}{'MB':>6}{'consumers':>11}{'link':>8}{'p50':>8}{'p95':>8}{'p99':>8}{'max':>8}  ms"]
    with TemporaryDirectory() as folder:
        keys = Path(folder)
        make_keys(keys, ["decoder"])
        for dtype, consumers, link in CASES:
            ms = measure(options.volumes, options.step, dtype, keys if link == "CURVE" else None, consumers)
            size = np.prod(SHAPE) * np.dtype(dtype).itemsize / 1e6
            figures = "".join(f"{value:8.2f}" for value in [*np.percentile(ms, [50, 95, 99]), max(ms)])
            volume = "×".join(map(str, SHAPE)) + " " + dtype
            lines.append(f"{volume:<24}{size:6.2f}{consumers:>11}{link:>8}{figures}")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
