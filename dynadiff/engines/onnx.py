"""The ONNX Runtime engine: three graphs or four, and no PyTorch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from dynadiff.base.errors import UserError
from dynadiff.base.onnxruntime_errors import ERRORS
from dynadiff.engines.build import SINGLE
from dynadiff.engines.contract import Encoded, Engine, Manifest
from dynadiff.engines.sampler import Table, networks_of, step_inputs
from dynadiff.scores.identification import Features

CUDA = "CUDAExecutionProvider"
SCORER = "scorer.onnx"  # not part of the engine: the image encoder, for identification


def open_onnx(folder: Path, manifest: Manifest, threads: int = 0) -> "OnnxEngine":
    sessions = {name: open_session(folder / f"{name}.onnx", threads) for name in manifest.networks}
    return OnnxEngine(sessions, manifest.sampler)


def open_session(path: Path, threads: int = 0) -> ort.InferenceSession:
    """A graph on the GPU where this ONNX Runtime was built for one, and then nowhere else; on the CPU otherwise."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # what goes wrong is raised, in the same words
    if CUDA not in ort.get_available_providers():
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")  # of single nodes
    float32 = {"use_tf32": "0"}  # which is on without this: ten bits of mantissa in products, too few for the probe
    try:
        return ort.InferenceSession(str(path), options, providers=[(CUDA, float32)], enable_fallback=0)  # of the whole
    except ERRORS as error:
        words = " ".join(str(error).split())
        raise UserError(
            f"ONNX Runtime does not run {path} on the GPU alone ({words}): install the GPU's driver and CUDA, export "
            "the engine with another --opset, or install onnxruntime instead of onnxruntime-gpu"
        ) from error


class OnnxEngine(Engine):
    """Runs the brain module, the step, the decoder and, where there is one, the step of one half: sessions by name.

    Raises UserError when the graphs are for guidance 1 and the table asks for another.
    """

    def __init__(self, networks: Mapping[str, Any], table: Table) -> None:
        self._networks = networks
        self._takes = {n: {given.name for given in networks[n].get_inputs()} for n in {"step", SINGLE} & set(networks)}
        self.use(table)

    def use(self, table: Table) -> None:
        self._rows = step_inputs(table, self._takes["step"])
        self._of_step = networks_of(table, self._networks)
        self.table = table

    def encode(self, window: NDArray[np.float32]) -> Encoded:
        return Encoded(self._networks["brain"].run(None, {"window": window[None]})[0])

    def step(self, latent: Any, encoded: Encoded, i: int) -> Any:
        network = self._of_step[i]
        given = {"latent": _batch(latent), "tokens": encoded.tokens}
        for name in self._rows.keys() & self._takes[network]:
            given[name] = self._rows[name][i, ...]  # ``...``: a scalar too must be an array
        return self._networks[network].run(None, given)[0]

    def render(self, latent: Any) -> NDArray[np.uint8]:
        return np.asarray(self._networks["decoder"].run(None, {"latent": _batch(latent)})[0][0])


def _batch(latent: Any) -> Any:
    return latent if latent.ndim == 4 else latent[None]


def open_scorer(path: Path, size: int) -> Features:
    """The image encoder as a feature space: pictures (n, h, w, 3) of any size to features (n, d)."""
    session = open_session(path)

    def features(pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
        same = [cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA) for picture in pictures]
        return np.asarray(session.run(None, {"pictures": np.stack(same)})[0], np.float64)

    return features
