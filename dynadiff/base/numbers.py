"""Lists of numbers as people write them: 1,2,5-7."""

from collections.abc import Sequence

from dynadiff.base.errors import UserError


def numbers(option: str, text: str) -> list[int]:
    """The numbers of ``1,2`` or ``1-4``, in order, each once. Raises UserError naming the option."""
    try:
        ends = [part.partition("-") for part in text.split(",")]
        spans = [range(int(first), int(last if dash else first) + 1) for first, dash, last in ends]
    except ValueError:
        spans = []
    if not spans or not all(spans):
        raise UserError(f"{option} {text} is no list of numbers: give it as 1,2 or 1-4")
    return sorted({number for span in spans for number in span})


def number(option: str, text: str) -> int:
    """The one number of ``12``. Raises UserError naming the option."""
    if not text.isdecimal():
        raise UserError(f"{option} {text} is no number: give one, as 1")
    return int(text)


def spelled(numbers: Sequence[int]) -> str:
    """``1,2,5-7`` for 1, 2, 5, 6, 7: the inverse of `numbers`, for at least one of them, in order."""
    starts = [k for k, number in enumerate(numbers) if k == 0 or number != numbers[k - 1] + 1]
    spans = [numbers[a:b] for a, b in zip(starts, [*starts[1:], len(numbers)], strict=True)]
    return ",".join(str(span[0]) if len(span) == 1 else f"{span[0]}-{span[-1]}" for span in spans)
