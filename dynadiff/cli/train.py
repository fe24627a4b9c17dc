"""`dynadiff train`: from data to a model folder. All that can be wrong is said before a phantom is made."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dynadiff.base.errors import UserError
from dynadiff.base.numbers import numbers
from dynadiff.cli.options import (
    AllowMissing,
    Needs,
    Root,
    Sessions,
    Shift,
    check_new,
    check_tree,
    need_torch,
    say,
    tree_or_phantom,
)

if TYPE_CHECKING:
    from dynadiff.training.presets import Training
    from dynadiff.training.request import Recipe

# What a training of betas has no use for: its data are no windows, and its first layers no time
NOT_OF_BETAS = (
    "split", "offset", "length", "online", "timestep_layers", "aggregation", "blocks", "trainable", "rank", "alpha",
    "targets",
)  # fmt: skip


def train(
    out: Annotated[Path, typer.Option(help="Model folder to write.")],
    preset: Annotated[str, typer.Option(help="phantom, paper or released.")] = "phantom",
    root: Root = None,
    subjects: Annotated[
        str, typer.Option("--subjects", "--subject", help="Whose brains: 1, or 1,2,5,7 for one model of several.")
    ] = "1",
    pretrained: Annotated[
        Path | None, typer.Option(help="Model folder of other subjects: adapt it to this one, in place of scratch.")
    ] = None,
    generator: Annotated[
        str,
        typer.Option(help="Diffusers folder, hub id or 'embedded'; else the pretrained model's, or one trained first."),
    ] = "generator",
    steps: Annotated[
        int | None, typer.Option(min=1, help="At most so many of every stage, for a short run; --set steps=N else.")
    ] = None,
    betas: Annotated[
        Path | None,
        typer.Option(help="Learn from these betas instead: an npz (betas, images, split), or a folder of NSD's."),
    ] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Instead of the preset's; repeatable.")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="standard, first-session, held-out-twice, time-resolved or time-resolved-disjoint."),
    ] = None,
    shift: Shift = 0,
    length: Annotated[int | None, typer.Option(min=1, help="Volumes of a window, instead of the preset's.")] = None,
    sessions: Sessions = None,
    allow_missing: AllowMissing = False,
    store: Annotated[Path | None, typer.Option(help="What dynadiff prepare wrote; the tree is not read then.")] = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Log for TensorBoard too.")] = False,
    deepspeed: Annotated[
        bool, typer.Option("--deepspeed", help="ZeRO-2, optimiser on the CPU; under accelerate launch.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with what is in OUT.")] = False,
) -> None:
    """Train a decoder. Under `accelerate launch -m dynadiff train …`, on several GPUs and machines.

    The preset says which pictures are held out: the shared ones of NSD, and for the phantom those to choose by too.
    """
    need_torch()
    from dynadiff.phantom.tree import cache_root
    from dynadiff.training.request import Recipe

    changes, whose = changes or [], tuple(numbers("--subjects", subjects))
    choices = _choices(preset, changes, {"split": split, "length": length}, shift, steps)
    if _main() and not resume:
        check_new(out, "add --resume to go on with it, or ")
    asked = tuple(numbers("--sessions", sessions)) if sessions else None
    recipe = Recipe(
        preset,
        choices,
        None if store else root or cache_root(),
        whose,
        out,
        _generator(generator, pretrained),
        store,
        asked,
        allow_missing,
        tensorboard,
        deepspeed,
        pretrained,
        steps,
    )
    if betas is not None:
        given = {
            "--sessions": sessions, "--split": split, "--shift": shift, "--length": length, "--store": store,
            "--allow-missing": allow_missing, "--tensorboard": tensorboard, "--deepspeed": deepspeed,
            "--pretrained": pretrained,
        }  # fmt: skip
        _check_betas([option for option, value in given.items() if value], changes, whose, recipe.generator)
        _train_on_betas(betas, recipe, root)
        return
    if root is not None and store is not None:
        raise UserError("--root and --store are two sources of runs: give one of them")
    _train_on_runs(recipe, root)


def _choices(
    preset: str, changes: Sequence[str], options: dict[str, object], shift: int, at_most: int | None
) -> "Training":
    """The preset with what was changed; an option that was given is one more change."""
    from dynadiff.training.presets import preset as named

    choices = named(preset, [*changes, *(f"{key}={value}" for key, value in options.items() if value)])
    choices = replace(choices, offset=choices.offset + shift)
    return choices if at_most is None else choices.at_most(at_most)


def _generator(name: str, pretrained: Path | None) -> str:
    """As a model names it: the pretrained model's where none is given, and a folder by its whole path."""
    if pretrained and name == "generator":
        from dynadiff.training.request import generator_of

        name = generator_of(pretrained)
    folder = name not in ("generator", "embedded") and Path(name).is_dir()
    return str(Path(name).resolve()) if folder else name


def _train_on_runs(recipe: "Recipe", root: Path | None) -> None:
    from dynadiff.networks.facts import has_encoder, locate
    from dynadiff.training.request import check_choices, check_data

    check_choices(recipe)
    needs: Needs = {} if recipe.store else dict.fromkeys(recipe.subjects, recipe.sessions)
    check_tree(root, needs)
    if root is not None:
        check_data(recipe)
    from dynadiff.training.recipe import subjects_before, train_recipe

    subjects_before(recipe)
    if needs:
        tree_or_phantom(root, needs)
    _say_how_short(recipe)
    with _saying_what_is_kept(recipe.out):
        line = train_recipe(recipe)
    if not _main():
        return
    say(f"{recipe.out}: {line}")
    model = recipe.out if len(recipe.subjects) == 1 else recipe.out / f"subject-{recipe.subjects[0]:02d}"
    say(_where_the_log_is(recipe.out))
    say(f"samples: {recipe.out}/samples")
    tree = "" if root is None else f" --root {root}"
    if has_encoder(locate(recipe.generator, recipe.out)):  # evaluate scores in its tokens
        say(f"next: dynadiff evaluate --model {model}{tree}")
    say(f"next: realtime decode --engine torch --model {model}")


def _check_betas(given: Sequence[str], changes: Sequence[str], subjects: Sequence[int], generator: str) -> None:
    """UserError for what says nothing to a training of betas, and where no generator is given."""
    if len(subjects) > 1 or "--pretrained" in given:
        raise UserError("betas are learnt from one subject at a time and from scratch: give one with --subject")
    idle = [*given, *(f"--set {text}" for text in changes if text.partition("=")[0] in NOT_OF_BETAS)]
    if idle:
        raise UserError(f"betas are neither runs nor windows, and {idle[0]} says nothing of them: leave it out")
    if generator == "generator":
        raise UserError("betas need a generator that is there: give --generator embedded, a folder or a hub id")


def _train_on_betas(source: Path, recipe: "Recipe", root: Path | None) -> None:
    from dynadiff.training.request import check_generator
    from dynadiff.trials.betas import read_betas

    size = check_generator(recipe.name, recipe.generator, recipe.out, recipe.choices)
    betas = read_betas(source, root, recipe.subjects[0], size)
    from dynadiff.evaluation.betas import PICTURES, SCORES, judge_betas
    from dynadiff.evaluation.report import print_pixel_scores
    from dynadiff.training.betas import train_betas

    out = recipe.out
    _say_how_short(recipe)
    with _saying_what_is_kept(out):
        trained = train_betas(
            betas, source.name, out, recipe.name, recipe.choices, recipe.generator, recipe.subjects[0]
        )  # fmt: skip
        print_pixel_scores(judge_betas(*trained, out))
    say(f"{out}: a decoder of betas, which decodes no stream")
    say(_where_the_log_is(out))
    say(f"samples: {out}/samples; of the test trials, shown above painted: {out / PICTURES}")
    say(f"scores: {out / SCORES}")


def _where_the_log_is(out: Path) -> str:
    return f"log: {out / 'work' / 'dynadiff.jsonl'}, a file a stage beside it"


def _say_how_short(recipe: "Recipe") -> None:
    if recipe.at_most is not None and _main():
        choices, first = recipe.choices, recipe.generator == "generator"
        also = ", and so does the generator that is trained first" if first else ""
        say(
            f"every stage ends at step {recipe.at_most}: the warm start takes {choices.warm_start} and Dynadiff "
            f"{choices.steps}{also}"
        )


@contextmanager
def _saying_what_is_kept(out: Path) -> Iterator[None]:
    """What Ctrl-C leaves, and how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        if _main():
            say(f"interrupted: {out} keeps what was learnt until the last checkpoint; --resume goes on from there")
        raise


def _main() -> bool:
    """Of several processes the first one speaks."""
    return os.environ.get("RANK", "0") == "0"
