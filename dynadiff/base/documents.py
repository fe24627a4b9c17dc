"""JSON that is read strictly: types as annotated, every key known, none missing. Knows no file and no format.

A document that is kept has a version. What is written is of the newest; what is read is brought up to it, one version
after the other, and only then read strictly, so that nothing else in the house knows of more than one.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any, TypeVar

import msgspec

from dynadiff.base.errors import UserError

T = TypeVar("T")
Plain = dict[str, Any]  # a JSON object


@dataclass(frozen=True)
class Versions:
    """The versions of one format. A document says its own as ``version``; one that says none is of the first.

    ``upgrades[k]`` makes a document of version k + 2 of one of version k + 1, and so states what that one lacked: a
    pure function, which may raise ValueError for what is no such document.
    """

    upgrades: tuple[Callable[[Plain], Plain], ...] = ()

    @property
    def newest(self) -> int:
        return len(self.upgrades) + 1

    def current(self, text: bytes | str, source: object) -> bytes:
        """What a document would be in the newest version, its number left out.

        Raises ValueError where it is of no version, and UserError, naming ``source``, where it is of one yet to come.
        """
        document = read_part(text, Plain)
        version = document.pop("version", 1)
        if type(version) is not int or version < 1:
            raise ValueError(f"version {version!r}")
        if version > self.newest:
            raise UserError(newer(source, version, self.newest))
        for upgrade in self.upgrades[version - 1 :]:
            document = upgrade(document)
        return msgspec.json.encode(document)

    def write(self, value: Any) -> str:
        """`write_document` of an object, with the number of the newest version in front."""
        return write_document({"version": self.newest} | _plain(value))


def newer(source: object, version: int, newest: int) -> str:
    """The sentence for whoever has a file of a version that comes after the ``newest`` that is known here."""
    return (
        f"{source} is of version {version} of its format, and the newest known here is {newest}: "
        "install a newer dynadiff-realtime"
    )


def read_document(text: bytes | str, kind: type[T]) -> T:
    """The value of ``kind``, a dataclass, that a JSON text says. Raises ValueError, saying where it is not one."""
    value = read_part(text, kind)
    if strays := _strays(msgspec.json.decode(text), msgspec.json.decode(write_document(value))):
        raise ValueError(f"keys {', '.join(sorted(strays))}")
    return value


def read_part(text: bytes | str, kind: type[T]) -> T:
    """The same of a text that may say more. Raises ValueError, saying where it says something else."""
    try:
        return msgspec.json.decode(text, type=kind)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def write_document(value: Any) -> str:
    """A dataclass, or what JSON can say, as a text of several lines."""
    return json.dumps(_plain(value), indent=1, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def _strays(raw: object, kept: object) -> set[str]:
    """Keys of objects, however deep, that a text has and its value has not, or the other way round."""
    if isinstance(raw, dict) and isinstance(kept, dict):
        inner = (_strays(raw[key], kept[key]) for key in raw.keys() & kept.keys())
        return set(raw.keys() ^ kept.keys()).union(*inner)
    if isinstance(raw, list) and isinstance(kept, list):
        return set().union(*(_strays(a, b) for a, b in zip(raw, kept, strict=True)))
    return set()
