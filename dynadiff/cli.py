"""The command line of training and export. Knows options; a command imports what it starts."""

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from dynadiff.base import commands
from dynadiff.base.errors import UserError
from dynadiff.base.numbers import numbers

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train, judge and export decoders of images from fMRI time series.",
)

Root = Annotated[Path | None, typer.Option(help="NSD tree; the phantom's, made on first use, without it.")]
Subject = Annotated[int, typer.Option(help="Whose brain.")]
Shift = Annotated[int, typer.Option(help="Rows by which windows are moved from the published place.")]
Length = Annotated[int, typer.Option(min=1, help="Volumes of a window.")]
Sessions = Annotated[str | None, typer.Option(help="Which scan sessions, 1-3 or 1,2; all of NSD's without it.")]
AllowMissing = Annotated[bool, typer.Option("--allow-missing", help="Go on with the runs that are there.")]
Model = Annotated[Path | None, typer.Option(help="Model folder; the embedded one without it.")]


@app.command()
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
    _torch()
    from dynadiff.training.presets import preset as named
    from dynadiff.training.recipe import Recipe, train_recipe

    options = {"steps": steps, "split": split, "length": length}
    choices = named(preset, [*(changes or []), *(f"{key}={value}" for key, value in options.items() if value)])
    choices = replace(choices, offset=choices.offset + shift)
    main, whose = int(os.environ.get("RANK", "0")) == 0, tuple(numbers("--subjects", subjects))
    if main and out.exists() and any(out.iterdir()) and not resume:
        raise UserError(f"{out} is not empty: add --resume to go on with it, or give --out another name")
    if pretrained and generator == "generator":
        from dynadiff.training.recipe import generator_of

        generator = generator_of(pretrained)
    if generator not in ("generator", "embedded") and Path(generator).is_dir():
        generator = str(Path(generator).resolve())
    if betas is not None:
        from dynadiff.evaluation.report import print_pixel_scores
        from dynadiff.training.betas import train_betas

        if generator == "generator":
            raise UserError("betas need a generator that is there: give --generator embedded, a folder or a hub id")
        if len(whose) > 1 or pretrained:
            raise UserError("betas are learnt from one subject at a time and from scratch: give one with --subject")
        print_pixel_scores(train_betas(betas, out, preset, choices, generator, root, whose[0]))
        return
    asked = tuple(numbers("--sessions", sessions)) if sessions else None
    where = None if store else _trees(root, whose, asked)
    line = train_recipe(
        Recipe(
            preset, choices, where, whose, out, generator, store, asked, allow_missing, tensorboard, deepspeed,
            pretrained,
        )
    )  # fmt: skip
    if main:
        typer.echo(f"{out}: {line}")


@app.command()
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
        nsd = NSD(_phantom(root, subject, asked))
        keys, missing = wanted_runs(nsd, subject, asked, allow_missing)
        spec, home = WindowSpec(WindowSpec().offset + shift, length), store_home(store, subject)
        made = prepare_subject(nsd, subject, keys, home, spec, kinds, picture_size, jobs)
        size = sum(f.stat().st_size for f in home.rglob("*") if f.is_file()) / 1e9
        typer.echo(f"{home}: {len(made.runs)} runs, {size:.2f} GB" + (f", without {missing}" if missing else ""))


@app.command("import")
def import_(
    checkpoint: Annotated[Path, typer.Argument(help="Consolidated weights of one subject (.bin, .pt, .safetensors).")],
    out: Annotated[Path, typer.Option(help="Model folder to write.")],
    generator: Annotated[str, typer.Option(help="Folder or hub id of Versatile Diffusion, for its configuration.")],
    subject: Subject = 1,
    root: Annotated[Path | None, typer.Option(help="NSD tree that has the subject's nsdgeneral mask.")] = None,
    mask: Annotated[Path | None, typer.Option(help="The mask itself (NIfTI, above 0), instead of the tree.")] = None,
) -> None:
    """Make a model folder of the authors' weights."""
    if (root is None) == (mask is None):
        raise UserError("give the subject's mask, either with --root (an NSD tree) or with --mask (one file)")
    if out.exists() and any(out.iterdir()):
        raise UserError(f"{out} is not empty: give --out another name")
    _torch()
    from dynadiff.networks.official import import_official, read_subject

    others = import_official(checkpoint, generator, read_subject(subject, root, mask), out)
    typer.echo(f"{out}: a decoder of subject {subject}; {others} tensors of the checkpoint are no part of the model")


@app.command()
def evaluate(model: Model = None, root: Root = None, subject: Subject = 1, seed: int = 0) -> None:
    """Identify held-out single trials from their pictures, beside baselines, ceiling and chance."""
    _torch()
    from dynadiff.evaluation.report import print_evaluation

    print_evaluation(_folder(model), _phantom(root, subject), subject, seed)


@app.command()
def export(
    kind: Annotated[str, typer.Argument(help="onnx, trt or trt-rtx.")],
    out: Annotated[Path, typer.Option(help="Engine folder to write.")],
    model: Annotated[Path | None, typer.Option(help="Model folder, or for TensorRT an ONNX engine's.")] = None,
    precision: Annotated[str, typer.Option(help="float, or half: audited on windows of --root first.")] = "float",
    opset: Annotated[int, typer.Option(help="23; 18 or 20 for execution providers that lack its operators.")] = 23,
    guidance: Annotated[float | None, typer.Option(help="The model's without it; 1 halves the work.")] = None,
    root: Root = None,
    targets: Annotated[
        str | None, typer.Option(help="Compute capabilities that trt-rtx builds for; 8.6,8.9,12.0 without it.")
    ] = None,
    level: Annotated[int, typer.Option(min=0, max=5, help="TensorRT's optimisation level.")] = 3,
) -> None:
    """Write the engine that `realtime decode` runs. TensorRT's is built from an ONNX engine, and as precise as that."""
    if kind not in ("onnx", "trt", "trt-rtx"):
        raise UserError(f"there is no export to {kind!r}: choose onnx, trt or trt-rtx")
    if targets is not None and kind != "trt-rtx":
        raise UserError("--targets belongs to trt-rtx: onnx runs anywhere and trt on the GPU that it was built on")
    if kind != "onnx" and (precision, opset, guidance, root) != ("float", 23, None, None):
        raise UserError(
            f"--precision, --opset, --guidance and --root belong to onnx: export that first, and {kind} with --model "
            "the folder of it"
        )
    began = time.perf_counter()
    if kind == "onnx":
        _torch()
        from exporters.onnx import Graphs, export_onnx
        from exporters.precision import report, sample_windows

        how = Graphs(precision, opset)
        windows = sample_windows(_folder(model), _phantom(root, 1, range(1, 2))) if precision == "half" else None
        for line in report(export_onnx(_folder(model), out, how, guidance, windows, _say)):
            _say(line)
    else:
        commands.require(("onnx",), kind)
        from exporters.tensorrt import TARGETS, export_plans

        export_plans(kind, _folder(model), out, tuple(targets.split(",")) if targets else TARGETS, level, _say)
    _sizes(out, time.perf_counter() - began)


@app.command()
def study(
    name: Annotated[
        str,
        typer.Argument(
            help="phantom: how real it is; brain, trainable, subjects: the paper's comparisons, on it; "
            "haxby, miyawaki: real recordings, all folds."
        ),
    ],
    data: Annotated[Path | None, typer.Option(help="Folder of the recording (haxby, miyawaki).")] = None,
    out: Annotated[Path, typer.Option(help="Where it keeps what it has done.")] = Path("studies"),
    root: Root = None,
    subject: Subject = 1,
    quick: Annotated[
        bool, typer.Option("--quick", help="A minute, to see that it runs: its figures mean nothing.")
    ] = False,
) -> None:
    """Remake a table of the README."""
    if name == "phantom":
        from dynadiff.evaluation.report import print_phantom
        from dynadiff.studies.phantom import SESSIONS

        print_phantom(_phantom(root, subject, SESSIONS), subject)
    elif name == "haxby":
        _torch()
        from dynadiff.studies.haxby import print_haxby

        if data is None:
            raise UserError("the haxby study needs the recording: give its folder with --data")
        print_haxby(data, out)
    elif name == "miyawaki":
        if data is None:
            raise UserError("the miyawaki study needs the recording: give its folder with --data")
        _torch()
        from dynadiff.studies.miyawaki import print_miyawaki

        print_miyawaki(data, out, quick)
    elif name in ("brain", "trainable", "subjects"):
        _torch()
        from dynadiff.evaluation.report import print_study
        from dynadiff.studies.ablations import study_named
        from dynadiff.studies.running import run_study

        asked = study_named(name, quick)
        trees = [_phantom(root, whose, sessions) for whose, sessions in asked.needs().items()]
        print_study(asked, run_study(asked, trees[0], out / asked.name, _say))
    else:
        raise UserError(f"there is no study {name!r}: choose phantom, brain, trainable, subjects, haxby or miyawaki")


def main() -> None:
    """The command `dynadiff`."""
    commands.run(app)


def _sizes(out: Path, seconds: float) -> None:
    from dynadiff.engines.contract import Manifest

    manifest = Manifest.load(out)
    sizes = {name: (out / name).stat().st_size / 1e6 for name in sorted(manifest.files)}
    for name, size in sizes.items():
        _say(f"{size:9.2f} MB  {name}")
    key = manifest.build.key()[:12] if manifest.build else ""
    _say(f"{out}: {sum(sizes.values()):.1f} MB in {seconds:.1f} s, key {key}")


def _say(line: str) -> None:
    typer.echo(line)
    sys.stdout.flush()


def _torch() -> None:
    commands.require(("torch", "diffusers", "peft"), "train")


def _phantom(root: Path | None, subject: int, sessions: Sequence[int] | None = None) -> Path:
    if root is not None:
        return root
    from dynadiff.phantom.tree import cache_root
    from dynadiff.training.recipe import prepare_phantom

    prepare_phantom(cache_root(), subject, sessions)
    return cache_root()


def _trees(root: Path | None, subjects: Sequence[int], sessions: Sequence[int] | None) -> Path:
    """The tree of all the subjects."""
    homes = {_phantom(root, subject, sessions) for subject in subjects}
    return homes.pop()


def _folder(model: Path | None) -> Path:
    from dynadiff.assets import EMBEDDED

    return model or EMBEDDED
