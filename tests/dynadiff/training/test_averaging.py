"""The running mean is the recursion that it says it is, and stands in for the weights only where asked."""

import pytest

torch = pytest.importorskip("torch")
from dynadiff.training.averaging import Average  # noqa: E402


def test_the_mean_follows_its_recursion_and_the_weights_come_back() -> None:
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    average, expected = Average([weight], 0.5), 3.0  # the first weights that are taken in are all that is known
    for step, value in enumerate((3.0, -2.0, 8.0, 5.0, 4.0)):
        weight.data = torch.tensor([value])
        average.update()
        decay = min(0.5, (step + 1) / (step + 10))
        expected = decay * expected + (1 - decay) * value
    with average.in_place():
        assert weight.item() == pytest.approx(expected)
    assert weight.item() == 4.0
    average.settle()
    assert weight.item() == pytest.approx(expected)


def test_without_a_decay_nothing_is_kept() -> None:
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    average = Average([weight], 0.0)
    average.update()
    with average.in_place():
        assert weight.item() == 1.0
    assert not list(average.parameters())
