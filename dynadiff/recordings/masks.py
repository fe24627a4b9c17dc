"""Masks of the brain, and taking their voxels out of volumes, always in C order of the mask.

Knows NIfTI files of masks; knows no statistics and no window. ``mask.nii.gz`` lies beside whatever is about one
subject's voxels: a model, an engine, a store of trials.
"""

import hashlib
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from dynadiff.base.errors import UserError
from dynadiff.recordings.nifti import Bold, open_image, reading
from dynadiff.recordings.run import Run

MASK = "mask.nii.gz"


def read_mask(path: Path, shape: tuple[int, ...], affine: NDArray[np.float64] | None = None) -> NDArray[np.bool_]:
    """The voxels whose value in ``path`` is above 0; ``shape`` is that of the volumes to be masked.

    ``affine``, where given, is theirs too, and the mask must lie where they lie.

    Raises UserError for a missing or damaged file, another shape, and a mask without a voxel.
    """
    image = open_image(path)
    if tuple(image.shape) != shape:
        raise UserError(f"the mask {path} is {image.shape} and the volumes are {shape}: give a mask of the same grid.")
    if affine is not None:
        advice = "give a mask of this acquisition, or --any-space if the voxels are the right ones"
        check_space(affine, np.asarray(image.affine, np.float64), shape, f"the run beside {path}", advice)
    with reading(path):
        mask: NDArray[np.bool_] = np.asanyarray(image.dataobj) > 0
    if not mask.any():
        raise UserError(f"the mask {path} has no voxel above 0: give a mask that selects some.")
    return mask


def apart_mm(one: NDArray[np.float64], other: NDArray[np.float64], shape: tuple[int, ...]) -> float:
    """How far from each other, at most, two affines (4, 4) put the same voxel of a grid: the distance of a corner."""
    corners = np.array(np.meshgrid(*((0, n - 1) for n in shape), (1,), indexing="ij")).reshape(4, -1)
    return float(np.linalg.norm(((one - other) @ corners)[:3], axis=0).max())


def check_space(
    affine: NDArray[np.float64], mask_affine: NDArray[np.float64], shape: tuple[int, ...], what: str, advice: str
) -> None:
    """UserError unless volumes and mask lie in the same space, to half a voxel: a flip, other voxels, another angle."""
    apart, voxel = apart_mm(affine, mask_affine, shape), np.linalg.norm(mask_affine[:3, :3], axis=0).min()
    if apart > voxel / 2:
        raise UserError(
            f"{what} lies in another space than its mask, up to {apart:.1f} mm away: the volumes have "
            f"{said_affine(affine)}, the mask {said_affine(mask_affine)}: {advice}"
        )


def said_affine(affine: NDArray[np.float64]) -> str:
    """Orientation, voxel size and origin of an affine, in few words."""
    axes = "".join(nib.aff2axcodes(affine))
    size = "×".join(f"{mm:.3g}" for mm in np.linalg.norm(affine[:3, :3], axis=0))
    return f"{axes} voxels of {size} mm from ({', '.join(f'{mm:.1f}' for mm in affine[:3, 3])})"


def stored_mask(folder: Path) -> NDArray[np.bool_]:
    """The mask (x, y, z) that `save_mask` left in a folder."""
    return np.asarray(np.asanyarray(nib.load(folder / MASK).dataobj) > 0)


def stored_affine(folder: Path) -> NDArray[np.float64]:
    """Voxel to scanner space in mm, (4, 4), of the mask in a folder."""
    return np.asarray(nib.load(folder / MASK).affine, np.float64)


def save_mask(path: Path, mask: NDArray[np.bool_], affine: NDArray[np.float64]) -> None:
    nib.save(nib.Nifti1Image(mask.astype(np.uint8), affine), path)


def mask_digest(mask: NDArray[np.bool_]) -> str:
    """Identity of a mask: its shape and which voxels are in it."""
    return hashlib.sha256(repr(mask.shape).encode() + np.packbits(mask, axis=None).tobytes()).hexdigest()


class Masker:
    """Takes the voxels of a mask out of volumes, in C order of the mask, however a volume lies in memory."""

    def __init__(self, mask: NDArray[np.bool_]) -> None:
        places = np.nonzero(mask)
        self._c = np.ravel_multi_index(places, mask.shape)
        self._f = np.ravel_multi_index(places, mask.shape, order="F")

    def __call__(self, volume: NDArray[np.generic]) -> NDArray[np.float32]:
        """Volume (x, y, z) of any dtype to voxels (n,)."""
        if volume.flags.f_contiguous:
            return volume.ravel(order="F")[self._f].astype(np.float32)
        return volume.ravel()[self._c].astype(np.float32)


def masked_series(source: Bold | Run, mask: NDArray[np.bool_], n: int) -> NDArray[np.float32]:
    """The first ``n`` volumes inside ``mask`` (x, y, z): (n, voxels), voxels in C order of the mask.

    The whole file is read, one volume in memory at a time, so that damage after volume n is noticed too.
    Raises UserError for a mask of another shape and for more volumes than there are.
    """
    if mask.shape != source.shape:
        raise UserError(f"the mask is {mask.shape} and the volumes are {source.shape}: give a mask of the same grid.")
    if not 1 <= n <= source.n_volumes:
        raise UserError(f"the run holds {source.n_volumes} volumes and {n} are wanted: give a complete run.")
    voxels = np.nonzero(mask)
    series = np.empty((n, len(voxels[0])), np.float32)
    for k, volume in enumerate(source.volumes()):
        if k < n:
            series[k] = volume[voxels]
    return series
