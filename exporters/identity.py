"""What the record of a build says of files: digests of weights and graphs, and what the graphs take and give."""

from pathlib import Path

import onnx

from dynadiff.base.files import file_digest
from dynadiff.engines.build import NETWORKS, SINGLE, Network, specification
from dynadiff.networks.model_folder import CONFIG, load_config
from dynadiff.recordings.masks import MASK

TYPES = {
    onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.FLOAT16: "float16", onnx.TensorProto.INT64: "int64",
    onnx.TensorProto.INT32: "int32", onnx.TensorProto.UINT8: "uint8",
}  # fmt: skip


def weight_digests(model: Path, generator: Path) -> dict[str, str]:
    """File to sha256 of all that a decoder's numbers come from; the generator may lie in any folder."""
    config = load_config(model)
    names = (CONFIG, MASK, *config.brain_files, *config.unet_files)
    digests = {name: file_digest(model / name) for name in names}
    for path in sorted(generator.rglob("*")):
        if path.suffix in (".json", ".safetensors"):
            digests[f"generator/{path.relative_to(generator).as_posix()}"] = file_digest(path)
    return digests


def graph_digests(folder: Path) -> dict[str, str]:
    """File to sha256 of the graphs and whatever they keep outside of their own file."""
    known = (*NETWORKS, SINGLE)
    return {path.name: file_digest(path) for path in sorted(folder.iterdir()) if path.name.split(".")[0] in known}


def onnx_networks(folder: Path) -> dict[str, Network]:
    """Inputs and outputs of each network as its graph declares them."""
    paths = (folder / f"{name}.onnx" for name in (*NETWORKS, SINGLE))
    return {path.stem: _network(path) for path in paths if path.stem in NETWORKS or path.exists()}


def _network(path: Path) -> Network:
    graph = onnx.load(path, load_external_data=False).graph
    return Network(*({value.name: _specification(value) for value in side} for side in (graph.input, graph.output)))


def _specification(value: onnx.ValueInfoProto) -> str:
    tensor = value.type.tensor_type
    return specification(TYPES[tensor.elem_type], tuple(axis.dim_value for axis in tensor.shape.dim))
