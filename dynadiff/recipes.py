"""From a data tree to a model folder: what `dynadiff train` does, stage after stage."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.progress import track

from dynadiff.brain import BrainConfig
from dynadiff.cleaning import Cleaning
from dynadiff.data import TEST_SESSION, Trials, collect, held_out, nsd_runs
from dynadiff.engine import mask_digest
from dynadiff.errors import UserError
from dynadiff.generator import load_generator
from dynadiff.image_encoder import ImageEncoder
from dynadiff.model import ModelConfig, generator_folder, new_model, save_model
from dynadiff.nsd import NSD
from dynadiff.phantom_tree import write_tree
from dynadiff.train_generator import GeneratorTraining, train_generator
from dynadiff.training import PRESETS, Training, train, warm_start
from dynadiff.windows import WindowSpec

PHANTOM_SESSIONS = range(1, 41)  # as many as NSD has of its longest subjects; the first is held out


@dataclass(frozen=True)
class Recipe:
    """What is trained, on whom, and where it goes."""

    preset: str
    root: Path
    subject: int
    out: Path
    generator: str = "generator"  # a folder, "embedded", or "generator": trained first, into out/generator
    steps: int | None = None  # overrides the preset's


def resolve(recipe: Recipe) -> Training:
    if recipe.preset not in PRESETS:
        raise UserError(f"there is no preset {recipe.preset!r}: choose one of {', '.join(PRESETS)}")
    config = PRESETS[recipe.preset]
    return config if recipe.steps is None else replace(config, steps=recipe.steps)


def prepare_phantom(root: Path, subject: int, sessions: range = PHANTOM_SESSIONS) -> None:
    """Write the sessions that are missing of those that the shipped decoder is trained and judged on."""
    for session in track(sessions, "phantom sessions"):
        write_tree(root, [subject], [session])


def train_recipe(recipe: Recipe) -> None:
    """Train the generator if it is to be trained, then Dynadiff; every stage goes on where it was interrupted."""
    config = resolve(recipe)
    nsd = NSD(recipe.root)  # before anything is trained, so that a wrong folder is told at once
    mask = nsd.mask(recipe.subject)
    if recipe.generator == "generator":
        if recipe.preset != "phantom":
            raise UserError(f"preset {recipe.preset} needs a generator: give a diffusers folder with --generator")
        if not (recipe.out / "generator" / "generator.json").exists():
            train_generator(GeneratorTraining(), recipe.out)
    generator = load_generator(generator_folder(recipe.generator, recipe.out))
    spec, cleaning = WindowSpec(), Cleaning()
    learn, unseen = nsd_trials(nsd, recipe.subject, cleaning, spec, generator.picture_size)
    some = nsd.run(recipe.subject, TEST_SESSION, nsd.runs(recipe.subject, TEST_SESSION)[0])
    choices = ModelConfig(
        subject=some.subject, tr=some.tr, mask_sha256=mask_digest(mask), window=spec, cleaning=cleaning,
        brain=BrainConfig(int(mask.sum()), spec.length, config.width, generator.tokens, config.dropout),
        generator=recipe.generator, guidance=config.guidance,
        trained_on=f"{len(learn)} trials of subject {some.subject}, preset {recipe.preset}",
    )  # fmt: skip
    torch.manual_seed(config.seed)  # the same first weights whether the generator was trained just now or before
    model = new_model(choices, generator, mask, some.affine)
    encoder = None
    if config.warm_start or config.anchor:
        encoder = ImageEncoder.load(generator_folder(recipe.generator, recipe.out) / "image_encoder")
    if encoder is not None and config.warm_start:
        warm_start(model, learn, unseen, encoder, config, recipe.out / "work")
    train(model, learn, unseen, config, recipe.out / "work", encoder)
    save_model(model, recipe.out, torch.float16 if recipe.preset == "phantom" else torch.float32)


def nsd_trials(nsd: NSD, subject: int, cleaning: Cleaning, spec: WindowSpec, size: int) -> tuple[Trials, Trials]:
    """Trials to learn from, and the held-out first session none of whose pictures is among them."""
    mask, secret = nsd.mask(subject), held_out(nsd, subject)
    rest = [s for s in nsd.sessions(subject) if s != TEST_SESSION]
    if not rest:
        raise UserError(
            f"only session {TEST_SESSION} of subject {subject} is there: it is held out, add other sessions"
        )
    runs = track(list(nsd_runs(nsd, subject, rest)), "reading runs")
    learn = collect(runs, mask, cleaning, spec, size, lambda event: not secret(event))
    return learn, collect(nsd_runs(nsd, subject, [TEST_SESSION]), mask, cleaning, spec, size)
