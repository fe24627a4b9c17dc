"""``bench --check``: an engine, built if there is none, held against PyTorch in what it paints and how fast."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from dynadiff.base.errors import UserError
from dynadiff.base.random import initial_noise
from dynadiff.engines.contract import MANIFEST, Decoder, Encoded, Engine, paint
from dynadiff.engines.open import engine_home, open_decoder, require_gpu
from dynadiff.engines.parity import Error, compare, noise_windows
from dynadiff.engines.probe import fetch

PAIRS, WARM = 15, 2  # of runs of both engines in turn, after some that are not counted
PAUSE_S = 0.02  # before each: the other engine's threads go on spinning for a while
Times = dict[str, dict[str, float]]


@contextmanager
def built(kind: str, model: Path, console: Console) -> Iterator[Path]:
    """The folder to open: the one given, or that of an engine built for the time of the check.

    Another process builds: what a builder has in memory is not there when the engine is timed.
    """
    if kind in ("torch", "torch-compiled") or (engine_home(kind, model) / MANIFEST).exists():
        yield model
        return
    if kind != "onnx":
        require_gpu(kind)
    with TemporaryDirectory(prefix="dynadiff-") as made:
        out = Path(made) / kind
        console.print(f"no {kind} engine in {model}: building one for this check", highlight=False, soft_wrap=True)
        command = "from dynadiff.cli.main import main; main()"
        arguments = ["export", kind, "--model", str(model), "--out", str(out)]
        done = subprocess.run(
            [sys.executable, "-c", command, *arguments], stderr=subprocess.PIPE, text=True, check=False
        )
        if done.returncode == 2 and done.stderr.splitlines():
            raise UserError(done.stderr.splitlines()[-1].removeprefix("error: "))
        if done.returncode:
            raise RuntimeError(f"dynadiff export {kind} ended with {done.returncode}: {done.stderr}")
        yield out


def check(decoder: Decoder, model: Path, console: Console) -> tuple[list[Error], Times]:
    """Compare and time, and print both. UserError where the engine is not the same decoder.

    ``model`` is the model's folder, or an engine's inside of it.
    """
    home = next((folder for folder in (model, model.parent) if (folder / "model.json").is_file()), None)
    if home is None:
        raise UserError(f"--check compares with PyTorch, and {model} is not in a model folder: give one with --model")
    reference = open_decoder("torch", home).engine
    errors = compare(reference, decoder)
    console.print(_error_table(errors, decoder.manifest.kind))
    times = paired(reference, decoder)
    console.print(_time_table(times, decoder.manifest.kind))
    for error in errors:
        if not error.within:
            raise UserError(f"the engine is not the decoder it was made from, see {error.part}: export it again")
    return errors, times


def paired(reference: Engine, other: Decoder, pairs: int = PAIRS) -> Times:
    """Milliseconds of each network and of a whole picture, both engines in turn; with what copying out takes."""
    manifest = other.manifest
    window, noise = noise_windows(manifest, 1)[0], initial_noise(0, manifest.latent_shape)
    encoded = Encoded(fetch(reference.encode(window).tokens))
    calls: dict[str, Callable[[Engine], Any]] = {
        "brain module": lambda engine: fetch(engine.encode(window).tokens),
        "one step": lambda engine: fetch(engine.step(noise, encoded, 0)),
        "VAE decoder": lambda engine: engine.render(noise),
        "whole picture": lambda engine: paint(engine, window, noise),
    }
    return {part: _pair(call, reference, other.engine, pairs) for part, call in calls.items()}


def _pair(call: Callable[[Engine], Any], reference: Engine, other: Engine, pairs: int) -> dict[str, float]:
    seconds = np.empty((WARM + pairs, 2))
    for row in seconds:
        for column, engine in enumerate((reference, other)):
            time.sleep(PAUSE_S)
            began = time.perf_counter()
            call(engine)
            row[column] = time.perf_counter() - began
    torch_ms, engine_ms = np.median(seconds[WARM:], axis=0) * 1000
    ratio = np.median(seconds[WARM:, 0] / seconds[WARM:, 1])
    return {"torch": round(torch_ms, 3), "engine": round(engine_ms, 3), "ratio": round(float(ratio), 3)}


def _error_table(errors: list[Error], kind: str) -> Table:
    table = Table(title=f"error of the {kind} engine against torch in float32", title_justify="left")
    for name in ("part", "reference up to", "largest", "mean", "allowed"):
        table.add_column(name, justify="left" if name == "part" else "right")
    for e in errors:
        of = "mean" if e.scale == 255 else "largest"
        table.add_row(e.part, f"{e.scale:.4g}", f"{e.largest:.2g}", f"{e.mean:.2g}", f"{of} {e.allowed:.2g}")
    return table


def _time_table(times: Times, kind: str) -> Table:
    table = Table(title=f"median of {PAIRS} runs in turn, ms", title_justify="left")
    for name in ("part", "torch", kind, "torch / engine"):
        table.add_column(name, justify="left" if name == "part" else "right")
    for part, row in times.items():
        table.add_row(part, f"{row['torch']:.2f}", f"{row['engine']:.2f}", f"{row['ratio']:.2f}")
    return table
