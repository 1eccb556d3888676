"""Shards of activations: float16 that is right at any offset and scale, read like an array."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdedge.errors import DataError
from kdedge.training.activation_shards import ActivationShards, shard_is_whole, write_activations
from kdedge.training.joined import Joined, Picked


def values(rows: int, seed: int = 0) -> np.ndarray:
    """Far from zero with a tiny spread, huge, tiny, constant, one-sided."""
    rng = np.random.default_rng(seed)
    drawn = rng.normal(size=(rows, 6))
    return (drawn * [1e-3, 1e6, 1e-9, 0, 1, 30] + [1000, -1e6, 0, 5, 0, 0]).astype(np.float32)


@pytest.fixture
def three(tmp_path):
    parts = [values(5, 0), values(4, 1), values(3, 2)]
    paths = [tmp_path / f"{number}.npy" for number in range(3)]
    for path, part in zip(paths, parts, strict=True):
        write_activations(path, part)
    return ActivationShards(tuple(paths), (5, 4, 3), 6), np.concatenate(parts)


def test_the_error_is_a_share_of_the_range_of_each_dimension(three):
    shards, whole = three
    for start, stop in ((0, 5), (5, 9), (9, 12)):
        part = whole[start:stop].astype(np.float64)
        reach = part.max(0) - part.min(0)
        error = np.abs(shards[start:stop].astype(np.float64) - part).max(0)
        assert (error <= reach * 2.0**-11 + np.abs(part).max(0) * 2.0**-23).all()
    assert (shards[:][:, 3] == 5).all()


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.integers(-12, 11), max_size=20))
def test_reading_is_indexing(tmp_path_factory, rows):
    home = tmp_path_factory.mktemp("shards")
    parts = [values(5, 0), values(4, 1), values(3, 2)]
    paths = [home / f"{number}.npy" for number in range(3)]
    for path, part in zip(paths, parts, strict=True):
        write_activations(path, part)
    shards = ActivationShards(tuple(paths), (5, 4, 3), 6)
    whole = shards[:]
    assert (shards[np.asarray(rows, np.int64)] == whole[np.asarray(rows, np.int64)]).all()
    arrays = np.concatenate(parts)
    for lazy in (Joined(parts), Picked(Joined(parts), np.arange(12))):
        assert (lazy[np.asarray(rows, np.int64)] == arrays[np.asarray(rows, np.int64)]).all()


def test_numbers_slices_masks(three):
    shards, _ = three
    whole = np.asarray(shards)
    assert shards.shape == (12, 6)
    assert (shards[7] == whole[7]).all()
    assert shards[7].shape == (6,)
    assert (shards[-1] == whole[-1]).all()
    assert (shards[3:10:2] == whole[3:10:2]).all()
    assert (shards[np.arange(12) % 2 == 0] == whole[::2]).all()
    assert shards[[]].shape == (0, 6)
    for outside in (12, -13, [3, 12]):
        with pytest.raises(IndexError):
            shards[outside]


def test_joined_and_picked(three):
    shards, _ = three
    whole = np.asarray(shards)
    joined = Joined([shards, whole[:2]])
    assert (np.asarray(joined) == np.concatenate([whole, whole[:2]])).all()
    picked = Picked(joined, np.asarray([13, 0, 5]))
    assert (picked[1:] == whole[[0, 5]]).all()
    assert (picked[0] == whole[1]).all()
    assert picked.shape == (3, 6)
    with pytest.raises(IndexError):
        picked[3]


def test_what_is_whole(tmp_path):
    path = tmp_path / "a.npy"
    assert not shard_is_whole(path, 5, 6)
    write_activations(path, values(5))
    assert shard_is_whole(path, 5, 6)
    assert not shard_is_whole(path, 4, 6)
    assert not shard_is_whole(path, 5, 7)
    with pytest.raises(DataError, match="not finite"):
        write_activations(tmp_path / "b.npy", np.asarray([[np.nan, 1.0]]))
    assert not (tmp_path / "b.npy").exists()
