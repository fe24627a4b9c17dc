"""`dynadiff prepare` and `import`: what training reads, and the authors' weights."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from dynadiff.base import commands
from dynadiff.base.errors import UserError
from dynadiff.base.numbers import numbers
from dynadiff.cli.options import (
    AllowMissing,
    Length,
    Root,
    Sessions,
    Shift,
    Subject,
    check_new,
    check_tree,
    need_torch,
    say,
    tree_or_phantom,
)


def prepare(
    store: Annotated[Path, typer.Option(help="Folder to write; a folder a subject.")],
    generator: Annotated[
        str, typer.Option(help="Whose pictures: diffusers folder, hub id, or 'embedded', also for one trained first.")
    ],
    root: Root = None,
    subjects: Annotated[str, typer.Option(help="Whose brains: 1,2 or 1-4.")] = "1",
    cleaning: Annotated[
        str, typer.Option(help="offline: of the whole run; online: as it is served; or both.")
    ] = "both",
    shift: Shift = 0,
    length: Length = 6,
    sessions: Sessions = None,
    allow_missing: AllowMissing = False,
    jobs: Annotated[int, typer.Option(min=-1, help="Runs at a time; -1: one a core.")] = -1,
) -> None:
    """Clean every run once, for training to cut windows from; goes on where it was interrupted."""
    if cleaning not in ("offline", "online", "both"):
        raise UserError(f"--cleaning {cleaning} is no way to clean: choose offline, online or both")
    if jobs == 0:
        raise UserError("--jobs 0 prepares nothing: give how many runs at a time, or -1 for one a core")
    if store.exists() and not store.is_dir():
        raise UserError(f"{store} is a file: give --store a folder")
    commands.require(("joblib", "huggingface_hub"), "train")
    from dynadiff.networks.facts import locate, sizes_of
    from dynadiff.recordings.nsd import NSD
    from dynadiff.signal.windows import WindowSpec
    from dynadiff.trials.prepare import check_begun, prepare_subject, wanted_runs
    from dynadiff.trials.store import store_home

    asked = numbers("--sessions", sessions) if sessions else None
    whose = numbers("--subjects", subjects)
    kinds = ("offline", "online") if cleaning == "both" else (cleaning,)
    size = sizes_of(locate(generator, Path.cwd(), configurations=True)).picture_size
    spec = WindowSpec(WindowSpec().offset + shift, length)
    known = {"window": asdict(spec), "kinds": list(kinds), "picture_size": size}
    for subject in whose:
        check_begun(store_home(store, subject), known)
    tree = tree_or_phantom(root, dict.fromkeys(whose, asked))
    for subject in whose:
        nsd, home = NSD(tree), store_home(store, subject)
        keys, missing = wanted_runs(nsd, subject, asked, allow_missing)
        made = prepare_subject(nsd, subject, keys, home, spec, kinds, size, jobs)
        held = sum(f.stat().st_size for f in home.rglob("*") if f.is_file()) / 1e9
        said = f"{len(made.runs)} runs, pictures of {size} pixels, {held:.2f} GB"
        say(f"{home}: {said}" + (f", without {missing}" if missing else ""))


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
    check_new(out)
    if preset not in ("paper", "released"):
        raise UserError(f"the authors' weights are not of preset {preset}: choose paper or released")
    if not checkpoint.exists():
        raise UserError(f"{checkpoint} does not exist: give the consolidated weights of a Dynadiff checkpoint")
    need_torch()
    from dynadiff.networks.facts import locate, unet_part
    from dynadiff.recordings.nifti import open_image

    unet_part(locate(generator, Path.cwd(), configurations=True))
    if mask is not None:
        open_image(mask)
    else:
        check_tree(root, {subject: None})
    from dynadiff.networks.released.official import beside_release, import_official, read_subject
    from dynadiff.training.presets import PRESETS

    sampling = PRESETS[preset].sampling
    others = import_official(checkpoint, generator, read_subject(subject, root, mask), out, sampling)
    say(
        f"{out}: a decoder of subject {subject}, {beside_release(sampling)} (--preset paper or released); "
        f"{others} tensors of the checkpoint are no part of the model"
    )
