"""The decoder that ships with the package, and settings of libraries. Data and its place, no code."""

from pathlib import Path

EMBEDDED = Path(__file__).parent / "phantom"  # a model folder, its engine beside it
