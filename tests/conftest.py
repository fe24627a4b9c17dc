"""What the tests of several packages share: a small subject, an engine that is three linear maps, and the commands."""

# First of all, since what numpy and torch find when they are imported stays: two workers of pytest, or a test and a
# process that it starts, are already as many as there are cores, and threads beyond that wait for each other, spinning.
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import gc
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from dynadiff.engines.contract import Decoder, Encoded, Engine, Manifest
from dynadiff.engines.sampler import ddim
from dynadiff.networks.schedule import Schedule
from dynadiff.recordings.masks import mask_digest
from dynadiff.recordings.run import Event, Run
from dynadiff.signal.cleaning import Cleaning

# Who starts the tests in the background of a script makes them ignore Ctrl-C, and every process that they interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """What was imported stays: the garbage collector need not look through all of torch after every training."""
    gc.collect()
    gc.freeze()


SHAPE = (7, 6, 5)
PICTURE = 16  # pixels


class LinearEngine(Engine):
    """Paints what a linear map of the window says; ``gate`` holds every picture back until it is set."""

    def __init__(self, voxels: int, length: int) -> None:
        rng = np.random.default_rng(0)
        self._tokens = rng.standard_normal((8, voxels * length)).astype(np.float32)
        self._update = rng.standard_normal((4 * 4 * 4, 8)).astype(np.float32)
        self._pixels = rng.standard_normal((PICTURE * PICTURE * 3, 4 * 4 * 4)).astype(np.float32)
        self.gate = threading.Event()
        self.gate.set()
        self.windows: list[np.ndarray] = []

    def encode(self, window):
        self.gate.wait(30)
        self.windows.append(window.copy())
        return Encoded(self._tokens @ window.ravel() / np.float32(window.size**0.5))

    def step(self, latent, encoded, i):
        return 0.9 * latent + 0.1 * (self._update @ encoded.tokens).reshape(latent.shape)

    def render(self, latent):
        values = (self._pixels @ latent.ravel()).reshape(PICTURE, PICTURE, 3)
        return np.clip(128 + 12 * values, 0, 255).astype(np.uint8)


def linear_decoder(mask: np.ndarray, **changes: object) -> Decoder:
    """A decoder for the subject with that mask, of three steps; keywords change its manifest."""
    voxels = int(mask.sum())
    known = {
        "kind": "onnx", "subject": "01", "tr": 4 / 3, "voxels": voxels, "mask_sha256": mask_digest(mask),
        "window_offset": 3, "window_length": 6, "cleaning": Cleaning(), "latent_shape": (4, 4, 4),
        "picture_size": PICTURE, "sampler": ddim(Schedule(), 3, 1.0), "schedule": Schedule(), "files": {},
    }  # fmt: skip
    manifest = Manifest(**(known | changes))
    engine = LinearEngine(voxels, manifest.window_length)
    engine.use(manifest.sampler)
    return Decoder(engine, manifest, mask, np.eye(4))


def small_mask() -> np.ndarray:
    return np.random.default_rng(3).uniform(size=SHAPE) < 0.3


def small_run(n_volumes: int = 30, seed: int = 1, events: bool = True, **changes: object) -> Run:
    """A short run of the small subject, with a picture every third volume; keywords change it."""
    series = np.random.default_rng(seed).normal(1000, 20, (n_volumes, *SHAPE)).astype("<i2")
    rows = range(3, n_volumes - 9, 3) if events else ()
    known = {
        "name": "sub-01_ses-nsd01_task-nsdcore_run-12", "subject": "01", "session": 1, "run": 12, "tr": 4 / 3,
        "shape": SHAPE, "affine": np.eye(4), "n_volumes": n_volumes, "volumes": lambda: iter(series),
        "events": tuple(Event(row, 3, f"picture {row}", "cat") for row in rows), "picture": small_picture,
    }  # fmt: skip
    return Run(**(known | changes))


def small_picture(name: str) -> np.ndarray:
    return np.random.default_rng(int(name.split()[1])).integers(0, 256, (20, 20, 3), np.uint8)


@pytest.fixture
def run_command(monkeypatch, capfd) -> Callable[..., tuple[int, str, str]]:
    """Runs a command line in this process; gives its exit code and what it wrote to stdout and stderr."""

    def run(main: Callable[[], None], *arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [main.__module__, *map(str, arguments)])
        capfd.readouterr()  # what was written before is not the command's
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code
        return code, *capfd.readouterr()

    return run


@pytest.fixture
def realtime(run_command) -> Callable[..., tuple[int, str, str]]:
    from realtime.cli import main

    return partial(run_command, main)


@pytest.fixture
def dynadiff(run_command) -> Callable[..., tuple[int, str, str]]:
    from dynadiff.cli.main import main

    return partial(run_command, main)


@pytest.fixture(scope="session")
def phantom_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Gives a tree of the phantom's runs of these subjects and sessions, to be read only."""
    from support.phantoms import part_of

    base = tmp_path_factory.getbasetemp()
    whole = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "phantom-whole"  # one for all workers
    return lambda subjects, sessions, runs: part_of(whole, tmp_path_factory.mktemp("phantom"), subjects, sessions, runs)


@pytest.fixture
def mask() -> np.ndarray:
    return small_mask()


@pytest.fixture
def make_decoder(mask) -> Callable[..., Decoder]:
    return partial(linear_decoder, mask)


@pytest.fixture
def make_run() -> Callable[..., Run]:
    return small_run


@pytest.fixture
def files_of() -> Callable[[Path], dict[str, bytes]]:
    """The bytes of every reconstruction in the folder of a decode."""
    return lambda folder: {p.name: p.read_bytes() for p in sorted((folder / "reconstructions").glob("*.png"))}


@pytest.fixture
def interrupted(monkeypatch) -> None:
    """Somebody presses Ctrl-C when ten volumes have come to a decode."""
    from realtime.decoding import session

    class Keyboard(session.Reporter):
        presses = 1

        def __call__(self, view):
            super().__call__(view)
            if view.received == 10 and self.presses:
                self.presses = 0
                raise KeyboardInterrupt

    monkeypatch.setattr(session, "Reporter", Keyboard)


class ListedFeed:
    """A feed without a network: hands out messages, then nothing."""

    duplicates, gaps, damaged, reconnects = 1, 2, 3, 4
    trouble = ""

    def __init__(self, messages, before_each=lambda message: None) -> None:
        self._messages, self._before_each = list(messages), before_each
        self.confirmed = None

    def receive(self, timeout_s):
        if not self._messages:
            raise KeyboardInterrupt  # somebody at the keyboard has waited long enough
        self._before_each(self._messages[0])
        return self._messages.pop(0)

    def confirm(self, end):
        self.confirmed = end


@pytest.fixture
def listed_feed() -> type[ListedFeed]:
    return ListedFeed


@pytest.fixture
def free_address():
    """An address of this machine at which nothing listens, and which nobody else is given meanwhile."""
    from support.ports import held_address  # here, for processes load this file by its path

    with held_address() as address:
        yield address
