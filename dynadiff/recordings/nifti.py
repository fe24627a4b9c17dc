"""A run in a 4-D NIfTI file, streamed in acquisition order through one pass of the gzip.

Knows headers, units and byte orders; knows no data set, no mask and no events.
"""

import gzip
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from dynadiff.base.errors import UserError

MAX_TR = 20.0  # seconds; a larger number is milliseconds, or not a repetition time
SECONDS = {0: 1.0, 8: 1.0, 16: 1e-3, 24: 1e-6}  # NIfTI-1 xyzt_units, its bits for time; 0: unit not stated
MAX_DEFLATE = 1032  # deflate cannot expand a byte to more, so a header that asks for more is wrong
CHUNK = 1 << 16  # bytes
UNREADABLE = (OSError, EOFError, zlib.error, ImageFileError, HeaderDataError, ValueError, OverflowError)


@dataclass(frozen=True)
class Bold:
    """The header of a run of volumes, and the way to its data."""

    path: Path
    shape: tuple[int, int, int]
    n_volumes: int
    tr: float | None  # seconds; None where the header states none
    affine: NDArray[np.float64]  # (4, 4), voxel to scanner space in mm, RAS+
    dtype: np.dtype[Any]  # of the volumes delivered: the file's, little-endian; float32 where the header scales
    stored: np.dtype[Any]  # in the file, its byte order included
    offset: int  # bytes before the first volume
    slope: float
    inter: float

    def volumes(self) -> Iterator[NDArray[np.generic]]:
        """Read-only arrays of ``shape`` and ``dtype`` in Fortran order (as stored), one at a time.

        Raises UserError where the file ends early or its checksum is wrong.
        """
        size = math.prod(self.shape) * self.stored.itemsize
        with reading(self.path), _open(self.path) as file:
            file.seek(self.offset)
            for k in range(self.n_volumes):
                data = file.read(size)
                if len(data) < size:
                    raise EOFError(f"it ends within volume {k} of {self.n_volumes}")
                yield self._volume(data)
            while file.read(CHUNK):  # only at its end does a gzip file say whether what it gave was sound
                pass

    def _volume(self, data: bytes) -> NDArray[np.generic]:
        raw = np.frombuffer(data, self.stored).reshape(self.shape, order="F")
        if self.dtype == self.stored.newbyteorder("<"):
            return raw.astype(self.dtype, copy=False)
        with np.errstate(over="ignore", invalid="ignore"):  # infinite, as a header with an absurd scale says
            return raw.astype(np.float32) * np.float32(self.slope) + np.float32(self.inter)


def open_bold(path: Path, tr: float | None = None) -> Bold:
    """The run in ``path`` (.nii or .nii.gz); reads the header only.

    ``tr`` (seconds), where given, is taken instead of the header's. Raises UserError for a missing or damaged
    file, one that is not 4-D or holds no volume, and a TR that is not above 0 and at most 20 s.
    """
    image = open_image(path)
    shape = tuple(int(n) for n in image.shape)
    if len(shape) != 4:
        raise UserError(f"{path} is {len(shape)}-D and not 4-D: give a run of volumes, (x, y, z, time).")
    if min(shape) < 1:
        raise UserError(f"{path} has the shape {shape}, which holds no volume: export the run again.")
    proxy = image.dataobj
    stored = np.dtype(proxy.dtype)
    if stored.kind not in "iuf":
        raise UserError(f"{path} holds {stored} voxels: give a run of integers or real numbers.")
    needed = int(proxy.offset) + math.prod(shape) * stored.itemsize
    if needed > path.stat().st_size * (MAX_DEFLATE if path.suffix == ".gz" else 1):
        raise UserError(f"{path} is too short for the {shape} voxels of its header: copy it again.")
    slope, inter = float(proxy.slope), float(proxy.inter)
    return Bold(
        path=path,
        shape=shape[:3],
        n_volumes=shape[3],
        tr=_header_tr(image.header, path) if tr is None else check_tr(tr, "the TR given"),
        affine=np.asarray(image.affine, np.float64),
        dtype=stored.newbyteorder("<") if (slope, inter) == (1, 0) else np.dtype("<f4"),
        stored=stored,
        offset=int(proxy.offset),
        slope=slope,
        inter=inter,
    )


def check_tr(tr: float, where: str) -> float:
    """``tr`` in seconds, if it can be one; ``where`` begins the sentence of the UserError."""
    if 0 < tr <= MAX_TR:
        return tr
    advice = f"it looks like milliseconds, so write {tr / 1000:g}" if MAX_TR < tr <= 1000 * MAX_TR else "write seconds"
    raise UserError(f"{where} is {tr:g} s, and a repetition time lies above 0 and at most at {MAX_TR:g} s: {advice}.")


def _header_tr(header: Any, path: Path) -> float | None:
    unit = SECONDS.get(int(header["xyzt_units"]) & 0x38)  # anything else is a frequency, not a time
    stated = float(header["pixdim"][4])
    if unit is None or stated == 0:
        return None
    return check_tr(round(stated * unit, 6), f"the TR in the header of {path}")  # float32, hence the rounding


def open_image(path: Path) -> Any:
    """The NIfTI image in ``path``, its data unread."""
    if path.is_dir():
        raise UserError(f"{path} is a folder: give one NIfTI file of it (.nii or .nii.gz).")
    if not path.is_file():
        raise UserError(f"{path} does not exist: give a NIfTI file (.nii or .nii.gz).")
    with reading(path):
        image = nib.load(path)
    if not isinstance(image, nib.Nifti1Image | nib.Nifti2Image):
        raise UserError(f"{path} is not a NIfTI file: give one (.nii or .nii.gz).")
    return image


def _open(path: Path) -> gzip.GzipFile | BufferedReader:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Whatever goes wrong in the block is a UserError that names the file."""
    try:
        yield
    except UNREADABLE as error:
        reason = str(error).strip().rstrip(".")
        raise UserError(f"{path} is damaged, cut short or not NIfTI ({reason}): copy or export it again.") from error
