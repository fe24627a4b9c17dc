"""What is asked of a training, and whether it can be had: knows choices, files and sizes; trains nothing, no PyTorch.

`dynadiff train` asks before it makes a phantom or imports a network, so that a mistake is told within a second.
"""

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path

from dynadiff.base import commands
from dynadiff.base.errors import UserError
from dynadiff.networks.facts import SMALL, TRAINED, has_encoder, locate, sizes_named, takes_layout
from dynadiff.recordings.nsd import NSD
from dynadiff.training.presets import Training
from dynadiff.trials.prepare import wanted_runs
from dynadiff.trials.store import Store, open_store, store_home

MODEL = "model.json"


@dataclass(frozen=True)
class Recipe:
    """What is trained, on whom, and where it goes."""

    name: str  # of the preset, for a reader
    choices: Training
    root: Path | None  # the tree, prepared into out/store; None: the store is there already
    subjects: tuple[int, ...]  # several share a brain module and a generator
    out: Path
    generator: str = TRAINED  # a folder, "embedded", or "generator": trained first, into out/generator
    store: Path | None = None  # a folder of stores, prepared before
    sessions: tuple[int, ...] | None = None  # None: all that NSD has of a subject, or that the store holds
    allow_missing: bool = False
    tensorboard: bool = False
    deepspeed: bool = False
    pretrained: Path | None = None  # folder of other subjects' model, to be adapted to this one
    at_most: int | None = None  # steps of each of the generator's stages; ``choices`` have theirs


def check_choices(recipe: Recipe) -> None:
    """UserError where choices, packages, generator, pretrained model or stores cannot go together. Reads no tree."""
    config = recipe.choices
    if recipe.generator == TRAINED and recipe.name != "phantom":
        raise UserError(f"preset {recipe.name} needs a generator: give a diffusers folder with --generator")
    if recipe.pretrained and len(recipe.subjects) > 1:
        raise UserError("a pretrained model is adapted to one subject at a time: name one with --subjects")
    if recipe.pretrained:
        check_model(recipe.pretrained)
    if recipe.deepspeed:
        check_deepspeed(config)
    if recipe.tensorboard:
        commands.require(("tensorboard",), "tensorboard")
    size = check_generator(recipe.name, recipe.generator, recipe.out, config)
    if recipe.root is None:
        for subject in recipe.subjects:
            check_size(open_store(store_of(recipe, subject)), size)


def check_data(recipe: Recipe) -> str:
    """What the tree lacks, as a clause; UserError where nothing can come of it."""
    if recipe.root is None:
        return ""
    nsd = NSD(recipe.root)
    missing = (wanted_runs(nsd, subject, recipe.sessions, recipe.allow_missing)[1] for subject in recipe.subjects)
    return " and ".join(filter(None, missing))


def check_generator(preset: str, name: str, out: Path, config: Training) -> int:
    """The picture size of the generator of that name; UserError where it is none, or lacks what the choices need."""
    sizes = sizes_named(name, out)
    if sizes is None:
        return SMALL
    if (config.warm_start or config.anchor) and not has_encoder(locate(name, out, configurations=True)):
        raise UserError(
            f"preset {preset} starts from the generator's image tokens and {name} has no image encoder: "
            "choose another, or add --set warm_start=0 --set anchor=0"
        )
    if config.low_level and not takes_layout(locate(name, out, configurations=True)):
        raise UserError(
            f"preset {preset} has a low-level path and the U-Net of {name} takes no layout: choose another generator, "
            "or add --set low_level=false"
        )
    return sizes.picture_size


def check_size(store: Store, picture_size: int) -> None:
    """UserError for a store whose pictures are not those that the generator makes."""
    if store.plan.picture_size != picture_size:
        raise UserError(
            f"{store.home} holds pictures of {store.plan.picture_size} pixels and the generator makes {picture_size}: "
            "prepare another store, with the same --generator"
        )


def check_deepspeed(config: Training) -> None:
    """UserError where DeepSpeed is not there, or cannot do what was chosen."""
    if importlib.util.find_spec("deepspeed") is None:
        raise UserError("deepspeed is not installed: pip install deepspeed, or leave --deepspeed out")
    if config.ema:
        raise UserError("a running mean of the weights cannot be kept under DeepSpeed: add --set ema=0")


def check_model(folder: Path) -> None:
    """UserError where there is no model in the folder, neither of one subject nor of several."""
    if not (folder / MODEL).is_file() and not any(folder.glob(f"subject-*/{MODEL}")):
        raise UserError(f"no model in {folder}: make one with `dynadiff train --out {folder}`")


def generator_of(pretrained: Path) -> str:
    """The generator that a model was trained with, as one that is trained on from it names it."""
    check_model(pretrained)
    folder = one_of(pretrained)
    try:
        name = str(json.loads((folder / MODEL).read_text("utf-8"))["generator"])
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{folder / MODEL} is not a model of this version: train it again") from None
    return str((folder / name).resolve()) if (folder / name).is_dir() else name


def one_of(folder: Path) -> Path:
    """The model folder itself, or one of those that share what is in it: to a new subject they are all the same."""
    several = sorted(folder.glob("subject-*/"))
    return several[0] if several and not (folder / MODEL).exists() else folder


def store_of(recipe: Recipe, subject: int) -> Path:
    """The folder of a subject's store: of those given, or of the model's own."""
    return store_home(recipe.store or recipe.out / "store", subject)
