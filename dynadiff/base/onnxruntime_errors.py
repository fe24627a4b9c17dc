"""What ONNX Runtime raises for a graph that it cannot open or run: its errors have no common kind of their own."""

from onnxruntime.capi import onnxruntime_pybind11_state as runtime

ERRORS = (
    runtime.Fail, runtime.EPFail, runtime.EngineError, runtime.NotImplemented, runtime.InvalidGraph,
    runtime.InvalidArgument, runtime.InvalidProtobuf, runtime.NoSuchFile, runtime.NoModel, runtime.RuntimeException,
    RuntimeError,
)  # fmt: skip
