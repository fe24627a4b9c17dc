"""How pictures are painted, as a choice and in words: by which sampler, at which timesteps, how strongly guided.

Knows numbers; knows no noise schedule (`dynadiff.networks.schedule` makes coefficients of it) and no network.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeVar

Number = TypeVar("Number", int, float)

SPACINGS = ("leading", "ays")
Spacing = str | tuple[int, ...]  # one of `SPACINGS`, or the timesteps themselves, noisiest first


@dataclass(frozen=True)
class Between:
    """Guidance at timesteps of training from ``low`` to ``high``, both included; at others 1, which is none."""

    scale: float
    low: int
    high: int


Guidance = float | tuple[float, ...] | Between  # of all steps, of each, or of those between two timesteps


@dataclass(frozen=True)
class Sampling:
    """How pictures are painted. The default is the paper's. Raises ValueError for what cannot be sampled by."""

    sampler: str = "ddim"  # or "ddpm"
    steps: int = 20
    guidance: Guidance = 3.0
    seed: int = 0
    spacing: Spacing = "leading"  # of the timesteps

    def __post_init__(self) -> None:
        if self.sampler not in ("ddim", "ddpm"):
            raise ValueError(f"sampler is ddim or ddpm, not {self.sampler!r}")
        if self.steps < 1:
            raise ValueError(f"there is at least 1 step, not {self.steps}")
        if self.sampler == "ddpm" and self.spacing != "leading":
            raise ValueError(f"ddpm has leading timesteps, not {spacing_words(self.spacing)}")
        _check_spacing(self.spacing, self.steps)
        _check_guidance(self.guidance, self.steps)

    @property
    def strongest(self) -> float:
        """The guidance of the step that is guided most."""
        if isinstance(self.guidance, Between):
            return self.guidance.scale
        return max(self.guidance) if isinstance(self.guidance, tuple) else self.guidance

    @property
    def exact(self) -> "Sampling":
        """The paper's 20 evenly spaced steps, all of them guided, as strongly as any of these is."""
        return replace(self, steps=PUBLISHED.steps, spacing=PUBLISHED.spacing, guidance=self.strongest)

    def __str__(self) -> str:
        spaced = "" if self.spacing == "leading" else f" {spacing_words(self.spacing)}"
        count = f"{self.steps} step{'s' * (self.steps > 1)}{spaced}"
        return f"{self.sampler.upper()}, {count}, guidance {guidance_words(self.guidance)}"


def guidance_at(guidance: Guidance, timesteps: Sequence[int]) -> tuple[float, ...]:
    """The guidance of each step, where these are their timesteps. ValueError where it has another number of values."""
    _check_guidance(guidance, len(timesteps))
    if isinstance(guidance, Between):
        return tuple(guidance.scale if guidance.low <= t <= guidance.high else 1.0 for t in timesteps)
    return guidance if isinstance(guidance, tuple) else (guidance,) * len(timesteps)


def guidance_of(strengths: Sequence[float]) -> float | tuple[float, ...]:
    """The guidance of steps that are guided so: one value where they are guided alike."""
    return strengths[0] if len(set(strengths)) == 1 else tuple(strengths)


def spacing_named(words: str) -> Spacing:
    """A spacing of its words, as ``ays`` or ``999,700,300``. ValueError for what is none."""
    spacing = words if re.search("[a-z]", words) else _numbers(words, int)
    _check_spacing(spacing, 1 if isinstance(spacing, str) else len(spacing))
    return spacing


def guidance_named(words: str) -> Guidance:
    """Guidance of its words, as ``5``, ``5,5,1`` or ``5@501-999``. ValueError for what is none."""
    scale, at, interval = words.partition("@")
    guidance: Guidance
    if at:
        low, _, high = interval.partition("-")
        first, last = _numbers(f"{low},{high}", int)
        guidance = Between(_numbers(scale, float)[0], first, last)
    else:
        values = _numbers(words, float)
        guidance = values if len(values) > 1 else values[0]
    _check_guidance(guidance, len(guidance) if isinstance(guidance, tuple) else 1)
    return guidance


def spacing_words(spacing: Spacing) -> str:
    """The words that `spacing_named` takes."""
    return spacing if isinstance(spacing, str) else ",".join(map(str, spacing))


def guidance_words(guidance: Guidance) -> str:
    """The words that `guidance_named` takes; values as short as they can be told from others."""
    if isinstance(guidance, Between):
        return f"{_short(guidance.scale)}@{guidance.low}-{guidance.high}"
    return ",".join(map(_short, guidance if isinstance(guidance, tuple) else (guidance,)))


def _short(value: float) -> str:
    return repr(float(value)).removesuffix(".0")


def _numbers(words: str, kind: type[Number]) -> tuple[Number, ...]:
    try:
        return tuple(kind(word) for word in words.split(","))
    except ValueError:
        what = "whole numbers" if kind is int else "numbers"
        raise ValueError(f"{words!r} is no list of {what}") from None


def _check_spacing(spacing: Spacing, steps: int) -> None:
    if isinstance(spacing, str):
        if spacing not in SPACINGS:
            raise ValueError(f"spacing is {', '.join(SPACINGS)} or a list of timesteps as 999,700,300, not {spacing}")
        return
    if len(spacing) != steps:
        raise ValueError(f"spacing lists {len(spacing)} timesteps for {steps} steps")
    if spacing[-1] < 0 or any(earlier <= later for earlier, later in pairwise(spacing)):
        raise ValueError(f"timesteps fall from step to step, down to 0 at most, not as {spacing_words(spacing)}")


def _check_guidance(guidance: Guidance, steps: int) -> None:
    values: tuple[float, ...]
    if isinstance(guidance, Between):
        values = (guidance.scale,)
        if not 0 <= guidance.low <= guidance.high:
            raise ValueError(f"guidance is between two timesteps, the smaller first, not {guidance_words(guidance)}")
    elif isinstance(guidance, tuple):
        values = guidance
        if len(guidance) != steps:
            raise ValueError(f"guidance has {len(guidance)} values for {steps} steps")
    else:
        values = (guidance,)
    if not all(math.isfinite(value) and value >= 0 for value in values):
        raise ValueError(f"guidance is a number from 0 on, not {guidance_words(guidance)}")


PUBLISHED = Sampling()
RELEASED = Sampling("ddpm", 20, 3.5)  # as facebookresearch/dynadiff paints; DDPM is ancestral
