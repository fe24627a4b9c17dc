"""The few CUDA calls that a TensorRT engine needs, through NVIDIA's own bindings. Knows no TensorRT.

``cuda-bindings`` installs without a GPU and is a fortieth of PyTorch. Sizes are in bytes, addresses and streams are
integers. The module of the bindings is an argument, so that the order of the calls can be tested without a GPU.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynadiff.base.errors import UserError

NON_BLOCKING = 1  # of a stream: the default stream does not wait for it


class CudaError(RuntimeError):
    """A CUDA call failed for a reason that no user can mend."""


class Cuda:
    """Device 0 of this machine. UserError where there is none, and where its memory is used up."""

    def __init__(self, bindings: Any, kind: str) -> None:
        self._cuda = bindings
        error, count = bindings.cudaGetDeviceCount()
        if error != bindings.cudaError_t.cudaSuccess or not count:
            raise UserError(
                f"the {kind} engine needs an NVIDIA GPU and its driver ({self._words(error)}): "
                "use --engine onnx on this machine"
            )
        device = self._do("cudaGetDeviceProperties", 0)
        self.gpu: str = device.name.split(b"\0")[0].decode()
        self.capability = f"{device.major}.{device.minor}"

    @property
    def version(self) -> str:
        """Of the CUDA runtime, such as 13.0."""
        number = int(self._do("cudaRuntimeGetVersion"))
        return f"{number // 1000}.{number % 1000 // 10}"

    def stream(self) -> int:
        return int(self._do("cudaStreamCreateWithFlags", NON_BLOCKING))

    def allocate(self, size: int, stream: int) -> int:
        """Address of that many bytes, which are zeros for all that the stream is given from then on; does not wait.

        Not by ``cudaMemset``: that is the default stream's, and may overwrite what another stream has put there since.
        """
        address = int(self._do("cudaMalloc", size))
        self._do("cudaMemsetAsync", address, 0, size, stream)
        return address

    def free(self, address: int) -> None:
        """Give back what was allocated there; who calls has waited for all that the streams do with it."""
        self._do("cudaFree", address)

    def upload(self, address: int, values: NDArray[Any], stream: int) -> None:
        """Copy to the device; the values are the caller's again when it returns."""
        values = np.ascontiguousarray(values)
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._do("cudaMemcpyAsync", address, values.ctypes.data, values.nbytes, kind, stream)
        self.wait(stream)

    def download(self, values: NDArray[Any], address: int, stream: int) -> None:
        """Copy from the device into ``values``, after all that the stream has been given."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._do("cudaMemcpyAsync", values.ctypes.data, address, values.nbytes, kind, stream)
        self.wait(stream)

    def copy(self, to: int, address: int, size: int, stream: int) -> None:
        """Copy on the device, in the stream's order; does not wait."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToDevice
        self._do("cudaMemcpyAsync", to, address, size, kind, stream)

    def wait(self, stream: int) -> None:
        self._do("cudaStreamSynchronize", stream)

    def capture(self, work: Callable[[], None], stream: int) -> Any:
        """What ``work`` gives to the stream, as a graph to launch; nothing of it runs. Whatever it raises passes on."""
        self._do("cudaStreamBeginCapture", stream, self._cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal)
        try:
            work()
        finally:  # a stream whose capture is not ended is lost
            error, graph = self._cuda.cudaStreamEndCapture(stream)
            self._cuda.cudaGetLastError()
        self._check("cudaStreamEndCapture", error)
        try:
            return self._do("cudaGraphInstantiate", graph, 0)
        finally:
            self._do("cudaGraphDestroy", graph)

    def launch(self, graph: Any, stream: int) -> None:
        self._do("cudaGraphLaunch", graph, stream)

    def forget(self, graph: Any) -> None:
        """Give back a graph to launch; who calls has waited for its last launch."""
        self._do("cudaGraphExecDestroy", graph)

    def _do(self, call: str, *arguments: Any) -> Any:
        error, *values = getattr(self._cuda, call)(*arguments)
        self._check(call, error)
        return values[0] if values else None

    def _check(self, call: str, error: Any) -> None:
        if error == self._cuda.cudaError_t.cudaErrorMemoryAllocation:
            raise UserError("the GPU's memory is used up: close what else runs on it, or use --engine onnx")
        if error != self._cuda.cudaError_t.cudaSuccess:
            raise CudaError(f"{call}: {self._words(error)}")

    def _words(self, error: Any) -> str:
        return str(self._cuda.cudaGetErrorString(error)[1].decode())


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


def open_cuda(kind: str) -> Cuda:
    """The GPU of this machine, for an engine of that kind. UserError where there is none, or no bindings."""
    try:
        bindings = importlib.import_module("cuda.bindings.runtime")
    except ImportError:
        raise UserError(f"the {kind} engine needs cuda-bindings: pip install 'dynadiff-realtime[{kind}]'") from None
    return Cuda(bindings, kind)
