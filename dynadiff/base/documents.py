"""JSON that is read strictly: types as annotated, every key known, none missing. Knows no file and no format."""

import json
from dataclasses import asdict, is_dataclass
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


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
    plain = asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
    return json.dumps(plain, indent=1, allow_nan=False) + "\n"


def _strays(raw: object, kept: object) -> set[str]:
    """Keys of objects, however deep, that a text has and its value has not, or the other way round."""
    if isinstance(raw, dict) and isinstance(kept, dict):
        inner = (_strays(raw[key], kept[key]) for key in raw.keys() & kept.keys())
        return set(raw.keys() ^ kept.keys()).union(*inner)
    if isinstance(raw, list) and isinstance(kept, list):
        return set().union(*(_strays(a, b) for a, b in zip(raw, kept, strict=True)))
    return set()
