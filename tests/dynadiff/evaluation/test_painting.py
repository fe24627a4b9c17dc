"""What was painted is not painted again, what follows from something else is, and processes share what one would do."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from dynadiff.base.errors import UserError  # noqa: E402
from dynadiff.evaluation import painting  # noqa: E402
from dynadiff.evaluation.painting import Kept, batch_of, paint_all  # noqa: E402
from dynadiff.networks.choices import Sampling  # noqa: E402
from support.small_models import small_generator  # noqa: E402


def test_pictures_are_made_once(tmp_path):
    calls = []

    def make():
        calls.append(1)
        return np.full((2, 4, 4, 3), len(calls), np.uint8)

    first = Kept(tmp_path, "model a").pictures("Dynadiff, online, seed 0", make)
    assert np.array_equal(Kept(tmp_path, "model a").pictures("Dynadiff, online, seed 0", make), first)
    assert len(calls) == 1
    assert Kept(tmp_path, "model b").pictures("Dynadiff, online, seed 0", make).max() == 2
    assert Kept(tmp_path, "model a").pictures("Dynadiff, online, seed 1", make).max() == 3


class Pretended:
    """One of several processes; what the others gather is handed to it."""

    device = torch.device("cpu")

    def __init__(self, index, number):
        self.process_index, self.num_processes = index, number


def test_processes_together_paint_what_one_does(monkeypatch):
    """Whole batches are dealt out, so every picture is the same to the bit."""
    torch.manual_seed(0)
    generator = small_generator().freeze()
    tokens = np.random.default_rng(0).standard_normal((11, *generator.tokens), np.float32)
    sampling = Sampling("ddpm", 2, 3.0, seed=4)
    monkeypatch.setattr(painting, "BATCH", 3)
    whole = paint_all(generator, tokens, sampling)
    parts = []
    monkeypatch.setattr(painting, "gather_object", lambda mine: parts.append(mine) or mine)
    for index in (0, 1):
        paint_all(generator, tokens, sampling, accelerator=Pretended(index, 2))
    assert [start for start, _ in parts[0]] == [0, 6]
    together = np.concatenate([pictures for _, pictures in sorted(parts[0] + parts[1], key=lambda one: one[0])])
    assert np.array_equal(together, whole)


def test_large_pictures_go_through_a_network_few_at_a_time():
    assert [batch_of(side, 64) for side in (8, 64, 128, 512, 4096)] == [64, 64, 64, 8, 1]


def test_a_file_of_pictures_that_is_cut_short_is_one_sentence(tmp_path):
    kept = Kept(tmp_path, "model a")
    kept.pictures("x", lambda: np.zeros((2, 4, 4, 3), np.uint8))
    (path,) = tmp_path.glob("*.npz")
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(UserError, match=r"cannot be read .*: remove it"):
        kept.pictures("x", lambda: np.zeros((2, 4, 4, 3), np.uint8))
