"""From a data tree to a model folder: what `dynadiff train` does, stage after stage."""

from collections.abc import Mapping
from pathlib import Path

import torch

from dynadiff.base.errors import UserError
from dynadiff.base.files import atomic, file_digest
from dynadiff.base.numbers import spelled
from dynadiff.networks.adapters import Adaptation
from dynadiff.networks.brain import BrainConfig
from dynadiff.networks.facts import sizes_named
from dynadiff.networks.generator import Generator, load_generator
from dynadiff.networks.image_encoder import ImageEncoder
from dynadiff.networks.model import Model, ModelConfig, SharedModel, adapted_model, new_model, new_shared_model
from dynadiff.networks.model_folder import CONFIG, generator_folder, load_model, save_model, save_shared_model
from dynadiff.recordings.nsd import NSD
from dynadiff.training.dynadiff import train, warm_start
from dynadiff.training.generator import GeneratorTraining, train_generator
from dynadiff.training.processes import check_precision, open_accelerator
from dynadiff.training.request import Recipe, check_choices, check_data, check_size, one_of, store_of
from dynadiff.trials.divide import Divided, divide_all
from dynadiff.trials.prepare import prepare_subject, wanted_runs
from dynadiff.trials.store import KINDS, Store, open_store


def train_recipe(recipe: Recipe) -> str:
    """Train the generator if it is to be trained, then Dynadiff; every stage goes on where it was interrupted.

    Returns one line: on what it was trained, and what was missing. Under several processes the first prepares, the
    others wait.
    """
    config = recipe.choices
    check_choices(recipe)
    check_precision(config)
    missing = check_data(recipe)  # before anything is trained, so that a wrong folder is told at once
    if sizes_named(recipe.generator, recipe.out) is None:
        whole = GeneratorTraining()
        train_generator(whole if recipe.at_most is None else whole.at_most(recipe.at_most), recipe.out)  # by all
    accelerator = open_accelerator(config, recipe.deepspeed)  # one at a time: they share their state
    with accelerator.main_process_first():
        generator = load_generator(generator_folder(recipe.generator, recipe.out))
        stores = {f"{subject:02d}": _store(recipe, subject, generator.picture_size) for subject in recipe.subjects}
    learn, test = divide_all(stores, config.division, recipe.sessions)
    line = _line(recipe, learn, missing)
    if accelerator.is_main_process:
        _write_split(recipe.out / "work" / "test-trials.tsv", test)
    model = _model(recipe, stores, generator, line)
    encoder = None
    if config.warm_start or config.anchor:
        encoder = ImageEncoder.load(generator_folder(recipe.generator, recipe.out) / "image_encoder")
    work = recipe.out / "work"
    learnt, unseen = (trials if len(trials) > 1 else next(iter(trials.values())) for trials in (learn, test))
    if encoder is not None and config.warm_start:
        warm_start(model, learnt, unseen, encoder, config, work, accelerator)
    train(model, learnt, unseen, config, work, encoder, accelerator, recipe.tensorboard)
    if accelerator.is_main_process:
        dtype = torch.float16 if recipe.name == "phantom" else torch.float32
        if isinstance(model, Model):
            save_model(model, recipe.out, dtype)
        else:
            save_shared_model(model, recipe.out, dtype)
    accelerator.end_training()
    return line


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


def _line(recipe: Recipe, learn: Divided, missing: str) -> str:
    """On what it was trained, for a reader."""
    trials, dropped = (sum(numbers) for numbers in zip(*((len(t), t.dropped) for t in learn.values()), strict=True))
    whose = f"subject{'s' * (len(learn) > 1)} {', '.join(learn)}"
    sessions = spelled(sorted({int(session) for t in learn.values() for session in t.sessions}))
    start = f", from {recipe.pretrained.name} ({_identity(recipe.pretrained)})" if recipe.pretrained else ""
    return (
        f"{trials} trials of {whose}, sessions {sessions}, preset {recipe.name}, split {recipe.choices.split}{start}, "
        f"{dropped} windows outside their runs left out" + (f", without {missing}" if missing else "")
    )


def _identity(pretrained: Path) -> str:
    """Of a model folder: its configuration holds the digests of its weights."""
    return file_digest(one_of(pretrained) / CONFIG)[:12]


def _model(recipe: Recipe, stores: Mapping[str, Store], generator: Generator, line: str) -> Model | SharedModel:
    configs = {name: _model_config(recipe, store, generator, line) for name, store in stores.items()}
    masks, affines = ({name: getattr(store, what) for name, store in stores.items()} for what in ("mask", "affine"))
    torch.manual_seed(
        recipe.choices.seed
    )  # the same first weights whether the generator was trained just now or before
    if len(stores) > 1:
        return new_shared_model(configs, generator, masks, affines)
    (name,) = stores
    if recipe.pretrained is None:
        return new_model(configs[name], generator, masks[name], affines[name])
    pretrained = load_model(one_of(recipe.pretrained))
    try:
        return adapted_model(pretrained, configs[name], generator, masks[name], affines[name])
    except ValueError as error:
        raise UserError(f"{recipe.pretrained} cannot be gone on from: {error}") from None


def _model_config(recipe: Recipe, store: Store, generator: Generator, line: str) -> ModelConfig:
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
        unconditional=config.unconditional, trained_on=line,
    )  # fmt: skip


def _write_split(path: Path, test: Divided) -> None:
    """The trials that are looked at: run and picture, so that what was held out can be read off."""
    lines = [f"{trials.run_names[run]}\t{trials.names[picture]}\n"
             for trials in test.values() for run, picture in zip(trials.runs, trials.seen, strict=True)]  # fmt: skip
    with atomic(path) as new:
        new.write_text("run\tpicture\n" + "".join(lines))
