"""A stand-in for ``tensorrt`` and ``tensorrt_rtx``: plans hold ONNX graphs, contexts compute with ONNX Runtime.

It has no name that the real modules lack (a test compares them where one is installed), and no more than is used.
"""

from enum import IntEnum

import numpy as np
import onnx
import onnxruntime as ort

DataType = IntEnum("DataType", {"FLOAT": 0, "HALF": 1, "INT32": 3, "UINT8": 5, "INT64": 8})
OF_ONNX = {1: DataType.FLOAT, 10: DataType.HALF, 6: DataType.INT32, 2: DataType.UINT8, 7: DataType.INT64}
OF_ORT = {"tensor(float)": DataType.FLOAT, "tensor(int64)": DataType.INT64, "tensor(uint8)": DataType.UINT8}
NUMPY = {DataType.FLOAT: np.float32, DataType.INT64: np.int64, DataType.UINT8: np.uint8}


def fake_tensorrt(cuda, version="11.4.0.106", capturable=None):
    """The module, for that CUDA; ``capturable`` None is TensorRT, which does not say, and True or False -RTX."""

    class ILogger:
        Severity = IntEnum("Severity", ["INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"])

    class Tensor:
        def __init__(self, value):
            self.name, tensor = value.name, value.type.tensor_type
            self.dtype, self.shape = OF_ONNX[tensor.elem_type], [axis.dim_value for axis in tensor.shape.dim]

    class INetworkDefinition:
        def __init__(self):
            self.inputs, self.outputs, self.model = [], [], b""

        num_inputs = property(lambda self: len(self.inputs))
        num_outputs = property(lambda self: len(self.outputs))

        def get_input(self, i):
            return self.inputs[i]

        def get_output(self, i):
            return self.outputs[i]

    class IBuilderConfig:
        __slots__ = ("_cache", "builder_optimization_level", "flags", "profiling_verbosity")

        def __init__(self):
            self.flags, self._cache = {BuilderFlag.TF32}, None

        def clear_flag(self, flag):
            self.flags.discard(flag)

        def create_timing_cache(self, content):
            return TimingCache(bytes(content)) if content in (b"", version.encode()) else None

        def set_timing_cache(self, cache, ignore_mismatch):
            assert ignore_mismatch is False
            self._cache = cache
            return True

        def get_timing_cache(self):
            return self._cache

    class TimingCache:
        def __init__(self, content):
            self.content = content

        def serialize(self):
            return version.encode()

    class Builder:
        def __init__(self, log):
            self._log = log

        def create_network(self, flags):
            assert flags == 1 << int(NetworkDefinitionCreationFlag.STRONGLY_TYPED)
            return INetworkDefinition()

        def create_builder_config(self):
            return IBuilderConfig()

        def build_serialized_network(self, network, config):
            assert BuilderFlag.TF32 not in config.flags
            Module.timing_caches.append(config.get_timing_cache().content if capturable is None else None)
            if Module.fails_to_build:
                self._log.log(ILogger.Severity.ERROR, "Error Code 10:\n could not find any implementation")
                return None
            return b"PLAN" + version.encode() + b"\0" + network.model

    class ParserError:
        def __init__(self, text):
            self._text = text

        def desc(self):
            return self._text

    class OnnxParser:
        def __init__(self, network, log):
            self._network, self._errors = network, []

        num_errors = property(lambda self: len(self._errors))

        def get_error(self, i):
            return ParserError(self._errors[i])

        def parse(self, model, path):
            proto = onnx.load_from_string(model)
            last = {name: node for node in proto.graph.node for name in node.output}
            for value in proto.graph.output:
                if value.type.tensor_type.elem_type == onnx.TensorProto.UINT8 and last[value.name].op_type != "Cast":
                    self._errors.append("TensorRT does not support UINT8 types\n for intermediate tensors")
                    return False
            self._network.inputs = [Tensor(value) for value in proto.graph.input]
            self._network.outputs = [Tensor(value) for value in proto.graph.output]
            self._network.model = onnx.load(path).SerializeToString()
            return True

    class IExecutionContext:
        def __init__(self, session):
            self._session, self._addresses = session, {}
            if capturable is not None:
                self.is_stream_capturable = lambda stream: capturable

        def set_tensor_address(self, name, address):
            known = [value.name for value in (*self._session.get_inputs(), *self._session.get_outputs())]
            self._addresses[name] = address
            Module.bound.append(name)
            return name in known and name not in Module.unknown

        def execute_async_v3(self, stream):
            assert stream != 0, "the default stream"
            if Module.fails_to_run:
                return False
            if Module.breaks_capture:
                cuda.break_capture()
            inputs, outputs, addresses = self._session.get_inputs(), self._session.get_outputs(), dict(self._addresses)

            def run():
                given = {v.name: at(v, addresses).copy() for v in inputs}
                assert all(np.isfinite(values).all() for values in given.values()), "memory that nobody wrote"
                for value, result in zip(outputs, self._session.run(None, given), strict=True):
                    at(value, addresses)[...] = result

            cuda.queue(stream, run)
            return True

    def at(value, addresses):
        dtype = np.dtype(NUMPY[OF_ORT[value.type]])
        size = int(np.prod(value.shape, dtype=int)) * dtype.itemsize
        return cuda.at(addresses[value.name], size).view(dtype).reshape(value.shape)

    class ICudaEngine:
        def __init__(self, session):
            self._session = session  # outputs first: whoever counts on an order is wrong
            self._tensors = [(v, TensorIOMode.OUTPUT) for v in session.get_outputs()]
            self._tensors += [(v, TensorIOMode.INPUT) for v in reversed(session.get_inputs())]
            self._by_name = {value.name: (value, mode) for value, mode in self._tensors}

        num_io_tensors = property(lambda self: len(self._tensors))

        def get_tensor_name(self, i):
            return self._tensors[i][0].name

        def get_tensor_mode(self, name):
            return self._by_name[name][1]

        def get_tensor_dtype(self, name):
            return OF_ORT[self._by_name[name][0].type]

        def get_tensor_shape(self, name):
            return tuple(self._by_name[name][0].shape)

        def create_execution_context(self):
            return None if Module.no_room else IExecutionContext(self._session)

    class Runtime:
        def __init__(self, log):
            self._log = log

        def deserialize_cuda_engine(self, plan):
            Module.deserialised += 1
            head, _, graph = bytes(plan).partition(b"\0")
            if head != b"PLAN" + version.encode():
                self._log.log(ILogger.Severity.ERROR, "Serialization assertion: kSERIALIZATION_VERSION")
                return None
            options = ort.SessionOptions()
            options.intra_op_num_threads = 1
            return ICudaEngine(ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"]))

    BuilderFlag = IntEnum("BuilderFlag", ["TF32"])
    NetworkDefinitionCreationFlag = IntEnum("NetworkDefinitionCreationFlag", ["STRONGLY_TYPED"])
    ProfilingVerbosity = IntEnum("ProfilingVerbosity", ["DETAILED"])
    TensorIOMode = IntEnum("TensorIOMode", ["INPUT", "OUTPUT"])

    class Module:
        """What the tests turn, and what they look at afterwards, beside the names of the real module."""

        __version__ = version
        fails_to_build = fails_to_run = breaks_capture = no_room = False
        unknown = ()
        deserialised = 0
        bound, timing_caches = [], []

    parts = ILogger, INetworkDefinition, IBuilderConfig, Builder, OnnxParser, IExecutionContext, ICudaEngine, Runtime
    kinds = BuilderFlag, NetworkDefinitionCreationFlag, ProfilingVerbosity, TensorIOMode, DataType
    for part in (*parts, *kinds):
        setattr(Module, part.__name__, part)
    return Module
