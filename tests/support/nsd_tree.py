"""A small NSD tree, in either of its layouts, for the tests of the reader."""

from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import scipy.io
from numpy.typing import NDArray

SHAPES = {1: (5, 6, 4), 2: (4, 7, 3)}
N_IMAGES = 80
SHARED = (3, 8, 80)
Layout = dict[str, str]
OFFICIAL = {
    "func": "nsddata_timeseries/ppdata/subj{:02d}/func1pt8mm",
    "roi": "nsddata/ppdata/subj{:02d}/func1pt8mm/roi",
    "stimuli": "nsddata_stimuli/stimuli/nsd",
    "expdesign": "nsddata/experiments/nsd",
}
FLAT = {"func": "subj{:02d}/func1pt8mm", "roi": "subj{:02d}/func1pt8mm/roi", "stimuli": ".", "expdesign": "."}


def some_design(run: int) -> list[int]:
    """Rows 9 to 210 in steps of 3 with a blank now and then; ids run over 1 to N_IMAGES."""
    design = [0] * 225
    for trial, row in enumerate(range(9, 211, 3)):
        if (trial + run) % 11:
            design[row] = (7 * run + 13 * trial) % N_IMAGES + 1
    return design


def picture_of(image: int) -> NDArray[np.uint8]:
    picture = np.zeros((425, 425, 3), np.uint8)
    picture[:] = (image, 255 - image, 2 * image)
    picture[0, :image] = 255
    return picture


def write_run(
    func: Path,
    session: int,
    run: int,
    design: list[int] | None,
    shape: tuple[int, int, int],
    volumes: int = 226,
    tr: float = 4 / 3,
    dtype: str = "i2",
    order: str = "<",
) -> NDArray[np.generic]:
    for name in ("timeseries", "design"):
        (func / name).mkdir(parents=True, exist_ok=True)
    data = np.random.default_rng(100 * session + run).integers(500, 1500, (*shape, volumes)).astype(dtype)
    header = nib.Nifti1Header(endianness=order)
    header.set_data_dtype(data.dtype)
    header.set_data_shape(data.shape)
    image = nib.Nifti1Image(data, np.diag([1.8, 1.8, 1.8, 1]), header)
    image.header.set_zooms((1.8, 1.8, 1.8, tr))
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, func / "timeseries" / f"timeseries_session{session:02d}_run{run:02d}.nii.gz")
    if design is not None:
        text = "".join(f"{image}\n" for image in design)
        (func / "design" / f"design_session{session:02d}_run{run:02d}.tsv").write_text(text)
    return data


def nsdgeneral(shape: tuple[int, int, int]) -> NDArray[np.int16]:
    values = np.random.default_rng(5).integers(-1, 2, shape).astype(np.int16)
    assert {-1, 0, 1} == set(values.ravel().tolist())
    return values


def write_tree(root: Path, layout: Layout) -> Path:
    for subject, shape in SHAPES.items():
        func = root / layout["func"].format(subject)
        for run in (1, 2, 3):
            write_run(func, 1, run, some_design(run), shape)
        roi = root / layout["roi"].format(subject)
        roi.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(nsdgeneral(shape), np.diag([1.8, 1.8, 1.8, 1])), roi / "nsdgeneral.nii.gz")
    for key in ("stimuli", "expdesign"):
        (root / layout[key]).mkdir(parents=True, exist_ok=True)
    with h5py.File(root / layout["stimuli"] / "nsd_stimuli.hdf5", "w") as file:
        brick = file.create_dataset("imgBrick", (N_IMAGES, 425, 425, 3), "u1", chunks=(1, 425, 425, 3))
        for image in SHARED:
            brick[image - 1] = picture_of(image)
    scipy.io.savemat(
        root / layout["expdesign"] / "nsd_expdesign.mat",
        {"sharedix": np.array([SHARED], np.uint16), "masterordering": np.arange(1, 9)[None]},
    )
    return root
