"""From a data tree to a model folder: what `dynadiff train` does, stage after stage."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from dynadiff.base.errors import UserError
from dynadiff.base.numbers import spelled
from dynadiff.networks.adapters import Adaptation
from dynadiff.networks.brain import BrainConfig
from dynadiff.networks.generator import Generator, load_generator
from dynadiff.networks.image_encoder import ImageEncoder
from dynadiff.networks.model import Model, ModelConfig, SharedModel, adapted_model, new_model, new_shared_model
from dynadiff.networks.model_folder import generator_folder, save_model, save_shared_model
from dynadiff.recordings.held_out import TEST, HeldOut, listed, write_trials
from dynadiff.recordings.nsd import NSD
from dynadiff.training.dynadiff import train, warm_start
from dynadiff.training.generator import GeneratorTraining, train_generator
from dynadiff.training.presets import Training
from dynadiff.training.pretrained import identity, learnt_before, load_pretrained
from dynadiff.training.processes import open_accelerator
from dynadiff.trials.divide import Divided, divide_all, once
from dynadiff.trials.prepare import prepare_subject, wanted_runs
from dynadiff.trials.store import KINDS, Store, StoredTrials, open_store, store_home


@dataclass(frozen=True)
class Recipe:
    """What is trained, on whom, and where it goes."""

    name: str  # of the preset, for a reader
    choices: Training
    root: Path | None  # the tree, prepared into out/store; None: the store is there already
    subjects: tuple[int, ...]  # several share a brain module and a generator
    out: Path
    generator: str = "generator"  # a folder, "embedded", or "generator": trained first, into out/generator
    store: Path | None = None  # a folder of stores, prepared before
    sessions: tuple[int, ...] | None = None  # None: all that NSD has of a subject, or that the store holds
    allow_missing: bool = False
    tensorboard: bool = False
    deepspeed: bool = False
    pretrained: Path | None = None  # folder of other subjects' model, to be adapted to this one


def train_recipe(recipe: Recipe) -> str:
    """Train the generator if it is to be trained, then Dynadiff; every stage goes on where it was interrupted.

    Returns one line: on what it was trained, and what was missing. Under several processes the first prepares, the
    others wait.
    """
    config = recipe.choices
    if recipe.generator == "generator" and recipe.name != "phantom":
        raise UserError(f"preset {recipe.name} needs a generator: give a diffusers folder with --generator")
    if recipe.pretrained and len(recipe.subjects) > 1:
        raise UserError("a pretrained model is adapted to one subject at a time: name one with --subjects")
    _learnt_before(recipe)
    missing = _check_data(recipe)  # before anything is trained, so that a wrong folder is told at once
    if recipe.generator == "generator" and not (recipe.out / "generator" / "generator.json").exists():
        train_generator(GeneratorTraining(), recipe.out)  # by all processes together
    accelerator = open_accelerator(config, recipe.deepspeed)  # one at a time: they share their state
    with accelerator.main_process_first():
        generator = load_generator(generator_folder(recipe.generator, recipe.out))
        stores = {f"{subject:02d}": _store(recipe, subject, generator.picture_size) for subject in recipe.subjects}
    learn, test = divide_all(stores, config.division, recipe.sessions)
    line = _line(recipe, learn, missing)
    held_out = {name: _held_out(recipe, trials) for name, trials in test.items()}
    model = _model(recipe, stores, held_out, generator, line)
    encoder = None
    if config.warm_start or config.anchor:
        encoder = ImageEncoder.load(generator_folder(recipe.generator, recipe.out) / "image_encoder")
    work = recipe.out / "work"
    looked_at = {name: once(trials, config.seed) for name, trials in test.items()}
    learnt, unseen = (trials if len(trials) > 1 else next(iter(trials.values())) for trials in (learn, looked_at))
    if encoder is not None and config.warm_start:
        warm_start(model, learnt, unseen, encoder, config, work, accelerator)
    train(model, learnt, unseen, config, work, encoder, accelerator, recipe.tensorboard)
    if accelerator.is_main_process:
        dtype = torch.float16 if recipe.name == "phantom" else torch.float32
        for name, trials in test.items():
            home = recipe.out if isinstance(model, Model) else recipe.out / f"subject-{name}"
            write_trials(home / TEST, trials.presentations())
        if isinstance(model, Model):
            save_model(model, recipe.out, dtype)
        else:
            save_shared_model(model, recipe.out, dtype)
    accelerator.end_training()
    return line


def _check_data(recipe: Recipe) -> str:
    """What the tree lacks, as a clause; UserError where nothing can come of it."""
    if recipe.root is None:
        for subject in recipe.subjects:
            open_store(_home(recipe, subject))
        return ""
    nsd = NSD(recipe.root)
    missing = (wanted_runs(nsd, subject, recipe.sessions, recipe.allow_missing)[1] for subject in recipe.subjects)
    return " and ".join(filter(None, missing))


def _store(recipe: Recipe, subject: int, picture_size: int) -> Store:
    home, config = _home(recipe, subject), recipe.choices
    if recipe.root is not None:
        nsd = NSD(recipe.root)
        keys, _ = wanted_runs(nsd, subject, recipe.sessions, recipe.allow_missing)
        asked = (config.online < 1, config.online > 0)
        kinds = tuple(kind for kind, wanted in zip(KINDS, asked, strict=True) if wanted)
        store = prepare_subject(nsd, subject, keys, home, config.window, kinds, picture_size)
    else:
        store = open_store(home)
    if store.plan.picture_size != picture_size:
        raise UserError(
            f"{home} holds pictures of {store.plan.picture_size} pixels and the generator makes {picture_size}: "
            f"prepare another with --picture-size {picture_size}"
        )
    return store


def _home(recipe: Recipe, subject: int) -> Path:
    return store_home(recipe.store or recipe.out / "store", subject)


def _line(recipe: Recipe, learn: Divided, missing: str) -> str:
    """On what it was trained, for a reader."""
    trials, dropped = (sum(numbers) for numbers in zip(*((len(t), t.dropped) for t in learn.values()), strict=True))
    whose = f"subject{'s' * (len(learn) > 1)} {', '.join(learn)}"
    sessions = spelled(sorted({int(session) for t in learn.values() for session in t.sessions}))
    start = f", from {recipe.pretrained.name} ({identity(recipe.pretrained)})" if recipe.pretrained else ""
    return (
        f"{trials} trials of {whose}, sessions {sessions}, preset {recipe.name}, split {recipe.choices.split}{start}, "
        f"{dropped} windows outside their runs left out" + (f", without {missing}" if missing else "")
    )


def _model(
    recipe: Recipe, stores: Mapping[str, Store], held_out: Mapping[str, HeldOut], generator: Generator, line: str
) -> Model | SharedModel:
    configs = {name: _model_config(recipe, store, held_out[name], generator, line) for name, store in stores.items()}
    masks, affines = ({name: getattr(store, what) for name, store in stores.items()} for what in ("mask", "affine"))
    seed = recipe.choices.seed
    if len(stores) > 1:
        return new_shared_model(configs, generator, masks, affines, seed)
    (name,) = stores
    if recipe.pretrained is None:
        return new_model(configs[name], generator, masks[name], affines[name], seed)
    pretrained = load_pretrained(recipe.pretrained)
    try:
        return adapted_model(pretrained, configs[name], generator, masks[name], affines[name], seed)
    except ValueError as error:
        raise UserError(f"{recipe.pretrained} cannot be gone on from: {error}") from None


def _model_config(recipe: Recipe, store: Store, held_out: HeldOut, generator: Generator, line: str) -> ModelConfig:
    config, voxels = recipe.choices, int(store.mask.sum())
    return ModelConfig(
        subject=store.plan.subject, tr=store.tr, mask_sha256=store.plan.mask_sha256, window=config.window,
        cleaning=store.plan.cleaning,
        brain=BrainConfig(
            voxels, config.length, config.width, generator.tokens, config.dropout, config.timestep_layers,
            config.aggregation, config.blocks,
        ),
        generator=recipe.generator,
        adaptation=Adaptation(config.trainable, config.rank, config.alpha, config.targets),
        steps=config.sampling_steps, guidance=config.guidance, sampler=config.sampler,
        unconditional=config.unconditional, trained_on=line, held_out=held_out,
    )  # fmt: skip


def _held_out(recipe: Recipe, trials: StoredTrials) -> HeldOut:
    whose = {f"{subject:02d}" for subject in recipe.subjects} | set(_learnt_before(recipe))
    config = recipe.choices
    return HeldOut(config.split, config.seed, recipe.sessions, tuple(sorted(whose)), listed(trials.presentations()))


def _learnt_before(recipe: Recipe) -> tuple[str, ...]:
    (first, *_) = recipe.subjects
    return learnt_before(recipe.pretrained, recipe.choices.split, f"{first:02d}") if recipe.pretrained else ()
