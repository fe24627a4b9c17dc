"""What several commands share: options, and what stands where one is left out."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from dynadiff.base import commands

Root = Annotated[Path | None, typer.Option(help="NSD tree; the phantom's, made on first use, without it.")]
Subject = Annotated[int, typer.Option(help="Whose brain.")]
Shift = Annotated[int, typer.Option(help="Rows by which windows are moved from the published place.")]
Length = Annotated[int, typer.Option(min=1, help="Volumes of a window.")]
Sessions = Annotated[str | None, typer.Option(help="Which scan sessions, 1-3 or 1,2; all of NSD's without it.")]
AllowMissing = Annotated[bool, typer.Option("--allow-missing", help="Go on with the runs that are there.")]
Model = Annotated[Path | None, typer.Option(help="Model folder; the embedded one without it.")]


def say(line: str) -> None:
    typer.echo(line)
    sys.stdout.flush()


def need_torch() -> None:
    commands.require(("torch", "diffusers", "peft"), "train")


def tree_or_phantom(root: Path | None, subject: int, sessions: Sequence[int] | None = None) -> Path:
    """The tree given, or the phantom's, with these sessions of the subject or with all that NSD has of it."""
    if root is not None:
        return root
    from rich.progress import track

    from dynadiff.phantom.tree import cache_root, write_tree
    from dynadiff.recordings.nsd_facts import SESSIONS

    for session in track(sessions or range(1, SESSIONS.get(subject, 1) + 1), "phantom sessions"):
        write_tree(cache_root(), [subject], [session])
    return cache_root()


def tree_of_all(root: Path | None, subjects: Sequence[int], sessions: Sequence[int] | None) -> Path:
    """The tree of all the subjects."""
    homes = {tree_or_phantom(root, subject, sessions) for subject in subjects}
    return homes.pop()


def model_or_embedded(model: Path | None) -> Path:
    from dynadiff.assets import EMBEDDED

    return model or EMBEDDED
