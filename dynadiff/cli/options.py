"""What several commands share: options, and what stands where one is left out."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from dynadiff.base import commands
from dynadiff.base.errors import UserError

Root = Annotated[Path | None, typer.Option(help="NSD tree; the phantom's, made on first use, without it.")]
Subject = Annotated[int, typer.Option(help="Whose brain.")]
Shift = Annotated[int, typer.Option(help="Rows by which windows are moved from the published place.")]
Length = Annotated[int, typer.Option(min=1, help="Volumes of a window.")]
Sessions = Annotated[str | None, typer.Option(help="Which scan sessions, 1-3 or 1,2; all of NSD's without it.")]
AllowMissing = Annotated[bool, typer.Option("--allow-missing", help="Go on with the runs that are there.")]
Model = Annotated[Path | None, typer.Option(help="Model folder; the embedded one without it.")]

Steps = Annotated[int | None, typer.Option(min=1, help="Sampling steps, instead of the model's.")]
Guided = Annotated[
    str | None,
    typer.Option(
        "--guidance", help="Instead of the model's: 5, or a value a step, or 5@501-999, timesteps; 1 is none."
    ),
]
Spaced = Annotated[
    str | None, typer.Option("--spacing", help="Timesteps, instead of the model's: leading, ays, or 999,700,300.")
]
Quality = Annotated[str | None, typer.Option(help="exact: 20 evenly spaced steps, all guided, whatever it is set to.")]


def say(line: str) -> None:
    typer.echo(line)
    sys.stdout.flush()


def need_torch() -> None:
    commands.require(("torch", "diffusers", "peft"), "train")


Needs = Mapping[int, Sequence[int] | None]  # by subject, the scan sessions; None: all that NSD has of it


def check_tree(root: Path | None, needs: Needs) -> list[tuple[int, int]]:
    """UserError where a tree lacks a subject, or the phantom never has it; the phantom's sessions that are needed."""
    from dynadiff.phantom.tree import check_wanted
    from dynadiff.recordings.nsd import NSD
    from dynadiff.recordings.nsd_facts import SESSIONS

    if root is not None:
        nsd = NSD(root)
        for subject in needs:
            nsd.sessions(subject)
        return []
    for subject, sessions in needs.items():
        check_wanted([subject], [1] if sessions is None else sessions)
    return [(s, k) for s, sessions in needs.items() for k in sessions or range(1, SESSIONS[s] + 1)]


def tree_or_phantom(root: Path | None, needs: Needs) -> Path:
    """The tree given, which has these subjects, or the phantom's, made as far as it is needed."""
    wanted = check_tree(root, needs)
    if root is not None:
        return root
    from rich.progress import track

    from dynadiff.phantom.tree import cache_root, write_tree

    for subject, session in track(wanted, "phantom sessions"):
        write_tree(cache_root(), [subject], [session])
    return cache_root()


def model_or_embedded(model: Path | None, engines: bool = False) -> Path:
    """The model's folder, or where ``engines`` are taken an engine's; UserError where it is neither."""
    from dynadiff.assets import EMBEDDED

    folder = model or EMBEDDED
    if any((folder / name).is_file() for name in ("model.json", *(["engine.json"] if engines else []))):
        return folder
    if shared := sorted(folder.glob("subject-*/")):
        raise UserError(f"{folder} is a model of several subjects: give one of them, as --model {shared[0]}")
    raise UserError(f"no model in {folder}: make one with `dynadiff train --out {folder}`")


def models_of(folder: Path) -> list[Path]:
    """The model folder, or where it holds one of several subjects, each subject's."""
    shared = [] if (folder / "model.json").is_file() else sorted(folder.glob("subject-*/"))
    return shared or [model_or_embedded(folder)]


def check_new(out: Path, but: str = "") -> None:
    """UserError where something is there already; ``but`` is what may be done beside giving another name."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file: give --out another name")
    if out.is_dir() and any(out.iterdir()):
        raise UserError(f"{out} is not empty: {but}give --out another name")
