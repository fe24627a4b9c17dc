"""What a field of a message may be. Each check raises ``WireError`` with one sentence, or does nothing."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

DTYPES = ("|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f4", "<f8")
MAX_AXIS = 1024  # voxels or pixels
MAX_COUNT = 1_000_000  # volumes, rows, messages
MAX_TEXT = 256  # characters
MAX_LABEL = 160  # bytes in UTF-8: a folder gets this name and a time behind it, 255 is the most
MAX_BUFFER = 1 << 26  # bytes of one array, 64 MiB


class WireError(ValueError):
    """A message is not as ``realtime.feed.wire`` says, and its sender is at fault. The text is one sentence."""


def require(condition: object, text: str) -> None:
    """Raise ``text`` unless the condition holds."""
    if not condition:
        raise WireError(text)


def whole(name: str, value: object, low: int = 0, high: int = MAX_COUNT) -> None:
    """An integer in [low, high]; True is none."""
    require(type(value) is int and low <= value <= high, f"{name} must be an integer from {low} to {high}.")


def real(name: str, value: object, low: float, high: float) -> None:
    """A finite number in [low, high]."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
    require(number, f"{name} must be a number from {low:g} to {high:g}.")


def text(name: str, value: object) -> None:
    """Short text that can be shown as it is."""
    good = isinstance(value, str) and len(value) <= MAX_TEXT and value.isprintable()
    require(good, f"{name} must be printable text of at most {MAX_TEXT} characters.")


def label(name: str, value: object) -> None:
    """Text that may become the name of a folder: it must not lead out of one, and must not be too long for one."""
    text(name, value)
    good = isinstance(value, str) and value and value[0] != "." and not set(value) & set("/\\")
    require(good, f"{name} must be a name without slashes that does not begin with a dot.")
    require(len(str(value).encode()) <= MAX_LABEL, f"{name} must be a name of at most {MAX_LABEL} bytes.")


def digest(value: object) -> None:
    """A digest of 32 bytes in hex."""
    good = isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")
    require(good, "a digest must be 64 hexadecimal digits.")


def shape(value: object) -> None:
    """Three lengths, none of them 0."""
    if not (isinstance(value, tuple) and len(value) == 3):
        raise WireError("a shape must have 3 axes.")
    for length in value:
        whole("an axis", length, 1, MAX_AXIS)


def nbytes(shape: tuple[int, ...], dtype: object, allowed: Sequence[str] = DTYPES) -> int:
    """How many bytes an array of this shape and dtype takes, where both are allowed."""
    if not (isinstance(dtype, str) and dtype in allowed):
        raise WireError(f"a dtype must be one of {', '.join(allowed)}, not {dtype!r:.20}.")
    size = math.prod(shape) * np.dtype(dtype).itemsize
    require(size <= MAX_BUFFER, f"an array of {size} bytes is larger than {MAX_BUFFER}.")
    return size


def array(value: object, allowed: Sequence[str] = DTYPES) -> None:
    """An array with 3 axes."""
    if not isinstance(value, np.ndarray):
        raise WireError("voxels and pixels must be an array.")
    shape(value.shape)
    nbytes(value.shape, value.dtype.str, allowed)


def affine(value: object) -> None:
    """A (4, 4) nested tuple of finite numbers, in mm."""
    for row in items("affine", value, tuple, 4):
        for number in items("a row of affine", row, tuple, 4):
            real("affine", number, -1e6, 1e6)


def items(
    name: str, value: object, kind: type[list[Any]] | type[tuple[Any, ...]], n: int | None = None
) -> tuple[Any, ...]:
    """The items of a list or tuple, ``n`` of them where that is given."""
    if not isinstance(value, kind) or (n is not None and len(value) != n):
        raise WireError(f"{name} must be a list" + (f" of {n}." if n is not None else "."))
    return tuple(value)
