"""The training loss is the published one, and stopping and going on is the same as never having stopped."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from dynadiff.brain import BrainConfig  # noqa: E402
from dynadiff.cleaning import Cleaning  # noqa: E402
from dynadiff.data import Trials  # noqa: E402
from dynadiff.generator import tiny_generator  # noqa: E402
from dynadiff.model import Model, ModelConfig, new_model  # noqa: E402
from dynadiff.training import PRESETS, Training, cubic_timesteps, offset_noise, train  # noqa: E402
from dynadiff.windows import WindowSpec  # noqa: E402


def test_cubic_timesteps_have_the_published_distribution() -> None:
    t = cubic_timesteps((torch.arange(1_000_000) + 0.5) / 1_000_000).double()
    assert t.min() >= 0
    assert t.max() <= 999
    assert t.mean().item() == pytest.approx(750, abs=1)
    shares = [(t >= edge).double().mean().item() for edge in (500, 750, 900)]
    assert shares == pytest.approx([0.794, 0.630, 0.464], abs=1e-3)


def test_offset_noise_adds_one_hundredth_of_variance_shared_by_a_channel() -> None:
    torch.manual_seed(0)
    noise = offset_noise(torch.Size((4000, 4, 8, 8)), 0.1)
    assert noise.var().item() == pytest.approx(1.01, abs=0.01)
    assert noise.mean((2, 3)).var().item() == pytest.approx(1 / 64 + 0.01, rel=0.05)


def test_the_paper_preset_is_the_paper() -> None:
    paper = PRESETS["paper"]
    assert (paper.batch, paper.lr, paper.weight_decay, paper.warmup, paper.steps) == (320, 1e-3, 0.01, 1000, 60_000)
    assert (paper.width, paper.dropout, paper.condition_dropout, paper.offset_noise) == (1552, 0.5, 0.1, 0.1)


def a_model() -> Model:
    torch.manual_seed(0)
    mask = np.ones((2, 3, 2), np.bool_)
    brain = BrainConfig(12, 6, 8, (17, 64))
    config = ModelConfig("01", 4 / 3, "", WindowSpec(), Cleaning(), brain, "generator", steps=2)
    return new_model(config, tiny_generator(), mask, np.eye(4))


@pytest.fixture(scope="module")
def trials() -> Trials:
    rng = np.random.default_rng(0)
    windows = rng.standard_normal((2, 20, 12, 6)).astype(np.float16)
    pictures = rng.integers(0, 256, (5, 64, 64, 3), np.uint8)
    number = np.arange(20)
    names = tuple("abcde")
    return Trials(windows[0], windows[1], number % 5, number // 10, number, pictures, names, ("",) * 5)


SHORT = Training(steps=4, batch=3, warmup=1, online=0.5)


def test_interrupted_and_resumed_is_uninterrupted(tmp_path: Path, trials: Trials) -> None:
    straight, stopped, resumed = a_model(), a_model(), a_model()
    frozen = {k: v.clone() for k, v in straight.generator.unet.state_dict().items() if "lora_" not in k}
    train(straight, trials, trials, SHORT, tmp_path / "one" / "work")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dynadiff.loop.CHECKPOINT_EVERY", 2)
        patch.setattr("dynadiff.training.diffusion_loss", stop_after(2))
        with pytest.raises(KeyboardInterrupt):
            train(stopped, trials, trials, SHORT, tmp_path / "two" / "work")
    train(resumed, trials, trials, SHORT, tmp_path / "two" / "work")
    for a, b, start in zip(straight.trainable(), resumed.trainable(), a_model().trainable(), strict=True):
        torch.testing.assert_close(a, b, atol=0, rtol=0)
        assert not torch.equal(a, start) or a.numel() == 0
    for name, value in straight.generator.unet.state_dict().items():
        if name in frozen:
            torch.testing.assert_close(value, frozen[name], atol=0, rtol=0)


def stop_after(steps: int):
    from dynadiff.training import diffusion_loss

    done = iter(range(steps))

    def loss(*arguments):
        if next(done, None) is None:
            raise KeyboardInterrupt
        return diffusion_loss(*arguments)

    return loss


def test_a_loss_that_is_no_number_stops_with_the_step(tmp_path: Path, trials: Trials) -> None:
    broken = replace(trials, offline=trials.offline * np.float16(np.nan))
    with pytest.raises(FloatingPointError, match="step 0"):
        train(a_model(), broken, trials, replace(SHORT, online=0.0), tmp_path / "work")
