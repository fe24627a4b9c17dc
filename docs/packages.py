"""Which package uses which: prints the table of docs/architecture.md, read from the code's own imports.

python docs/packages.py
"""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
HOUSES = ("realtime", "replay", "exporters", "dynadiff")


def package_of(module: str) -> str:
    """The room that a module lies in: ``dynadiff.signal`` for ``dynadiff.signal.cleaning``, the house for the rest."""
    parts = module.split(".")
    room = Path(ROOT, *parts[:2])
    return ".".join(parts[:2]) if room.is_dir() else parts[0]


def imported(path: Path) -> Iterator[str]:
    """The modules of ours that a file names in an import, wherever in the file it stands."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module in HOUSES:  # ``from dynadiff import signal``
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from (name for name in names if name.partition(".")[0] in HOUSES)


def used() -> dict[str, set[str]]:
    """Package to the packages that it uses."""
    found: dict[str, set[str]] = defaultdict(set)
    for house in HOUSES:
        for path in sorted((ROOT / house).rglob("*.py")):
            here = package_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
            found[here] |= {package_of(name) for name in imported(path)} - {here}
    return dict(found)


def table() -> str:
    """A line a package, its own name and those that it uses."""
    found = used()
    width = max(map(len, found))
    lines = (f"{name:{width}}  {' '.join(sorted(uses)) or '-'}" for name, uses in sorted(found.items()))
    return "\n".join(line.rstrip() for line in lines)


if __name__ == "__main__":
    print(table())  # noqa: T201
