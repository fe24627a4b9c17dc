"""What a user may choose about a decode. Knows no engine and no feed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dynadiff.engines.choice import Sampler
from dynadiff.networks.choices import Guidance, Spacing


@dataclass(frozen=True)
class Options:
    """What a user may choose about a decode."""

    engine: str = "onnx"
    model: str = ""  # engine or model folder
    connect: str = ""
    out: Path | None = None  # None: a new folder in decodes/
    seed: int = 0  # of the noise that every picture starts from
    steps: int | None = None  # of the sampler; the engine's own without it
    guidance: Guidance | None = None
    spacing: Spacing | None = None  # of its timesteps
    quality: str | None = None  # "exact" is 20 evenly spaced steps, all guided, whatever the engine is set to
    late: Literal["auto", "skip", "wait"] = "auto"  # a live run skips windows, a replayed one waits
    any_space: bool = False  # decode a run whose affine is not the mask's
    wait_s: float | None = None  # seconds for a feed to be heard; None: for ever

    @property
    def sampler(self) -> Sampler:
        """What is asked of the engine's sampling."""
        return Sampler(self.steps, self.guidance, self.spacing, self.quality == "exact")
