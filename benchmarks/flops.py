"""TFLOP of one picture at Versatile Diffusion's size, subject 1, 20 steps: as released, and with each exact saving.

    python benchmarks/flops.py

Counted on networks without weights, in seconds and little memory; the release's dual U-Net as the plain one and a
second set of transformers on 77 text tokens.
"""

import sys

import torch

from exporters.flops import keys_and_values, pictures


def table() -> list[str]:
    rows = pictures()
    lines = [f"{'TFLOP':<52}{'brain':>8}{'step':>9}{'VAE':>8}{'picture':>9}"]
    for row in rows:
        parts = [f"{row.brain / 1e12:>8.4f}", f"{row.step / 1e12:>9.4f}", f"{row.decoder / 1e12:>8.3f}"]
        lines.append(f"{row.name:<52}{''.join(parts)}{row.total / 1e12:>9.2f}")
    with torch.device("meta"):
        kept = (rows[-2].steps - 1) * keys_and_values()
    share = kept / rows[-2].total
    return [
        *lines,
        f"not taken: keys and values once a picture, {kept / 1e12:.3f} TFLOP or {share:.1%} of the exported",
    ]


if __name__ == "__main__":
    sys.stdout.write("\n".join(table()) + "\n")
