"""Shards of activations: float16 that is right at any offset and scale, read like an array."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdedge.errors import DataError
from kdedge.training import activation_shards as module
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


def normal(rows: int, dim: int = 8) -> np.ndarray:
    return np.random.default_rng(rows).normal(size=(rows, dim)).astype(np.float32)


CASES = {
    "ordinary": normal(300),
    "huge mean, tiny spread": (1e6 + 0.5 * normal(300).astype(np.float64)).astype(np.float32),
    "huge": 1e30 * normal(300),
    "tiny": 1e-30 * normal(300),
    "each dimension in its own unit": normal(300) * (10.0 ** np.arange(-20, 20, 5)).astype(np.float32),
    "never negative": np.maximum(normal(300), 0),
    "constant dimensions": np.where(np.arange(8) % 3 > 0, normal(300), np.float32(0.1)).astype(np.float32),
}


@pytest.mark.parametrize("case", CASES)
def test_standardised_activations_keep_their_direction(case, tmp_path):
    """What a student regresses: each dimension less its mean, in units of its spread, where a huge mean hides nothing."""
    write_activations(tmp_path / "a.npy", CASES[case])
    found, exact = ActivationShards((tmp_path / "a.npy",), (300,), 8)[:].astype(np.float64), CASES[case].astype(float)
    reach = exact.max(0) - exact.min(0)
    # a float16 below 1 is off by 2**-12 at most, here of half a dimension's range; float32 rounds the sum
    assert (np.abs(found - exact) <= reach * 2.0**-13 * 1.01 + np.abs(exact).max(0) * 2.0**-22).all()
    assert (found[:, reach == 0] == exact[:, reach == 0]).all()
    mean, spread = exact.mean(0)[reach > 0], exact.std(0)[reach > 0]
    one, two = ((some[:, reach > 0] - mean) / spread for some in (exact, found))
    cosines = (one * two).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(two, axis=1)
    assert cosines.min() >= 0.9999


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_leaves_nothing(bad, tmp_path):
    spoiled = values(5)
    spoiled[3, 2] = bad
    with pytest.raises(DataError, match="not finite"):
        write_activations(tmp_path / "a.npy", spoiled)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".npy", ".json"])
def test_any_changed_byte_is_noticed(tmp_path, suffix):
    """But for a byte of the JSON that only spaces things out: then what is read does not change."""
    path, file = tmp_path / "a.npy", tmp_path / f"a{suffix}"
    write_activations(path, values(5))
    expected, whole = ActivationShards((path,), (5,), 6)[:], file.read_bytes()
    for place in range(len(whole)):
        for bit in (1, 128):
            spoiled = bytearray(whole)
            spoiled[place] ^= bit
            file.write_bytes(bytes(spoiled))
            harmless = shard_is_whole(path, 5, 6)
            assert not harmless or (ActivationShards((path,), (5,), 6)[:] == expected).all(), (place, bit)
    for size in (0, 1, len(whole) // 2, len(whole) - 2):
        file.write_bytes(whole[:size])
        assert not shard_is_whole(path, 5, 6)
    file.write_bytes(whole)
    assert shard_is_whole(path, 5, 6)
    file.unlink()
    assert not shard_is_whole(path, 5, 6)


@pytest.mark.parametrize(
    "text",
    [
        "null",
        "5",
        '["rows", "offset", "scale", "sha256"]',
        '{"rows": 5}',
        '{"rows": 5, "offset": 1, "scale": 1, "sha256": ""}',
        '{"rows": 5, "offset": "abcdef", "scale": "abcdef", "sha256": ""}',
    ],
)
def test_json_that_says_something_else_is_noticed(tmp_path, text):
    write_activations(tmp_path / "a.npy", values(5))
    (tmp_path / "a.json").write_text(text)
    assert not shard_is_whole(tmp_path / "a.npy", 5, 6)


@pytest.mark.parametrize("old", [False, True], ids=["new", "written again"])
@pytest.mark.parametrize("place", ["write_json", "sha256_of"])
def test_a_write_that_is_cut_short_leaves_no_whole_shard(tmp_path, monkeypatch, old, place):
    if old:
        write_activations(tmp_path / "a.npy", values(5, 1))

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(module, place, killed)
        with pytest.raises(KeyboardInterrupt):
            write_activations(tmp_path / "a.npy", values(5))
    assert not shard_is_whole(tmp_path / "a.npy", 5, 6)
    assert {file.name for file in tmp_path.iterdir()} <= {"a.npy", "a.json"}
    write_activations(tmp_path / "a.npy", values(5))
    assert shard_is_whole(tmp_path / "a.npy", 5, 6)


@pytest.mark.parametrize("most", [1, 2])
def test_only_so_many_shards_are_open(three, monkeypatch, most):
    shards, _ = three
    whole = shards[:]
    monkeypatch.setattr(module, "OPEN", most)
    again = ActivationShards(shards.paths, shards.rows, shards.dim)
    rows = np.random.default_rng(0).integers(-12, 12, (20, 7))
    for some in rows:
        assert (again[some] == whole[some]).all()
        assert len(again._open) <= most


def test_what_was_read_may_be_changed(three):
    shards, _ = three
    before = shards[:]
    shards[:][:] = 0
    assert (shards[:] == before).all()
    assert np.asarray(shards, np.float64).dtype == np.float64


@pytest.mark.parametrize("suffix", [".npy", ".json"])
def test_a_shard_that_vanished_is_an_error_that_says_what_to_do(three, suffix):
    shards, _ = three
    shards.paths[1].with_suffix(suffix).unlink()
    shards[:5]
    with pytest.raises(DataError, match=r"1\.npy: a shard of cached activations is gone; run the command again"):
        shards[:]
