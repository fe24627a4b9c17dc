"""What can be replayed, as messages with the time at which each is due. Knows where runs lie on disk."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from dynadiff.base.errors import UserError
from dynadiff.phantom.tree import ensure_phantom
from dynadiff.recordings.bids import bids_run
from dynadiff.recordings.masks import read_mask
from dynadiff.recordings.nsd import NSD
from dynadiff.recordings.nsd_facts import VOLUMES
from dynadiff.recordings.run import Run, plain_subject
from realtime.feed.wire import Message
from replay.pace import recording_messages, run_messages

Timed = Iterator[tuple[float, Message]]


def nsd_messages(root: Path | None, subject: int, session: int, run: int, speed: float, dummies: int = 0) -> Timed:
    """A run of an NSD tree; without ``root`` of the phantom's in the user's cache, made on first use."""
    if root is None:
        _check_dummies("a run of the phantom", VOLUMES, dummies)
    tree = root or ensure_phantom(subject, (session,), (run,))
    return _fresh(NSD(tree).run(subject, session, run), speed, dummies)


@dataclass(frozen=True)
class Nifti:
    """A run in a 4-D NIfTI file, and what its files may not say of it."""

    bold: Path
    mask: Path | None = None  # voxels outside are sent as 0
    events: Path | None = None
    tr: float | None = None  # seconds
    subject: str | None = None  # where the name does not say
    any_space: bool = False  # take a mask that lies elsewhere


def bold_messages(nifti: Nifti, speed: float, dummies: int, say: Callable[[str], object]) -> Timed:
    """A 4-D NIfTI with its BIDS side files.

    Many data sets may not pass their stimuli on: ``say`` is told, and their events are served without a picture.
    """
    run = bids_run(nifti.bold, nifti.events, nifti.tr)
    run = replace(run, subject=_whose(nifti, run.subject))
    shown = {event.picture: _missing(run, event.picture) for event in run.events}
    reasons = [reason for reason in shown.values() if reason]
    if reasons:
        say(f"{len(reasons)} of {len(shown)} pictures are missing, their events are replayed without: {reasons[0]}")
    run = replace(run, events=tuple(replace(e, picture="") if shown[e.picture] else e for e in run.events))
    if nifti.mask is None:
        return _fresh(run, speed, dummies)
    inside = read_mask(nifti.mask, run.shape, None if nifti.any_space else run.affine)

    def volumes() -> Iterator[NDArray[np.generic]]:
        return (np.where(inside, volume, volume.dtype.type(0)) for volume in run.volumes())

    return _fresh(replace(run, volumes=volumes), speed, dummies)


def folder_messages(folder: Path, speed: float) -> Timed:
    """What a decode received, from its folder or from the ``feed.rec`` in it."""
    path = folder / "feed.rec" if folder.is_dir() else folder
    if not path.is_file():
        raise UserError(f"there is no recording {path}: give the folder that a decode left with --recording")
    return recording_messages(path, speed=speed)


def _whose(nifti: Nifti, named: str) -> str:
    """The subject that the file's name says, or else the user; UserError where neither does, or they say two."""
    if not (named or nifti.subject):
        raise UserError(
            f"{nifti.bold} does not say whose brain it is: give --subject, or name it sub-LABEL_…_bold.nii.gz"
        )
    if named and nifti.subject and plain_subject(named) != plain_subject(nifti.subject):
        raise UserError(
            f"{nifti.bold} is of subject {named} by its name and not of {nifti.subject}: leave out --subject, "
            "or give the file its right name"
        )
    return named or nifti.subject or ""


def _missing(run: Run, picture: str) -> str:
    """Why a picture cannot be shown; empty if it can."""
    try:
        run.picture(picture)
    except UserError as error:
        return str(error)
    return ""


def _check_dummies(name: str, n_volumes: int, dummies: int) -> None:
    if dummies >= n_volumes:
        raise UserError(f"{name} has {n_volumes} volumes and {dummies} dummies are declared: give fewer")


def _fresh(run: Run, speed: float, dummies: int) -> Timed:
    _check_dummies(run.name, run.n_volumes, dummies)
    return run_messages(run, speed=speed, run_uid=uuid4().hex, dummies=dummies)
