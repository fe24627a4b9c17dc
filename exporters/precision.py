"""Half precision: weights that it holds exactly, and whether it holds the values that a network reaches.

The audit sees what passes between nodes. It does not see inside one: scores of an Attention node, sums of a
normalisation. Knows graphs and windows; knows nothing of how graphs are made.
"""

import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper

from dynadiff.base.errors import UserError
from dynadiff.base.random import initial_noise
from dynadiff.engines.build import NETWORKS, SINGLE
from dynadiff.engines.contract import Manifest
from dynadiff.engines.onnx import OnnxEngine
from dynadiff.networks.model_folder import load_model
from dynadiff.recordings.nsd import NSD
from dynadiff.trials.source import TEST_SESSION, collect

SMALL = 256  # elements; below it a Cast node costs more than it saves
LARGEST, MARGIN = 65_504, 4  # of half precision; and how much larger than any audited value it has to be
WINDOWS = 3


@dataclass(frozen=True)
class Reach:
    """How large a value became: the output ``name`` of a node of kind ``op`` in a graph."""

    graph: str
    name: str
    op: str
    value: float  # largest magnitude; infinite where it was no number


def halve(model: ir.Model) -> ir.Model:
    """Store each float32 weight that float16 holds exactly as float16, behind a Cast back to float32."""
    graph, casts = model.graph, []
    for name, weight in list(graph.initializers.items()):
        if weight.dtype != ir.DataType.FLOAT or weight.const_value is None or weight.const_value.size < SMALL:
            continue
        values = weight.const_value.numpy()
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if not np.array_equal(half.astype(np.float32), values):
            continue
        stored = ir.Value(
            name=f"{name}_half", shape=weight.shape, type=ir.TensorType(ir.DataType.FLOAT16),
            const_value=ir.tensor(half, name=f"{name}_half"),
        )  # fmt: skip
        cast = ir.node("Cast", [stored], {"to": ir.DataType.FLOAT}, name=f"{name}_widened")
        cast.outputs[0].shape, cast.outputs[0].dtype = weight.shape, ir.DataType.FLOAT
        ir.convenience.replace_all_uses_with(weight, cast.outputs[0])
        del graph.initializers[name]
        cast.outputs[0].name = name
        graph.register_initializer(stored)
        casts.append(cast)
    if casts:
        graph.insert_before(graph[0], casts)
    return model


def sample_windows(model_folder: Path, root: Path) -> NDArray[np.float32]:
    """A few windows (n, voxels, volumes) of the first run of the model's subject, cleaned as in a live run."""
    model, nsd = load_model(model_folder), NSD(root)
    subject = int(model.config.subject)
    run = nsd.run(subject, TEST_SESSION, nsd.runs(subject, TEST_SESSION)[0])
    trials = collect([run], model.mask, model.config.cleaning, model.config.window, model.generator.picture_size)
    return trials.online[:: max(len(trials) // WINDOWS, 1)][:WINDOWS].astype(np.float32)


def audit(folder: Path, manifest: Manifest, windows: NDArray[np.float32]) -> list[Reach]:
    """What every half-precision value of the graphs in ``folder`` reaches while windows become pictures.

    Raises UserError when half precision holds less than ``MARGIN`` times that.
    """
    paths = (folder / f"{name}.onnx" for name in (*NETWORKS, SINGLE))
    watched = {path.stem: Watched(path) for path in paths if path.exists()}
    engine = OnnxEngine(watched, manifest.sampler)
    noise = initial_noise(0, manifest.latent_shape)
    encoded = [engine.encode(window) for window in windows]
    watched["brain"].close()
    latents = [engine.sample(noise, each) for each in encoded]
    for step in {"step", SINGLE} & set(watched):
        watched[step].close()
    for latent in latents:
        engine.render(latent)
    reached = sorted((r for each in watched.values() for r in each.reached()), key=lambda r: -r.value)
    refuse_over(reached)
    return reached


def refuse_over(reached: list[Reach]) -> None:
    over = [r for r in reached if not r.value <= LARGEST / MARGIN]
    if over:
        first = over[0]
        raise UserError(
            f"{len(over)} values come too near to {LARGEST}, the largest of half precision: {first.name} ({first.op}) "
            f"of {first.graph} reaches {first.value:.0f}; export with --precision float"
        )


def report(reached: list[Reach]) -> list[str]:
    """Lines that name the largest value of each graph and how much larger it could be."""
    largest = {r.graph: r for r in reversed(reached)}
    return [
        f"{graph}: {sum(r.graph == graph for r in reached)} half-precision values, largest {r.value:.3g} "
        f"({r.op} {r.name}), {LARGEST / r.value:.0f} × below {LARGEST}"
        for graph in (f"{name}.onnx" for name in (*NETWORKS, SINGLE))
        if (r := largest.get(graph))
    ]


class Watched:
    """A graph that keeps the largest magnitude of each of its half-precision values.

    It is in memory from the first run to `close`, and asks for memory as it goes: this costs time, not gigabytes.
    """

    def __init__(self, path: Path) -> None:
        self._path, self.name = path, path.name
        self._model = onnx.load(path, load_external_data=False)
        self._of = watch_values(self._model)
        self._largest = np.zeros(len(self._of))

    @cached_property
    def _session(self) -> ort.InferenceSession:
        options = ort.SessionOptions()
        options.enable_cpu_mem_arena = options.enable_mem_pattern = False
        options.log_severity_level = 3
        with tempfile.NamedTemporaryFile(dir=self._path.parent, suffix=".onnx") as file:  # beside its external data
            file.write(self._model.SerializeToString())
            file.flush()
            return ort.InferenceSession(file.name, options, providers=["CPUExecutionProvider"])

    def close(self) -> None:
        self.__dict__.pop("_session", None)

    def get_inputs(self) -> list[onnx.ValueInfoProto]:
        return list(self._model.graph.input)

    def run(self, _: None, inputs: dict[str, NDArray[np.generic]]) -> list[NDArray[np.generic]]:
        result, *largest = self._session.run(None, inputs)
        self._largest = np.maximum(self._largest, largest)
        return [result]

    def reached(self) -> list[Reach]:
        pairs = zip(self._of.items(), self._largest, strict=True)
        return [Reach(self.name, name, op, float(value)) for (name, op), value in pairs]


def watch_values(model: onnx.ModelProto) -> dict[str, str]:
    """Add an output with the largest magnitude of each half-precision value; gives their names and kinds of node."""
    graph = model.graph
    half = {v.name for v in graph.value_info if v.type.tensor_type.elem_type == TensorProto.FLOAT16}
    of, nodes = {}, []
    for node in graph.node:  # each is looked at right behind its node: later, all would be kept till then
        nodes.append(node)
        for name in filter(half.__contains__, node.output):
            of[name] = node.op_type
            nodes.extend(_magnitude(name))
            graph.output.append(helper.make_tensor_value_info(f"watch/{name}", TensorProto.FLOAT, []))
    graph.initializer.append(helper.make_tensor("watch/infinite", TensorProto.FLOAT, [], [np.inf]))
    del graph.node[:]
    graph.node.extend(nodes)
    return of


def _magnitude(name: str) -> list[onnx.NodeProto]:
    """Nodes from a half-precision value to its largest magnitude, infinite where it is no number."""
    wide, magnitude, nan, number = (f"watch/{name}/{what}" for what in ("wide", "magnitude", "nan", "number"))
    return [
        helper.make_node("Cast", [name], [wide], to=TensorProto.FLOAT),
        helper.make_node("Abs", [wide], [magnitude]),
        helper.make_node("IsNaN", [wide], [nan]),
        helper.make_node("Where", [nan, "watch/infinite", magnitude], [number]),
        helper.make_node("ReduceMax", [number], [f"watch/{name}"], keepdims=0),
    ]
