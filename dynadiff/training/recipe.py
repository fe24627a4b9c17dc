"""From a data tree to a model folder: what `dynadiff train` does, stage after stage."""

import shutil
from collections.abc import Mapping
from functools import partial

import numpy as np
import torch

from dynadiff.assets import JUDGE
from dynadiff.base.errors import UserError
from dynadiff.base.numbers import spelled
from dynadiff.networks.adapters import Adaptation
from dynadiff.networks.brain import BrainConfig
from dynadiff.networks.facts import sizes_named
from dynadiff.networks.generator import Generator, load_generator
from dynadiff.networks.image_encoder import ImageEncoder
from dynadiff.networks.model import Model, ModelConfig, SharedModel, adapted_model, new_model, new_shared_model
from dynadiff.networks.model_folder import generator_folder, save_model, save_shared_model
from dynadiff.phantom.tree import is_phantom
from dynadiff.recordings.held_out import FILES, HeldOut, listed, write_trials
from dynadiff.recordings.nsd import NSD
from dynadiff.training.dynadiff import own_tokens, train, warm_start
from dynadiff.training.generator.said import Said, said_of
from dynadiff.training.generator.stages import GeneratorTraining, train_generator
from dynadiff.training.pretrained import identity, learnt_before, load_pretrained
from dynadiff.training.processes import check_precision, open_accelerator
from dynadiff.training.request import Recipe, check_choices, check_data, check_size, store_of
from dynadiff.trials.batches import TrialSources
from dynadiff.trials.divide import Parts, divide_all, once
from dynadiff.trials.prepare import prepare_subject, wanted_runs
from dynadiff.trials.store import KINDS, Store, StoredTrials, open_store


def train_recipe(recipe: Recipe) -> str:
    """Train the generator if it is to be trained, then Dynadiff; every stage goes on where it was interrupted.

    Returns one line: on what it was trained, and what was missing. Under several processes the first prepares, the
    others wait.
    """
    config = recipe.choices
    check_choices(recipe)
    check_precision(config)
    subjects_before(recipe)
    missing = check_data(recipe)  # before anything is trained, so that a wrong folder is told at once
    if sizes_named(recipe.generator, recipe.out) is None:
        whole = GeneratorTraining()
        short = whole if recipe.at_most is None else whole.at_most(recipe.at_most)
        train_generator(short, recipe.out, partial(_listen, recipe))  # by all
    accelerator = open_accelerator(config, recipe.deepspeed)  # one at a time: they share their state
    with accelerator.main_process_first():
        generator = load_generator(generator_folder(recipe.generator, recipe.out))
        stores = {f"{subject:02d}": _store(recipe, subject, generator.picture_size) for subject in recipe.subjects}
    parts = divide_all(stores, config.division, recipe.sessions)
    line = _line(recipe, {name: part.learn for name, part in parts.items()}, missing)
    held_out = {name: _held_out(recipe, part) for name, part in parts.items()}
    model = _model(recipe, stores, held_out, generator, line)
    encoder = None
    if config.warm_start or config.anchor:
        encoder = ImageEncoder.load(generator_folder(recipe.generator, recipe.out) / "image_encoder")
    work = recipe.out / "work"
    learn, watched = _sources(parts, config.seed)
    if encoder is not None and config.warm_start:
        warm_start(model, learn, watched, encoder, config, work, accelerator)
    train(model, learn, watched, config, work, encoder, accelerator, recipe.tensorboard)
    if accelerator.is_main_process:
        dtype = torch.float16 if recipe.name == "phantom" else torch.float32
        for name, part in parts.items():
            home = recipe.out if isinstance(model, Model) else recipe.out / f"subject-{name}"
            for what, trials in part.held.items():
                write_trials(home / FILES[what], trials.presentations())
            if recipe.root is not None and is_phantom(recipe.root):  # an export puts it into the engine
                shutil.copyfile(JUDGE, home / JUDGE.name)
        if isinstance(model, Model):
            save_model(model, recipe.out, dtype)
        else:
            save_shared_model(model, recipe.out, dtype)
    accelerator.end_training()
    return line


def _listen(recipe: Recipe, generator: Generator, encoder: ImageEncoder) -> Said:
    """What the brain of the first subject says of pictures, in the tokens and latents of these networks."""
    stores = {f"{subject:02d}": _store(recipe, subject, generator.picture_size) for subject in recipe.subjects}
    learn = next(iter(divide_all(stores, recipe.choices.division, recipe.sessions).values())).learn
    own = own_tokens(generator, encoder, np.array(learn.pictures), layout=True)
    return said_of(learn, own, online=recipe.choices.online == 1)


def _store(recipe: Recipe, subject: int, picture_size: int) -> Store:
    home, config = store_of(recipe, subject), recipe.choices
    if recipe.root is not None:
        nsd = NSD(recipe.root)
        keys, _ = wanted_runs(nsd, subject, recipe.sessions, recipe.allow_missing)
        asked = (config.online < 1, config.online > 0)
        kinds = tuple(kind for kind, wanted in zip(KINDS, asked, strict=True) if wanted)
        store = prepare_subject(nsd, subject, keys, home, config.window, kinds, picture_size)
    else:
        store = open_store(home)
    check_size(store, picture_size)
    return store


def _sources(parts: Mapping[str, Parts], seed: int) -> tuple[TrialSources, TrialSources]:
    """What is learnt from, and what is looked at on the way: one repetition of each picture."""
    sources = ({n: p.learn for n, p in parts.items()}, {n: once(p.watched, seed) for n, p in parts.items()})
    learn, watched = (several if len(several) > 1 else next(iter(several.values())) for several in sources)
    return learn, watched


def _line(recipe: Recipe, learn: Mapping[str, StoredTrials], missing: str) -> str:
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
            voxels, config.length, config.width, generator.told(config.low_level), config.dropout,
            config.timestep_layers, config.aggregation, config.blocks,
        ),
        generator=recipe.generator,
        adaptation=Adaptation(config.trainable, config.rank, config.alpha, config.targets),
        steps=config.sampling_steps, guidance=config.guidance, sampler=config.sampler, spacing=config.spacing,
        unconditional=config.unconditional, trained_on=line, held_out=held_out,
    )  # fmt: skip


def _held_out(recipe: Recipe, parts: Parts) -> HeldOut:
    whose = {f"{subject:02d}" for subject in recipe.subjects} | set(subjects_before(recipe))
    config, lists = recipe.choices, {part: listed(trials.presentations()) for part, trials in parts.held.items()}
    return HeldOut(
        config.split, config.seed, recipe.sessions, tuple(sorted(whose)), lists["test"], lists.get("validation")
    )  # fmt: skip


def subjects_before(recipe: Recipe) -> tuple[str, ...]:
    """Those that the pretrained model has learnt from; UserError where it may know what is to be held out."""
    (first, *_) = recipe.subjects
    return learnt_before(recipe.pretrained, recipe.choices.split, f"{first:02d}") if recipe.pretrained else ()
