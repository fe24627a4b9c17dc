"""Every number of a training run, and where it comes from: the paper, the release, or this project.

Knows numbers and the names of variants; knows no data. Sources: P is Careil, Benchetrit & King (2025), arXiv
2505.14556; R is facebookresearch/dynadiff at its first public commit; "here" is chosen by this project.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from math import isfinite
from types import MappingProxyType
from typing import Any

from dynadiff.base.errors import UserError
from dynadiff.networks.choices import Guidance, Sampling, Spacing, guidance_named, spacing_named
from dynadiff.networks.facts import AGGREGATIONS, SETS, TARGETS, TIMESTEP_LAYERS
from dynadiff.networks.schedule import Schedule
from dynadiff.recordings.held_out import RULES
from dynadiff.signal.windows import WindowSpec
from dynadiff.trials.divide import Division

WORDS = {
    "timestep_layers": TIMESTEP_LAYERS,
    "aggregation": AGGREGATIONS,
    "trainable": SETS,
    "timesteps": ("cubic", "uniform"),
    "unconditional": ("zeros", "learned"),
    "sampler": ("ddim", "ddpm"),
    "precision": ("no", "auto", "bf16", "fp16"),
    "split": RULES,
}
NAMED = {"guidance": guidance_named, "spacing": spacing_named}  # choices that have words of their own


@dataclass(frozen=True)
class Training:
    """The choices of a training run. The defaults are the paper's, but for fp16 and the learned null, which R lacks.

    Raises ValueError for a word that is none of `WORDS` and for a number out of its range.
    """

    steps: int = 60_000
    batch: int = 320  # items of one optimiser step, over all processes and accumulated passes
    micro_batch: int | None = None  # items of one pass of one process; None: its whole share at once
    lr: float = 1e-3
    beta1: float = 0.9  # of AdamW
    beta2: float = 0.999
    weight_decay: float = 0.01
    warmup: int = 1000
    clip: float | None = None  # the gradient's largest norm; None: any
    timesteps: str = "cubic"  # or "uniform"
    condition_dropout: float = 0.1  # share of samples whose tokens become the unconditional ones, for guidance
    unconditional: str = "zeros"  # or "learned": one embedding (n, d), which starts at zero
    offset_noise: float = 0.1  # deviation of the noise shared by all positions of a latent channel
    warm_start: int = 0  # steps of regression to the generator's own image tokens first; the paper has none
    anchor: float = 0.0  # weight of that regression beside the diffusion loss; the paper has none
    online: float = 0.0  # share of windows cleaned as a decoder of the live run cleans them; the paper has none
    offset: int = 3  # rows from onset to the window
    length: int = 6  # volumes of the window
    split: str = "standard"
    width: int = 1552  # of the brain module
    dropout: float = 0.5  # inside the brain module
    timestep_layers: str = "each"  # volume of the window has one, or all have one "shared", or "none" has
    aggregation: str = "out"  # where volumes become one; also "in", "out_mean", "in_mean", "none" (one volume)
    blocks: int = 0  # residual blocks in the brain module
    low_level: bool = False  # the brain module says a picture's coarse latents too; the paper's does not
    trainable: str = "lora"  # of the U-Net; or "cross-attention", "linear", "all", "none"
    rank: int = 4  # of the adapters
    alpha: float = 4.0
    targets: str = TARGETS  # regular expression of the modules that get one
    sampler: str = "ddim"  # or "ddpm"
    sampling_steps: int = 20
    guidance: Guidance = 3.0  # of the pictures that are looked at while training, and then of the model
    spacing: Spacing = "leading"  # of their timesteps; or "ays", or a list
    precision: str = "no"  # or "bf16", "fp16", "auto": of the networks; weights and loss stay float32
    gradient_checkpointing: bool = False  # recompute the U-Net's activations instead of keeping them
    ema: float = 0.0  # decay of the running mean of the weights that is saved; 0 is none
    seed: int = 0

    @property
    def window(self) -> WindowSpec:
        return WindowSpec(self.offset, self.length)

    @property
    def sampling(self) -> Sampling:
        """How pictures are painted that are looked at."""
        return Sampling(self.sampler, self.sampling_steps, self.guidance, spacing=self.spacing)

    @property
    def division(self) -> Division:
        """Which trials are learnt from, and as which windows."""
        return Division(self.split, self.window, self.online, self.seed)

    def at_most(self, steps: int) -> "Training":
        """For a short run: no stage takes more steps."""
        return replace(self, steps=min(self.steps, steps), warm_start=min(self.warm_start, steps))

    def __post_init__(self) -> None:
        for name, words in WORDS.items():
            if getattr(self, name) not in words:
                raise ValueError(f"{name} is {_one_of(words)}, not {getattr(self, name)!r}")
        for name in ("steps", "batch", "micro_batch", "length", "width", "rank"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} is at least 1, not {getattr(self, name)}")
        for name in ("lr", "alpha", "clip"):
            if getattr(self, name) is not None and not (isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise ValueError(f"{name} is above 0, not {getattr(self, name)}")
        if self.blocks < 0:
            raise ValueError(f"blocks is at least 0, not {self.blocks}")
        if self.aggregation == "none" and self.length > 1:
            raise ValueError(f"aggregation none is for windows of one volume, not of {self.length}")
        try:
            re.compile(self.targets)
        except re.error as error:
            raise ValueError(f"targets {self.targets!r} is no regular expression ({error})") from None
        for name in ("condition_dropout", "online", "dropout", "ema"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} lies between 0 and 1, not at {getattr(self, name)}")
        Schedule().timesteps(self.sampling.steps, self.spacing)


RELEASED = Training(sampler="ddpm", guidance=3.5)
PAPER = Training(unconditional="learned", precision="fp16")
# two cores see a hundredth of the paper's 19 million windows: the brain module starts where regression ends
PHANTOM = Training(
    steps=400, batch=64, lr=1e-4, weight_decay=0.05, warmup=50, warm_start=1500, anchor=0.1,
    split="held-out-twice", width=256, dropout=0.4, timestep_layers="shared", low_level=False, guidance=5.0,
    precision="auto",
)  # fmt: skip
PRESETS = {"paper": PAPER, "released": RELEASED, "phantom": PHANTOM}

_PAPER = {
    "steps": "P, app. B: about 60 k",
    "batch": "P, app. B: 320 on 8 A100",
    "micro_batch": "here: the whole share; 40 a GPU on 8",
    "lr": "P, app. B",
    "beta1": "P, app. B",
    "beta2": "P, app. B",
    "weight_decay": "P, app. B",
    "warmup": "P, app. B: 1 k steps, linear, then a cosine",
    "clip": "P and R: none",
    "timesteps": "R, training loss; P, sec. 2.3: early timesteps favoured",
    "condition_dropout": "P, sec. 2.3 and R: 10 %",
    "unconditional": "P, sec. 2.3: a constant learned embedding; its start at zero is chosen here",
    "offset_noise": "R, training loss: 0.1",
    "warm_start": "P: none",
    "anchor": "P: none",
    "online": "P: whole-run cleaning",
    "offset": "R: rows r+3 to r+8, with which the released weights are run; P: 3 s",
    "length": "P: 8 s, six volumes",
    "split": "P, sec. 3.1: the 1,000 shared pictures are the test set",
    "width": "R: 1552",
    "dropout": "R: 0.5",
    "timestep_layers": "P, sec. 2.2 and table 2",
    "aggregation": "P, table 2: at the output",
    "blocks": "R: none",
    "low_level": "P and R: none",
    "trainable": "P, sec. 2.3 and table 3",
    "rank": "P, app. B and R: 4",
    "alpha": "P, app. B and R: 4",
    "targets": "R: query, key, value and output of the cross-attention",
    "sampler": "P, sec. 2.3",
    "sampling_steps": "P, sec. 2.3: 20",
    "guidance": "P, sec. 2.3: 3",
    "spacing": "R: leading, the default of diffusers; P names none",
    "precision": "P, app. B: float16",
    "gradient_checkpointing": "here: off; turn it on where memory is short",
    "ema": "P and R: none",
    "seed": "here",
}
_RELEASED = _PAPER | {
    "unconditional": "R: zeros; the checkpoint holds no learned embedding",
    "sampler": "R: ancestral DDPM, a DDIM object is built and never used",
    "sampling_steps": "R: 20",
    "guidance": "R: 3.5",
    "precision": "R: float32 at inference; the precision of its training is not in it",
}
_HERE = "here: for two cores and the small generator"
_PHANTOM = _RELEASED | dict.fromkeys(
    ("steps", "batch", "lr", "weight_decay", "warmup", "warm_start", "anchor", "width", "dropout", "guidance"), _HERE
)
_PHANTOM |= {
    "low_level": "here: for colours and places, which image tokens hardly hold",
    "timestep_layers": "here: chosen on validation, where it does better than the paper's layer for each volume",
    "online": "P: whole-run cleaning; by `study causal` windows as served are worse to learn from",
    "split": "here: choices are made on validation, figures on shared pictures; the demo's session is in neither",
    "sampler": "P, sec. 2.3",
    "precision": "here: bf16 autocast where a CPU has AVX-512, which halves the time, else float32",
}
SOURCES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {"paper": _PAPER, "released": _RELEASED, "phantom": _PHANTOM}
)


def preset(name: str, changes: Sequence[str] = ()) -> Training:
    """A preset with ``key=value`` changes; UserError for an unknown preset or key and for a value that is none."""
    if name not in PRESETS:
        raise UserError(f"there is no preset {name!r}: choose one of {', '.join(PRESETS)}")
    return change(PRESETS[name], changes)


def change(config: Training, changes: Sequence[str]) -> Training:
    """``config`` with ``key=value`` changes."""
    kinds = {f.name: f.type for f in fields(Training)}
    values: dict[str, Any] = {}
    for text in changes:
        key, equals, value = text.partition("=")
        if key not in kinds or not equals:
            raise UserError(
                f"--set {text} names no choice of a training run: give key=value, key of {', '.join(kinds)}"
            )
        values[key] = _parsed(key, str(kinds[key]), value)
    try:
        return replace(config, **values)
    except ValueError as error:
        raise UserError(f"these choices do not hold: {error}") from None


def _parsed(key: str, kind: str, value: str) -> Any:
    if key in NAMED:
        try:
            return NAMED[key](value)
        except ValueError as error:
            raise UserError(f"--set {key}={value} does not hold: {error}") from None
    try:
        if "bool" in kind:
            return {"true": True, "false": False}[value.lower()]
        return int(value) if "int" in kind else float(value) if "float" in kind else value
    except (ValueError, KeyError):
        wanted = "true or false" if "bool" in kind else "a whole number" if "int" in kind else "a number"
        raise UserError(f"--set {key}={value} is not {wanted}: give one") from None


def _one_of(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"
