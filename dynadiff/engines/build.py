"""What an engine was built from, by what and for what: everything that its numbers depend on, and so its identity.

Arithmetic on names and digests; knows no runtime and no file. The digest of all of it is the engine's key: the same
key is the same engine, and whatever would change a picture changes the key.
"""

import hashlib
import json
import platform
import sys
from dataclasses import asdict, dataclass
from typing import Annotated

from msgspec import Meta

from dynadiff.base.errors import UserError

NETWORKS = ("brain", "step", "decoder")
SINGLE = "single"  # beside a guided step: the conditional half alone, for steps of guidance 1; not every engine has it
PRECISIONS = ("float32", "float16")
NetworkName = Annotated[str, Meta(pattern=f"^({'|'.join((*NETWORKS, SINGLE))})\\Z")]
Precision = Annotated[str, Meta(pattern=f"^({'|'.join(PRECISIONS)})\\Z")]


@dataclass(frozen=True)
class Network:
    """Name to specification of each input and output, such as ``float32[1,17,64]``: engines have fixed shapes."""

    inputs: dict[str, str]
    outputs: dict[str, str]


@dataclass(frozen=True)
class Build:
    """The record of one build; digests are sha256."""

    weights: dict[str, str]  # file of the model or of its generator to digest
    graphs: dict[str, str]  # file of an ONNX graph or of its external data to digest
    networks: dict[NetworkName, Network]  # all of `NETWORKS`, and `SINGLE` where there is one
    precision: Precision  # that the networks compute in
    choices: dict[str, str | int | float]  # the exporter's and the builder's: opset, LoRA scale, guidance, flags, …
    libraries: dict[str, str]  # name to version of what wrote the engine
    exporter: int  # raised whenever the same model and libraries would give another engine
    gpu: str = ""  # name of the GPU that a plan was tuned on; "" where it was tuned on none
    targets: tuple[str, ...] = ()  # compute capabilities that a plan runs on, such as 8.9
    system: str = ""  # that a plan runs on, such as linux-x86_64

    def __post_init__(self) -> None:
        if not set(NETWORKS) <= set(self.networks):
            raise ValueError(f"its networks are {', '.join(self.networks)} and not all of {', '.join(NETWORKS)}")

    def key(self) -> str:
        """Identity of the engine: sha256 over canonical JSON of the whole record."""
        canonical = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(canonical.encode()).hexdigest()


@dataclass(frozen=True)
class Machine:
    """What would run a plan: the runtime's name and version, and the GPU it would run on."""

    library: str
    version: str
    gpu: str
    capability: str  # such as 8.9


def system() -> str:
    return f"{sys.platform}-{platform.machine()}"


def refuse_foreign(build: Build, machine: Machine, again: str) -> None:
    """UserError where a plan was built for something else than ``machine``; ``again`` is the command that rebuilds it.

    Called before a plan is deserialised: a runtime's own answer to a foreign plan is a crash or a null pointer.
    """
    built = build.libraries.get(machine.library)
    if built != machine.version:
        what = f"with {machine.library} {built}, and {machine.version} is installed"
    elif build.system != system():
        what = f"for {build.system}, and this is {system()}"
    elif machine.capability not in build.targets:
        what = f"for compute capability {', '.join(build.targets)}, and {machine.gpu} has {machine.capability}"
    elif build.gpu not in ("", machine.gpu):
        what = f"on {build.gpu}, and this machine has {machine.gpu}"
    else:
        return
    raise UserError(f"the engine was built {what}: build it again with `{again}`")


def specification(dtype: str, shape: tuple[int, ...]) -> str:
    """``float32[1,17,64]``; ``int64[]`` is a scalar."""
    return f"{dtype}[{','.join(map(str, shape))}]"


def parse_specification(text: str) -> tuple[str, tuple[int, ...]]:
    """Data type and shape of a specification; ValueError where it is none."""
    dtype, bracket, rest = text.partition("[")
    if not bracket or not rest.endswith("]"):
        raise ValueError(f"{text!r} is no tensor specification")
    return dtype, tuple(int(n) for n in rest[:-1].split(",") if n)
