"""How good are the pictures? Trials that were held out, decoded and by baselines, each set scored in the same eyes.

Knows models, trials and how baselines are fitted; knows no stream. What a score is stands in `columns`.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import median_low
from typing import Literal

import numpy as np
import torch
from accelerate import Accelerator
from blake3 import blake3
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor

from dynadiff.base.errors import UserError
from dynadiff.base.files import file_digest
from dynadiff.engines.choice import AS_SET, Sampler
from dynadiff.evaluation.columns import Eyes, scored, scored_hues
from dynadiff.evaluation.painting import Kept, batch_of, moved, paint_all
from dynadiff.evaluation.scored import Averaged, Column, Row, Subject
from dynadiff.networks.generator import Generator, load_generator, posterior, to_unit
from dynadiff.networks.image_encoder import ImageEncoder, encode_pictures
from dynadiff.networks.layout import layout_tokens
from dynadiff.networks.model import Model
from dynadiff.networks.model_folder import (
    CONFIG,
    check_sampling,
    generator_folder,
    load_config,
    load_held_out,
    load_model,
)
from dynadiff.networks.sampling import Render
from dynadiff.phantom.truth import truth
from dynadiff.recordings.held_out import HeldOut, Lists, Part
from dynadiff.recordings.nsd import NSD
from dynadiff.trials.baselines import Floats, nearest, ridges
from dynadiff.trials.divide import judged_on
from dynadiff.trials.source import Trials, collect, nsd_runs
from dynadiff.trials.splits import one_repetition, repetitions

BATCH, ENCODED = 64, 256  # windows, and small pictures, that go through a network at once
LIBRARIES = ("dynadiff-realtime", "torch", "diffusers", "numpy")
WindowArray = NDArray[np.float16] | NDArray[np.float32]
Tree = Callable[[int, Sequence[int] | None], Path]  # of a subject, with these sessions or with all that it has
Repetitions = Literal["one", "averaged", "all"]


@dataclass(frozen=True)
class How:
    """How a model is judged."""

    repetitions: Repetitions = "one"  # of each picture: one, drawn with seed 0; the mean of their windows; all
    seeds: tuple[int, ...] = (0,)  # of the noise that pictures start from
    on: Part = "test"  # trials to report, or validation: those to choose by
    sampler: Sampler = AS_SET  # over what the model is set to


@dataclass(frozen=True, eq=False)
class Judged:
    """A model with what it is judged on: windows of the trials (n, voxels, volumes), cleaned both ways."""

    model: Model
    folder: Path
    held: HeldOut
    learn: Trials
    online: NDArray[np.float32]
    offline: NDArray[np.float32]
    root: Path  # of the tree
    shown: NDArray[np.uint8]  # (n, s, s, 3)
    names: tuple[str, ...]  # (n,) of the pictures
    presented: tuple[int, ...]  # (n,) repetitions behind each window

    @property
    def sha256(self) -> str:
        return file_digest(self.folder / CONFIG)


def judged(folder: Path, tree: Tree, how: How) -> Judged:
    """A model, and what was held out of it. Raises UserError where nothing was, or the tree has none of it."""
    held, lists = load_held_out(folder)
    model = load_model(folder, merged=True)
    model.config = model.config.sampled(how.sampler.of(model.config.sampling()))
    check_sampling(model.config.sampling(), model.generator.schedule, folder)
    subject, config = int(model.config.subject), model.config
    nsd = NSD(tree(subject, _sessions(held, lists)))
    known, unknown = judged_on(nsd, subject, held, lists, how.on)
    runs = list(nsd_runs(nsd, subject, nsd.sessions(subject)))
    cut = partial(
        collect, mask=model.mask, cleaning=config.cleaning, spec=config.window, size=model.generator.picture_size,
        single=True,
    )  # fmt: skip
    if len({trial.picture for trial in unknown}) < 2:
        raise UserError(f"of what was held out {nsd.root} shows one picture: identification needs two, add runs")
    learn = cut(track(runs, "reading runs"), keep=known.__contains__)
    return _with_repetitions(model, folder, held, nsd.root, learn, cut(runs, keep=unknown.__contains__), how)


def _sessions(held: HeldOut, lists: Lists) -> list[int] | None:
    """Those that are needed: the ones that were learnt from, and of what was held out; None for all there are."""
    if held.sessions is None or not lists:
        return None
    named = (re.search(r"_ses-\D*(\d+)_", trial.run) for listed in lists.values() for trial in listed)
    return sorted({*held.sessions, *(int(found[1]) for found in named if found)})


def _with_repetitions(
    model: Model, folder: Path, held: HeldOut, root: Path, learn: Trials, test: Trials, how: How
) -> Judged:
    pictures = [test.names[k] for k in test.seen]
    every = np.arange(len(test))
    if how.repetitions == "averaged":
        groups = repetitions(pictures, every)
    else:
        chosen = one_repetition(pictures, every) if how.repetitions == "one" else every
        groups = [np.array([trial]) for trial in chosen]

    def averaged(windows: WindowArray) -> NDArray[np.float32]:
        return np.stack([windows[g].astype(np.float32).mean(axis=0) for g in groups])

    first = [int(g[0]) for g in groups]
    shown = test.pictures[test.seen[first]]
    names = tuple(pictures[k] for k in first)
    return Judged(
        model,
        folder,
        held,
        learn,
        averaged(test.online),
        averaged(test.offline),
        root,
        shown,
        names,
        tuple(map(len, groups)),
    )


def evaluate(
    given: Judged, eyes: Eyes, how: How, out: Path | None = None, accelerator: Accelerator | None = None
) -> tuple[Subject, list[Column], dict[str, NDArray[np.uint8]]]:
    """Score a model and its baselines; the subject's part of an evaluation, its columns, and pictures of each decoder.

    With ``out`` pictures are kept there, and those that are there already are not painted again.
    """
    origin = _origin(given, accelerator)
    subject = given.model.config.subject
    kept = Kept(out / "pictures" / subject, origin, accelerator) if out is not None else None
    columns: dict[str, Column] = {}
    rows, galleries = [], {}
    for decoder, make in _decoders(given, eyes.scenes is not None, accelerator):
        if isinstance(make, _Hues):
            rows.append(Row(decoder, tuple(cell for _, cell in scored_hues(make.said, given.names))))
            continue
        seeds = how.seeds if make.noisy else how.seeds[:1]
        named = {f"{decoder}, seed {seed}": partial(make.pictures, seed) for seed in seeds}
        painted = [kept.pictures(name, paint) if kept else paint() for name, paint in named.items()]
        found = scored(eyes, painted, given.shown, given.names)
        columns |= {column.key: column for column, _ in found}
        rows.append(Row(decoder, tuple(cell for _, cell in found)))
        galleries[decoder] = painted[0]
    held, said = given.held, given.held.part(how.on)
    listed = None if said is None else said.trials
    may_recur = "; its pictures may recur in what was learnt" if held.rule == "time-resolved" else ""
    split = f"{held.rule}, seed {held.seed}{may_recur}"
    counts = given.presented
    averaged = Averaged(min(counts), median_low(counts), max(counts)) if how.repetitions == "averaged" else None
    part = Subject(
        subject, given.folder.name, given.sha256, split, given.names, averaged, listed, len(given.learn), tuple(rows),
        str(given.model.config.sampling()),
    )  # fmt: skip
    return part, list(columns.values()), galleries


def _origin(given: Judged, accelerator: Accelerator | None) -> str:
    """A digest of what pictures follow from but decoder and seed: weights, generator, windows, pictures, libraries."""
    home, learn = generator_folder(given.model.config.generator, given.folder), given.learn
    said = [given.sha256, str(accelerator.device.type if accelerator else "cpu")]
    said += [f"{path.relative_to(home)} {file_digest(path)}" for path in sorted(home.rglob("*.*")) if path.is_file()]
    said += [f"{name} {version(name)}" for name in LIBRARIES]
    if (sampling := given.model.config.sampling()) != load_config(given.folder).sampling():  # that is in its digest
        said.append(str(sampling))
    digest = blake3("\n".join([*said, *given.names]).encode())
    for values in (given.online, given.offline, given.shown, learn.online, learn.pictures, learn.seen, learn.runs):
        digest.update(np.ascontiguousarray(values).data.cast("B"))
    return digest.hexdigest()


@dataclass(frozen=True)
class _Decoder:
    """How a row's pictures (n, s, s, 3) come about, from a seed; ``noisy``: the seed matters."""

    pictures: Callable[[int], NDArray[np.uint8]]
    noisy: bool = True


@dataclass(frozen=True, eq=False)
class _Hues:
    """A row that paints nothing, and says hues (n, 2) of object and background, in degrees."""

    said: NDArray[np.float64]


def _decoders(given: Judged, scenes: bool, accelerator: Accelerator | None) -> Iterator[tuple[str, "_Decoder | _Hues"]]:
    """The model itself twice, then baselines fitted on the rest of the tree, then the ceiling.

    Ridge regression stands there to the VAE's latents, and, where the generator has an image encoder of its own, to the
    tokens from which the unadapted generator paints, with the latents as the layout too where it takes one.
    Where ``scenes`` are seen, it stands there to their hues as well: how much of a colour is in the windows.
    """
    model, learn = given.model, given.learn
    home = generator_folder(model.config.generator, given.folder)
    plain = load_generator(home).freeze()
    if accelerator is not None:
        moved(plain, accelerator.device)
    encoder = ImageEncoder.load(home / "image_encoder") if (home / "image_encoder").is_dir() else None

    def painted(tokens: NDArray[np.float32], seed: int) -> NDArray[np.uint8]:
        return paint_all(plain, tokens, model.config.sampling(seed), None, accelerator)

    for cleaning, windows in (("online", given.online), ("offline cleaning", given.offline)):
        yield f"Dynadiff, {cleaning}", _Decoder(partial(decoded, model, windows, accelerator=accelerator))
    seen = learn.pictures[learn.seen]
    yield "nearest neighbour, online", _Decoder(lambda _: seen[nearest(learn.online, given.online)], noisy=False)
    latents = latent_means(plain, learn.pictures)[learn.seen]
    targets: list[Floats] = [latents.reshape(len(seen), -1)]
    if encoder is not None:
        own = encode_pictures(encoder, learn.pictures)[learn.seen]
        targets.append(own.reshape(len(seen), -1))
    if scenes:
        targets.append(_circled(truth([int(name) for name in learn.names]).hues)[learn.seen])
    low, *others = ridges(learn.online, targets, learn.runs, given.online)
    yield (
        "ridge to VAE latents, online",
        _Decoder(lambda _: render(plain, low.reshape(-1, *latents.shape[1:])), noisy=False),
    )
    if encoder is not None:
        said = others[0].reshape(-1, *own.shape[1:])
        yield "ridge to tokens, same generator, online", _Decoder(partial(painted, said))
        if plain.layout:
            layout = layout_tokens(torch.from_numpy(low).reshape(-1, *latents.shape[1:]), plain.tokens[1]).numpy()
            told = np.concatenate([said, layout], axis=1)
            yield "ridge to tokens and latents, same generator, online", _Decoder(partial(painted, told))
        yield "ceiling: the picture's own tokens", _Decoder(partial(painted, encode_pictures(encoder, given.shown)))
    else:
        yield (
            "ceiling: the picture through the VAE",
            _Decoder(lambda _: render(plain, latent_means(plain, given.shown)), noisy=False),
        )
    if scenes:
        yield "ridge to hues, online, no picture", _Hues(_degrees(others[-1]))


def _circled(hues: NDArray[np.float64]) -> NDArray[np.float64]:
    """Hues (n, 2) in degrees as points of the unit circle (n, 4): a regression knows no angles."""
    radians = np.deg2rad(hues)
    return np.hstack([np.cos(radians), np.sin(radians)])


def _degrees(points: NDArray[np.float32]) -> NDArray[np.float64]:
    """The hues (n, 2) of `_circled` points (n, 4), wherever they lie."""
    cosines, sines = np.split(points.astype(np.float64), 2, axis=1)
    return np.asarray(np.rad2deg(np.arctan2(sines, cosines)) % 360)


def decoded(
    model: Model, windows: WindowArray, seed: int = 0, accelerator: Accelerator | None = None
) -> NDArray[np.uint8]:
    """Pictures (n, s, s, 3) of cleaned windows (n, voxels, volumes), painted as the model is configured."""
    sampling = model.config.sampling(seed)
    return paint_all(model.generator, brain_tokens(model, windows), sampling, model.null, accelerator)


@torch.no_grad()
def brain_tokens(model: Model, windows: WindowArray) -> NDArray[np.float32]:
    """Tokens (n, k, d) of cleaned windows (n, voxels, volumes)."""
    return torch.cat([model.brain(b.float()) for b in torch.from_numpy(windows).split(BATCH)]).numpy()


@torch.no_grad()
def latent_means(generator: Generator, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Posterior means (n, c, h, w) of the latents of pictures (n, s, s, 3)."""
    batches = torch.from_numpy(pictures).split(batch_of(generator.picture_size, ENCODED))
    device = generator.vae.device
    return torch.cat([posterior(generator, to_unit(b.to(device)))[0].cpu() for b in batches]).numpy()


@torch.no_grad()
def render(generator: Generator, latents: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Pictures (n, s, s, 3) of final latents (n, c, h, w)."""
    batches: tuple[Tensor, ...] = torch.from_numpy(latents).split(batch_of(generator.picture_size, ENCODED))
    return np.concatenate([Render(generator)(b.to(generator.vae.device)).cpu().numpy() for b in batches])
