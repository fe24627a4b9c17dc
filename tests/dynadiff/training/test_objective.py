"""The training loss is the published one, item by item."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from dataclasses import replace  # noqa: E402

from dynadiff.base.random import item_rng  # noqa: E402
from dynadiff.networks.brain import BrainConfig  # noqa: E402
from dynadiff.networks.generator import tiny_generator  # noqa: E402
from dynadiff.networks.model import Model, ModelConfig, new_model  # noqa: E402
from dynadiff.signal.cleaning import Cleaning  # noqa: E402
from dynadiff.signal.windows import WindowSpec  # noqa: E402
from dynadiff.training.objective import Objective, cubic_timesteps, offset_noise, uniform_timesteps  # noqa: E402
from dynadiff.training.presets import Training  # noqa: E402


def test_cubic_timesteps_have_the_published_distribution() -> None:
    t = cubic_timesteps((torch.arange(1_000_000) + 0.5) / 1_000_000).double()
    assert t.min() >= 0
    assert t.max() <= 999
    assert t.mean().item() == pytest.approx(750, abs=1)
    shares = [(t >= edge).double().mean().item() for edge in (500, 750, 900)]
    assert shares == pytest.approx([0.794, 0.630, 0.464], abs=1e-3)


def test_uniform_timesteps_are_each_as_often() -> None:
    counts = torch.bincount(uniform_timesteps((torch.arange(1_000_000) + 0.5) / 1_000_000))
    assert len(counts) == 1000
    assert counts.min() >= 999
    assert uniform_timesteps(torch.tensor(1.0)) == 999


def test_offset_noise_adds_one_hundredth_of_variance_shared_by_a_channel() -> None:
    noise = torch.stack([offset_noise(item_rng(0, "dynadiff", 0, k), (4, 8, 8), 0.1) for k in range(4000)])
    assert noise.var().item() == pytest.approx(1.01, abs=0.01)
    assert noise.mean((2, 3)).var().item() == pytest.approx(1 / 64 + 0.01, rel=0.05)


class Recorder(torch.nn.Module):
    """Stands in the U-Net's place: keeps what it is given and predicts nothing."""

    def forward(self, noisy, t, tokens):
        self.noisy, self.t, self.tokens = noisy, t, tokens
        return type("Output", (), {"sample": torch.zeros_like(noisy)})()


CONFIG = Training(steps=1, batch=1)


def recorded(config: Training = CONFIG, **changes: object) -> tuple[Model, Objective, Recorder]:
    torch.manual_seed(0)
    brain = BrainConfig(12, 6, 8, (17, 64))
    known = ModelConfig("01", 4 / 3, "", WindowSpec(), Cleaning(), brain, "generator", unconditional="zeros")
    model = new_model(replace(known, **changes), tiny_generator(), np.ones((2, 3, 2), np.bool_), np.eye(4))
    model.generator.unet = Recorder()
    return model, Objective(model, config), model.generator.unet


def items(n: int, step: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, list[np.random.Generator]]:
    windows = torch.from_numpy(np.random.default_rng(0).standard_normal((n, 12, 6)).astype(np.float32))
    mean = torch.from_numpy(np.random.default_rng(1).standard_normal((n, 12, 8, 8)).astype(np.float32))
    return windows, mean, torch.full_like(mean, 0.1), [item_rng(0, "dynadiff", step, k) for k in range(n)]


def test_the_target_is_the_noise_that_the_latent_was_corrupted_with() -> None:
    model, objective, unet = recorded()
    windows, mean, _, rngs = items(64)
    loss = objective(windows, mean, torch.zeros_like(mean), rngs)
    a = torch.from_numpy(model.generator.schedule.alphas_cumprod()).float()[unet.t][:, None, None, None]
    noise = (unet.noisy - a.sqrt() * mean) / (1 - a).sqrt()
    clear = a.flatten() < 0.99  # where hardly any noise is added, it cannot be told from the sum
    torch.testing.assert_close(loss[clear], noise.square().mean((1, 2, 3))[clear], atol=1e-4, rtol=1e-3)


def test_a_tenth_of_the_conditions_is_zero_and_the_rest_is_whole() -> None:
    model, objective, unet = recorded()
    objective.eval()
    windows, mean, deviation, rngs = items(2000)
    objective(windows, mean, deviation, rngs)
    dropped = (unet.tokens == 0).all((1, 2))
    assert dropped.float().mean().item() == pytest.approx(0.1, abs=0.02)
    assert torch.equal(unet.tokens[~dropped], model.brain(windows)[~dropped])


def test_a_learned_null_stands_where_conditions_are_dropped_and_learns_there_only() -> None:
    model, objective, unet = recorded(unconditional="learned")
    assert model.null is not None
    assert not model.null.any()
    model.null.data += 7
    windows, mean, deviation, rngs = items(200)
    objective(windows, mean, deviation, rngs)
    dropped = (unet.tokens == 7).all((1, 2))
    assert 0 < dropped.sum() < 50
    unet.tokens[~dropped].sum().backward(retain_graph=True)
    assert not model.null.grad.any()
    unet.tokens.sum().backward()
    assert (model.null.grad == dropped.sum()).all()


def test_the_loss_of_an_item_does_not_depend_on_its_batch() -> None:
    _, objective, _ = recorded(replace(CONFIG, anchor=0.3))
    targets = torch.ones(6, 17, 64)
    windows, mean, deviation, rngs = items(6)
    whole = objective(windows, mean, deviation, rngs, targets)
    windows, mean, deviation, rngs = items(6)
    for k in (3, 0, 5):
        alone = objective(windows[[k]], mean[[k]], deviation[[k]], [rngs[k]], targets[[k]])
        torch.testing.assert_close(alone, whole[[k]], atol=1e-6, rtol=1e-5)


def test_the_anchor_is_the_weighted_error_of_the_tokens() -> None:
    model, objective, _ = recorded(replace(CONFIG, anchor=0.3))
    objective.eval()
    targets = torch.ones(6, 17, 64)
    with_anchor = objective(*items(6), targets)
    without = objective(*items(6))
    error = (model.brain(items(6)[0]) - targets).square().mean((1, 2))
    torch.testing.assert_close(with_anchor - without, 0.3 * error, atol=1e-5, rtol=1e-4)
