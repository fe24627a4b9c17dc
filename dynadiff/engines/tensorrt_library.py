"""Which TensorRT there is: the same Python names, from ``tensorrt`` or ``tensorrt_rtx``, imported when asked for."""

import importlib
from typing import Any

from dynadiff.base.errors import UserError
from dynadiff.engines.build import Build, specification

MODULES = {"trt": "tensorrt", "trt-rtx": "tensorrt_rtx"}
ATTENTION_SINCE = {  # whose parser takes the operator Attention, which opset 23 brings
    "trt": (10, 14),  # the first by its release notes
    "trt-rtx": (1, 7),  # the oldest that the tests build with: its release notes do not say
}
TYPES = {"FLOAT": "float32", "HALF": "float16", "INT32": "int32", "INT64": "int64", "UINT8": "uint8", "BOOL": "bool"}


def load_tensorrt(kind: str) -> Any:
    """The module of engine kind trt or trt-rtx; UserError where it is not installed, or does not load."""
    try:
        return importlib.import_module(MODULES[kind])
    except ModuleNotFoundError:
        raise UserError(
            f"the {kind} engine needs the package {MODULES[kind]}: pip install 'dynadiff-realtime[{kind}]'"
        ) from None
    except (ImportError, OSError) as error:
        raise UserError(
            f"{MODULES[kind]} is installed but does not load ({error}): "
            f"pip install --force-reinstall 'dynadiff-realtime[{kind}]'"
        ) from None


def refuse_older(trt: Any, kind: str, build: Build) -> None:
    """UserError where this TensorRT is older than the operators of the graphs that ``build`` is of."""
    opset = build.choices.get("opset")
    version = tuple(int(part) for part in trt.__version__.split(".")[:2])
    oldest = ATTENTION_SINCE[kind]
    if opset == 23 and version < oldest:
        raise UserError(
            f"{MODULES[kind]} {trt.__version__} is too old for the operator Attention of graphs of opset 23, which is "
            f"known to be taken from {'.'.join(map(str, oldest))} on: install a newer one with pip install "
            f"'dynadiff-realtime[{kind}]', or export graphs for this one with `dynadiff export onnx --opset 20`"
        )


def new_log(trt: Any) -> Any:
    """A logger for that module, which keeps what it is told of errors in ``errors``."""

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.errors.append(" ".join(message.split()))

        def said(self) -> str:
            return "; ".join(self.errors[-3:]) or "it gives no reason"

    return Log()


def tensor_specification(dtype: Any, shape: Any) -> str:
    """A tensor of a network or of an engine, as manifests write it."""
    return specification(TYPES.get(dtype.name, dtype.name.lower()), tuple(int(n) for n in shape))
