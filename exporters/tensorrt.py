"""The ONNX graphs of an engine folder become TensorRT plans: one code for TensorRT 10, 11 and -RTX.

Networks are strongly typed, so the precision is the graphs', and of fixed shape. TensorRT-RTX compiles ahead of time,
on any machine, for the compute capabilities it is told. TensorRT tunes on the GPU that it will run on: that half has
never run where this was written, it is tested against a stand-in of the module that takes the same calls.
"""

import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx

from dynadiff.base.commands import require
from dynadiff.base.errors import UserError
from dynadiff.base.files import file_digest
from dynadiff.engines.build import Build, Network, system
from dynadiff.engines.contract import MANIFEST, Manifest
from dynadiff.engines.cuda import Cuda, open_cuda
from dynadiff.engines.onnx import SCORER
from dynadiff.engines.open import engine_home, load_manifest
from dynadiff.engines.probe import PROBE
from dynadiff.engines.tensorrt_library import MODULES, load_tensorrt, new_log, refuse_older, tensor_specification
from dynadiff.recordings.masks import MASK
from exporters.folder import EXPORTER, Say, building, place_engine
from exporters.judge import copy_judge
from exporters.timing_cache import TimingCache

Shapes = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]  # least, usual and largest
TARGETS = ("8.6", "8.9", "12.0")  # Ampere, Ada and Blackwell RTX


@dataclass(frozen=True)
class Target:
    """What plans are built with and for. ``capabilities`` are those of the GPU itself with trt, any with trt-rtx."""

    kind: str  # trt or trt-rtx
    capabilities: tuple[str, ...]
    gpu: str = ""
    cuda: str = ""  # version
    level: int = 3  # of the builder's optimisation, 0 to 5


def native_target(cuda: Cuda, level: int = 3) -> Target:
    """The GPU of this machine, for TensorRT."""
    return Target("trt", (cuda.capability,), cuda.gpu, cuda.version, level)


def export_plans(
    kind: str, folder: Path, out: Path, capabilities: tuple[str, ...] = TARGETS, level: int = 3, say: Say = print
) -> Manifest:
    """Build the TensorRT engine of a model, or of an ONNX engine, in ``folder``. UserError where that cannot be.

    ``capabilities`` are what TensorRT-RTX builds for; TensorRT builds for the GPU of this machine.
    """
    trt = load_tensorrt(kind)
    target = native_target(open_cuda(kind), level) if kind == "trt" else Target(kind, capabilities, level=level)
    with onnx_engine(folder, out.parent, say) as source:
        return build_engine(source, out, trt, target, say)


def build_engine(source: Path, out: Path, trt: Any, target: Target, say: Say = print) -> Manifest:
    """Build the plans of the ONNX engine folder ``source`` into the engine folder ``out``.

    Nothing is built where ``out`` holds that very engine already. UserError where a graph is not taken by the parser
    or not built, or ``out`` cannot be written.
    """
    manifest, _ = load_manifest("onnx", source)
    assert manifest.build is not None  # of a loaded manifest
    refuse_older(trt, target.kind, manifest.build)
    build = describe(manifest.build, trt, target)
    with building(out, say):
        if (out / MANIFEST).exists():
            known = _manifest(out)
            same = known is not None and known.build is not None and known.build.key() == build.key()
            if known is not None and same and known.sampler == manifest.sampler:
                say(f"{out} holds this engine already")
                return known

        def fill(folder: Path) -> Manifest:
            for name in manifest.networks:
                began = time.perf_counter()
                say(f"{name}: parsing and building")
                plan, network = compile_graph(trt, source / f"{name}.onnx", target)
                if network != build.networks[name]:
                    raise UserError(f"{source / name}.onnx became {network}: it should be {build.networks[name]}")
                (folder / f"{name}.plan").write_bytes(plan)
                say(f"{name}: {len(plan) / 1e6:.1f} MB in {time.perf_counter() - began:.1f} s")
            for name in {MASK, PROBE, SCORER} & set(manifest.files):
                shutil.copyfile(source / name, folder / name)
            copy_judge(source, folder)
            return replace(manifest, kind=target.kind, build=build)

        return place_engine(out, fill, needed=sum((source / name).stat().st_size for name in build.graphs))


def describe(source: Build, trt: Any, target: Target) -> Build:
    """The record of a build of plans from graphs that have the record ``source``."""
    return replace(
        source,
        choices=source.choices | {"level": target.level, "tf32": 0},
        libraries=source.libraries
        | {MODULES[target.kind]: trt.__version__}
        | ({"cuda": target.cuda} if target.cuda else {}),
        exporter=EXPORTER,
        gpu=target.gpu,
        targets=target.capabilities,
        system=system(),
    )


def compile_graph(
    trt: Any, graph: Path, target: Target, profiles: Mapping[str, Shapes] | None = None
) -> tuple[memoryview, Network]:
    """The plan of one ONNX graph, and what it takes and gives.

    ``profiles`` are for inputs whose shape the graph leaves open. UserError with TensorRT's own words.
    """
    log = new_log(trt)
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    model = uint8_last(onnx.load(graph, load_external_data=False))
    if not parser.parse(model.SerializeToString(), str(graph)):  # the path is where external data is looked for
        words = "; ".join(" ".join(parser.get_error(i).desc().split()) for i in range(parser.num_errors))
        raise UserError(f"{MODULES[target.kind]} {trt.__version__} does not take {graph} ({words}): export it again")
    config = builder.create_builder_config()
    config.builder_optimization_level = target.level
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.clear_flag(trt.BuilderFlag.TF32)  # float32 is float32; who wants less precision exports half
    if profiles:
        profile = builder.create_optimization_profile()
        for name, shapes in profiles.items():
            profile.set_shape(name, *shapes)
        if config.add_optimization_profile(profile) < 0:
            raise UserError(f"{MODULES[target.kind]} does not take the profile of {graph} ({log.said()}): change it")
    cache = None
    if target.kind == "trt":
        cache = TimingCache(trt.__version__, target.capabilities[0])
        cache.attach(config)
    else:
        _set_capabilities(trt, config, target)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise UserError(f"{MODULES[target.kind]} {trt.__version__} does not build {graph} ({log.said()}): {_HINT}")
    if cache is not None:
        cache.keep(config)
    return memoryview(plan), _network(network)


_HINT = "export it again, with another opset if that does not help"


def _set_capabilities(trt: Any, config: Any, target: Target) -> None:
    known = trt.ComputeCapability
    config.num_compute_capabilities = len(target.capabilities)
    for i, capability in enumerate(target.capabilities):
        sm = getattr(known, "SM" + capability.replace(".", ""), None)
        if sm is None or not config.set_compute_capability(sm, i):
            offered = [n[2:-1] + "." + n[-1] for n in dir(known) if n.startswith("SM")]
            raise UserError(
                f"{MODULES[target.kind]} {trt.__version__} does not build for compute capability {capability}: "
                f"choose of {', '.join(sorted(offered, key=float))}, or use the trt engine on that GPU"
            )


def _network(network: Any) -> Network:
    sides = (network.num_inputs, network.get_input), (network.num_outputs, network.get_output)
    inputs, outputs = (
        {tensor.name: tensor_specification(tensor.dtype, tensor.shape) for tensor in map(get, range(count))}
        for count, get in sides
    )
    return Network(inputs, outputs)


def uint8_last(model: onnx.ModelProto) -> onnx.ModelProto:
    """Exchange a cast to uint8 with the transposition after it: TensorRT has uint8 at the edge of a network only."""
    made_by = {name: node for node in model.graph.node for name in node.output}
    for output in model.graph.output:
        last = made_by[output.name]
        before = made_by.get(last.input[0])
        if output.type.tensor_type.elem_type != onnx.TensorProto.UINT8 or last.op_type != "Transpose":
            continue
        if before is not None and before.op_type == "Cast":
            cast, transpose = list(before.attribute), list(last.attribute)
            for node, kind, attributes in ((before, "Transpose", transpose), (last, "Cast", cast)):
                node.op_type = kind
                del node.attribute[:]
                node.attribute.extend(attributes)
            for value in [v for v in model.graph.value_info if v.name == before.output[0]]:
                model.graph.value_info.remove(value)  # neither of its type nor of its shape any more
    return model


@contextmanager
def onnx_engine(folder: Path, scratch: Path, say: Say = print) -> Iterator[Path]:
    """The ONNX engine of a folder: the folder itself, the one beside a model if it is of that model, or a new one.

    A new one lies in ``scratch`` while it is needed.
    """
    home = engine_home("onnx", folder)
    if home == folder or _is_of(home, folder):
        yield home
        return
    require(("torch", "diffusers", "peft"), "train")
    from exporters.onnx import export_onnx

    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch) as made:
        export_onnx(folder, Path(made) / "onnx", say=say)
        yield Path(made) / "onnx"


def _is_of(home: Path, model: Path) -> bool:
    """Whether an engine was made of the weights that lie in the model's folder."""
    known = _manifest(home)
    weights = known.build.weights if known is not None and known.build is not None else {}
    own = {name: digest for name, digest in weights.items() if not name.startswith("generator/")}
    return bool(own) and all((model / n).is_file() and file_digest(model / n) == d for n, d in own.items())


def _manifest(folder: Path) -> Manifest | None:
    try:
        return Manifest.load(folder)
    except UserError:
        return None
