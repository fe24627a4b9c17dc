"""ONNX Runtime beside torch eager on the embedded decoder: each network and the whole picture, in one process.

    python benchmarks/engines.py [--threads 2] [--rounds 50]

Milliseconds of wall clock. In every round each engine does its turn, the order turning by one from round to round, so
that what else the machine does hits all of them; a ratio is the median over rounds of torch's time by the engine's,
with the quartiles of those ratios. "shipped" are the graphs in the package, the others are exported first, by opset.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dynadiff.assets import EMBEDDED
from dynadiff.base.random import initial_noise
from dynadiff.engines.contract import Decoder, paint
from dynadiff.engines.open import open_decoder
from exporters.choices import Graphs
from exporters.onnx import export_onnx

OPSETS = (20, 23)
Turn = Callable[[], object]


def turns(decoder: Decoder, window: NDArray[np.float32], noise: NDArray[np.float32]) -> dict[str, Turn]:
    """What is timed of one engine, on arrays of its own kind."""
    engine, steps = decoder.engine, decoder.manifest.steps
    encoded = engine.encode(window)
    latent: Any = engine.step(noise, encoded, 0)
    return {
        "brain module": lambda: engine.encode(window),
        "guided step": lambda: engine.step(latent, encoded, 1),
        "VAE decoder": lambda: engine.render(latent),
        f"picture, {steps} steps": lambda: paint(engine, window, noise),
    }


def measure(of_engine: dict[str, dict[str, Turn]], rounds: int) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Milliseconds by what and by engine, (rounds,)."""
    names = list(of_engine)
    times: dict[str, dict[str, list[float]]] = {what: {n: [] for n in names} for what in of_engine[names[0]]}
    for number in range(-2, rounds):  # two rounds to warm up
        for what, by_engine in times.items():
            for name in names[number % len(names) :] + names[: number % len(names)]:
                start = perf_counter()
                of_engine[name][what]()
                if number >= 0:
                    by_engine[name].append(1e3 * (perf_counter() - start))
    return {what: {name: np.array(ms) for name, ms in by_engine.items()} for what, by_engine in times.items()}


def table(times: dict[str, dict[str, NDArray[np.float64]]]) -> list[str]:
    lines = [f"{'':<20}{'engine':<16}{'median':>9}{'p90':>9}{'p99':>9}   torch / engine, median [quartiles]"]
    for what, by_engine in times.items():
        for name, ms in by_engine.items():
            median, p90, p99 = np.percentile(ms, [50, 90, 99])
            low, middle, high = np.percentile(by_engine["torch"] / ms, [25, 50, 75])
            ratio = "" if name == "torch" else f"   {middle:.2f} × [{low:.2f}, {high:.2f}]"
            lines.append(f"{what:<20}{name:<16}{median:>9.2f}{p90:>9.2f}{p99:>9.2f}{ratio}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=50)
    options = parser.parse_args()
    decoders = {"torch": open_decoder("torch", EMBEDDED, options.threads)}
    decoders["onnx, shipped"] = open_decoder("onnx", EMBEDDED, options.threads)
    with tempfile.TemporaryDirectory() as made:
        for opset in OPSETS:
            folder = Path(made) / str(opset)
            export_onnx(EMBEDDED, folder, Graphs(opset=opset))
            decoders[f"onnx, opset {opset}"] = open_decoder("onnx", folder, options.threads)
    manifest = decoders["torch"].manifest
    window = np.random.default_rng(0).standard_normal((manifest.voxels, manifest.window_length), np.float32)
    noise = initial_noise(0, manifest.latent_shape)
    times = measure({name: turns(decoder, window, noise) for name, decoder in decoders.items()}, options.rounds)
    sys.stdout.write("\n".join([f"{options.threads} threads, {options.rounds} rounds", *table(times)]) + "\n")


if __name__ == "__main__":
    main()
