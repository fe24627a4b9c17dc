"""The TensorRT engines: three plans on one GPU, latents and tokens never leaving it. Imports no runtime itself.

One stream, addresses bound once. A window goes in and a picture comes out; between them, all sampling steps are one
CUDA graph where the runtime can be captured, and are queued one by one where it cannot: ``TrtEngine.mode`` says which.
Never run on a GPU so far; tested against a stand-in of both APIs that computes with ONNX Runtime.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynadiff.base.errors import UserError
from dynadiff.engines.build import NETWORKS, Machine, Network, parse_specification, refuse_foreign
from dynadiff.engines.contract import Engine, Manifest, step_inputs
from dynadiff.engines.cuda import Cuda, CudaError
from dynadiff.engines.tensorrt_library import MODULES, new_log, refuse_older, tensor_specification

ONE_GRAPH = "all sampling steps in one CUDA graph"


@dataclass(frozen=True)
class Plans:
    """Three loaded plans; runtime and engines are kept because the contexts need them."""

    networks: Mapping[str, Network]
    contexts: Mapping[str, Any]
    cuda: Cuda
    log: Any
    kept: tuple[Any, ...]


def open_trt(folder: Path, manifest: Manifest, trt: Any, cuda: Cuda) -> Callable[[Manifest], "TrtEngine"]:
    """Load the plans once; what is given back makes an engine of them for any choice of steps and guidance.

    UserError, before anything is deserialised, where the plans are for another machine or not those that were built.
    """
    assert manifest.build is not None  # of a loaded manifest
    again = f"dynadiff export {manifest.kind} --model MODEL --out {folder}"
    machine = Machine(MODULES[manifest.kind], trt.__version__, cuda.gpu, cuda.capability)
    refuse_older(trt, manifest.kind, manifest.build)
    refuse_foreign(manifest.build, machine, again)
    contents = {name: manifest.read(folder, f"{name}.plan") for name in NETWORKS}
    log, kept, contexts = new_log(trt), [], {}
    runtime = trt.Runtime(log)
    for name, content in contents.items():
        engine = runtime.deserialize_cuda_engine(content)
        if engine is None:
            raise UserError(
                f"{machine.library} does not load {folder / name}.plan ({log.said()}): build it again with `{again}`"
            )
        _check_tensors(trt, engine, manifest.build.networks[name], folder / f"{name}.plan", again)
        contexts[name] = engine.create_execution_context()
        if contexts[name] is None:
            raise UserError(
                f"the GPU has no room to run {folder / name}.plan ({log.said()}): close what else runs on it"
            )
        kept.append(engine)
    return partial(TrtEngine, Plans(manifest.build.networks, contexts, cuda, log, (runtime, *kept)))


def _check_tensors(trt: Any, engine: Any, network: Network, path: Path, again: str) -> None:
    """UserError unless the plan has the inputs and outputs, by name, type and shape, that the manifest says."""
    found: dict[Any, dict[str, str]] = {trt.TensorIOMode.INPUT: {}, trt.TensorIOMode.OUTPUT: {}}
    for i in range(engine.num_io_tensors):
        name = engine.get_tensor_name(i)
        spec = tensor_specification(engine.get_tensor_dtype(name), engine.get_tensor_shape(name))
        found[engine.get_tensor_mode(name)][name] = spec
    inputs, outputs = found.values()
    if (inputs, outputs) != (network.inputs, network.outputs):
        raise UserError(
            f"{path} is of {_tensors(inputs, outputs)} and its manifest of {_tensors(network.inputs, network.outputs)}"
            f": build it again with `{again}`"
        )


def _tensors(inputs: dict[str, str], outputs: dict[str, str]) -> str:
    return " -> ".join(", ".join(f"{name} {spec}" for name, spec in side.items()) for side in (inputs, outputs))


@dataclass(frozen=True, eq=False)
class Resident:
    """An array in the GPU's memory. ``np.asarray`` copies it out, after all that was queued before."""

    address: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    cuda: Cuda
    stream: int

    @property
    def size(self) -> int:
        return prod(self.shape) * self.dtype.itemsize

    def put(self, values: NDArray[Any]) -> None:
        self.cuda.upload(self.address, values.astype(self.dtype, copy=False).reshape(self.shape), self.stream)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        values = np.empty(self.shape, self.dtype)
        self.cuda.download(values, self.address, self.stream)
        return values if dtype is None else values.astype(dtype)


class TrtEngine(Engine):
    def __init__(self, plans: Plans, manifest: Manifest) -> None:
        self._plans, self._cuda, self._steps = plans, plans.cuda, manifest.steps
        self._stream = self._cuda.stream()
        self._buffers: dict[str, Resident] = {}
        for name in NETWORKS:
            self._bind(name)
        self._rows = {
            name: self._resident(rows.shape, self._buffers[name].dtype, rows)
            for name, rows in step_inputs(manifest, set(plans.networks["step"].inputs)).items()
        }
        self._noise = self._resident(self._buffers["latent"].shape, self._buffers["latent"].dtype)
        self._noise_known: NDArray[np.float32] | None = None
        for name in NETWORKS:  # a runtime may allocate when first run, and must not while it is captured
            self._queue(name)
        self._cuda.wait(self._stream)
        self._graph, self.mode = self._capture()

    def encode(self, window: NDArray[np.float32]) -> Any:
        self._buffers["window"].put(window)
        self._queue("brain")
        return self._buffers["tokens"]

    def step(self, latent: Any, tokens: Any, i: int) -> Any:
        self._place("latent", latent)
        self._place("tokens", tokens)
        self._queue_step(i)
        return self._buffers["latent"]

    def sample(self, noise: NDArray[np.float32], tokens: Any, steps: int) -> Any:
        """All steps; the noise, the same for every picture of a run, goes to the GPU once."""
        self._place("tokens", tokens)
        if self._noise_known is None or not np.array_equal(self._noise_known, noise):
            self._noise.put(noise)
            self._noise_known = noise.copy()
        self._copy("latent", self._noise)
        if self._graph is not None and steps == self._steps:
            self._cuda.launch(self._graph, self._stream)
        else:
            self._queue_steps(steps)
        return self._buffers["latent"]

    def render(self, latent: Any) -> NDArray[np.uint8]:
        self._place("latent", latent)
        self._queue("decoder")
        picture: NDArray[np.uint8] = np.asarray(self._buffers["picture"])[0]
        return picture

    def _bind(self, network: str) -> None:
        tensors, context = self._plans.networks[network], self._plans.contexts[network]
        for name, spec in (tensors.inputs | tensors.outputs).items():
            dtype, shape = parse_specification(spec)
            if name not in self._buffers:
                self._buffers[name] = self._resident(shape, np.dtype(dtype))
            buffer = self._buffers[name]
            if (buffer.dtype, buffer.shape) != (np.dtype(dtype), shape):
                raise UserError(f"the engine's networks disagree on what {name} is: export the engine again")
            if not context.set_tensor_address(name, buffer.address):
                raise UserError(f"the {network} plan has no tensor {name}: build the engine again")

    def _resident(self, shape: tuple[int, ...], dtype: np.dtype[Any], values: Any = None) -> Resident:
        size = max(prod(shape) * dtype.itemsize, 1)
        resident = Resident(self._cuda.allocate(size, self._stream), dtype, shape, self._cuda, self._stream)
        if values is not None:
            resident.put(values)
        return resident

    def _place(self, name: str, values: Any) -> None:
        buffer = self._buffers[name]
        if values is buffer:
            return
        if isinstance(values, Resident):
            raise ValueError(f"{name} is of another engine")
        buffer.put(values)

    def _copy(self, name: str, source: Resident, offset: int = 0) -> None:
        buffer = self._buffers[name]
        self._cuda.copy(buffer.address, source.address + offset, buffer.size, self._stream)

    def _queue_step(self, i: int) -> None:
        for name, rows in self._rows.items():
            self._copy(name, rows, i * self._buffers[name].size)
        self._queue("step")
        self._copy("latent", self._buffers["next"])

    def _queue_steps(self, steps: int) -> None:
        for i in range(steps):
            self._queue_step(i)

    def _queue(self, network: str) -> None:
        if not self._plans.contexts[network].execute_async_v3(self._stream):
            raise UserError(f"the {network} plan does not run ({self._plans.log.said()}): build the engine again")

    def _capture(self) -> tuple[Any, str]:
        """All steps as one graph, or None and why not."""
        capturable = getattr(self._plans.contexts["step"], "is_stream_capturable", None)  # of TensorRT-RTX only
        if capturable is not None and not capturable(self._stream):
            return None, "sampling steps one by one: the runtime cannot be captured in a CUDA graph"
        try:
            graph = self._cuda.capture(lambda: self._queue_steps(self._steps), self._stream)
        except (CudaError, UserError) as error:
            return None, f"sampling steps one by one: not captured in a CUDA graph ({error})"
        return graph, ONE_GRAPH
