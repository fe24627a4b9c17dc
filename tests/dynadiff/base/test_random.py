"""What an item draws depends on seed, stage, step and its own number, and on nothing else."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
from dynadiff.base.random import STAGES, item_rng  # noqa: E402
from dynadiff.networks.draws import dropout_by_item  # noqa: E402


def test_streams_differ_in_every_one_of_their_four_names() -> None:
    names = list(product((0, 1), STAGES, (0, 1, 2), (0, 1, 2)))
    first = {tuple(item_rng(*name).random(3)) for name in names}
    assert len(first) == len(names)
    assert np.array_equal(item_rng(3, "dynadiff", 7, 5).random(4), item_rng(3, "dynadiff", 7, 5).random(4))


def test_long_streams_of_neighbours_do_not_overlap() -> None:
    here, next_item, next_step = (item_rng(0, "dynadiff", s, i).random(4096) for s, i in ((0, 0), (0, 1), (1, 0)))
    assert not np.intersect1d(here, next_item).size
    assert not np.intersect1d(here, next_step).size


@settings(max_examples=20, deadline=None)
@given(order=st.permutations(range(5)), cut=st.integers(1, 4))
def test_the_dropout_of_an_item_does_not_depend_on_its_batch(order: list[int], cut: int) -> None:
    network = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Sequential(torch.nn.Dropout(0.25)))
    items, x = dropout_by_item(network.train()), torch.ones(3, 5, 40)
    with items.of([item_rng(0, "dynadiff", 0, k) for k in range(5)]):
        whole = network(x)
    for part in (order[:cut], order[cut:]):
        with items.of([item_rng(0, "dynadiff", 0, k) for k in part]):
            assert torch.equal(network(x[:, part]), whole[:, part])


def test_dropout_drops_its_share_keeps_the_mean_and_rests_in_evaluation() -> None:
    network = torch.nn.Sequential(torch.nn.Dropout(0.3))
    items, x = dropout_by_item(network), torch.ones(20, 50, 100)
    with items.of([item_rng(0, "dynadiff", 0, k) for k in range(50)]):
        y = network(x)
        assert (y == 0).float().mean().item() == pytest.approx(0.3, abs=0.01)
        assert y.mean().item() == pytest.approx(1, abs=0.01)
        assert torch.equal(network.eval()(x), x)


def test_generators_for_another_number_of_items_are_refused() -> None:
    network = torch.nn.Sequential(torch.nn.Dropout(0.3))
    items = dropout_by_item(network)
    with items.of([item_rng(0, "dynadiff", 0, 0)]), pytest.raises(ValueError, match="2 items and 1 generators"):
        network(torch.ones(2, 3))
