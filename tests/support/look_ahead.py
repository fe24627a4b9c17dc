"""Does anything look ahead? A run is emitted from twice, with another future, and what came before must be the same.

An emitter takes what was acquired, volumes by row, and says everything that came out of it: of which row it is (the
newest volume that its maker may have known), by which name, and what it was when the run was over, so that a later
volume that rewrites something is seen too. Knows arrays and rows, nothing of what the emitter does: a volume is
whatever the emitter takes, all that is measured along with it included.
"""

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dynadiff.signal.cleaning import Cleaning

Acquired = Mapping[int, NDArray[np.float32]]  # by row, rising; a row that is not there never came
Emission = tuple[int, str, object]
Emit = Callable[[Acquired], Iterable[Emission]]
Future = Callable[[Acquired, int], Acquired]

# One of every kind. `test_no_way_of_cleaning_is_forgotten` fails until a new field of `Cleaning` has a line here.
CLEANINGS = (Cleaning(), Cleaning("none"), Cleaning(ridge=0), Cleaning("cosine"), Cleaning("cosine", 0.02, ridge=0))


class LookAhead(AssertionError):
    """Something that was emitted changes with what comes after it."""


@dataclass(frozen=True)
class Leak:
    """The first thing that differs, in the order of rows."""

    row: int
    name: str
    after: int  # the last row that both runs share
    future: str

    def __str__(self) -> str:
        later = f"with the volumes after row {self.after} ({self.future})"
        return f"{self.name} of row {self.row} changes {later}: it has looked ahead"


def by_row(series: NDArray[np.float32]) -> Acquired:
    """A whole run (volumes, ...), none of them lost."""
    return dict(enumerate(series))


def stacked(acquired: Acquired) -> NDArray[np.float32]:
    """The run as an array (volumes, ...), for what takes no other; ValueError where a row is missing."""
    if list(acquired) != list(range(len(acquired))):
        raise ValueError("rows are missing: use the futures of `SAME_ROWS`")
    return np.stack(list(acquired.values()))


def _changed(change: Callable[[NDArray[np.float32], int, Acquired], NDArray[np.float32]]) -> Future:
    """A future in which every later volume is what ``change`` makes of it, its row, and what was acquired."""
    return lambda acquired, k: {
        row: np.asarray(change(volume, row - k, acquired), np.float32) if row > k else volume
        for row, volume in acquired.items()
    }


def _longer(acquired: Acquired, k: int) -> Acquired:
    last = max(acquired)
    return {**acquired} | {last + 1 + n: np.flip(volume) for n, (row, volume) in enumerate(acquired.items()) if row > k}


# In which as many volumes come, each in its row.
SAME_ROWS: dict[str, Future] = {
    "other values": _changed(lambda volume, later, _: np.flip(volume) * (1 + np.float32(0.01) * (later % 3))),
    "no numbers": _changed(lambda volume, later, _: np.full_like(volume, np.nan)),
    "some infinite": _changed(lambda volume, later, _: np.where(np.indices(volume.shape)[0] % 3, volume, np.inf)),
    "one spike": _changed(lambda volume, later, _: volume * 8 if later == 1 else volume),
    "another scale": _changed(lambda volume, later, _: volume * 3 + 500),
    "a creeping drift": _changed(lambda volume, later, _: volume * (1 + np.float32(0.004) * later)),
    "a scanner that is stuck": _changed(lambda volume, later, acquired: next(iter(acquired.values()))),
}
# In which some do not come, or more than were planned.
OTHER_ROWS: dict[str, Future] = {
    "the next one lost": lambda acquired, k: {row: v for row, v in acquired.items() if row != k + 1},
    "every other one lost": lambda acquired, k: {r: v for r, v in acquired.items() if r <= k or (r - k) % 2 == 0},
    "stopped": lambda acquired, k: {row: volume for row, volume in acquired.items() if row <= k},
    "longer than planned": _longer,
}
FUTURES = SAME_ROWS | OTHER_ROWS


def check_no_look_ahead(
    emit: Emit, acquired: Acquired, futures: Mapping[str, Future] = FUTURES, after: Sequence[int] | None = None
) -> None:
    """What is emitted by row k is the same bytes in every future of every k, those of ``after`` or some that matter.

    Raises LookAhead, naming the first that is not. Raises ValueError where this would prove nothing: nothing was
    emitted by a k, or no future changed anything that came after it.
    """
    whole = emitted(emit(acquired))
    for k in _telling(whole) if after is None else after:
        if min(whole)[0] > k:
            raise ValueError(f"nothing is emitted by row {k}: choose a later one")
        reached = False
        for name, change in futures.items():
            other = emitted(emit(change(acquired, k)))
            if (leak := _first(whole, other, k, name)) is not None:
                raise LookAhead(leak)
            reached |= whole != other
        if not reached and max(whole)[0] > k:
            raise ValueError(f"no future after row {k} changes anything: the emitter does not see its volumes")


def leak_into(emit: Emit, acquired: Acquired, k: int, future: str) -> Leak | None:
    """What is emitted by row ``k``, and changes with this one of `FUTURES`; None may also mean that nothing does."""
    return _first(emitted(emit(acquired)), emitted(emit(FUTURES[future](acquired, k))), k, future)


def emitted(emissions: Iterable[Emission]) -> dict[tuple[int, str], bytes]:
    """By row and name, each as bytes. ValueError for two of one name at one row."""
    found: dict[tuple[int, str], bytes] = {}
    kept = list(emissions)  # all of them before any is read: what a later volume rewrites is read as it is in the end
    for row, name, value in kept:
        if (row, name) in found:
            raise ValueError(f"{name} of row {row} is emitted twice: give each a name of its own")
        found[row, name] = b"".join(_bits(value))
    return found


def _telling(whole: Mapping[tuple[int, str], bytes]) -> Iterator[int]:
    """Rows at which something is emitted, so that a look of a single volume ahead is seen: five, the first among them.

    Not the last: nothing comes after it.
    """
    rows = sorted({row for row, _ in whole if row >= 0})[:-1]
    if not rows:
        raise ValueError("at fewer than two rows something is emitted: give a longer run")
    yield from sorted({rows[round(share * (len(rows) - 1))] for share in (0, 0.25, 0.5, 0.75, 1)})


def _first(
    whole: Mapping[tuple[int, str], bytes], other: Mapping[tuple[int, str], bytes], k: int, future: str
) -> Leak | None:
    differing = [key for key in whole.keys() | other.keys() if key[0] <= k and whole.get(key) != other.get(key)]
    return Leak(*min(differing), k, future) if differing else None


def _bits(value: object) -> Iterator[bytes]:
    """Everything that there is to a value; TypeError for one that is not known through and through."""
    match value:
        case np.ndarray() | np.generic():
            yield f"{value.dtype.str}{value.shape}".encode() + value.tobytes()
        case float():
            yield struct.pack("<d", value)
        case bytes():
            yield b"%d " % len(value) + value
        case None | bool() | int() | str() | range():
            yield repr(value).encode()
        case Mapping():
            yield from (part for item in sorted(value.items(), key=lambda item: str(item[0])) for part in _bits(item))
        case Sequence():
            yield b"%d of " % len(value)
            yield from (part for item in value for part in _bits(item))
        case _:
            raise TypeError(f"a {type(value).__name__} cannot be compared to the bit: give arrays, numbers and words")
