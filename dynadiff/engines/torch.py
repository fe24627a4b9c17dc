"""The torch engine: the reference that every other engine is compared with. Adapters merged, float32, CPU or CUDA."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dynadiff.engines.build import Build
from dynadiff.engines.choice import Sampler
from dynadiff.engines.contract import Decoder, Encoded, Engine, Manifest, other_sampler
from dynadiff.engines.sampler import Table, ddim, spacing_of, step_inputs
from dynadiff.networks.model import Model
from dynadiff.networks.model_folder import load_model
from dynadiff.networks.sampling import Render, SingleStep, Step


class TorchEngine(Engine):
    """``compiler`` is a backend of torch.compile; what it makes is compiled before the first picture is asked for."""

    def __init__(self, model: Model, manifest: Manifest, compiler: str = "") -> None:
        torch.backends.cudnn.allow_tf32 = False  # this engine is what others are held to
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._brain = model.brain.to(self._device)
        self._step = Step(model.generator.unet, model.null).to(self._device)
        self._single = SingleStep(model.generator.unet).to(self._device)
        self._render = Render(model.generator).to(self._device)
        self.use(manifest.sampler)
        how = f"compiled by {compiler}" if compiler else ""
        self.mode = ", ".join(filter(None, (how, other_sampler(model.config.sampler))))
        if compiler:
            for network in (self._brain, self._step, self._single, self._render):
                network.compile(backend=compiler, dynamic=False)
            encoded = self.encode(np.zeros((manifest.voxels, manifest.window_length), np.float32))
            latent = np.zeros(manifest.latent_shape, np.float32)
            for i in {row.guidance == 1: i for i, row in enumerate(self.table)}.values():  # a step of either kind
                self.render(self.step(latent, encoded, i))

    def use(self, table: Table) -> None:
        rows = step_inputs(table, {"timestep", "guidance", "coefficients"})
        self._rows = {name: torch.from_numpy(values).to(self._device) for name, values in rows.items()}
        self.table = table

    @torch.inference_mode()
    def encode(self, window: NDArray[np.float32]) -> Encoded:
        return Encoded(self._brain(torch.from_numpy(window)[None].to(self._device)))

    @torch.inference_mode()
    def step(self, latent: Any, encoded: Encoded, i: int) -> Any:
        row = {name: values[i] for name, values in self._rows.items()}
        state = self._here(latent, 4), self._here(encoded.tokens, 3)
        if self.table[i].guidance == 1:
            return self._single(*state, row["timestep"], row["coefficients"])
        return self._step(*state, **row)

    @torch.inference_mode()
    def render(self, latent: Any) -> NDArray[np.uint8]:
        return np.asarray(self._render(self._here(latent, 4))[0].cpu().numpy())

    def _here(self, values: Any, axes: int) -> torch.Tensor:
        here = torch.as_tensor(values, device=self._device)
        return here if here.ndim == axes else here[None]


def manifest_of(model: Model, kind: str, build: Build | None = None) -> Manifest:
    """What an engine made of this model must say of itself; whoever writes its folder adds the files."""
    config, schedule = model.config, model.generator.schedule
    table = ddim(schedule, config.steps, config.guidance, config.spacing)
    return Manifest(
        kind=kind, subject=config.subject, tr=config.tr, voxels=config.brain.voxels, mask_sha256=config.mask_sha256,
        window_offset=config.window.offset, window_length=config.window.length, cleaning=config.cleaning,
        latent_shape=model.generator.latent_shape, picture_size=model.generator.picture_size,
        sampler=table, schedule=schedule, files={}, build=build, spacing=spacing_of(table, schedule),
    )  # fmt: skip


def open_torch(folder: Path, threads: int, sampler: Sampler, compiler: str = "") -> Decoder:
    if threads:
        torch.set_num_threads(threads)
    model = load_model(folder, merged=True)
    manifest = sampler.over(manifest_of(model, "torch"))
    engine = TorchEngine(model, manifest, compiler)
    return Decoder(engine, manifest, model.mask, model.affine)
