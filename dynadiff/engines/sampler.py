"""The sampler as a table, a row a step: which timestep, what becomes of latent and noise, how strong the guidance.

Whatever is affine in the latent and the predicted noise is such a table, evenly spaced or not, guided alike at every
step or not. An engine is given one, and may be given another. A step whose guidance is exactly 1 needs no unconditional
half, and an engine that has a network of the other half alone takes that one. Arithmetic only; knows no engine and no
file.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynadiff.base.errors import UserError
from dynadiff.engines.build import SINGLE
from dynadiff.networks.choices import Guidance, Spacing, guidance_at
from dynadiff.networks.schedule import Schedule


@dataclass(frozen=True)
class SamplingStep:
    """``latent <- x latent + eps noise``, the noise being what the network predicts at that timestep, so guided."""

    timestep: int  # of training, from 0
    x: float  # the coefficient of the latent
    eps: float  # and that of the guided noise
    guidance: float


Table = tuple[SamplingStep, ...]  # noisiest first


def ddim(schedule: Schedule, steps: int, guidance: Guidance, spacing: Spacing = "leading") -> Table:
    """DDIM with eta = 0. ValueError for steps or timesteps that the schedule has not, and for guidance of others."""
    times = schedule.timesteps(steps, spacing)
    rows = zip(times.tolist(), schedule.ddim(times).tolist(), guidance_at(guidance, times.tolist()), strict=True)
    return tuple(SamplingStep(timestep, x, eps, strength) for timestep, (x, eps), strength in rows)


def guided(table: Table, guidance: Guidance) -> Table:
    """The same steps, guided so. ValueError for another number of guidances."""
    strengths = guidance_at(guidance, [row.timestep for row in table])
    return tuple(replace(row, guidance=strength) for row, strength in zip(table, strengths, strict=True))


def spacing_of(table: Table, schedule: Schedule) -> str:
    """The name of its timesteps: leading, ays, or listed where they are neither."""
    times = [row.timestep for row in table]
    for name in ("leading", "ays"):
        try:
            if schedule.timesteps(len(times), name).tolist() == times:
                return name
        except ValueError:  # so many steps are none of that name
            continue
    return "listed"


def networks_of(table: Table, networks: Collection[str]) -> list[str]:
    """The network of each step: that of one half where guidance is 1 and there is one, the step otherwise."""
    return [SINGLE if row.guidance == 1 and SINGLE in networks else "step" for row in table]


def step_inputs(table: Table, names: set[str]) -> dict[str, NDArray[Any]]:
    """What step i is given beside latent and tokens, as row i of an array for each of those names of the step graph.

    Raises UserError where the graph was exported for guidance 1, without the unconditional half, and another is asked.
    """
    other = [row.guidance for row in table if row.guidance != 1]
    if "guidance" not in names and other:
        raise UserError(f"the engine was exported for guidance 1, not {other[0]:g}: export it again for that guidance")
    known: dict[str, NDArray[Any]] = {
        "timestep": np.array([[row.timestep] for row in table], np.int64),
        "coefficients": np.array([[row.x, row.eps] for row in table]).astype(np.float32),
        "guidance": np.array([row.guidance for row in table], np.float32),
    }
    return {name: rows for name, rows in known.items() if name in names}
