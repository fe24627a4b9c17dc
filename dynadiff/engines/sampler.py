"""The sampler as a table, a row a step: which timestep, what becomes of latent and noise, how strong the guidance.

Whatever is affine in the latent and the predicted noise is such a table, evenly spaced or not, guided alike at every
step or not. An engine is given one, and may be given another. Arithmetic only; knows no engine and no file.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynadiff.base.errors import UserError
from dynadiff.networks.schedule import Schedule


@dataclass(frozen=True)
class SamplingStep:
    """``latent <- x latent + eps noise``, the noise being what the network predicts at that timestep, so guided."""

    timestep: int  # of training, from 0
    x: float  # the coefficient of the latent
    eps: float  # and that of the guided noise
    guidance: float


Table = tuple[SamplingStep, ...]  # noisiest first


def ddim(schedule: Schedule, steps: int, guidance: float) -> Table:
    """DDIM with eta = 0: timesteps evenly spaced, guided alike at every step. ValueError for steps that it has not."""
    rows = zip(schedule.timesteps(steps).tolist(), schedule.ddim(steps).tolist(), strict=True)
    return tuple(SamplingStep(timestep, x, eps, guidance) for timestep, (x, eps) in rows)


def guided(table: Table, guidance: float) -> Table:
    """The same steps with that guidance at each."""
    return tuple(replace(row, guidance=guidance) for row in table)


def guidance_of(table: Table) -> float | None:
    """The guidance of all steps; None where it differs from step to step."""
    strengths = {row.guidance for row in table}
    return strengths.pop() if len(strengths) == 1 else None


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
