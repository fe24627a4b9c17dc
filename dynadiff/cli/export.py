"""`dynadiff export`: from a model folder to the engine that `realtime decode` runs."""

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dynadiff.base import commands
from dynadiff.base.errors import UserError
from dynadiff.cli.options import Root, check_tree, model_or_embedded, need_torch, say, tree_or_phantom

if TYPE_CHECKING:
    from exporters.choices import Graphs


def export(
    kind: Annotated[str, typer.Argument(help="onnx, trt or trt-rtx.")],
    out: Annotated[Path, typer.Option(help="Engine folder to write.")],
    model: Annotated[Path | None, typer.Option(help="Model folder, or for TensorRT an ONNX engine's.")] = None,
    precision: Annotated[str, typer.Option(help="float, or half: audited on windows of --root first.")] = "float",
    opset: Annotated[int, typer.Option(help="23; 18 or 20 for execution providers that lack its operators.")] = 23,
    guidance: Annotated[float | None, typer.Option(min=0, help="The model's without it; 1 halves the work.")] = None,
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
    if kind != "onnx" and (precision, opset, guidance, root) != ("float", 23, None, None):
        raise UserError(
            f"--precision, --opset, --guidance and --root belong to onnx: export that first, and {kind} with --model "
            "the folder of it"
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
        _graphs(folder, out, how, guidance, root)
    else:
        _plans(kind, folder, out, targets, level)
    _sizes(out, time.perf_counter() - began)


def _graphs(folder: Path, out: Path, how: "Graphs", guidance: float | None, root: Path | None) -> None:
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
    for line in report(export_onnx(folder, out, how, guidance, windows, say)):
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
