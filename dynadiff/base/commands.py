"""What both command lines share: a user's mistake is one line on stderr and exit code 2."""

import importlib.util
import sys
from collections.abc import Callable, Iterable

from dynadiff.base.errors import UserError


def run(app: Callable[[], object]) -> None:
    """Run a typer application; any exception but UserError that comes out of it is a bug and keeps its traceback."""
    try:
        app()
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)


def require(names: Iterable[str], extra: str) -> None:
    """UserError, naming the extra to install, unless all those packages are installed."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"{missing[0]} is not installed: pip install 'dynadiff-realtime[{extra}]'")
