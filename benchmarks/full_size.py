"""Versatile Diffusion's size, subject 1, random weights: export, ONNX Runtime against torch, TensorRT-RTX, training.

    python benchmarks/full_size.py FOLDER [--only STAGE …]

Each stage is a process of its own, so that its time and peak memory are its own. It prints one line when it is done
and adds it to FOLDER/stages.jsonl. Needs 16 GB of free memory, 3 GB of disk and, for the rtx stages,
`pip install tensorrt-rtx`. The graphs compute in half precision; torch, beside them, in float32.
"""

import argparse
import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

SEED, TIMESTEP, GUIDANCE = 0, 951, 3.0
COEFFICIENTS = (1.310472, -0.312145)  # of the first of 20 steps, the one that amplifies errors most
NETWORKS = ("brain", "step", "decoder")
CAPABILITIES = ("8.6", "8.9")
Facts = dict[str, Any]


def inputs_of(name: str) -> dict[str, NDArray[Any]]:
    """The same random inputs for every runtime."""
    rng = np.random.default_rng(SEED)

    def draw(*shape: int) -> NDArray[np.float32]:
        return rng.standard_normal(shape, np.float32)

    if name == "brain":
        return {"window": draw(1, 15_724, 6)}
    if name == "decoder":
        return {"latent": draw(1, 4, 64, 64)}
    return {
        "latent": draw(1, 4, 64, 64), "tokens": draw(1, 257, 768), "timestep": np.array([TIMESTEP]),
        "guidance": np.array(GUIDANCE, np.float32), "coefficients": np.array(COEFFICIENTS, np.float32),
    }  # fmt: skip


def model_of(*parts: str) -> Any:
    """The model with random weights for ``parts`` and none elsewhere; adapters stirred, so that they matter."""
    import torch

    from dynadiff.networks.adapters import add_lora
    from dynadiff.networks.model import Model, ModelConfig
    from dynadiff.recordings.nsd_facts import TR
    from dynadiff.signal.cleaning import Cleaning
    from dynadiff.signal.windows import WindowSpec
    from exporters.full_size import SUBJECT_1, generator_of, random_brain, random_unet, random_vae

    made = []
    for part, random in (("brain", random_brain), ("step", random_unet), ("decoder", random_vae)):
        with torch.device("cpu" if part in parts else "meta"):
            made.append(random(SEED))
    brain, unet, vae = made
    generator = generator_of(unet, vae).freeze()
    if "step" in parts:
        for adapter in add_lora(unet):
            torch.nn.init.normal_(adapter, std=0.02)
    config = ModelConfig("01", TR, "", WindowSpec(), Cleaning(), SUBJECT_1, "random", guidance=GUIDANCE)
    return Model(config, brain.eval(), generator, np.ones((1, 1, SUBJECT_1.voxels), np.bool_), np.eye(4))


def export(folder: Path, name: str) -> Facts:
    from dynadiff.networks.adapters import merge_lora
    from exporters import onnx
    from exporters.choices import Graphs

    model = model_of(name)
    merge_lora(model.generator.unet)
    path = folder / f"{name}.onnx"
    {"brain": onnx.write_brain, "step": onnx.write_step, "decoder": onnx.write_decoder}[name](
        model, path, Graphs(precision="half")
    )
    data = path.with_suffix(".data")
    return {"graph_MB": megabytes(path), "data_MB": megabytes(data) if data.exists() else 0.0, "checked": True}


def torch_float32(folder: Path, name: str) -> Facts:
    """What torch makes of the inputs, with the step that computes both halves in full and adapters unmerged."""
    import torch

    from dynadiff.networks.generator import decode_latents
    from dynadiff.networks.sampling import Step

    model = model_of(name)
    given = [torch.from_numpy(value) for value in inputs_of(name).values()]
    with torch.inference_mode():
        start = perf_counter()
        if name == "brain":
            result = model.brain(*given)
        elif name == "step":
            result = Step(model.generator.unet)(*given)
        else:
            result = (decode_latents(model.generator, *given) / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1) * 255
        seconds = perf_counter() - start
    np.save(folder / f"{name}.npy", result.numpy())
    return {"call_s": seconds, "std": float(result.std())}


def onnx_half(folder: Path, name: str) -> Facts:
    """One call in ONNX Runtime and how far it is from torch."""
    from dynadiff.engines.onnx import open_session

    start = perf_counter()
    session = open_session(folder / f"{name}.onnx")
    opened = perf_counter()
    result = session.run(None, inputs_of(name))[0]
    seconds = perf_counter() - opened
    error = np.abs(result.astype(np.float64) - np.load(folder / f"{name}.npy"))
    return {"open_s": opened - start, "call_s": seconds, "error_max": error.max(), "error_mean": error.mean()}


def audit(folder: Path, _: str) -> Facts:
    """The largest half-precision values on the way from a random window to a picture, in two steps."""
    from dynadiff.engines.choice import Sampler
    from dynadiff.engines.torch import manifest_of
    from exporters.precision import audit, report

    manifest = Sampler(steps=2).over(manifest_of(model_of(), "onnx"))
    reached = audit(folder, manifest, inputs_of("brain")["window"])
    return {"report": report(reached)}


def rtx(folder: Path, target: str) -> Facts:
    """A TensorRT-RTX engine of one graph for one compute capability, built without a GPU."""
    from dynadiff.engines.tensorrt_library import load_tensorrt
    from exporters.tensorrt import Target, compile_graph

    name, capability = target.split("-")
    plan, _ = compile_graph(load_tensorrt("trt-rtx"), folder / f"{name}.onnx", Target("trt-rtx", (capability,)))
    return {"plan_MB": len(plan) / 1e6}


def train(folder: Path, _: str) -> Facts:
    """One step of training in float32, batch 1: loss, gradients and AdamW for brain module and adapters."""
    import torch

    from dynadiff.base.random import item_rng
    from dynadiff.networks.generator import posterior
    from dynadiff.training.objective import Objective
    from dynadiff.training.presets import Training

    model = model_of(*NETWORKS)
    unet, config = model.generator.unet, Training()
    unet.enable_gradient_checkpointing()
    unet.train()
    model.brain.train()
    trainable = model.trainable()
    optimiser = torch.optim.AdamW(trainable, lr=config.lr, weight_decay=config.weight_decay)
    picture, window = torch.rand(1, 3, 512, 512) * 2 - 1, torch.from_numpy(inputs_of("brain")["window"])
    start = perf_counter()
    with torch.no_grad():
        mean, deviation = posterior(model.generator, picture)
    loss = Objective(model, config)(window, mean, deviation, [item_rng(0, "dynadiff", 0, 0)]).mean()
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(trainable, float("inf"))
    optimiser.step()
    frozen = [p for part in (unet, model.generator.vae) for p in part.parameters() if not p.requires_grad]
    return {
        "step_s": perf_counter() - start, "loss": loss.item(), "gradient": float(norm),
        "trainable": sum(p.numel() for p in trainable), "frozen": sum(p.numel() for p in frozen),
    }  # fmt: skip


STAGES: dict[str, tuple[Callable[[Path, str], Facts], str]] = {
    **{f"export-{name}": (export, name) for name in NETWORKS},
    **{f"torch-{name}": (torch_float32, name) for name in NETWORKS},
    **{f"onnx-{name}": (onnx_half, name) for name in NETWORKS},
    "audit": (audit, ""),
    **{f"rtx-{name}-{sm}": (rtx, f"{name}-{sm}") for name in NETWORKS for sm in CAPABILITIES},
    "train": (train, ""),
}


def megabytes(path: Path) -> float:
    return path.stat().st_size / 1e6


def run_stage(folder: Path, stage: str) -> None:
    """Do one stage in this process and write down what it took."""
    call, argument = STAGES[stage]
    start = perf_counter()
    facts = call(folder, argument)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    line = json.dumps({"stage": stage, "seconds": perf_counter() - start, "peak_GB": peak} | facts, default=float)
    with (folder / "stages.jsonl").open("a") as file:
        file.write(line + "\n")


def shown(line: str) -> str:
    facts = json.loads(line)
    parts = [f"{facts.pop('stage'):<18}", f"{facts.pop('seconds'):>7.1f} s", f"{facts.pop('peak_GB'):>6.1f} GB  "]
    report = facts.pop("report", [])
    parts += [f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}" for key, value in facts.items()]
    return "\n".join(["  ".join(parts), *(f"    {more}" for more in report)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="+", choices=STAGES, default=list(STAGES), metavar="STAGE")
    parser.add_argument("--here", action="store_true", help="the one stage in this process")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.here:
        run_stage(options.folder, *options.only)
        return
    for stage in options.only:
        command = [sys.executable, __file__, str(options.folder), "--only", stage, "--here"]
        subprocess.run(command, check=True, stderr=None)
        sys.stdout.write(shown((options.folder / "stages.jsonl").read_text().splitlines()[-1]) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
