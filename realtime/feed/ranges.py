"""What a field of a message may be: types with their ranges, and the check that holds a message to them."""

import math
import re
from collections.abc import Sequence
from functools import cache
from typing import Annotated, Any, get_type_hints

import msgspec
import numpy as np
from msgspec import Meta

MAX_AXIS = 1024  # voxels or pixels
MAX_COUNT = 1_000_000  # volumes, rows, messages
MAX_TEXT = 256  # characters
MAX_LABEL = 160  # bytes in UTF-8: a folder gets this name and a time behind it, 255 is the most
MAX_BUFFER = 1 << 26  # bytes of one array, 64 MiB
MAX_TR = 20.0  # seconds; what lies above is a TR in milliseconds

Count = Annotated[int, Meta(ge=0, le=MAX_COUNT)]
Positive = Annotated[int, Meta(ge=1, le=MAX_COUNT)]
UnixTime = Annotated[float, Meta(ge=0, le=1e11)]  # seconds
Text = Annotated[str, Meta(max_length=MAX_TEXT)]  # printable, as every text of a message
Label = Annotated[str, Meta(pattern=r"^[^./\\][^/\\]*\Z")]  # may name a folder: leads out of none, has room in one
LabelOrNone = Annotated[str, Meta(pattern=r"^([^./\\][^/\\]*)?\Z")]
Digest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
Axis = Annotated[int, Meta(ge=1, le=MAX_AXIS)]
Shape = tuple[Axis, Axis, Axis]
DTYPES = ("|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f4", "<f8")
Dtype = Annotated[str, Meta(pattern=rf"^({'|'.join(map(re.escape, DTYPES))})\Z")]
Mm = Annotated[float, Meta(ge=-1e6, le=1e6)]
AffineRow = Annotated[tuple[Mm, ...], Meta(min_length=4, max_length=4)]
Affine = Annotated[tuple[AffineRow, ...], Meta(min_length=4, max_length=4)]
EventRow = tuple[Count, Positive, Text, Text]  # row, rows, picture, category
SAID = (
    (Label, "must be a name without slashes that does not begin with a dot"),
    (LabelOrNone, "must be empty, or a name without slashes that does not begin with a dot"),
    (Digest, "must be 64 hexadecimal digits"),
    (Dtype, f"must be one of {', '.join(DTYPES)}"),
)  # where msgspec would show a pattern


class WireError(ValueError):
    """A message is not as ``realtime.feed.wire`` says; its sender is at fault. The text is one printable sentence."""

    def __init__(self, text: str) -> None:
        super().__init__(_printable(text))


def as_text(said: str) -> str:
    """As much of it as a ``Text`` takes."""
    return _printable(said)[:MAX_TEXT]


def require(condition: object, text: str) -> None:
    """Raise ``text`` unless the condition holds."""
    if not condition:
        raise WireError(text)


def within(name: str, value: object, kind: Any) -> Any:
    """The value as that type, within its range; WireError, beginning with the name, where it is not."""
    try:
        found = msgspec.convert(value, kind)
    except ValueError as error:
        said = next((sentence for known, sentence in SAID if kind == known), str(error))
        raise WireError(f"{name}: {said}.") from None
    if isinstance(value, str):
        require(value.isprintable(), f"{name}: text must be printable.")
        room = kind not in (Label, LabelOrNone) or len(value.encode()) <= MAX_LABEL
        require(room, f"{name}: a name must have at most {MAX_LABEL} bytes.")
    return found


@cache
def kinds(message: Any) -> dict[str, Any]:
    """Field to type, ranges included, of a message."""
    return get_type_hints(message, include_extras=True)


def nbytes(shape: tuple[int, ...], dtype: str) -> int:
    """How many bytes an array of this shape and dtype takes, where that is allowed."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    require(size <= MAX_BUFFER, f"an array of {size} bytes is larger than {MAX_BUFFER}.")
    return size


def array(name: str, value: object, allowed: Sequence[str] = DTYPES) -> None:
    """WireError unless it is an array with 3 axes that may travel."""
    if not isinstance(value, np.ndarray):
        raise WireError(f"{name}: voxels and pixels must be an array.")
    shape = within(f"the shape of {name}", value.shape, Shape)
    require(value.dtype.str in allowed, f"{name}: its dtype must be one of {', '.join(allowed)}.")
    nbytes(shape, value.dtype.str)


def _printable(text: str) -> str:
    """With a question mark for whatever could move a cursor or break a line."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
