"""What a user may change about sampling, of an engine and of a model alike. Knows words, tables and manifests."""

from dataclasses import dataclass, replace

from dynadiff.base.errors import UserError
from dynadiff.engines.contract import Manifest
from dynadiff.engines.sampler import ddim, guided, spacing_of
from dynadiff.networks.choices import (
    Guidance,
    Sampling,
    Spacing,
    guidance_named,
    spacing_named,
)

QUALITIES = ("exact",)


@dataclass(frozen=True)
class Sampler:
    """None keeps what the engine or the model is set to. ``exact``: 20 evenly spaced steps, all of them guided."""

    steps: int | None = None
    guidance: Guidance | None = None
    spacing: Spacing | None = None
    exact: bool = False

    def over(self, manifest: Manifest) -> Manifest:
        """The manifest with the table that is asked for; guidance alone keeps the rows, whatever they are.

        UserError for what cannot be sampled by, and for another number of steps of an engine whose guidance differs
        from step to step, unless one is given.
        """
        if self == Sampler():
            return manifest
        table, schedule = manifest.sampler, manifest.schedule
        try:
            if (self.steps, self.spacing, self.exact) == (None, None, False) and self.guidance is not None:
                return replace(manifest, sampler=guided(table, self.guidance))
            asked = self.of(manifest.sampling)
            table = ddim(schedule, asked.steps, asked.guidance, asked.spacing)
        except ValueError as error:
            raise UserError(f"the engine cannot sample so: {error}") from None
        return replace(manifest, sampler=table, spacing=spacing_of(table, schedule))

    def of(self, known: Sampling) -> Sampling:
        """What is asked for, of a model that is set to paint as ``known``. UserError for what cannot be sampled by."""
        if self.exact:
            if known.strongest == 1:
                raise UserError("exact pictures are guided, and at guidance 1 there is none: give --guidance instead")
            return known.exact
        spacing = known.spacing if self.spacing is None else self.spacing
        steps = known.steps if self.steps is None else self.steps
        if self.steps is None and isinstance(spacing, tuple):
            steps = len(spacing)
        guidance = known.guidance if self.guidance is None else self.guidance
        if isinstance(guidance, tuple) and self.guidance is None and steps != known.steps:
            raise UserError("guidance differs from step to step: give --guidance with --steps")
        try:
            return replace(known, steps=steps, guidance=guidance, spacing=spacing)
        except ValueError as error:
            raise UserError(f"it cannot be sampled so: {error}") from None


def sampler_named(
    steps: int | None = None, guidance: str | None = None, spacing: str | None = None, quality: str | None = None
) -> Sampler:
    """What those words of a command line ask for. UserError where they are none, or say two things."""
    if quality is not None and quality not in QUALITIES:
        raise UserError(f"--quality is exact, or left out for what the model is set to, not {quality}")
    if quality is not None and (steps, guidance, spacing) != (None, None, None):
        raise UserError(
            "--quality exact is 20 evenly spaced steps, all guided: leave --steps, --guidance and --spacing out"
        )
    try:
        return Sampler(
            steps,
            None if guidance is None else guidance_named(guidance),
            None if spacing is None else spacing_named(spacing),
            quality is not None,
        )
    except ValueError as error:
        raise UserError(f"it cannot be sampled so: {error}") from None


AS_SET = Sampler()
