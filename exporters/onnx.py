"""A model folder becomes ONNX graphs and a manifest, which is all that a decoding machine needs.

In float precision, weights that half precision holds exactly are stored in it and widened when the graph is loaded:
half the size, the same arithmetic. In half precision the networks compute in it, after an audit of the values they
reach. Many weights go into a file of their own, ``step.data`` beside ``step.onnx``, which one protobuf could not hold.
Knows models; knows nothing of runtimes and streams.
"""

import logging
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import nn

from dynadiff.base.errors import UserError
from dynadiff.engines.build import SINGLE, Build
from dynadiff.engines.choice import AS_SET, Sampler
from dynadiff.engines.contract import Manifest, other_sampler
from dynadiff.engines.onnx import SCORER
from dynadiff.engines.probe import make_probe
from dynadiff.engines.torch import TorchEngine, manifest_of
from dynadiff.networks.generator import to_unit
from dynadiff.networks.image_encoder import ImageEncoder
from dynadiff.networks.model import Model
from dynadiff.networks.model_folder import check_sampling, generator_folder, load_model
from dynadiff.recordings.masks import MASK, save_mask
from exporters.choices import FLOAT, Graphs
from exporters.folder import EXPORTER, Say, write_engine
from exporters.graphs import Brain, GuidedStep, UnguidedStep, VaeDecoder
from exporters.identity import graph_digests, onnx_networks, weight_digests
from exporters.judge import copy_judge
from exporters.precision import Reach, audit, halve

logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)  # torchvision is not needed
DTYPES = {"float": torch.float32, "half": torch.float16}


class Scorer(nn.Module):
    """uint8 pictures (n, s, s, 3) to the image encoder's tokens, flattened: the feature space of identification."""

    def __init__(self, encoder: ImageEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        tokens: torch.Tensor = self.encoder(to_unit(pictures))
        return tokens.flatten(1)


def export_onnx(
    model_folder: Path, out: Path, how: Graphs = FLOAT, sampler: Sampler = AS_SET,
    windows: NDArray[np.float32] | None = None, say: Say = print,
) -> list[Reach]:  # fmt: skip
    """Write an engine folder; it appears under its name only when it is complete.

    ``sampler`` is over the model's. Where no step is guided, at exactly 1, the engine has but the one half and takes no
    other guidance; where some are, it has a second step network, of one half, for those that are not. Half precision
    needs ``windows`` (n, voxels, volumes) to audit it with, and gives what every value reached.
    Raises UserError when ``out`` exists and is something else than an engine folder, when the disk is too full, and
    when half precision does not hold the values.
    """
    model = load_model(model_folder, merged=True)
    model.config = model.config.sampled(sampler.of(model.config.sampling()))
    check_sampling(model.config.sampling(), model.generator.schedule, model_folder)
    if (how.precision == "half") != (windows is not None):
        raise ValueError("half precision, and nothing else, is audited with windows")
    if other := other_sampler(model.config.sampler):
        say(f"the onnx engine runs {other}")
    source = generator_folder(model.config.generator, model_folder)
    reached: list[Reach] = []

    def fill(folder: Path) -> Manifest:
        manifest = manifest_of(model, "onnx")
        say(f"probe: {manifest.steps} steps in PyTorch")
        make_probe(TorchEngine(model, manifest), manifest).save(folder)
        for network in (model.brain, model.generator.unet, model.generator.vae):
            network.cpu()
        say("brain module, sampling step and VAE decoder to ONNX")
        write_graphs(model, folder, how, manifest)
        reached.extend([] if windows is None else audit(folder, manifest, windows))
        if (source / "image_encoder").is_dir():
            _scorer(ImageEncoder.load(source / "image_encoder"), model.generator.picture_size, folder / SCORER)
        copy_judge(model_folder, folder)
        save_mask(folder / MASK, model.mask, model.affine)
        return replace(manifest, build=_build(model, model_folder, folder, how))

    weights = sum(path.stat().st_size for folder in (model_folder, source) for path in folder.rglob("*.safetensors"))
    write_engine(out, fill, say, needed=weights // 2)  # in half precision at best
    return reached


def _build(model: Model, model_folder: Path, folder: Path, how: Graphs) -> Build:
    config, networks = model.config, onnx_networks(folder)
    halves = "both halves" if "guidance" in networks["step"].inputs else "one half"
    return Build(
        weights=weight_digests(model_folder, generator_folder(config.generator, model_folder)),
        graphs=graph_digests(folder),
        networks=networks,
        precision=str(DTYPES[how.precision]).removeprefix("torch."),
        choices={
            "model_sampler": config.sampler,
            "opset": how.opset,
            "guidance": f"{halves} and one half" if SINGLE in networks else halves,
            "lora_scale": config.adaptation.alpha / config.adaptation.rank,
        },
        libraries={"torch": torch.__version__, "onnx": onnx.__version__},
        exporter=EXPORTER,
    )


def write_graphs(model: Model, folder: Path, how: Graphs, manifest: Manifest) -> None:
    """Write the networks of a merged model that its table needs; the model is for nothing else from then on."""
    guided = {row.guidance != 1 for row in manifest.sampler}
    write_brain(model, folder / "brain.onnx", how)
    if len(guided) == 2:
        write_step(model, folder / f"{SINGLE}.onnx", how, guided=False)
    write_step(model, folder / "step.onnx", how, guided=True in guided)
    write_decoder(model, folder / "decoder.onnx", how)


def write_brain(model: Model, path: Path, how: Graphs = FLOAT) -> None:
    window = torch.randn(1, model.config.brain.voxels, model.config.brain.volumes)
    export(Brain(model.brain, DTYPES[how.precision]), (window,), path, ["window"], "tokens", how)


def write_step(model: Model, path: Path, how: Graphs = FLOAT, guided: bool = True) -> None:
    """One step, both halves of it or the conditional one alone, which is to be written first where both are."""
    generator, dtype = model.generator, DTYPES[how.precision]
    state = (torch.randn(1, *generator.latent_shape), torch.randn(1, *model.config.brain.tokens), torch.tensor([500]))
    names, coefficients = ["latent", "tokens", "timestep"], torch.tensor([1.0, -0.1])
    if guided:
        both = GuidedStep(generator.unet, generator.schedule.train_steps, dtype, model.null)
        inputs = (*state, torch.tensor(3.0), coefficients)
        export(both, inputs, path, [*names, "guidance", "coefficients"], "next", how)
    else:
        one = UnguidedStep(generator.unet, generator.schedule.train_steps, dtype)
        export(one, (*state, coefficients), path, [*names, "coefficients"], "next", how)


def write_decoder(model: Model, path: Path, how: Graphs = FLOAT) -> None:
    latent = torch.randn(1, *model.generator.latent_shape)
    export(VaeDecoder(model.generator, DTYPES[how.precision]), (latent,), path, ["latent"], "picture", how)


def _scorer(encoder: ImageEncoder, size: int, path: Path) -> None:
    pictures = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    shapes = ({0: torch.export.Dim("n", min=1, max=4096)},)
    export(Scorer(encoder), (pictures,), path, ["pictures"], "features", FLOAT, shapes)


def export(
    network: nn.Module, inputs: tuple[torch.Tensor, ...], path: Path, names: list[str], output: str, how: Graphs,
    dynamic_shapes: tuple[dict[int, torch.export.Dim], ...] | None = None,
) -> None:  # fmt: skip
    """Write and check one network, with fixed shapes unless ``dynamic_shapes`` says otherwise."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of torch's own internals
        program = torch.onnx.export(
            network.eval(), inputs, input_names=names, output_names=[output], dynamo=True, opset_version=how.opset,
            dynamic_shapes=dynamic_shapes, verbose=False,
        )  # fmt: skip
    assert program is not None  # it is None only for the old exporter
    model = halve(anonymous(program.model))
    size = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value is not None)
    free = shutil.disk_usage(path.parent).free
    if free < size:
        raise UserError(
            f"{path.name} needs {size / 1e6:.0f} MB and {path.parent.parent} has {free / 1e6:.0f} MB: make room there"
        )
    ir.save(model, path, external_data=path.with_suffix(".data").name if size >= how.external else None)
    onnx.checker.check_model(path, full_check=True)


def anonymous(model: ir.Model) -> ir.Model:
    """Drop the exporter's notes on where each node came from: they name files of the machine that exported."""
    graph = model.graph
    values = [*graph.inputs, *graph.initializers.values(), *(value for node in graph for value in node.outputs)]
    for part in (model, graph, *graph, *values):
        part.metadata_props.clear()
        part.doc_string = None
    return model
