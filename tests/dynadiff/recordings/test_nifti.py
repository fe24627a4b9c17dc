"""A run of volumes is read as it lies in the file, whatever its byte order, scaling and unit of time."""

import gzip
import struct
import tracemalloc
import zlib
from contextlib import suppress
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dynadiff.base.errors import UserError
from dynadiff.recordings.masks import masked_series, read_mask
from dynadiff.recordings.nifti import open_bold

SHAPE = (4, 5, 3)


def some_run(n: int = 7, dtype: str = "<i2", seed: int = 0) -> NDArray[np.generic]:
    values = np.random.default_rng(seed).integers(-1000, 1000, (*SHAPE, n))
    return values.astype(dtype)


def save(
    path: Path,
    data: NDArray[np.generic],
    tr: float = 4 / 3,
    units: str = "sec",
    order: str = "<",
    slope: float = 1,
) -> Path:
    header = nib.Nifti1Header(endianness=order)
    header.set_data_dtype(data.dtype)
    header.set_data_shape(data.shape)
    image = nib.Nifti1Image(data, np.diag([1.8, 1.8, 1.8, 1]), header)
    image.header.set_zooms((1.8, 1.8, 1.8, tr, 1.0)[: data.ndim])
    image.header.set_xyzt_units("mm", units)
    if slope != 1:
        image.header.set_slope_inter(slope, 3)
    nib.save(image, path)
    return path


@pytest.mark.parametrize("name", ["run.nii", "run.nii.gz"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["i2", "u2", "u1", "i4", "f4", "f8"])
def test_volumes_are_the_files_own_numbers_little_endian(tmp_path: Path, name: str, order: str, kind: str) -> None:
    data = np.abs(some_run()).astype(kind)
    bold = open_bold(save(tmp_path / name, data, order=order))
    volumes = list(bold.volumes())
    assert (bold.shape, bold.n_volumes) == (SHAPE, 7)
    assert bold.dtype == np.dtype(kind).newbyteorder("<")
    assert all(v.dtype == bold.dtype and v.dtype.byteorder in "<=|" for v in volumes)
    np.testing.assert_array_equal(np.stack(volumes, -1), data)
    np.testing.assert_allclose(bold.affine, np.diag([1.8, 1.8, 1.8, 1]), rtol=1e-6)


def test_every_pass_begins_at_the_first_volume(tmp_path: Path) -> None:
    bold = open_bold(save(tmp_path / "run.nii.gz", some_run()))
    first = bold.volumes()
    next(first)
    np.testing.assert_array_equal(next(bold.volumes()), some_run()[..., 0])
    np.testing.assert_array_equal(next(first), some_run()[..., 1])


def test_a_scaled_file_gives_float32_after_scaling(tmp_path: Path) -> None:
    bold = open_bold(save(tmp_path / "run.nii.gz", some_run(), slope=0.5))
    assert bold.dtype == np.float32
    expected = np.asanyarray(nib.load(bold.path).dataobj)
    assert not np.array_equal(expected, bold.stored.type(1) * np.round(expected / 0.5))
    np.testing.assert_allclose(np.stack(list(bold.volumes()), -1), expected, rtol=1e-6)
    assert all(v.dtype == np.float32 for v in bold.volumes())


def test_one_pass_reads_each_byte_of_the_gzip_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "run.nii.gz", some_run(40))
    given_out = 0
    opened = 0

    class Counting(gzip.GzipFile):
        def read(self, size: int | None = -1) -> bytes:
            nonlocal given_out
            data = super().read(size)
            given_out += len(data)
            return data

    def count(where: Path) -> Counting:
        nonlocal opened
        opened += 1
        return Counting(where)

    bold = open_bold(path)
    monkeypatch.setattr("dynadiff.recordings.nifti.gzip.open", count)
    assert len(list(bold.volumes())) == 40
    assert (opened, given_out) == (1, some_run(40).nbytes)


@pytest.mark.parametrize(
    ("stated", "units", "seconds"),
    [
        (2.5, "sec", 2.5),
        (4 / 3, "sec", 1.333333),
        (0.8, "sec", 0.8),
        (2000.0, "msec", 2.0),
        (1.5e6, "usec", 1.5),
        (1.6, "unknown", 1.6),
        (0.0, "sec", None),
        (2.0, "hz", None),
    ],
)
def test_the_repetition_time_is_in_seconds(tmp_path: Path, stated: float, units: str, seconds: float | None) -> None:
    assert open_bold(save(tmp_path / "run.nii", some_run(), tr=stated, units=units)).tr == seconds


@pytest.mark.parametrize(("stated", "units"), [(2000.0, "sec"), (2000.0, "unknown"), (21.0, "sec"), (25000.0, "msec")])
def test_an_impossible_repetition_time_is_refused_unless_one_is_given(
    tmp_path: Path, stated: float, units: str
) -> None:
    path = save(tmp_path / "run.nii", some_run(), tr=stated, units=units)
    with pytest.raises(UserError, match="seconds"):
        open_bold(path)
    assert open_bold(path, tr=2.0).tr == 2.0


@pytest.mark.parametrize("stated", [-2.0, float("nan"), float("inf")])
def test_a_repetition_time_that_is_no_duration_is_refused(tmp_path: Path, stated: float) -> None:
    path = save(tmp_path / "run.nii", some_run())
    raw = bytearray(path.read_bytes())
    raw[92:96] = struct.pack("<f", stated)  # pixdim[4]
    path.write_bytes(raw)
    with pytest.raises(UserError, match="repetition time"):
        open_bold(path)


def test_milliseconds_are_recognised_and_the_seconds_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"looks like milliseconds, so write 2\b"):
        open_bold(save(tmp_path / "run.nii", some_run()), tr=2000)


@pytest.mark.parametrize("shape", [SHAPE, (*SHAPE, 2, 2)])
def test_only_four_axes_are_a_run(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=f"{len(shape)}-D and not 4-D"):
        open_bold(save(tmp_path / "run.nii.gz", np.zeros(shape, np.int16)))


def test_a_run_without_volumes_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "run.nii", some_run(1))
    raw = bytearray(path.read_bytes())
    raw[48:50] = struct.pack("<h", 0)  # dim[4]
    path.write_bytes(raw)
    with pytest.raises(UserError, match="holds no volume"):
        open_bold(path)


def test_complex_voxels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="complex64"):
        open_bold(save(tmp_path / "run.nii", some_run().astype(np.complex64)))


@pytest.mark.parametrize("name", ["run.nii", "run.nii.gz"])
@pytest.mark.parametrize("content", [b"", b"not a NIfTI file" * 100])
def test_another_kind_of_file_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError):
        open_bold(tmp_path / name)


def test_an_image_of_another_format_and_a_missing_one_are_refused(tmp_path: Path) -> None:
    nib.save(nib.MGHImage(np.zeros(SHAPE, np.float32), np.eye(4)), tmp_path / "a.mgz")
    with pytest.raises(UserError, match="not a NIfTI"):
        open_bold(tmp_path / "a.mgz")
    with pytest.raises(UserError, match="does not exist"):
        open_bold(tmp_path / "b.nii.gz")


@pytest.mark.parametrize("kept", [0.05, 0.3, 0.9, 0.999])
def test_a_truncated_gzip_is_named_after_the_volumes_that_are_whole(tmp_path: Path, kept: float) -> None:
    path = save(tmp_path / "run.nii.gz", some_run(40))
    raw = path.read_bytes()
    path.write_bytes(raw[: int(kept * len(raw))])
    seen: list[NDArray[np.generic]] = []
    with pytest.raises(UserError, match=r"run\.nii\.gz"):
        seen.extend(open_bold(path).volumes())
    for k, volume in enumerate(seen):
        np.testing.assert_array_equal(volume, some_run(40)[..., k])


def test_a_wrong_checksum_is_noticed_though_all_bytes_are_there(tmp_path: Path) -> None:
    path = save(tmp_path / "run.nii.gz", some_run())
    raw = bytearray(path.read_bytes())
    raw[-8] ^= 1  # CRC-32
    path.write_bytes(raw)
    with pytest.raises(UserError, match="damaged"):
        list(open_bold(path).volumes())
    with pytest.raises(UserError, match="damaged"):
        masked_series(open_bold(path), np.ones(SHAPE, np.bool_), 3)


def test_an_uncompressed_file_that_is_too_short_is_refused_before_the_first_volume(tmp_path: Path) -> None:
    path = save(tmp_path / "run.nii", some_run())
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="too short"):
        open_bold(path)


@settings(max_examples=150, deadline=None)
@given(position=st.integers(0, 351), value=st.integers(0, 255), zipped=st.booleans())
def test_whatever_byte_of_the_header_is_wrong_the_answer_is_a_run_or_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, position: int, value: int, zipped: bool
) -> None:
    folder = tmp_path_factory.mktemp("bytes")
    raw = bytearray(save(folder / "run.nii", some_run(2)).read_bytes())
    raw[position] = value
    path = folder / ("changed.nii.gz" if zipped else "changed.nii")
    path.write_bytes(gzip.compress(bytes(raw)) if zipped else bytes(raw))
    with suppress(UserError):
        bold = open_bold(path)
        for volume in bold.volumes():
            assert volume.shape == bold.shape


def test_a_sound_gzip_with_too_few_volumes_is_named_with_the_one_that_is_missing(tmp_path: Path) -> None:
    raw = save(tmp_path / "run.nii", some_run(7)).read_bytes()
    (tmp_path / "short.nii.gz").write_bytes(gzip.compress(raw[: -2 * np.prod(SHAPE) - 1]))
    with pytest.raises(UserError, match="ends within volume 5 of 7"):
        list(open_bold(tmp_path / "short.nii.gz").volumes())


def test_a_header_that_asks_for_more_than_the_gzip_can_hold_allocates_nothing(tmp_path: Path) -> None:
    raw = bytearray(save(tmp_path / "run.nii", some_run()).read_bytes())
    raw[42:48] = struct.pack("<3h", 32767, 32767, 32767)
    (tmp_path / "run.nii.gz").write_bytes(gzip.compress(bytes(raw)))
    with pytest.raises(UserError, match="too short"):
        open_bold(tmp_path / "run.nii.gz")


def test_a_mask_is_what_lies_above_zero(tmp_path: Path) -> None:
    values = np.random.default_rng(1).integers(-1, 2, SHAPE).astype(np.int16)
    assert {-1, 0, 1} <= set(values.ravel().tolist())
    mask = read_mask(save(tmp_path / "mask.nii.gz", values), SHAPE)
    assert mask.dtype == np.bool_
    np.testing.assert_array_equal(mask, values == 1)


def test_a_mask_of_floats_with_nan_keeps_no_nan(tmp_path: Path) -> None:
    values = np.full(SHAPE, np.nan, np.float32)
    values[1, 2, 0] = 0.25
    assert read_mask(save(tmp_path / "mask.nii", values), SHAPE).sum() == 1


def test_unusable_masks_are_refused(tmp_path: Path) -> None:
    empty = save(tmp_path / "empty.nii.gz", np.full(SHAPE, -1, np.int16))
    with pytest.raises(UserError, match="no voxel above 0"):
        read_mask(empty, SHAPE)
    with pytest.raises(UserError, match="same grid"):
        read_mask(empty, (4, 5, 4))
    with pytest.raises(UserError, match="does not exist"):
        read_mask(tmp_path / "none.nii.gz", SHAPE)
    noise = save(tmp_path / "cut.nii.gz", some_run(1)[..., 0])
    raw = noise.read_bytes()
    noise.write_bytes(raw[: len(raw) - 20])
    with pytest.raises(UserError, match="damaged"):
        read_mask(noise, SHAPE)


def test_masked_volumes_keep_the_order_of_the_mask_in_c(tmp_path: Path) -> None:
    data, mask = some_run(), np.random.default_rng(2).random(SHAPE) < 0.4
    bold = open_bold(save(tmp_path / "run.nii.gz", data, order=">"))
    series = masked_series(bold, mask, 6)
    assert (series.shape, series.dtype.name) == ((6, int(mask.sum())), "float32")
    flat = [data[i, j, k, :6] for i in range(4) for j in range(5) for k in range(3) if mask[i, j, k]]
    np.testing.assert_array_equal(series, np.transpose(flat))


def test_masked_volumes_never_hold_the_run(tmp_path: Path) -> None:
    shape, n = (20, 20, 20), 100
    path = save(tmp_path / "run.nii.gz", np.zeros((*shape, n), np.int16))
    mask = np.zeros(shape, np.bool_)
    mask[:2] = True
    bold = open_bold(path)
    tracemalloc.start()
    series = masked_series(bold, mask, n)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < series.nbytes + 0.25 * np.prod(shape) * n * 2


def test_a_series_that_cannot_be_is_refused(tmp_path: Path) -> None:
    bold = open_bold(save(tmp_path / "run.nii.gz", some_run()))
    with pytest.raises(UserError, match="same grid"):
        masked_series(bold, np.ones((5, 4, 3), np.bool_), 7)
    with pytest.raises(UserError, match="7 volumes and 8 are wanted"):
        masked_series(bold, np.ones(SHAPE, np.bool_), 8)


def test_corrupt_deflate_data_is_a_sentence(tmp_path: Path) -> None:
    path = save(tmp_path / "run.nii.gz", some_run(40))
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2 : len(raw) // 2 + 64] = b"\xff" * 64
    path.write_bytes(raw)
    with pytest.raises((zlib.error, EOFError, gzip.BadGzipFile)), gzip.open(path) as file:
        file.read()
    with pytest.raises(UserError, match="damaged"):
        list(open_bold(path).volumes())
