"""From a data tree to a model folder: what `dynadiff train` does, stage after stage."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.progress import track

from dynadiff.brain import BrainConfig
from dynadiff.cleaning import Cleaning
from dynadiff.data import TEST_SESSION, Trials, collect, held_out, nsd_runs
from dynadiff.errors import UserError
from dynadiff.generator import Generator, load_generator
from dynadiff.image_encoder import ImageEncoder
from dynadiff.machines import open_accelerator
from dynadiff.model import ModelConfig, new_model
from dynadiff.model_folder import generator_folder, save_model
from dynadiff.nsd import NSD
from dynadiff.phantom_tree import write_tree
from dynadiff.prepare import prepare_subject, wanted_runs
from dynadiff.presets import Training
from dynadiff.splits import Presentations, one_repetition, split
from dynadiff.store import KINDS, Store, StoredTrials, open_store, store_home
from dynadiff.train_generator import GeneratorTraining, train_generator
from dynadiff.training import train, warm_start
from dynadiff.whole import whole
from dynadiff.windows import WindowSpec

PHANTOM_SESSIONS = range(1, 41)  # as many as NSD has of its longest subjects; the first is held out


@dataclass(frozen=True)
class Recipe:
    """What is trained, on whom, and where it goes."""

    name: str  # of the preset, for a reader
    choices: Training
    root: Path | None  # the tree, prepared into out/store; None: the store is there already
    subject: int
    out: Path
    generator: str = "generator"  # a folder, "embedded", or "generator": trained first, into out/generator
    store: Path | None = None  # a folder of stores, prepared before
    sessions: tuple[int, ...] | None = None  # None: all that NSD has of the subject
    allow_missing: bool = False
    tensorboard: bool = False
    deepspeed: bool = False


def prepare_phantom(root: Path, subject: int, sessions: range = PHANTOM_SESSIONS) -> None:
    """Write the sessions that are missing of those that the shipped decoder is trained and judged on."""
    for session in track(sessions, "phantom sessions"):
        write_tree(root, [subject], [session])


def train_recipe(recipe: Recipe) -> str:
    """Train the generator if it is to be trained, then Dynadiff; every stage goes on where it was interrupted.

    Returns one line: on what it was trained, and what was missing. Under several processes the first prepares, the
    others wait.
    """
    config = recipe.choices
    if recipe.generator == "generator" and recipe.name != "phantom":
        raise UserError(f"preset {recipe.name} needs a generator: give a diffusers folder with --generator")
    missing = _check_data(recipe)  # before anything is trained, so that a wrong folder is told at once
    accelerator = open_accelerator(config, recipe.deepspeed)
    with accelerator.main_process_first():
        if recipe.generator == "generator" and not (recipe.out / "generator" / "generator.json").exists():
            train_generator(GeneratorTraining(), recipe.out)
        generator = load_generator(generator_folder(recipe.generator, recipe.out))
        store = _store(recipe, generator.picture_size)
    learn, test = divide(store, config)
    line = (
        f"{len(learn)} trials of subject {store.plan.subject}, preset {recipe.name}, split {config.split}, "
        f"{learn.dropped} windows outside their runs left out" + (f", without {missing}" if missing else "")
    )
    if accelerator.is_main_process:
        _write_split(recipe.out / "work" / "test-trials.tsv", test)
    model_config = _model_config(recipe, store, generator, line)
    torch.manual_seed(config.seed)  # the same first weights whether the generator was trained just now or before
    model = new_model(model_config, generator, store.mask, store.affine)
    encoder = None
    if config.warm_start or config.anchor:
        encoder = ImageEncoder.load(generator_folder(recipe.generator, recipe.out) / "image_encoder")
    work = recipe.out / "work"
    if encoder is not None and config.warm_start:
        warm_start(model, learn, test, encoder, config, work, accelerator)
    train(model, learn, test, config, work, encoder, accelerator, recipe.tensorboard)
    if accelerator.is_main_process:
        save_model(model, recipe.out, torch.float16 if recipe.name == "phantom" else torch.float32)
    accelerator.end_training()
    return line


def divide(store: Store, config: Training) -> tuple[StoredTrials, StoredTrials]:
    """Trials to learn from, and one repetition of each test picture to look at meanwhile."""
    trials = StoredTrials(store, WindowSpec(config.offset, config.length), config.online < 1, config.online > 0)
    pictures = [trials.names[k] for k in trials.seen]
    runs = [trials.run_names[k] for k in trials.runs]
    parts = split(config.split, Presentations(pictures, runs, trials.sessions.tolist()), store.shared, config.seed)
    return trials.chosen(parts.learn), trials.chosen(one_repetition(pictures, parts.test, config.seed))


def nsd_trials(nsd: NSD, subject: int, cleaning: Cleaning, spec: WindowSpec, size: int) -> tuple[Trials, Trials]:
    """Trials to learn from, and the held-out first session none of whose pictures is among them."""
    mask, secret = nsd.mask(subject), held_out(nsd, subject)
    rest = [s for s in nsd.sessions(subject) if s != TEST_SESSION]
    if not rest:
        raise UserError(
            f"only session {TEST_SESSION} of subject {subject} is there: it is held out, add other sessions"
        )
    runs = track(list(nsd_runs(nsd, subject, rest)), "reading runs")
    learn = collect(runs, mask, cleaning, spec, size, lambda event: not secret(event), single=True)
    return learn, collect(nsd_runs(nsd, subject, [TEST_SESSION]), mask, cleaning, spec, size, single=True)


def _check_data(recipe: Recipe) -> str:
    """What the tree lacks, as a clause; UserError where nothing can come of it."""
    if recipe.root is None:
        open_store(_home(recipe))
        return ""
    return wanted_runs(NSD(recipe.root), recipe.subject, recipe.sessions, recipe.allow_missing)[1]


def _store(recipe: Recipe, picture_size: int) -> Store:
    home, config = _home(recipe), recipe.choices
    if recipe.root is not None:
        nsd = NSD(recipe.root)
        keys, _ = wanted_runs(nsd, recipe.subject, recipe.sessions, recipe.allow_missing)
        asked = (config.online < 1, config.online > 0)
        kinds = tuple(kind for kind, wanted in zip(KINDS, asked, strict=True) if wanted)
        store = prepare_subject(nsd, recipe.subject, keys, home, _spec(config), kinds, picture_size)
    else:
        store = open_store(home)
    if store.plan.picture_size != picture_size:
        raise UserError(
            f"{home} holds pictures of {store.plan.picture_size} pixels and the generator makes {picture_size}: "
            f"prepare another with --picture-size {picture_size}"
        )
    return store


def _home(recipe: Recipe) -> Path:
    return store_home(recipe.store or recipe.out / "store", recipe.subject)


def _model_config(recipe: Recipe, store: Store, generator: Generator, line: str) -> ModelConfig:
    config, voxels = recipe.choices, int(store.mask.sum())
    return ModelConfig(
        subject=store.plan.subject, tr=store.tr, mask_sha256=store.plan.mask_sha256, window=_spec(config),
        cleaning=store.plan.cleaning,
        brain=BrainConfig(voxels, config.length, config.width, generator.tokens, config.dropout),
        generator=recipe.generator, steps=config.sampling_steps, guidance=config.guidance, sampler=config.sampler,
        unconditional=config.unconditional, trained_on=line,
    )  # fmt: skip


def _spec(config: Training) -> WindowSpec:
    return WindowSpec(config.offset, config.length)


def _write_split(path: Path, test: StoredTrials) -> None:
    """The trials that are looked at: run and picture, so that what was held out can be read off."""
    runs, names = np.array(test.run_names)[test.runs], np.array(test.names)[test.seen]
    lines = [f"{run}\t{name}\n" for run, name in zip(runs, names, strict=True)]
    with whole(path) as new:
        new.write_text("run\tpicture\n" + "".join(lines))
