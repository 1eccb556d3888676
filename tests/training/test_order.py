"""Which items a step sees."""

import numpy as np
import pytest

from kdedge.errors import RunError
from kdedge.training.order import Order


def epoch(order: Order, number: int) -> list[np.ndarray]:
    return [order.at(step) for step in range(number * order.an_epoch, (number + 1) * order.an_epoch)]


def test_an_epoch_is_a_permutation_and_each_another_one():
    order = Order(23, 5, seed=3)
    assert order.an_epoch == 4
    first, second = (np.concatenate(epoch(order, number)) for number in (0, 1))
    for seen in (first, second):
        assert len(set(seen.tolist())) == 20  # three are left out, others in each epoch
    assert set(first.tolist()) != set(second.tolist())
    assert all((np.diff(batch) > 0).all() for batch in epoch(order, 0))


def test_any_step_can_be_asked_for_first():
    steps = [Order(40, 4, 1).at(step) for step in range(25)]
    for step in (24, 3, 11, 0):
        assert (Order(40, 4, 1).at(step) == steps[step]).all()
    assert any((Order(40, 4, 2).at(step) != steps[step]).any() for step in range(5))


@pytest.mark.parametrize("world", [2, 4])
def test_processes_share_each_global_batch(world):
    alone = Order(64, 8, 0)
    ranks = [Order(64, 8, 0, rank=rank, world=world) for rank in range(world)]
    assert {order.an_epoch for order in ranks} == {alone.an_epoch}
    for step in range(20):
        parts = [order.at(step) for order in ranks]
        assert sorted(np.concatenate(parts).tolist()) == alone.at(step).tolist()
        assert {len(part) for part in parts} == {8 // world}


def test_sorted_classes_are_dealt_to_all_processes():
    """Items 0-499 are one class, 500-999 another: each process sees about as many of both."""
    ranks = [Order(1000, 100, 0, rank=rank, world=2) for rank in range(2)]
    for order in ranks:
        shares = [float((order.at(step) < 500).mean()) for step in range(10)]
        assert 0.4 < np.mean(shares) < 0.6
        assert max(shares) < 0.8


def test_blocks_are_seen_once_each_and_few_at_a_time():
    blocks = [np.arange(10 * b, 10 * b + 10) for b in range(12)]
    order = Order(120, 8, 0, blocks, mixed=3)
    batches = epoch(order, 0)
    assert sorted(np.concatenate(batches).tolist()) == list(range(120))
    owners = [set((batch // 10).tolist()) for batch in batches]
    spans = {b: [i for i, near in enumerate(owners) if b in near] for b in range(12)}
    assert max(span[-1] - span[0] for span in spans.values()) <= 30 // 8 + 1  # read, then done with
    assert any(len(near) >= 3 for near in owners)
    assert np.concatenate(batches).tolist() != np.concatenate(epoch(order, 1)).tolist()


def test_each_process_has_blocks_of_its_own():
    order = Order(20, 8, 0, [np.arange(12), np.arange(12, 20)], rank=1, world=2)
    assert order.local == 4
    assert order.an_epoch == 5
    assert sorted(np.concatenate(epoch(order, 0)).tolist()) == list(range(20))


def test_refusals():
    with pytest.raises(RunError, match="cannot be shared by 2 processes"):
        Order(100, 5, 0, world=2)
    with pytest.raises(RunError, match="blocks hold 3 items; 4 were expected"):
        Order(4, 2, 0, [np.arange(3)])
    assert Order(3, 8, 0).at(0).tolist() == [0, 1, 2]  # fewer items than a batch
