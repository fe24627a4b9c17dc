"""The decoder and the judge that ship with the package, and settings of libraries. Data and its place, no code."""

from pathlib import Path

EMBEDDED = Path(__file__).parent / "phantom"  # a model folder, its engine beside it
JUDGE = Path(__file__).parent / "judge.onnx"  # of drawn scenes, see `dynadiff.phantom.judge`
