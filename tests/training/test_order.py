"""Which items a step sees."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


def blocks_of(*sizes):
    """Blocks whose items stand together, as those of tar shards do."""
    ends = np.cumsum(sizes)
    return [np.arange(end - size, end) for end, size in zip(ends.tolist(), sizes, strict=True)]


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=9).filter(any), st.integers(1, 40), st.integers(0, 5), st.data()
)
def test_no_item_twice_in_an_epoch_and_less_than_a_batch_left_out(sizes, batch, seed, data):
    blocks = data.draw(st.sampled_from([None, blocks_of(*sizes)]))
    count, size = sum(sizes), min(batch, sum(sizes))
    order = Order(count, batch, seed, blocks, data.draw(st.integers(1, 5)))
    assert order.batch == order.local == size
    assert order.an_epoch == count // size
    for number in range(2):
        batches = epoch(order, number)
        seen = np.concatenate(batches)
        assert {len(batch) for batch in batches} == {size}
        assert len(set(seen.tolist())) == len(seen) == count - count % size
        assert set(seen.tolist()) <= set(range(count))
        assert all((np.diff(batch) > 0).all() for batch in batches)


def test_what_is_left_out_is_other_items_in_each_epoch():
    left = [frozenset(range(10)) - set(np.concatenate(epoch(Order(10, 4, 0), n)).tolist()) for n in range(20)]
    assert {len(items) for items in left} == {2}
    assert len(set(left)) > 10


def test_every_item_is_as_likely_in_every_place():
    """Where in 2,000 epochs of 4 batches an item came: chi-squared of 8 items on 4 places, 21 degrees of freedom."""
    order, found = Order(8, 2, 7), np.zeros((8, 4))
    for number in range(2000):
        for place, batch in enumerate(epoch(order, number)):
            found[batch, place] += 1
    assert ((found - 500) ** 2 / 500).sum() < 46.8  # its 99.9th percentile


@pytest.mark.parametrize("blocks", [None, blocks_of(7, 5, 12, 6, 10)])
def test_it_depends_on_seed_and_epoch_alone(blocks):
    first = [Order(40, 8, 3, blocks).at(step).tolist() for step in range(10)]
    np.random.seed(1)  # noqa: NPY002
    order = Order(40, 8, 3, blocks)
    for step in np.random.default_rng(0).permutation(10).tolist():  # as one that looks ahead asks
        batch = order.at(step)
        assert batch.tolist() == first[step]
        batch[:] = -1  # whoever has it may change it
        assert order.at(step).tolist() == first[step]


@settings(deadline=None)
@given(st.integers(1, 5), st.integers(1, 8), st.integers(0, 40), st.integers(0, 7))
def test_any_number_of_processes_shares_exactly(world, local, more, step):
    count = world * local + more
    alone = Order(count, world * local, 2)
    ranks = [Order(count, world * local, 2, rank=rank, world=world) for rank in range(world)]
    shares = [order.at(step) for order in ranks]
    assert {order.an_epoch for order in ranks} == {alone.an_epoch}
    assert {len(share) for share in shares} == {order.local for order in ranks} == {local}
    assert sorted(np.concatenate(shares).tolist()) == alone.at(step).tolist()


def test_no_share_lacks_a_class():
    """A class has 8 of a share's 32 items on average, with a standard deviation of 2.35."""
    labels = np.repeat(np.arange(4), 100)
    for rank in range(2):
        order = Order(400, 64, 5, rank=rank, world=2)
        counts = np.array([np.bincount(labels[order.at(step)], minlength=4) for step in range(200)])
        assert counts.min() > 0
        assert counts.max() < 18
        assert np.abs(counts.mean(0) - 8).max() < 0.7


@pytest.mark.parametrize("mixed", [1, 2, 4])
@pytest.mark.parametrize("batch", [1, 5])
def test_as_many_blocks_are_open_as_are_mixed(mixed, batch):
    """A block is open from its first item to its last; other blocks meet in other epochs."""
    owner, met = np.repeat(np.arange(12), 20), set()
    order = Order(240, batch, 0, blocks_of(*[20] * 12), mixed)
    for number in range(3):
        seen = np.array([np.bincount(owner[rows], minlength=12) for rows in epoch(order, number)])
        begun = seen.cumsum(0) > 0
        done = seen.cumsum(0) - seen == 20
        assert (begun & ~done).sum(1).max() == mixed
        met.add(frozenset(np.flatnonzero(seen[: 20 * mixed // batch].sum(0)).tolist()))
    assert {len(some) for some in met} == {mixed}
    assert len(met) > 1


def test_items_of_open_blocks_are_in_random_order():
    owner = np.repeat(np.arange(5), 20)
    alone = epoch(Order(100, 10, 0, blocks_of(*[20] * 5), mixed=1), 0)
    assert {len(set(owner[batch].tolist())) for batch in alone} == {1}
    assert any((np.diff(batch) > 1).any() for batch in alone)  # not as they stand in the block
    together = epoch(Order(100, 10, 0, blocks_of(*[20] * 5), mixed=5), 0)
    assert np.mean([len(set(owner[batch].tolist())) for batch in together]) > 3.5


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ((10, 4, 0, None, 4, 0, 3), "a batch of 4 items cannot be shared by 3 processes; give --batch a multiple of 3"),
        ((5, 8, 0, None, 4, 0, 2), "a batch of 5 items cannot be shared by 2 processes"),
        ((0, 8, 0), "a batch of 0 items"),
        ((8, 0, 0), "a batch of 0 items"),
        ((8, -2, 0), "a batch of -2 items"),
        ((9, 4, 0, blocks_of(4, 4)), "blocks hold 8 items; 9 were expected"),
    ],
)
def test_what_cannot_be_shared_is_refused(settings_, message):
    with pytest.raises(RunError, match=message):
        Order(*settings_)
