"""What a picture costs by its sampler: evaluations of the U-Net, FLOP at two sizes, milliseconds in ONNX Runtime.

    python benchmarks/samplers.py [--threads 1] [--rounds 50]

One engine of the embedded decoder with both step networks, exported for this, is given each table in turn, the order
turning by one from round to round, so that what else the machine does hits all of them. A ratio is the median over
rounds of the first table's time by the other's, with the quartiles of those ratios. FLOP are counted as
`benchmarks/flops.py` counts them, of the networks as they are exported. What the pictures are worth is not measured
here: `dynadiff evaluate --on validation --steps … --spacing … --guidance … --against …` says it, paired over pictures.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray

from dynadiff.assets import EMBEDDED
from dynadiff.base.random import initial_noise
from dynadiff.engines.choice import Sampler
from dynadiff.engines.contract import Engine, Manifest, paint
from dynadiff.engines.open import open_decoder
from dynadiff.networks.choices import Between
from exporters.choices import FLOAT
from exporters.flops import Picture, embedded, exported
from exporters.onnx import export_onnx

EARLY = Between(5.0, 501, 999)
SAMPLERS = {
    "leading 20, guided": Sampler(20, 5.0, "leading"),
    "ays 10, guided": Sampler(10, 5.0, "ays"),
    "leading 20, guided at t > 500": Sampler(20, EARLY, "leading"),
    "ays 10, guided at t > 500": Sampler(10, EARLY, "ays"),
}
WARM = 2  # rounds that are not counted
Milliseconds = Mapping[str, NDArray[np.float64]]


def measure(engine: Engine, tables: Mapping[str, Manifest], rounds: int) -> Milliseconds:
    """Milliseconds of a picture by each table, (rounds,)."""
    manifest = next(iter(tables.values()))
    window = np.random.default_rng(0).standard_normal((manifest.voxels, manifest.window_length), np.float32)
    noise, names = initial_noise(0, manifest.latent_shape), list(tables)
    times: dict[str, list[float]] = {name: [] for name in names}
    for number in range(-WARM, rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            engine.use(tables[name].sampler)
            start = perf_counter()
            paint(engine, window, noise)
            if number >= 0:
                times[name].append(1e3 * (perf_counter() - start))
    return {name: np.array(ms) for name, ms in times.items()}


def table(tables: Mapping[str, Manifest], times: Milliseconds, small: Picture, full: Picture) -> list[str]:
    """A line a sampler; ``small`` and ``full`` are a picture's parts at the embedded size and Versatile Diffusion's."""
    lines = [f"{'':<32}{'evaluations':>12}{'GFLOP':>8}{'TFLOP, VD':>11}{'p50 ms':>9}{'p99 ms':>9}   first / this"]
    first = next(iter(times.values()))
    for name, manifest in tables.items():
        halves = manifest.evaluations
        p50, p99 = np.percentile(times[name], [50, 99])
        low, middle, high = np.percentile(first / times[name], [25, 50, 75])
        flop = f"{small.sampled(halves) / 1e9:>8.2f}{full.sampled(halves) / 1e12:>11.2f}"
        ratio = f"{middle:.2f} × [{low:.2f}, {high:.2f}]"
        lines.append(f"{name:<32}{sum(halves):>12}{flop}{p50:>9.1f}{p99:>9.1f}   {ratio}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=50)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "onnx"
        export_onnx(EMBEDDED, folder, FLOAT, SAMPLERS["ays 10, guided at t > 500"])
        decoder = open_decoder("onnx", folder, options.threads)
        tables = {name: sampler.over(decoder.manifest) for name, sampler in SAMPLERS.items()}
        times = measure(decoder.engine, tables, options.rounds)
    lines = table(tables, times, embedded(EMBEDDED), exported())
    sys.stdout.write("\n".join([f"{options.threads} threads, {options.rounds} rounds", *lines]) + "\n")


if __name__ == "__main__":
    main()
