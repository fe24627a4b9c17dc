"""The TensorRT engines: three plans or four on one GPU, latents and tokens never leaving it. Imports no runtime itself.

One stream, addresses bound once. A window goes in and a picture comes out; between them, all sampling steps are one
CUDA graph where the runtime can be captured, and are queued one by one where it cannot: ``TrtEngine.mode`` says which.
Never run on a GPU so far; tested against a stand-in of both APIs that computes with ONNX Runtime.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynadiff.base.errors import UserError
from dynadiff.engines.build import Machine, Network, parse_specification, refuse_foreign
from dynadiff.engines.contract import Encoded, Engine, Manifest
from dynadiff.engines.cuda import Cuda, CudaError, Resident
from dynadiff.engines.sampler import Table, networks_of, step_inputs
from dynadiff.engines.tensorrt_library import MODULES, new_log, refuse_older, tensor_specification

ONE_GRAPH = "all sampling steps in one CUDA graph"


@dataclass(frozen=True)
class Plans:
    """Loaded plans by name; runtime and engines are kept because the contexts need them."""

    networks: Mapping[str, Network]
    contexts: Mapping[str, Any]
    cuda: Cuda
    log: Any
    kept: tuple[Any, ...]


def open_trt(folder: Path, manifest: Manifest, trt: Any, cuda: Cuda) -> "TrtEngine":
    """The engine of plans, which are in the host's memory one at a time.

    UserError where they are for another machine, before anything is deserialised, or not those that were built.
    """
    assert manifest.build is not None  # of a loaded manifest
    again = f"dynadiff export {manifest.kind} --model MODEL --out {folder}"
    machine = Machine(MODULES[manifest.kind], trt.__version__, cuda.gpu, cuda.capability)
    refuse_older(trt, manifest.kind, manifest.build)
    refuse_foreign(manifest.build, machine, again)
    log, kept, contexts = new_log(trt), [], {}
    runtime = trt.Runtime(log)
    for name in manifest.networks:
        engine = runtime.deserialize_cuda_engine(manifest.read(folder, f"{name}.plan"))
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
    return TrtEngine(Plans(manifest.build.networks, contexts, cuda, log, (runtime, *kept)), manifest.sampler)


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


class TrtEngine(Engine):
    def __init__(self, plans: Plans, table: Table) -> None:
        self._plans, self._cuda = plans, plans.cuda
        self._stream = self._cuda.stream()
        self._buffers: dict[str, Resident] = {}
        for name in plans.contexts:
            self._bind(name)
        self._noise = self._resident(self._buffers["latent"].shape, self._buffers["latent"].dtype)
        self._noise_known: NDArray[np.float32] | None = None
        for name in plans.contexts:  # a runtime may allocate when first run, and must not while it is captured
            self._queue(name)
        self._rows: dict[str, Resident] = {}
        self._graph: Any = None
        self.use(table)

    def use(self, table: Table) -> None:
        """Networks and their buffers stay; what depends on the table is made anew, and then the old is given back.

        Where the GPU has no room for that, the engine is as it was.
        """
        rows = self._new_rows(step_inputs(table, set(self._plans.networks["step"].inputs)))
        self._cuda.wait(self._stream)
        if self._graph is not None:
            self._cuda.forget(self._graph)
        self._free(self._rows)
        self._graph, self._rows, self.table = None, rows, table
        self._of_step = networks_of(table, self._plans.contexts)
        self._graph, self.mode = self._capture()

    def _new_rows(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, Resident]:
        rows: dict[str, Resident] = {}
        try:
            for name, values in inputs.items():
                rows[name] = self._resident(values.shape, self._buffers[name].dtype)
                rows[name].put(values)
        except (UserError, CudaError):
            self._free(rows)
            raise
        return rows

    def _free(self, residents: Mapping[str, Resident]) -> None:
        self._cuda.wait(self._stream)
        for resident in residents.values():
            self._cuda.free(resident.address)

    def encode(self, window: NDArray[np.float32]) -> Encoded:
        self._buffers["window"].put(window)
        self._queue("brain")
        return Encoded(self._buffers["tokens"])

    def step(self, latent: Any, encoded: Encoded, i: int) -> Any:
        self._place("latent", latent)
        self._place("tokens", encoded.tokens)
        self._queue_step(i)
        return self._buffers["latent"]

    def sample(self, noise: NDArray[np.float32], encoded: Encoded) -> Any:
        """All steps; the noise, the same for every picture of a run, goes to the GPU once."""
        self._place("tokens", encoded.tokens)
        if self._noise_known is None or not np.array_equal(self._noise_known, noise):
            self._noise.put(noise)
            self._noise_known = noise.copy()
        self._copy("latent", self._noise)
        if self._graph is not None:
            self._cuda.launch(self._graph, self._stream)
        else:
            self._queue_steps()
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

    def _resident(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Resident:
        size = max(prod(shape) * dtype.itemsize, 1)
        return Resident(self._cuda.allocate(size, self._stream), dtype, shape, self._cuda, self._stream)

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
        network = self._of_step[i]
        for name in (name for name in self._rows if name in self._plans.networks[network].inputs):
            self._copy(name, self._rows[name], i * self._buffers[name].size)
        self._queue(network)
        self._copy("latent", self._buffers["next"])

    def _queue_steps(self) -> None:
        for i in range(len(self.table)):
            self._queue_step(i)

    def _queue(self, network: str) -> None:
        if not self._plans.contexts[network].execute_async_v3(self._stream):
            raise UserError(f"the {network} plan does not run ({self._plans.log.said()}): build the engine again")

    def _capture(self) -> tuple[Any, str]:
        """All steps as one graph, or None and why not."""
        contexts = (self._plans.contexts[network] for network in set(self._of_step))
        asked = [getattr(context, "is_stream_capturable", None) for context in contexts]  # of TensorRT-RTX only
        if not all(capturable is None or capturable(self._stream) for capturable in asked):
            return None, "sampling steps one by one: the runtime cannot be captured in a CUDA graph"
        try:
            graph = self._cuda.capture(self._queue_steps, self._stream)
        except (CudaError, UserError) as error:
            return None, f"sampling steps one by one: not captured in a CUDA graph ({error})"
        return graph, ONE_GRAPH
