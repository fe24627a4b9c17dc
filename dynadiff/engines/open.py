"""Opens an engine by name. Each runtime is imported only when it is asked for, and its absence is an error."""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dynadiff.assets import EMBEDDED
from dynadiff.base.errors import UserError
from dynadiff.engines.choice import AS_SET, Sampler
from dynadiff.engines.contract import MANIFEST, Decoder, Engine, Manifest, other_sampler
from dynadiff.engines.probe import Probe, check_loop, check_probe
from dynadiff.recordings.masks import MASK, mask_digest, stored_affine, stored_mask
from dynadiff.scores.identification import Features

if TYPE_CHECKING:
    from dynadiff.engines.cuda import Cuda

KINDS = ("onnx", "torch", "torch-compiled", "trt", "trt-rtx")


def open_decoder(kind: str, folder: Path = EMBEDDED, threads: int = 0, sampler: Sampler = AS_SET) -> Decoder:
    """Open the engine of that kind in an engine folder, or in the subfolder ``kind`` of a model folder.

    ``threads`` bounds the cores a CPU engine uses, 0 for all of them.
    """
    check_kind(kind)
    if kind in ("torch", "torch-compiled"):
        needed = importlib.util.find_spec("torch") and importlib.util.find_spec("diffusers")
        if not needed:
            raise UserError("the torch engine needs PyTorch and diffusers: pip install 'dynadiff-realtime[train]'")
        from dynadiff.engines.torch import open_torch

        return open_torch(folder, threads, sampler, "inductor" if kind == "torch-compiled" else "")
    home = engine_home(kind, folder)
    if kind == "onnx":
        from dynadiff.engines.onnx import open_onnx

        manifest, mask = load_manifest(kind, home)
        engine: Engine = open_onnx(home, manifest, threads)
    else:
        from dynadiff.engines.tensorrt import open_trt

        trt, cuda = require_gpu(kind)
        manifest, mask = load_manifest(kind, home)
        engine = open_trt(home, manifest, trt, cuda)
    probe, wanted = Probe.load(home, manifest), sampler.over(manifest)
    check_probe(engine, probe, manifest, f"engine in {home}")
    if wanted.sampler != manifest.sampler:
        engine.use(wanted.sampler)
        check_loop(engine, probe, manifest, f"engine in {home}")
    set_to = str(manifest.build.choices.get("model_sampler", "ddim")) if manifest.build else "ddim"  # older: unsaid
    engine.mode = ", ".join(filter(None, (engine.mode, other_sampler(set_to), _idle_halves(wanted))))
    return Decoder(engine, wanted, mask, stored_affine(home), _scorer(home, manifest))


def _idle_halves(manifest: Manifest) -> str:
    """What an engine computes for nothing; "" where that is nothing."""
    rows = zip(manifest.sampler, manifest.evaluations, strict=True)
    idle = sum(row.guidance == 1 and evaluations > 1 for row, evaluations in rows)
    if not idle:
        return ""
    return f"both halves at {idle} steps that need one, since it was exported without a network of one half"


def check_kind(kind: str) -> None:
    """UserError for an engine that there is not."""
    if kind not in KINDS:
        raise UserError(f"there is no engine {kind!r}: choose one of {', '.join(KINDS)}")


def check_engine(kind: str, folder: Path) -> None:
    """UserError where `open_decoder` would find nothing to open; imports no runtime."""
    check_kind(kind)
    if kind not in ("torch", "torch-compiled"):
        Manifest.load(engine_home(kind, folder))
    elif not (folder / "model.json").is_file():
        raise UserError(f"no model in {folder}: make one with `dynadiff train --out {folder}`")


def _scorer(home: Path, manifest: Manifest) -> Features | None:
    from dynadiff.engines.onnx import SCORER, open_scorer

    return open_scorer(home / SCORER, manifest.picture_size) if SCORER in manifest.files else None


def require_gpu(kind: str) -> "tuple[Any, Cuda]":
    """The module and the GPU that engine kind trt or trt-rtx runs on; UserError where either is missing."""
    from dynadiff.engines.cuda import open_cuda
    from dynadiff.engines.tensorrt_library import load_tensorrt

    return load_tensorrt(kind), open_cuda(kind)


def engine_home(kind: str, folder: Path) -> Path:
    """Where the engine is: in the folder itself, or in the subfolder ``kind`` of a model folder."""
    return folder if (folder / MANIFEST).exists() else folder / kind


def load_manifest(kind: str, home: Path) -> tuple[Manifest, NDArray[np.bool_]]:
    """Manifest and mask of an engine folder; UserError where anything in it is not as it was exported."""
    manifest = Manifest.load(home)
    if manifest.kind != kind:
        raise UserError(f"{home} holds a {manifest.kind} engine, not {kind}: use --engine {manifest.kind}")
    suffix = "onnx" if kind == "onnx" else "plan"
    for name in (MASK, *(f"{network}.{suffix}" for network in manifest.networks)):
        if name not in manifest.files:
            raise UserError(f"{home / MANIFEST} does not list {name}: export the engine again")
    mask = stored_mask(home)
    if int(mask.sum()) != manifest.voxels or mask_digest(mask) != manifest.mask_sha256:
        raise UserError(f"the mask in {home} is not the one the engine was made with: export the engine again")
    return manifest, mask
