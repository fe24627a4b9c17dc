"""One run left out of twelve: who learns from the others names the category of each of its windows.

A decoder with the generator that ships paints the windows as a live run would have them, and the image encoder names
the pictures; beside it stand the linear classifiers, which are given the same windows. Knows networks and how they are
trained; knows no file but a decoder's folder, and nothing of how sure a score is.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from blake3 import blake3
from numpy.typing import NDArray

from dynadiff.assets import EMBEDDED
from dynadiff.base.errors import UserError
from dynadiff.base.files import file_digest
from dynadiff.base.random import initial_noise
from dynadiff.evaluation.evaluate import brain_tokens
from dynadiff.networks.brain import BrainConfig
from dynadiff.networks.generator import load_generator
from dynadiff.networks.image_encoder import ImageEncoder, encode_pictures
from dynadiff.networks.model import Model, ModelConfig, new_model
from dynadiff.networks.model_folder import CONFIG, load_model, save_model
from dynadiff.networks.sampling import paint
from dynadiff.phantom.scenes import CATEGORIES
from dynadiff.recordings.masks import mask_digest, masked_series
from dynadiff.recordings.run import Run
from dynadiff.signal.cleaning import Cleaning
from dynadiff.signal.windows import WindowSpec
from dynadiff.studies.haxby.linear import OPPONENTS, PENALTIES, SHRINKAGES, fit
from dynadiff.training.dynadiff import Training, train, warm_start
from dynadiff.trials.source import Trials, collect

GENERATOR = EMBEDDED / "generator"
CLEANING = Cleaning()
SPEC = WindowSpec(offset=2, length=6)  # 5 s after the block begins, TR 2.5 s
TRAINING = Training(
    steps=200,
    batch=32,
    lr=1e-4,
    weight_decay=0.1,
    warmup=50,
    warm_start=400,
    anchor=0.1,
    width=96,
    dropout=0.5,
    guidance=5.0,
    precision="bf16",
)


@dataclass(frozen=True, eq=False)
class Material:
    """What a fold learns from and what it is judged on. The left-out run is in ``test`` alone."""

    runs: Sequence[Run]
    mask: NDArray[np.bool_]
    left_out: int  # of the runs
    learn: Trials
    test: Trials

    @property
    def categories(self) -> tuple[str, ...]:
        """Those that are learnt, in the order of the columns of scores."""
        return tuple(sorted({*self.learn.categories}))


Paint = Callable[[Material, Path], NDArray[np.float64]]  # a fold and its decoder's folder: scores (n, categories)


@dataclass(frozen=True, eq=False)
class Named:
    """What was shown in each window of a left-out run, and how each way to name it scores every category."""

    blocks: NDArray[np.int64]  # (n,) block of each window
    shown: NDArray[np.int64]  # (n,) of the categories
    painted: NDArray[np.float64]  # (n, categories)
    classified: dict[str, NDArray[np.float64]]  # by opponent, (n, categories)
    strengths: dict[str, float]  # by opponent, as runs that were learnt from chose it


def material(runs: Sequence[Run], mask: NDArray[np.bool_], left_out: int) -> Material:
    """Cut the windows of a fold. Raises UserError where the left-out run shows a category that no other does."""
    size = load_generator(GENERATOR).picture_size
    learn = collect([r for k, r in enumerate(runs) if k != left_out], mask, CLEANING, SPEC, size)
    test = collect([runs[left_out]], mask, CLEANING, SPEC, size)
    if new := {*test.categories} - {*learn.categories}:
        raise UserError(f"{runs[left_out].name} alone shows {', '.join(sorted(new))}: give runs that all show the same")
    return Material(runs, mask, left_out, learn, test)


def name_windows(fold: Material, folder: Path, paint: Paint) -> Named:
    """Scores of the left-out run's windows, cleaned online, by the pictures that are painted and by each opponent.

    Both have learnt from windows of whole runs, which `dynadiff.studies.causal` found to be better for either.
    """
    number = fold.categories.index
    shown, learnt = (np.array([number(t.categories[k]) for k in t.seen]) for t in (fold.test, fold.learn))
    found = {
        name: fit(method, fold.learn.offline, fold.learn.online, learnt, fold.learn.runs, len(fold.categories))
        for name, method in OPPONENTS.items()
    }
    classified = {name: classifier(fold.test.online) for name, classifier in found.items()}
    strengths = {name: classifier.strength for name, classifier in found.items()}
    return Named(fold.test.blocks, shown, paint(fold, folder), classified, strengths)


def painted(fold: Material, folder: Path) -> NDArray[np.float64]:
    """Probabilities (n, categories) of what the pictures show; the decoder is trained if ``folder`` has none."""
    encoder = ImageEncoder.load(GENERATOR / "image_encoder")
    if not (folder / CONFIG).exists():
        _train(fold, encoder, folder)
    pictures = _painted(load_model(folder, merged=True), fold.test)
    with torch.no_grad():
        named = encoder.classify(torch.from_numpy(encode_pictures(encoder, pictures))).softmax(1).numpy()
    return np.asarray(named[:, [CATEGORIES.index(name) for name in fold.categories]], np.float64)


def choices(runs: Sequence[Run], mask: NDArray[np.bool_]) -> dict[str, Any]:
    """All that the scores of the folds follow from: the recording, what ships, and what was decided beforehand."""
    return {
        "recording": _digest(runs, mask), "generator": _shipped(), "cleaning": asdict(CLEANING), "window": asdict(SPEC),
        "training": asdict(TRAINING), "penalties": PENALTIES, "shrinkages": SHRINKAGES,
    }  # fmt: skip


def _train(fold: Material, encoder: ImageEncoder, folder: Path) -> None:
    generator, run = load_generator(GENERATOR), fold.runs[0]
    config = ModelConfig(
        subject=run.subject, tr=run.tr, mask_sha256=mask_digest(fold.mask), window=SPEC, cleaning=CLEANING,
        brain=BrainConfig(int(fold.mask.sum()), SPEC.length, TRAINING.width, generator.tokens, TRAINING.dropout),
        generator="embedded", guidance=TRAINING.guidance,
        trained_on=f"Haxby et al. (2001), every run but {fold.left_out + 1}",
    )  # fmt: skip
    model = new_model(config, generator, fold.mask, run.affine, seed=fold.left_out)
    warm_start(model, fold.learn, fold.learn, encoder, TRAINING, folder / "work")
    train(model, fold.learn, fold.learn, TRAINING, folder / "work", encoder)
    save_model(model, folder)


def _painted(model: Model, test: Trials) -> NDArray[np.uint8]:
    noise = torch.from_numpy(initial_noise(0, model.generator.latent_shape))
    tokens = torch.from_numpy(brain_tokens(model, test.online))
    return paint(model.generator, tokens, range(len(tokens)), model.config.sampling(), model.null, noise)


def _digest(runs: Sequence[Run], mask: NDArray[np.bool_]) -> str:
    """Of what was measured inside the mask, when what was shown, and the pictures that stand for it."""
    digest = blake3(mask_digest(mask).encode())
    for run in runs:
        digest.update(repr((run.name, run.tr, run.rows, run.events)).encode())
        digest.update(masked_series(run, mask, run.n_volumes).tobytes())
        for name in dict.fromkeys(event.picture for event in run.events):
            digest.update(np.ascontiguousarray(run.picture(name)).tobytes())
    return digest.hexdigest(16)


def _shipped() -> str:
    files = sorted(path for path in GENERATOR.rglob("*") if path.is_file())
    said = "".join(f"{path.relative_to(GENERATOR).as_posix()} {file_digest(path)}\n" for path in files)
    return blake3(said.encode()).hexdigest(16)
