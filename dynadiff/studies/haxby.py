"""A real recording: which of eight categories did the person look at? Haxby et al. (2001), one slice, twelve runs.

For every run a decoder is trained on the other eleven, with the generator that ships, and paints the left-out run's
windows as a live run would have them. The category is read off the pictures; beside it stands a linear classifier.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from sklearn.linear_model import LogisticRegression

from dynadiff.assets import EMBEDDED
from dynadiff.base.random import initial_noise
from dynadiff.evaluation.evaluate import brain_tokens
from dynadiff.networks.brain import BrainConfig
from dynadiff.networks.generator import load_generator
from dynadiff.networks.image_encoder import ImageEncoder, encode_pictures
from dynadiff.networks.model import Model, ModelConfig, new_model
from dynadiff.networks.model_folder import load_model, save_model
from dynadiff.networks.sampling import paint
from dynadiff.networks.schedule import Sampling
from dynadiff.phantom.scenes import CATEGORIES
from dynadiff.recordings.bids import bids_runs
from dynadiff.recordings.masks import mask_digest, read_mask
from dynadiff.recordings.run import Run
from dynadiff.signal.cleaning import Cleaning
from dynadiff.signal.windows import WindowSpec
from dynadiff.studies.haxby_slice import haxby_to_bids
from dynadiff.training.dynadiff import Training, train, warm_start
from dynadiff.trials.source import Trials, collect

SPEC = WindowSpec(offset=2, length=6)  # 5 s after the block begins, TR 2.5 s
TRAINING = Training(
    steps=200,
    batch=32,
    lr=1e-4,
    weight_decay=0.1,
    warmup=50,
    warm_start=400,
    anchor=0.1,
    online=0.5,
    width=96,
    dropout=0.5,
    guidance=5.0,
    precision="bf16",
)
DRAWS = 2000


@dataclass(frozen=True)
class Fold:
    """One left-out run: what was shown in each window, and what pictures and classifier say. Category numbers (n,)."""

    blocks: NDArray[np.int64]  # (n,) block of each window
    shown: NDArray[np.int64]
    painted: NDArray[np.float64]  # (n, 8) scores of the categories in the pictures
    classified: NDArray[np.float64]  # (n, 8) probabilities


def print_haxby(data: Path, out: Path) -> None:
    """Run what is missing of the twelve folds and print the table; each fold's decoder stays in OUT/haxby."""
    home = out / "haxby"
    if not (home / "bids").exists():
        haxby_to_bids(data, home / "bids")
    runs = bids_runs(home / "bids", "1")
    mask = read_mask(home / "bids" / "sub-1_mask.nii.gz", runs[0].shape)
    folds = [run_fold(runs, mask, k, home / f"fold-{k + 1:02d}") for k in range(len(runs))]
    console = Console(width=120)
    for name in ("painted", "classified"):
        for unit in ("window", "block"):
            right, level = accuracy(folds, name, unit)
            low, high = np.quantile(_resampled(right), [0.025, 0.975])
            console.print(
                f"{name:10} {unit:6} {100 * right.mean():5.1f} % [{100 * low:.1f}, {100 * high:.1f}], chance 12.5 %, "
                f"95th percentile of permutations {100 * level:.1f} %",
                highlight=False,
            )


def run_fold(runs: list[Run], mask: NDArray[np.bool_], left_out: int, folder: Path) -> Fold:
    """Train on all runs but one, unless ``folder`` holds that decoder already, and decode the left-out run."""
    cleaning, embedded = Cleaning(), load_generator(EMBEDDED / "generator")
    learn = collect([r for k, r in enumerate(runs) if k != left_out], mask, cleaning, SPEC, embedded.picture_size)
    test = collect([runs[left_out]], mask, cleaning, SPEC, embedded.picture_size)
    if not (folder / "model.json").exists():
        config = ModelConfig(
            subject=runs[0].subject, tr=runs[0].tr, mask_sha256=mask_digest(mask), window=SPEC, cleaning=cleaning,
            brain=BrainConfig(int(mask.sum()), SPEC.length, TRAINING.width, embedded.tokens, TRAINING.dropout),
            generator="embedded", guidance=TRAINING.guidance,
            trained_on=f"Haxby et al. (2001), every run but {left_out + 1}",
        )  # fmt: skip
        model = new_model(config, embedded, mask, runs[0].affine, seed=left_out)
        encoder = ImageEncoder.load(EMBEDDED / "generator" / "image_encoder")
        warm_start(model, learn, learn, encoder, TRAINING, folder / "work")
        train(model, learn, learn, TRAINING, folder / "work", encoder)
        save_model(model, folder)
    return _decode(load_model(folder, merged=True), learn, test)


def accuracy(folds: list[Fold], name: str, unit: str) -> tuple[NDArray[np.float64], float]:
    """Right or wrong for each block (shares of its windows where the unit is the window), and the permutation level.

    The level is the 95th percentile of the mean when the categories of a run's blocks are dealt out at random.
    """
    rng = np.random.default_rng(0)
    right = np.concatenate([_blockwise(fold, getattr(fold, name), fold.shown, unit) for fold in folds])
    dealt = [
        np.mean([_blockwise(fold, getattr(fold, name), _deal(fold, rng), unit).mean() for fold in folds])
        for _ in range(DRAWS)
    ]
    return right, float(np.quantile(dealt, 0.95))


def _decode(model: Model, learn: Trials, test: Trials) -> Fold:
    names = sorted({*learn.categories})
    encoder = ImageEncoder.load(EMBEDDED / "generator" / "image_encoder")
    noise = torch.from_numpy(initial_noise(0, model.generator.latent_shape))
    tokens = torch.from_numpy(brain_tokens(model, test.online))
    sampling = Sampling(model.config.sampler, model.config.steps, model.config.guidance)
    pictures = paint(model.generator, tokens, range(len(tokens)), sampling, model.null, noise)
    with torch.no_grad():
        named = encoder.classify(torch.from_numpy(encode_pictures(encoder, pictures))).softmax(1).numpy()
    x, z = (t.online.reshape(len(t), -1).astype(np.float64) for t in (learn, test))
    y = np.array([names.index(learn.categories[k]) for k in learn.seen])
    linear = LogisticRegression(C=1e-3, max_iter=2000).fit(x, y)
    shown = np.array([names.index(test.categories[k]) for k in test.seen])
    columns = [CATEGORIES.index(name) for name in names]
    return Fold(test.blocks, shown, named[:, columns].astype(np.float64), linear.predict_proba(z))


def _blockwise(fold: Fold, scores: NDArray[np.float64], shown: NDArray[np.int64], unit: str) -> NDArray[np.float64]:
    members = [fold.blocks == block for block in np.unique(fold.blocks)]
    if unit == "window":
        return np.array([np.mean(scores[m].argmax(1) == shown[m]) for m in members])
    return np.array([float(scores[m].mean(0).argmax() == shown[m][0]) for m in members])


def _deal(fold: Fold, rng: np.random.Generator) -> NDArray[np.int64]:
    blocks, first, back = np.unique(fold.blocks, return_index=True, return_inverse=True)
    return fold.shown[first][rng.permutation(len(blocks))][back]


def _resampled(right: NDArray[np.float64]) -> NDArray[np.float64]:
    drawn = np.random.default_rng(0).integers(len(right), size=(DRAWS, len(right)))
    return np.asarray(right[drawn].mean(axis=1))
