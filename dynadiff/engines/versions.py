"""What older versions of ``engine.json`` lacked, and what that meant. Knows documents; knows no file and no engine."""

from dataclasses import asdict, dataclass
from typing import Any

from dynadiff.base.documents import Plain, Versions, read_part, write_document
from dynadiff.engines.build import SINGLE
from dynadiff.engines.sampler import Table, ddim, spacing_of
from dynadiff.networks.schedule import Schedule


@dataclass(frozen=True)
class _First:
    """What a manifest of the first version said of sampling."""

    steps: int
    guidance: float
    schedule: Schedule


def _with_a_table(old: Plain) -> Plain:
    """The first version had no table: it sampled by DDIM, steps evenly spaced and guided alike."""
    said = read_part(write_document(old), _First)
    if "sampler" in old:
        raise ValueError("keys sampler")
    kept = {key: value for key, value in old.items() if key not in ("steps", "guidance")}
    return kept | {"sampler": [asdict(row) for row in ddim(said.schedule, said.steps, said.guidance)]}


@dataclass(frozen=True)
class _Second:
    """What a manifest of the second version said of sampling."""

    sampler: Table
    schedule: Schedule
    build: dict[str, Any] | None


def _with_a_name(old: Plain) -> Plain:
    """The second version did not name its timesteps, and had no network of one half beside a guided step."""
    said = read_part(write_document(old), _Second)
    if "spacing" in old or SINGLE in (said.build or {}).get("networks", ()):
        raise ValueError("keys spacing, or a network that it had not")
    return old | {"spacing": spacing_of(said.sampler, said.schedule)}


VERSIONS = Versions((_with_a_table, _with_a_name))  # of engine.json
