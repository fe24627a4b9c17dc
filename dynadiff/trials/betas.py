"""Betas become training pairs: one value a voxel and trial instead of a window. Knows files and splits, no networks.

An npz of one's own (``betas`` (trials, voxels), ``images`` (trials, h, w[, 3]), ``split`` (trials,) of train and test)
or NSD's ``betas_sessionBB`` files. Voxels are standardised by training trials alone: of the file, or of each session.
All pictures are held in memory.
"""

import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import cv2
import h5py
import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from dynadiff.base.errors import UserError
from dynadiff.recordings.nsd import NSD
from dynadiff.trials.source import Trials, nsd_runs

ARRAYS, SPLITS = ("betas", "images", "split"), ("train", "test")
CLIP = 5.0  # standard deviations: single voxels of single trials reach 40


@dataclass(frozen=True)
class Betas:
    """Standardised betas of n trials and the p different pictures that were seen."""

    values: NDArray[np.float32]  # (n, voxels)
    seen: NDArray[np.int64]  # (n,) index into pictures
    test: NDArray[np.bool_]  # (n,)
    pictures: NDArray[np.uint8]  # (p, h, w, 3)
    names: tuple[str, ...]  # (p,)

    def trials(self, test: bool, size: int) -> Trials:
        """Those to learn from, or those to be judged on; pictures resized to ``size`` pixels.

        Each picture counts as a run, so that what is held out of the training to choose a penalty are pictures.
        """
        pick = np.flatnonzero(self.test == test)
        shown, seen = np.unique(self.seen[pick], return_inverse=True)
        windows = self.values[pick, :, None].astype(np.float16)
        pictures = np.stack([resized(self.pictures[k], size) for k in shown])
        names = tuple(self.names[k] for k in shown)
        return Trials(windows, windows, seen, seen, np.arange(len(pick)), pictures, names, ("",) * len(names))


def resized(picture: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """A picture (h, w, 3) with ``size`` pixels a side: averaged when it shrinks, repeated when it grows."""
    how = cv2.INTER_AREA if picture.shape[0] > size else cv2.INTER_NEAREST
    return np.asarray(cv2.resize(picture, (size, size), interpolation=how), np.uint8)


def standardised(values: NDArray[np.generic], train: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Betas (n, voxels) in deviations from the mean of the training trials, at most ``CLIP``; 0 where none vary."""
    x = values.astype(np.float64)
    centre, scale = x[train].mean(axis=0), x[train].std(axis=0)
    z = np.divide(x - centre, scale, out=np.zeros(x.shape), where=scale > 1e-12)
    return np.asarray(np.clip(z, -CLIP, CLIP), np.float32)


def load_betas(path: Path) -> Betas:
    """Read and check an npz. Raises UserError for what is missing, and sizes, values or splits that cannot be."""
    if not path.is_file():
        raise UserError(f"{path} does not exist: give an npz of betas, or a folder of NSD's, with --betas")
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            if lacking := [name for name in ARRAYS if name not in file.files]:
                raise UserError(
                    f"{path} lacks {' and '.join(lacking)}, it holds {', '.join(file.files) or 'nothing'}: "
                    "write betas, images and split into it with numpy.savez"
                )
            betas, images, split = (np.asarray(file[name]) for name in ARRAYS)
    except (OSError, BadZipFile, ValueError, TypeError, EOFError, zlib.error) as error:
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else "it ends too early"
        raise UserError(f"{path} is no npz of numbers and words ({reason}): write it with numpy.savez") from error
    found = checked(betas, images, split, str(path))
    if alone := [name for name, side in zip(SPLITS, (False, True), strict=True) if _pictures(found, side) < 2]:
        raise UserError(f"the {alone[0]} trials in {path} show one picture: two are needed to tell apart")
    return found


def _pictures(betas: Betas, test: bool) -> int:
    return len(np.unique(betas.seen[betas.test == test]))


def read_betas(source: Path, root: Path | None, subject: int, size: int) -> Betas:
    """An npz, or a folder of NSD's betas, which needs the tree that has designs, mask and pictures."""
    if not source.is_dir():
        return load_betas(source)
    if root is None:
        raise UserError(f"{source} is a folder of NSD's betas: give the tree with its designs and pictures by --root")
    return nsd_betas(NSD(root), subject, source, size)


def checked(betas: NDArray[np.generic], images: NDArray[np.generic], split: NDArray[np.generic], where: str) -> Betas:
    """Betas of arrays as they are in an npz; ``where`` names them in what is said of a mistake."""
    if betas.ndim != 2 or betas.dtype.kind not in "iuf" or betas.size == 0:
        raise UserError(f"betas in {where} are {betas.dtype} {betas.shape}: give real numbers (trials, voxels)")
    if images.ndim not in (3, 4) or images.dtype.kind not in "iufb":
        raise UserError(f"images in {where} are {images.dtype} {images.shape}: give numbers (trials, h, w) or with 3")
    n = len(betas)
    if split.ndim != 1 or len(images) != n or len(split) != n:
        raise UserError(f"{where} has {n} betas, {len(images)} images and {split.size} splits: give one a trial")
    bad = np.flatnonzero(~np.isfinite(betas).all(axis=1))
    if len(bad):
        raise UserError(f"the betas of trial {bad[0]} in {where} are not all finite: leave such trials or voxels out")
    words = split.astype(str)
    if unknown := sorted(set(words.tolist()) - set(SPLITS)):
        raise UserError(f"split in {where} has {unknown[0]!r}: say train or test for each trial")
    if missing := [name for name in SPLITS if name not in words]:
        raise UserError(f"no trial in {where} is of the {missing[0]} split: both are needed")
    pictures, seen = np.unique(_rgb(images, where), axis=0, return_inverse=True)
    test, seen = words == "test", seen.reshape(-1)
    if both := sorted(set(seen[test]) & set(seen[~test])):
        first, second = (np.flatnonzero((seen == both[0]) & side)[0] for side in (~test, test))
        raise UserError(
            f"trials {first} and {second} in {where} show one picture, in train and in test: keep it in one"
        )
    names = tuple(f"picture {k}" for k in range(len(pictures)))
    return Betas(standardised(betas, ~test), seen.astype(np.int64), test, pictures, names)


def nsd_betas(nsd: NSD, subject: int, folder: Path, size: int) -> Betas:
    """NSD's own betas of a subject, from a folder of ``betas_sessionBB.nii.gz`` or ``.hdf5``, inside nsdgeneral.

    Which picture a beta belongs to is known from the designs. The shared pictures are the test; all are made ``size``
    pixels wide. Raises UserError for a file that is damaged, of another grid, or of another number of trials.
    """
    mask = nsd.mask(subject)
    parts, ids = [], []
    for session, path in _sessions(folder):
        shown = [int(event.picture) for run in nsd_runs(nsd, subject, [session]) for event in run.events]
        values = _read_nsd(path, mask)
        if len(values) != len(shown):
            raise UserError(f"{path} has {len(values)} betas, the designs of session {session} {len(shown)} trials")
        if not np.isfinite(values).all():
            raise UserError(f"{path} has betas that are not finite inside nsdgeneral: copy it again")
        parts.append(standardised(values, np.array([not nsd.is_test(k) for k in shown])))
        ids += shown
    known, seen = np.unique(ids, return_inverse=True)
    secret = np.array([nsd.is_test(int(k)) for k in known])
    if secret.all() or not secret.any():
        raise UserError(
            f"the sessions in {folder} show no picture to {'learn from' if secret.all() else 'be judged on'}"
        )
    pictures = np.stack([resized(nsd.picture(int(k)), size) for k in known])
    return Betas(np.concatenate(parts), seen, secret[seen], pictures, tuple(str(k) for k in known))


def _sessions(folder: Path) -> Sequence[tuple[int, Path]]:
    def found() -> Iterator[tuple[int, Path]]:
        for path in sorted(folder.iterdir() if folder.is_dir() else ()):
            if match := re.fullmatch(r"betas_session(\d{2})\.(nii\.gz|hdf5)", path.name):
                yield int(match[1]), path

    by_session = dict(found())  # a session in both formats is read once
    if not by_session:
        raise UserError(f"{folder} holds no betas_sessionBB.nii.gz or .hdf5: give a folder such as betas_fithrf")
    return sorted(by_session.items())


def _read_nsd(path: Path, mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Betas (trials, voxels) of one session as NSD stores them, 300 times percent: standardising drops the unit."""
    try:
        if path.suffix == ".hdf5":
            with h5py.File(path) as file:  # MATLAB wrote it: h5py shows the axes in reverse, trial, z, y, x
                brick = np.asarray(file["betas"]).transpose(3, 2, 1, 0)
        else:
            brick = np.asanyarray(nib.load(path).dataobj)
        if brick.ndim != 4 or brick.shape[:3] != mask.shape:
            raise UserError(f"{path} is {brick.shape} and nsdgeneral {mask.shape}: copy the betas at 1.8 mm")
        return np.asarray(brick[mask].T, np.float32)
    except (OSError, KeyError, ValueError, EOFError, nib.filebasedimages.ImageFileError) as error:
        raise UserError(f"{path} cannot be read as NSD's betas ({error}): copy it again") from error


def _rgb(images: NDArray[np.generic], where: str) -> NDArray[np.uint8]:
    """Images (n, h, w) or (n, h, w, 3), uint8 or 0 to 1, as uint8 RGB."""
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] != 3) or 0 in images.shape:
        raise UserError(f"images in {where} are {images.shape}: give (trials, h, w) or (trials, h, w, 3)")
    if images.dtype != np.uint8:
        values = images.astype(np.float64)
        if not ((values >= 0) & (values <= 1)).all():
            raise UserError(f"images in {where} are {images.dtype} outside 0 to 1: give uint8, or values from 0 to 1")
        images = np.round(255 * values).astype(np.uint8)
    colour = images if images.ndim == 4 else np.repeat(images[..., None], 3, axis=3)
    return np.asarray(colour, np.uint8)
