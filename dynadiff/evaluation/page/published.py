"""What the paper prints of itself and of others in the ten metrics, on NSD: text, as it stands there.

Careil, Benchetrit & King (2025): table 1, single trials, means of subjects 1, 2, 5 and 7; table 6, the same of each
subject; table 7, windows averaged over the three presentations, of each subject and their means. Shares and DreamSim
are times 100. ± is the population's SD over √4, but for MindEye1's 2.21, which was not divided, and WAVE in table 7,
which has the sample's SD. Knows no evaluation: nothing here compares with a phantom, or with another setting.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

PAPER = "Careil, Benchetrit & King (2025)"
KEYS = ("ssim", "pixcorr", "alexnet2", "alexnet5", "clip", "inception", "efficientnet", "swav", "miou", "dreamsim")
SUBJECTS = ("1", "2", "5", "7")

TABLE_1 = """
Dynadiff        .34     .21±.01  95.82±.82   98.20±.41   93.53±.67   91.30±.74   .68±.01  .36±.01  8.50±.41  52.52±.97
MindEye2        .36     .24±.01  94.15±.99   97.34±.50   90.38±.80   89.47±.89   .71±.01  .38±.01  8.15±.45  56.28±.95
MindEye1        .31±.01 .27±.01  91.45±2.21  95.45±.62   91.11±.61   88.78±.92   .73      .40      7.55±.35  57.68±.67
Brain-Diffuser  .21     .21±.01  89.41±1.16  92.68±.88   85.36±1.05  84.06±1.07  .80±.01  .48±.01  7.73±.28  60.39±.86
WAVE            .15     .07      68.99±.71   77.44±.81   76.76±.41   73.24±.67   .85      .53      2.24±.14  68.67±.33
"""
TABLE_7 = """
Dynadiff        .35     .25±.01  96.99±.48   98.78±.16   95.70±.32   94.24±.34   .63±.01  .33±.01  10.57±.31  47.95±.64
MindEye2        .37     .26±.01  96.46±.43   98.60±.17   92.92±.37   92.37±.37   .67      .35      10.01±.12  52.73±.44
MindEye1        .31     .32±.02  93.85±.76   96.85±.28   93.64±.18   91.34±.35   .69      .38      8.52±.25   54.33±.35
WAVE            .21     .08      75.97±.64   85.29±1.03  84.20±.96   81.93±1.09  .78      .50±.01  3.71±.15   63.58±.55
"""
TABLE_6_OF_EACH = """
1  .35  .25  97.30  98.84  93.02  91.00  .69  .36  8.44  52.58
2  .35  .22  97.42  98.87  93.43  91.63  .67  .36  8.97  51.94
5  .34  .19  95.12  98.23  95.67  93.36  .65  .34  9.39  50.08
7  .34  .19  93.44  96.84  92.00  89.21  .71  .38  7.22  55.47
"""
TABLE_7_OF_EACH = """
1  .36  .28  97.99  99.03  95.74  93.97  .63  .32  10.85  47.92
2  .36  .25  97.78  98.96  95.23  94.50  .63  .33  10.96  48.28
5  .35  .23  96.55  98.88  96.71  95.16  .60  .31  10.97  46.03
7  .35  .22  95.64  98.25  95.11  93.34  .64  .34  9.49   49.59
"""


@dataclass(frozen=True)
class Published:
    """One row of a table of the paper."""

    model: str
    of: str  # whose numbers: "mean of subjects 1, 2, 5, 7" or "subject 1"
    table: int
    values: Mapping[str, str]  # a metric's key to what is printed, "95.82 ± 0.82"


def published(repetitions: Literal["one", "averaged", "all"]) -> list[Published]:
    """The means of every model, then Dynadiff's own of each subject: single trials, or averaged ones."""
    whose = f"mean of subjects {', '.join(SUBJECTS)}"
    if repetitions == "averaged":
        means, each, tables = TABLE_7, TABLE_7_OF_EACH, (7, 7)
    else:
        means, each, tables = TABLE_1, TABLE_6_OF_EACH, (1, 6)
    rows = [Published(model, whose, tables[0], values) for model, values in _read(means).items()]
    return rows + [Published("Dynadiff", f"subject {of}", tables[1], values) for of, values in _read(each).items()]


def _read(text: str) -> dict[str, dict[str, str]]:
    lines = (line.split() for line in text.strip().splitlines())
    return {name: dict(zip(KEYS, map(_spelled, values), strict=True)) for name, *values in lines}


def _spelled(printed: str) -> str:
    """The printed .21±.01 as 0.21 ± 0.01."""
    return " ± ".join(f"0{part}" if part.startswith(".") else part for part in printed.split("±"))
