"""`dynadiff export` and `sampler`: from a model to the engine that `realtime decode` runs, and how both paint."""

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dynadiff.base import commands
from dynadiff.base.errors import UserError
from dynadiff.cli.options import (
    Guided,
    Root,
    Spaced,
    Steps,
    check_tree,
    model_or_embedded,
    need_torch,
    say,
    tree_or_phantom,
)

if TYPE_CHECKING:
    from dynadiff.engines.choice import Sampler
    from exporters.choices import Graphs


def export(
    kind: Annotated[str, typer.Argument(help="onnx, trt or trt-rtx.")],
    out: Annotated[Path, typer.Option(help="Engine folder to write.")],
    model: Annotated[Path | None, typer.Option(help="Model folder, or for TensorRT an ONNX engine's.")] = None,
    precision: Annotated[str, typer.Option(help="float, or half: audited on windows of --root first.")] = "float",
    opset: Annotated[int, typer.Option(help="23; 18 or 20 for execution providers that lack its operators.")] = 23,
    steps: Steps = None,
    guidance: Guided = None,
    spacing: Spaced = None,
    root: Root = None,
    targets: Annotated[
        str | None, typer.Option(help="Compute capabilities that trt-rtx builds for; 8.6,8.9,12.0 without it.")
    ] = None,
    level: Annotated[int, typer.Option(min=0, max=5, help="TensorRT's optimisation level.")] = 3,
) -> None:
    """Write the engine that `realtime decode` runs. TensorRT's is built from an ONNX engine, and as precise as that."""
    if kind not in ("onnx", "trt", "trt-rtx"):
        raise UserError(f"there is no export to {kind!r}: choose onnx, trt or trt-rtx")
    if targets is not None and kind != "trt-rtx":
        raise UserError("--targets belongs to trt-rtx: onnx runs anywhere and trt on the GPU that it was built on")
    if targets is not None and not re.fullmatch(r"\d+\.\d(,\d+\.\d)*", targets):
        raise UserError(f"--targets {targets} is no list of compute capabilities: give it as 8.6,8.9,12.0")
    from dynadiff.engines.choice import AS_SET, sampler_named

    sampler = sampler_named(steps, guidance, spacing)
    if kind != "onnx" and (precision, opset, sampler, root) != ("float", 23, AS_SET, None):
        raise UserError(
            f"--precision, --opset, --steps, --guidance, --spacing and --root belong to onnx: export that first, and "
            f"{kind} with --model the folder of it"
        )
    from exporters.choices import Graphs
    from exporters.folder import check_place

    how = Graphs(precision, opset)
    if root is not None and precision != "half":
        raise UserError("--root is where --precision half gets windows for its audit: leave it out, or add that")
    folder = model_or_embedded(model, engines=kind != "onnx")
    check_place(out)
    began = time.perf_counter()
    if kind == "onnx":
        _graphs(folder, out, how, sampler, root)
    else:
        _plans(kind, folder, out, targets, level)
    _sizes(out, time.perf_counter() - began)


def sampler(
    model: Annotated[Path, typer.Option(help="Model folder.")],
    steps: Steps = None,
    guidance: Guided = None,
    spacing: Spaced = None,
) -> None:
    """Say how a model paints, or set it anew; nothing is trained, and engines that were exported stay as they are."""
    from dynadiff.engines.choice import AS_SET, sampler_named

    asked, folder = sampler_named(steps, guidance, spacing), model_or_embedded(model)
    need_torch()
    from dynadiff.networks.choices import guidance_at
    from dynadiff.networks.generator import load_schedule
    from dynadiff.networks.model_folder import check_sampling, generator_folder, load_config, set_sampling

    config = load_config(folder)
    sampling, schedule = asked.of(config.sampling()), load_schedule(generator_folder(config.generator, folder))
    check_sampling(sampling, schedule, folder)
    if asked != AS_SET:
        set_sampling(folder, sampling)
    times = schedule.timesteps(sampling.steps, sampling.spacing).tolist()
    strengths = guidance_at(sampling.guidance, times)
    say(f"{folder}: {sampling}, {sum(1 + (g != 1) for g in strengths)} evaluations of the U-Net a picture")
    for timestep, strength in zip(times, strengths, strict=True):
        say(f"{timestep:5d}  guidance {strength:g}")


def _graphs(folder: Path, out: Path, how: "Graphs", sampler: "Sampler", root: Path | None) -> None:
    need_torch()
    if root is not None:
        check_tree(root, {})
    from dynadiff.networks.model_folder import load_config
    from dynadiff.trials.source import TEST_SESSION
    from exporters.onnx import export_onnx
    from exporters.precision import report, sample_windows

    subject, windows = int(load_config(folder).subject), None
    if how.precision == "half":
        windows = sample_windows(folder, tree_or_phantom(root, {subject: [TEST_SESSION]}))
    for line in report(export_onnx(folder, out, how, sampler, windows, say)):
        say(line)


def _plans(kind: str, folder: Path, out: Path, targets: str | None, level: int) -> None:
    commands.require(("onnx",), kind)
    from exporters.tensorrt import TARGETS, export_plans

    export_plans(kind, folder, out, tuple(targets.split(",")) if targets else TARGETS, level, say)


def _sizes(out: Path, seconds: float) -> None:
    from dynadiff.engines.contract import Manifest

    manifest = Manifest.load(out)
    sizes = {name: (out / name).stat().st_size / 1e6 for name in sorted(manifest.files)}
    for name, size in sizes.items():
        say(f"{size:9.2f} MB  {name}")
    key = manifest.build.key()[:12] if manifest.build else ""
    say(f"{out}: {sum(sizes.values()):.1f} MB in {seconds:.1f} s, key {key}")
