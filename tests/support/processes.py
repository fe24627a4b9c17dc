"""One generated schedule with real processes and sockets: a feed, a bad link, consumers, SIGKILL and SIGINT.

Everything is decided by the seed except how the operating system lets the processes run. Consumers write recordings;
``role0`` confirms last, so that the feed is there for whoever comes late. What was found lies in the ``Outcome``.
"""

import json
import multiprocessing
import os
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np

from realtime.feed.connection import Feed
from realtime.feed.recording import Recording, RecordingWriter
from realtime.feed.wire import RunEnd, RunStart
from replay.faults import Faults, relay
from replay.server import serve
from support.ports import held_address
from support.runs import messages, timed

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["realtime.feed.connection", "realtime.feed.recording", "replay.faults", "replay.server"]
)
STEP_S, LIMIT_S = 0.004, 60.0
Process = multiprocessing.process.BaseProcess


@dataclass
class Schedule:
    """What happens, in seconds after the first consumer has begun to record."""

    seed: int
    consumers: int
    volumes: int
    faults: Faults
    joins: dict[int, float] = field(default_factory=dict)  # of all consumers but the first
    kills: list[tuple[float, int, float]] = field(default_factory=list)  # when, whom, for how long
    leaves: tuple[float, int] | None = None  # when and who, for good
    restart: tuple[float, int] | None = None  # when the feed gets which signal, and another run begins

    @property
    def runs(self) -> int:
        return 1 + (self.restart is not None)

    @property
    def staying(self) -> list[int]:
        return [k for k in range(self.consumers) if self.leaves is None or k != self.leaves[1]]


def schedule(seed: int) -> Schedule:
    rng = np.random.default_rng(seed)
    consumers = int(rng.integers(2, 4))
    share = [float(rng.choice([0.0, 0.01, 0.05])) for _ in range(4)]
    made = Schedule(seed, consumers, int(rng.integers(60, 160)), Faults(*share, late_s=0.05))
    made.joins = {k: float(rng.uniform(0, 0.8)) for k in range(1, consumers)}
    if consumers == 3 and rng.random() < 0.4:
        made.leaves = (float(rng.uniform(0.1, 0.4)), 2)
        made.joins[2] = 0.0
    if rng.random() < 0.5:
        made.restart = (float(rng.uniform(0.4, 0.7)), int(rng.choice([signal.SIGKILL, signal.SIGINT])))
    made.kills = [
        (float(rng.uniform(0, 1.0)), int(rng.choice(made.staying)), float(rng.uniform(0, 0.3)))
        for _ in range(rng.integers(1, 4))
    ]
    return made


@dataclass
class Outcome:
    """What was left when all had ended."""

    schedule: Schedule
    recorded: dict[tuple[int, str], list[str]]  # digests of what consumer k has of a run
    feed: int | None  # exit code of the feed of the last run
    exits: dict[int, int | None]  # of the consumers
    kills: int
    counted: Counter[str]  # by the consumers that came to the end
    struck: Counter[str]  # by the link


def played(seed: int, folder: Path) -> Outcome:
    """Play a schedule; a feed that is begun again has the address of the one before."""
    with held_address() as served, held_address() as bad:
        return _Play(schedule(seed), folder, served, bad).run()


class _Play:
    def __init__(self, plan: Schedule, folder: Path, served: str, bad: str) -> None:
        self.plan, self.folder, self.served, self.bad = plan, folder, served, bad
        self.stop, self.kills = CONTEXT.Event(), 0
        self.consumers: dict[int, Process] = {}
        self.gone: set[int] = set()

    def run(self) -> Outcome:
        plan, link = (
            self.plan,
            _started(_link, self.served, self.bad, self.plan.faults, self.plan.seed, self.stop, self.folder),
        )
        self.feed = _started(_feed, self.served, "u0", plan.volumes, 1)
        self.come(0)
        try:
            _wait_for(lambda: (self.folder / "0" / "u0.rec").exists())
            begun = time.monotonic()
            for due, action in sorted(self.actions(), key=lambda item: item[0]):
                time.sleep(max(0.0, begun + due - time.monotonic()))
                action()
            for k in plan.staying:
                if k:
                    self.consumers[k].join(LIMIT_S)
            (self.folder / "others-have-it").touch()
            self.consumers[0].join(LIMIT_S)
            self.feed.join(LIMIT_S)
        finally:
            self.stop.set()
            link.join(LIMIT_S)
            for process in [self.feed, link, *self.consumers.values()]:
                process.kill()
        return self.outcome()

    def actions(self):
        plan = self.plan
        yield from ((at, lambda k=k: self.come(k)) for k, at in plan.joins.items())
        for at, k, away in plan.kills:
            yield at, lambda k=k: self.kill(k)
            yield at + away, lambda k=k: self.come(k)
        if plan.leaves:
            yield plan.leaves[0], lambda: self.leave(plan.leaves[1])
        if plan.restart:
            yield plan.restart[0], lambda: self.restart(plan.restart[1])

    def come(self, k: int) -> None:
        if k in self.gone or (k in self.consumers and self.consumers[k].is_alive()):
            return
        (self.folder / str(k)).mkdir(exist_ok=True)
        self.consumers[k] = _started(_consume, self.bad, k, self.folder, f"u{self.plan.runs - 1}")

    def kill(self, k: int) -> None:
        if k in self.consumers and self.consumers[k].is_alive():
            os.kill(self.consumers[k].pid, signal.SIGKILL)
            self.consumers[k].join()
            self.kills += 1

    def leave(self, k: int) -> None:
        self.kill(k)
        self.gone.add(k)

    def restart(self, how: int) -> None:
        if self.feed.is_alive():
            os.kill(self.feed.pid, how)
        self.feed.join(LIMIT_S)
        self.feed = _started(_feed, self.served, "u1", self.plan.volumes, len(self.plan.staying))

    def outcome(self) -> Outcome:
        counted: Counter[str] = Counter()
        for path in self.folder.glob("*/counted.json"):
            counted.update(json.loads(path.read_text()))
        return Outcome(
            self.plan,
            {(int(path.parent.name), path.stem): _digests(path) for path in self.folder.glob("*/*.rec")},
            self.feed.exitcode,
            {k: process.exitcode for k, process in self.consumers.items()},
            self.kills,
            counted,
            Counter(json.loads((self.folder / "struck.json").read_text())),
        )


def _started(target, *arguments) -> Process:
    process = CONTEXT.Process(target=target, args=arguments, daemon=True)
    process.start()
    return process


def _wait_for(condition) -> None:
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def _digests(path: Path) -> list[str]:
    from support.runs import digests

    return digests(Recording(path))


# The processes.


def _feed(bind: str, uid: str, volumes: int, wait_for: int) -> None:
    try:
        serve(timed(messages(uid, volumes), STEP_S), bind, wait_for=wait_for)
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _link(connect: str, bind: str, faults: Faults, seed: int, stop: Event, folder: Path) -> None:
    struck = relay(connect, bind, faults, seed, stop=stop.is_set)
    (folder / "struck.json").write_text(json.dumps(struck))


def _read(path: Path) -> Recording | None:
    """A recording, read to its end."""
    if not path.exists():
        return None
    recording = Recording(path)
    for _ in recording:
        pass
    return recording


def _consume(address: str, k: int, folder: Path, last: str) -> None:
    """Record run after run, beginning where the recordings end, until the last one is confirmed."""
    own = folder / str(k)
    path = max(own.glob("*.rec"), default=own / "none")
    state = _read(path)
    with Feed(address, f"role{k}", resume=state.position if state else None) as feed:
        feed._retry_s = 1.2
        recorder = RecordingWriter(path, after=state) if state else None
        message = state.position.end if state else None
        while not (isinstance(message, RunEnd) and message.run_uid == last):
            message = feed.receive(1.0)
            if isinstance(message, RunStart):
                path = own / f"{message.run_uid}.rec"
                recorder = RecordingWriter(path, after=_read(path))
            if message is not None and recorder is not None:
                recorder.write(message)
            if isinstance(message, RunEnd) and message.run_uid != last:
                feed.confirm(message)
        while k == 0 and not (folder / "others-have-it").exists():
            feed.receive(0.02)
        feed.confirm(message)
        counted = {name: getattr(feed, name) for name in ("duplicates", "gaps", "damaged", "reconnects")}
    (own / "counted.json").write_text(json.dumps(counted))
