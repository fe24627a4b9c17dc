"""A model folder becomes three ONNX graphs and a manifest, which is all that a decoding machine needs.

Adapters are merged before export. Weights that half precision holds exactly are stored in it and widened when the
graph is loaded: half the size, the same arithmetic. Knows models; knows nothing of runtimes and streams.
"""

import warnings
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import nn

from dynadiff.build import Build
from dynadiff.engine import MASK, Manifest
from dynadiff.engine_onnx import GRAPHS, SCORER
from dynadiff.engine_torch import TorchEngine, manifest_of
from dynadiff.generator import to_unit
from dynadiff.image_encoder import ImageEncoder
from dynadiff.model import Model, Render, Step, generator_folder, load_model
from dynadiff.probe import make_probe
from exporters.folder import EXPORTER, Say, write_engine
from exporters.identity import graph_digests, onnx_networks, weight_digests

OPSET = 23
SMALL = 256  # elements; below it a Cast node costs more than it saves


class Scorer(nn.Module):
    """uint8 pictures (n, s, s, 3) to the image encoder's tokens, flattened: the feature space of identification."""

    def __init__(self, encoder: ImageEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        tokens: torch.Tensor = self.encoder(to_unit(pictures))
        return tokens.flatten(1)


def export_onnx(model_folder: Path, out: Path, say: Say = print) -> Manifest:
    """Write an engine folder; it appears under its name only when it is complete.

    Raises UserError when ``out`` exists and is something else than an engine folder, or the disk is full.
    """
    model = load_model(model_folder, merged=True)
    source = generator_folder(model.config.generator, model_folder)

    def fill(folder: Path) -> Manifest:
        manifest = manifest_of(model, "onnx")
        say(f"probe: {manifest.steps} steps in PyTorch")
        make_probe(TorchEngine(model, manifest), manifest).save(folder)
        for network in (model.brain, model.generator.unet, model.generator.vae):
            network.cpu()
        say("brain module, sampling step and VAE decoder to ONNX")
        _graphs(model, folder)
        build = Build(
            weights=weight_digests(model_folder, source),
            graphs=graph_digests(folder),
            networks=onnx_networks(folder),
            precision="float32",
            choices={
                "opset": OPSET,
                "guidance": "both halves",
                "lora_scale": model.config.lora_alpha / model.config.lora_rank,
            },
            libraries={"torch": torch.__version__, "onnx": onnx.__version__},
            exporter=EXPORTER,
        )
        if (source / "image_encoder").is_dir():
            _scorer(ImageEncoder.load(source / "image_encoder"), model.generator.picture_size, folder / SCORER)
        nib.save(nib.Nifti1Image(model.mask.astype(np.uint8), model.affine), folder / MASK)
        return replace(manifest, build=build)

    weights = sum(path.stat().st_size for folder in (model_folder, source) for path in folder.rglob("*.safetensors"))
    return write_engine(out, fill, say, needed=weights // 2)  # in half precision at best


def _graphs(model: Model, folder: Path) -> None:
    config, generator = model.config, model.generator
    latent = torch.randn(1, *generator.latent_shape)
    tokens = torch.randn(1, *config.brain.tokens)
    window = torch.randn(1, config.brain.voxels, config.brain.volumes)
    step = (latent, tokens, torch.tensor([500]), torch.tensor(3.0), torch.tensor([1.0, -0.1]))
    brain, stepper, decoder = (folder / name for name in GRAPHS)
    export(model.brain, (window,), brain, ["window"], "tokens")
    export(
        Step(generator.unet),
        step,
        stepper,
        ["latent", "tokens", "timestep", "guidance", "coefficients"],
        "next",
    )
    export(Render(generator), (latent,), decoder, ["latent"], "picture")


def _scorer(encoder: ImageEncoder, size: int, path: Path) -> None:
    pictures = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    shapes = ({0: torch.export.Dim("n", min=1, max=4096)},)
    export(Scorer(encoder), (pictures,), path, ["pictures"], "features", shapes)


def export(
    network: nn.Module, inputs: tuple[torch.Tensor, ...], path: Path, names: list[str], output: str,
    dynamic_shapes: tuple[dict[int, torch.export.Dim], ...] | None = None,
) -> None:  # fmt: skip
    """Write one network as one file, with fixed shapes unless ``dynamic_shapes`` says otherwise."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of torch's own internals
        program = torch.onnx.export(
            network.eval(), inputs, input_names=names, output_names=[output], dynamo=True, opset_version=OPSET,
            dynamic_shapes=dynamic_shapes, verbose=False,
        )  # fmt: skip
    assert program is not None  # it is None only for the old exporter
    proto = halve(anonymous(program.model_proto))
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, path)


def anonymous(model: onnx.ModelProto) -> onnx.ModelProto:
    """Drop the exporter's notes on where each node came from: they name files of the machine that exported."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
    return model


def halve(model: onnx.ModelProto) -> onnx.ModelProto:
    """Store each float32 weight that float16 holds exactly as float16, behind a Cast back to float32."""
    graph = model.graph
    casts = []
    for weight in graph.initializer:
        if weight.data_type != onnx.TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(weight)
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if values.size < SMALL or not np.array_equal(half.astype(np.float32), values):
            continue
        name = weight.name
        weight.CopyFrom(numpy_helper.from_array(half, name + "_half"))
        casts.append(helper.make_node("Cast", [name + "_half"], [name], to=onnx.TensorProto.FLOAT))
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend(casts + nodes)
    return model
