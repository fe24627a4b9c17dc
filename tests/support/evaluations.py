"""Evaluations made of drawn numbers, with pictures, as large as real ones: what reports and tables are tested with."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from dynadiff.evaluation.page.report import Gallery
from dynadiff.evaluation.scored import Cell, Column, Evaluation, Row, Subject
from dynadiff.scores.intervals import interval
from dynadiff.scores.ten import METRICS

DECODERS = (
    "Dynadiff, online", "Dynadiff, offline cleaning", "nearest neighbour, online", "ridge to VAE latents, online",
    "ridge to tokens, same generator, online", "mean picture, no brain", "ceiling: the picture's own tokens",
)  # fmt: skip
OUTSIDE, JUDGE = "EfficientNet-Lite0", "the judge of scenes"
SCENES = {
    "category named": "%",
    "object F1": "%",
    "overlap of what is where": "%",
    "hue error, object": "°",
    "hue error, background": "°",
}


def columns(ten: bool) -> tuple[Column, ...]:
    """Of every space, in an order that is none: pixels first, the eye from outside last."""
    ways = ("two-way", "two-way, against truths", "one of 50")
    found = [
        Column(f"{space}: {way}", way, space, 100, "%", True)
        for space in ("pixels", "its own tokens", OUTSIDE)
        for way in ways
    ]
    found[3:3] = [
        Column(
            f"the judge of scenes: {title}", title, "the judge of scenes", 100 if unit == "%" else 1, unit, unit == "%"
        )
        for title, unit in SCENES.items()
    ]
    if ten:
        found += [
            Column(m.key, m.title, "ten metrics", m.times, "%" if m.how == "two-way" else "", m.higher_is_better)
            for m in METRICS
        ]
    return tuple(found)


def subject(name: str, given: Sequence[Column], trials: int, decoders: Sequence[str], seed: int) -> Subject:
    """Scores between chance and ceiling, the first decoder good and the last the best."""
    rng = np.random.default_rng(seed)
    shown = tuple(str(30_000 + k // 2) for k in range(trials))
    rows = []
    for k, decoder in enumerate(decoders):
        good = {0: 0.80, len(decoders) - 1: 0.98}.get(k, 0.55 + 0.06 * (k % 4))
        cells = []
        for column in given:
            drawn = np.clip(rng.beta(8 * good, 8 * (1 - good) + 0.1, trials) + rng.normal(0, 0.01, trials), 0, 1)
            values = (drawn if column.higher_is_better else 1 - drawn) * (180 if column.unit == "°" else 1)
            found = interval(values, shown)
            chance = None if column.space == "ten metrics" else 0.51 * (180 if column.unit == "°" else 1)
            cells.append(Cell(column.key, found.mean, found.low, found.high, chance, tuple(values.round(6).tolist())))
        rows.append(Row(decoder, tuple(cells)))
    return Subject(
        name, f"model-{name}", f"{seed:02x}" * 32, "time-resolved, seed 1", shown, None, trials + 8, 2500, tuple(rows)
    )


def evaluation(
    subjects: Sequence[str] = ("1", "2", "5"),
    data: Literal["phantom", "nsd"] = "phantom",
    trials: int = 40,
    decoders: Sequence[str] = DECODERS,
    repetitions: Literal["one", "averaged", "all"] = "one",
    setting: str = "dynadiff",
) -> Evaluation:
    given = columns(ten=data == "nsd")
    return Evaluation(
        data, repetitions, (0, 1, 2), setting, given,
        tuple(subject(name, given, trials, decoders, k + 1) for k, name in enumerate(subjects)),
        {"efficientnet_lite0.pth": "ab" * 32, "judge.onnx": "cd" * 32},
        ("CLIP, two-way: clip-vit-large-patch14/model.safetensors is not in the folder of weights",),
        {"dynadiff-realtime": "0.1.0", "numpy": "2.4.0"},
    )  # fmt: skip


def galleries(found: Evaluation, side: int = 64) -> Mapping[str, Gallery]:
    """Blots of colour on a gradient; each decoder adds noise of its own."""
    return {subject.subject: _gallery(subject, side) for subject in found.subjects}


def _gallery(subject: Subject, side: int) -> Gallery:
    rng, n = np.random.default_rng(len(subject.subject)), len(subject.trials)
    y, x = np.mgrid[:side, :side] / side
    centre, hue = rng.uniform(0.3, 0.7, (n, 2, 1, 1)), rng.uniform(40, 220, (n, 3))
    blot = (x - centre[:, 0]) ** 2 + (y - centre[:, 1]) ** 2 < 0.06
    shown = np.where(
        blot[..., None], hue[:, None, None], 60 + 130 * y[None, ..., None] * hue[:, None, None, ::-1] / 220
    )
    painted = {
        row.decoder: np.clip(shown + rng.normal(0, 6 + 8 * k, shown.shape), 0, 255).astype(np.uint8)
        for k, row in enumerate(subject.rows)
    }
    return Gallery(shown.astype(np.uint8), painted)
