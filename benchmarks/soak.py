"""Twelve runs over a bad link to three consumers, one of which is killed in every run: is anything lost?

    python benchmarks/soak.py [--runs 12] [--volumes 226] [--speed 50] [--faults 0.01]

Feed, link and consumers are processes of their own. Every message is lost, doubled, damaged or delayed with the given
probability, both ways. Each consumer writes a recording; in each run one of them gets SIGKILL at a random volume and
another process goes on with its recording. At the end every recording is read and compared with what was served.
"""

import argparse
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Event
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from realtime.feed.connection import Feed
from realtime.feed.order import Position
from realtime.feed.recording import Recording, RecordingWriter
from realtime.feed.wire import Message, RunEnd, RunStart, Volume, digest_of, pack
from replay.faults import Faults, relay
from replay.server import serve

SHAPE, TR, CONSUMERS = (40, 40, 20), 4 / 3, 3  # 64 kB in int16
ANY_PORT = "tcp://127.0.0.1:*"
CONTEXT = multiprocessing.get_context("spawn")


def run_messages(number: int, volumes: int, speed: float) -> Iterator[tuple[float, Message]]:
    """A run of noise, paced."""
    noise = np.random.default_rng(number)
    affine = tuple(tuple(float(row == column) for column in range(4)) for row in range(4))
    position, uid = Position(), f"run-{number:02d}"
    start = RunStart(
        run_uid=uid, name=uid, subject="noise", session=1, run=number + 1, tr=TR, n_volumes=volumes,
        shape=SHAPE, dtype="<i2", affine=affine, source="replayed",
    )  # fmt: skip
    position = position.after(start, digest_of(pack(start)))
    yield 0.0, start
    for index in range(volumes):
        end = (index + 1) * TR
        data = np.asfortranarray(noise.integers(0, 3000, SHAPE).astype("<i2"))
        volume = Volume(seq=index + 1, run_uid=uid, index=index, t_acquired=end, data=data)
        position = position.after(volume, digest_of(pack(volume)))
        yield end / speed, volume
    yield volumes * TR / speed, position.ending("complete")


def feed(where: "SimpleQueue[str]", runs: int, volumes: int, speed: float, memory: "SimpleQueue[float]") -> None:
    """All runs at one address, which is said ``where`` somebody waits for it."""
    bind = ANY_PORT

    def ready(address: str) -> None:
        nonlocal bind
        if bind == ANY_PORT:
            where.put(address)
        bind = address

    for number in range(runs):
        serve(run_messages(number, volumes, speed), bind, wait_for=CONSUMERS, ready=ready)
        memory.put(megabytes(os.getpid()))


def link(connect: str, where: "SimpleQueue[str]", share: float, stop: Event) -> None:
    relay(connect, ANY_PORT, Faults(share, share, share, share), seed=0, stop=stop.is_set, ready=where.put)


def consume(address: str, role: str, folder: Path, runs: int, faults: "SimpleQueue[tuple[int, int, int, int]]") -> None:
    """Record run after run, beginning where the recordings in the folder end."""
    state = resumed(folder)
    with Feed(address, role, resume=state.position if state else None) as source:
        recorder: RecordingWriter | None = None
        if state is not None and state.position.end is None:
            recorder = RecordingWriter(state.path, after=state)
        elif state is not None and state.position.end is not None:  # it may have died before it could confirm
            source.confirm(state.position.end)
        while len(ended(folder)) < runs:
            message = source.receive(1.0)
            if isinstance(message, RunStart):
                recorder = RecordingWriter(folder / f"{message.run_uid}.rec")
            if message is not None and recorder is not None:
                recorder.write(message)
            if isinstance(message, RunEnd) and recorder is not None:
                recorder.close()
                (folder / f"{message.run_uid}.ended").touch()
                source.confirm(message)
        faults.put((source.duplicates, source.gaps, source.damaged, source.reconnects))


def ended(folder: Path) -> list[Path]:
    return list(folder.glob("*.ended"))


def resumed(folder: Path) -> Recording | None:
    """The newest recording, read to its end."""
    paths = sorted(folder.glob("*.rec"))
    if not paths:
        return None
    recording = Recording(paths[-1])
    for _ in recording:
        pass
    if recording.position.end is not None:  # it died between the end and its mark
        (folder / f"{paths[-1].stem}.ended").touch()
    return recording


def megabytes(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> None:
    """Run and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=12)
    parser.add_argument("--volumes", type=int, default=226)
    parser.add_argument("--speed", type=float, default=50.0)
    parser.add_argument("--faults", type=float, default=0.01)
    options = parser.parse_args()
    where: SimpleQueue[str] = CONTEXT.SimpleQueue()
    memory: SimpleQueue[float] = CONTEXT.SimpleQueue()
    faults: SimpleQueue[tuple[int, int, int, int]] = CONTEXT.SimpleQueue()
    stop, rng, began, kills = CONTEXT.Event(), np.random.default_rng(0), time.monotonic(), 0
    with TemporaryDirectory() as temporary:
        folders = [Path(temporary) / f"consumer-{k}" for k in range(CONSUMERS)]
        for folder in folders:
            folder.mkdir()

        def consumer(k: int) -> "multiprocessing.process.BaseProcess":
            arguments = (address, f"consumer-{k}", folders[k], options.runs, faults)
            process = CONTEXT.Process(target=consume, args=arguments)
            process.start()
            return process

        feeding = CONTEXT.Process(target=feed, args=(where, options.runs, options.volumes, options.speed, memory))
        feeding.start()
        linking = CONTEXT.Process(target=link, args=(where.get(), where, options.faults, stop))
        linking.start()
        address = where.get()
        consumers = [consumer(k) for k in range(CONSUMERS)]
        sizes: list[list[float]] = []
        for number in range(options.runs):
            victim, size = number % CONSUMERS, int(rng.uniform(0.1, 0.9) * options.volumes) * int(2 * np.prod(SHAPE))
            path = folders[victim] / f"run-{number:02d}.rec"
            while not path.exists() or path.stat().st_size < size:
                time.sleep(0.005)
            os.kill(consumers[victim].pid or 0, signal.SIGKILL)
            consumers[victim].join()
            kills += 1
            consumers[victim] = consumer(victim)
            others = [megabytes(c.pid or 0) for k, c in enumerate(consumers) if k != victim]
            sizes.append([memory.get(), megabytes(linking.pid or 0), max(others)])
        feeding.join()
        for process in consumers:
            process.join(30)
        stop.set()
        linking.join()
        digests = []
        for folder in folders:
            for path in sorted(folder.glob("*.rec")):
                recording = Recording(path)
                volumes = sum(isinstance(message, Volume) for message in recording)
                digests.append((path.stem, volumes, recording.position.end is not None, recording.position.digest))
        total = sum(volumes for _, volumes, _, _ in digests)
        whole = sum(complete and volumes == options.volumes for _, volumes, complete, _ in digests)
        counted = np.sum([faults.get() for _ in consumers], axis=0)
    differing = len({(name, digest) for name, _, _, digest in digests}) - options.runs
    met = zip(counted, ("doubled", "gaps", "damaged", "reconnects"), strict=True)
    after_each = [" ".join(f"{size:.0f}" for size in column) for column in zip(*sizes, strict=True)]
    lines = [
        f"{options.runs} runs of {options.volumes} volumes, {CONSUMERS} consumers, {options.faults:.0%} of each fault, "
        f"{options.speed:g}x: {time.monotonic() - began:.0f} s, {kills} kills",
        f"volumes recorded: {total} of {options.runs * options.volumes * CONSUMERS}; whole recordings: {whole} of "
        f"{options.runs * CONSUMERS}; digests that differ: {differing}",
        "met by the consumers that were alive at the end: " + ", ".join(f"{n} {name}" for n, name in met),
        f"feed's exit code {feeding.exitcode}",
        f"memory in MB after each run: feed {after_each[0]}; link {after_each[1]}; largest consumer {after_each[2]}",
    ]  # fmt: skip
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
