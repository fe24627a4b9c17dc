"""`dynadiff train`, `prepare` and `import`: from data, or the authors' weights, to a model folder."""

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dynadiff.base.errors import UserError
from dynadiff.base.numbers import numbers
from dynadiff.cli.options import (
    AllowMissing,
    Length,
    Root,
    Sessions,
    Shift,
    Subject,
    need_torch,
    tree_of_all,
    tree_or_phantom,
)

if TYPE_CHECKING:
    from dynadiff.training.presets import Training


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
    steps: Annotated[int | None, typer.Option(min=1, help="Instead of the preset's.")] = None,
    betas: Annotated[
        Path | None,
        typer.Option(help="Learn from these betas instead: an npz (betas, images, split), or a folder of NSD's."),
    ] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Instead of the preset's; repeatable.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="standard, first-session, time-resolved or time-resolved-disjoint.")
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

    The preset says which pictures are held out: the phantom's first session, the shared pictures of NSD.
    """
    need_torch()
    from dynadiff.training.recipe import Recipe, train_recipe

    choices = _choices(preset, changes or [], {"steps": steps, "split": split, "length": length}, shift)
    main, whose = int(os.environ.get("RANK", "0")) == 0, tuple(numbers("--subjects", subjects))
    if main and out.exists() and any(out.iterdir()) and not resume:
        raise UserError(f"{out} is not empty: add --resume to go on with it, or give --out another name")
    generator = _generator(generator, pretrained)
    if betas is not None:
        if len(whose) > 1 or pretrained:
            raise UserError("betas are learnt from one subject at a time and from scratch: give one with --subject")
        _train_on_betas(betas, out, preset, choices, generator, root, whose[0])
        return
    asked = tuple(numbers("--sessions", sessions)) if sessions else None
    where = None if store else tree_of_all(root, whose, asked)
    recipe = Recipe(
        preset, choices, where, whose, out, generator, store, asked, allow_missing, tensorboard, deepspeed, pretrained
    )
    try:
        line = train_recipe(recipe)
    except KeyboardInterrupt:
        if main:
            typer.echo(
                f"interrupted: {out} keeps what was learnt until the last checkpoint; --resume goes on from there"
            )
        raise
    if main:
        typer.echo(f"{out}: {line}")


def _choices(preset: str, changes: list[str], options: dict[str, object], shift: int) -> "Training":
    """The preset with what was changed; an option that was given is one more change."""
    from dynadiff.training.presets import preset as named

    choices = named(preset, [*changes, *(f"{key}={value}" for key, value in options.items() if value)])
    return replace(choices, offset=choices.offset + shift)


def _generator(name: str, pretrained: Path | None) -> str:
    """As a model names it: the pretrained model's where none is given, and a folder by its whole path."""
    if pretrained and name == "generator":
        from dynadiff.training.pretrained import generator_of

        name = generator_of(pretrained)
    folder = name not in ("generator", "embedded") and Path(name).is_dir()
    return str(Path(name).resolve()) if folder else name


def _train_on_betas(
    betas: Path, out: Path, preset: str, choices: "Training", generator: str, root: Path | None, subject: int
) -> None:
    from dynadiff.evaluation.betas import judge_betas
    from dynadiff.evaluation.report import print_pixel_scores
    from dynadiff.training.betas import train_betas

    if generator == "generator":
        raise UserError("betas need a generator that is there: give --generator embedded, a folder or a hub id")
    print_pixel_scores(judge_betas(*train_betas(betas, out, preset, choices, generator, root, subject)))


def prepare(
    store: Annotated[Path, typer.Option(help="Folder to write; a folder a subject.")],
    root: Root = None,
    subjects: Annotated[str, typer.Option(help="Whose brains: 1,2 or 1-4.")] = "1",
    cleaning: Annotated[
        str, typer.Option(help="offline: of the whole run; online: as it is served; or both.")
    ] = "both",
    shift: Shift = 0,
    length: Length = 6,
    picture_size: Annotated[int, typer.Option(min=8, help="Pixels; what the generator makes.")] = 512,
    sessions: Sessions = None,
    allow_missing: AllowMissing = False,
    jobs: Annotated[int, typer.Option(help="Runs at a time; -1: one a core.")] = -1,
) -> None:
    """Clean every run once, for training to cut windows from; goes on where it was interrupted."""
    if cleaning not in ("offline", "online", "both"):
        raise UserError(f"--cleaning {cleaning} is no way to clean: choose offline, online or both")
    from dynadiff.recordings.nsd import NSD
    from dynadiff.signal.windows import WindowSpec
    from dynadiff.trials.prepare import prepare_subject, wanted_runs
    from dynadiff.trials.store import store_home

    asked = numbers("--sessions", sessions) if sessions else None
    kinds = ("offline", "online") if cleaning == "both" else (cleaning,)
    for subject in numbers("--subjects", subjects):
        nsd = NSD(tree_or_phantom(root, subject, asked))
        keys, missing = wanted_runs(nsd, subject, asked, allow_missing)
        spec, home = WindowSpec(WindowSpec().offset + shift, length), store_home(store, subject)
        made = prepare_subject(nsd, subject, keys, home, spec, kinds, picture_size, jobs)
        size = sum(f.stat().st_size for f in home.rglob("*") if f.is_file()) / 1e9
        typer.echo(f"{home}: {len(made.runs)} runs, {size:.2f} GB" + (f", without {missing}" if missing else ""))


def import_(
    checkpoint: Annotated[
        Path, typer.Argument(help="Consolidated weights of one subject: a file, or a folder of shards.")
    ],
    out: Annotated[Path, typer.Option(help="Model folder to write.")],
    generator: Annotated[str, typer.Option(help="Folder or hub id of Versatile Diffusion, for its configuration.")],
    subject: Subject = 1,
    root: Annotated[Path | None, typer.Option(help="NSD tree that has the subject's nsdgeneral mask.")] = None,
    mask: Annotated[Path | None, typer.Option(help="The mask itself (NIfTI, above 0), instead of the tree.")] = None,
    preset: Annotated[
        str, typer.Option(help="Sampler, steps and guidance: paper (DDIM, 20, 3) or released (DDPM, 20, 3.5).")
    ] = "paper",
) -> None:
    """Make a model folder of the authors' weights."""
    if (root is None) == (mask is None):
        raise UserError("give the subject's mask, either with --root (an NSD tree) or with --mask (one file)")
    if out.exists() and any(out.iterdir()):
        raise UserError(f"{out} is not empty: give --out another name")
    if preset not in ("paper", "released"):
        raise UserError(f"the authors' weights are not of preset {preset}: choose paper or released")
    need_torch()
    from dynadiff.networks.official import beside_release, import_official, read_subject
    from dynadiff.training.presets import PRESETS

    sampling = PRESETS[preset].sampling
    others = import_official(checkpoint, generator, read_subject(subject, root, mask), out, sampling)
    typer.echo(
        f"{out}: a decoder of subject {subject}, {beside_release(sampling)} (--preset paper or released); "
        f"{others} tensors of the checkpoint are no part of the model"
    )
