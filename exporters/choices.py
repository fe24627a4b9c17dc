"""How graphs are written: what may be chosen. Knows no model and no PyTorch, so that a wrong choice is told at once."""

from dataclasses import dataclass

from dynadiff.base.errors import UserError

PRECISIONS, OPSETS = ("float", "half"), (18, 20, 23)


@dataclass(frozen=True)
class Graphs:
    """How graphs are written. Raises UserError for a precision or an opset that is not offered.

    Opset 23 has attention and group normalisation as one node each; some execution providers need 18 or 20.
    """

    precision: str = "float"  # or half
    opset: int = 23
    external: int = 256 << 20  # bytes of weights from which on they go into a file of their own; protobuf ends at 2 GB

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise UserError(f"there is no precision {self.precision!r}: choose one of {', '.join(PRECISIONS)}")
        if self.opset not in OPSETS:
            raise UserError(f"opset {self.opset} is not offered: choose one of {', '.join(map(str, OPSETS))}")


FLOAT = Graphs()
