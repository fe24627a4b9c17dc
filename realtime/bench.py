"""How long each stage of a decode takes on this machine, at the size of NSD and with the chosen engine.

The volumes are synthetic, the code is the one that decodes; nothing goes over a network.
"""

import json
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from dynadiff.base.errors import UserError
from dynadiff.base.random import initial_noise
from dynadiff.engines.contract import Decoder
from dynadiff.engines.open import check_kind, open_decoder
from dynadiff.recordings.masks import Masker
from dynadiff.recordings.nsd_facts import SHAPE_1, TR, VOLUMES, VOXELS_1
from dynadiff.signal.cleaning import Cleaning
from dynadiff.signal.windows import OnlineWindows, WindowSpec
from realtime.decoding.painter import paint_timed
from realtime.engine_check import built, check
from realtime.feed.wire import RunStart, Volume, pack, unpack
from realtime.records.decode_folder import DecodeFolder, versions

PICTURES, WARM = 30, 3  # of the engine, after some that are not counted
Figures = dict[str, dict[str, float]]


class Stopwatch:
    """Seconds by name of stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[stage].append(time.perf_counter() - began)

    def figures(self) -> Figures:
        """Quantiles in ms of each stage."""
        return {stage: _quantiles(seconds) for stage, seconds in self.seconds.items()}


def bench(engine: str, model: Path, path: Path | None, console: Console, against_torch: bool = False) -> None:
    """Measure and print; with ``path``, write JSON as well.

    ``against_torch`` builds the engine where there is none, and holds it against PyTorch first.
    """
    check_kind(engine)
    if path is not None and not path.absolute().parent.is_dir():
        raise UserError(f"there is no folder {path.parent} for the figures: give --json a file in one that is there")
    content: dict[str, object] = {"versions": versions()}
    with built(engine, model, console) if against_torch else nullcontext(model) as folder:
        decoder = open_decoder(engine, folder)
        if decoder.engine.mode:
            console.print(f"the {engine} engine runs {decoder.engine.mode}", highlight=False, soft_wrap=True)
        if against_torch:
            errors, times = check(decoder, model, console)
            content |= {"errors": [asdict(error) for error in errors], "paired_ms": times}
        with TemporaryDirectory() as temporary:
            console.print(
                f"{VOLUMES} volumes of {SHAPE_1[0]}×{SHAPE_1[1]}×{SHAPE_1[2]}, {VOXELS_1} voxels", highlight=False
            )
            stages = bookkeeping(Path(temporary), decoder.manifest.picture_size)
        console.print(f"{PICTURES} pictures with the {engine} engine, {decoder.manifest.steps} steps", highlight=False)
        pictures = painting(decoder)
    for title, figures in (("everything but the networks", stages), (f"the {engine} engine", pictures)):
        console.print(_table(title, figures))
    if path is not None:
        content |= {"bookkeeping_ms": stages, f"{engine}_ms": pictures}
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def bookkeeping(folder: Path, pixels: int) -> Figures:
    """Quantiles in ms of every stage but the networks; files and square pictures go to ``folder``."""
    rng = np.random.default_rng(0)
    mask = np.zeros(np.prod(SHAPE_1), np.bool_)
    mask[rng.choice(mask.size, VOXELS_1, replace=False)] = True
    volumes = rng.normal(1000, 20, (8, *SHAPE_1)).astype("<i2")
    picture = cv2.resize(rng.integers(0, 256, (8, 8, 3), np.uint8), (pixels, pixels))
    (folder / "reconstructions").mkdir()
    record, watch = DecodeFolder(folder), Stopwatch()
    record.message(_start())
    masker, online = Masker(mask.reshape(SHAPE_1)), OnlineWindows(Cleaning(), VOLUMES, VOXELS_1, TR, WindowSpec())
    for index in range(VOLUMES):
        sent = Volume(
            seq=index + 1, run_uid="bench", index=index, t_acquired=index * TR,
            data=np.asfortranarray(volumes[index % 8])
        )  # fmt: skip
        frames = [bytes(frame) for frame in pack(sent)]
        with watch.time("total"):
            with watch.time("ingest"):
                volume = unpack(frames)
            assert isinstance(volume, Volume)
            with watch.time("mask"):
                sample = masker(volume.data)
            with watch.time("screen, statistics, window"):
                online.push(index, sample)
            with watch.time("record volume"):
                record.message(volume)
            with watch.time("record picture"):
                record.volume({"volume": index, "picture": record.picture(index, np.asarray(picture, np.uint8))})
    record.close()
    return watch.figures()


def painting(decoder: Decoder) -> Figures:
    """Quantiles in ms of the engine's calls and of a whole picture, on windows of noise."""
    manifest, watch = decoder.manifest, Stopwatch()
    noise = initial_noise(0, manifest.latent_shape)
    rng = np.random.default_rng(0)
    for k in range(WARM + PICTURES):
        window = rng.standard_normal((manifest.voxels, manifest.window_length), dtype=np.float32)
        began = time.perf_counter()
        _, stages = paint_timed(decoder.engine, window, noise, time.perf_counter)
        if k >= WARM:
            for stage, seconds in (stages | {"picture": time.perf_counter() - began}).items():
                watch.seconds[stage].append(seconds)
    return watch.figures()


def _start() -> RunStart:
    affine = tuple(tuple(float(v) for v in row) for row in np.diag([1.8, 1.8, 1.8, 1.0]))
    return RunStart(
        run_uid="bench", name="bench", subject="01", session=1, run=1, tr=TR, n_volumes=VOLUMES, shape=SHAPE_1,
        dtype="<i2", affine=affine, source="replayed",
    )  # fmt: skip


def _quantiles(seconds: list[float]) -> dict[str, float]:
    p50, p95, p99 = np.quantile(seconds, [0.5, 0.95, 0.99]) * 1000
    return {"p50": round(float(p50), 3), "p95": round(float(p95), 3), "p99": round(float(p99), 3)}


def _table(title: str, figures: Figures) -> Table:
    table = Table(title=f"{title}, ms", title_justify="left")
    table.add_column("stage")
    for name in ("p50", "p95", "p99"):
        table.add_column(name, justify="right")
    for stage, row in figures.items():
        table.add_row(stage, *(f"{row[name]:.2f}" for name in ("p50", "p95", "p99")))
    return table
