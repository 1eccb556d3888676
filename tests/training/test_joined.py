"""Arrays read by their rows behave as NumPy's own."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdedge.training.joined import Joined, Picked, as_rows


def array(rows, start=0):
    return (start + np.arange(rows * 6)).reshape(rows, 2, 3)


def parts_of(sizes):
    starts = np.concatenate([[0], np.cumsum(sizes)])
    return [array(size, 6 * start) for size, start in zip(sizes, starts[:-1].tolist(), strict=True)]


def indices(count):
    """Whatever rows of ``count`` may be asked for by."""
    bound = st.none() | st.integers(-count - 2, count + 2)
    step = st.none() | st.integers(-4, 4).filter(bool)
    ways = [
        st.builds(slice, bound, bound, step),
        st.lists(st.booleans(), min_size=count, max_size=count).map(lambda some: np.array(some, bool)),
    ]
    if count:
        number = st.integers(-count, count - 1)
        several = st.lists(number, min_size=1, max_size=12)
        ways += [number, number.map(np.int64), several]
        ways += [several.map(lambda some, kind=kind: np.array(some, kind)) for kind in (np.int64, np.int16)]
    ways.append(st.just([]))
    return st.one_of(ways)


SIZES = st.lists(st.integers(0, 5), min_size=1, max_size=5)


def same(found, wanted):
    assert isinstance(found, np.ndarray)
    assert found.shape == wanted.shape
    assert found.dtype == wanted.dtype
    assert (found == wanted).all()


def plainly(whole, rows):
    """As NumPy does it."""
    return whole[rows]


@settings(deadline=None)
@given(st.data())
def test_joined_is_indexed_as_one_array(data):
    parts = parts_of(data.draw(SIZES))
    whole, joined = np.concatenate(parts), Joined(parts)
    assert len(joined) == len(whole)
    assert joined.shape == whole.shape
    rows = data.draw(indices(len(whole)))
    same(joined[rows], plainly(whole, rows))


@settings(deadline=None)
@given(st.data())
def test_picked_is_indexed_as_a_copy(data):
    whole = array(data.draw(st.integers(1, 9)))
    chosen = np.array(data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=9)), np.int64)
    picked = Picked(whole, chosen)
    assert len(picked) == len(chosen)
    assert picked.shape == whole[chosen].shape
    rows = data.draw(indices(len(chosen)))
    same(picked[rows], plainly(whole[chosen], rows))


@settings(deadline=None)
@given(st.data())
def test_one_may_stand_on_the_other(data):
    parts = parts_of(data.draw(SIZES.filter(any)))
    whole = np.concatenate(parts)
    chosen = np.array(data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=9)), np.int64)
    stacked = Joined([Picked(Joined(parts), chosen), parts[0]])
    wanted = np.concatenate([whole[chosen], parts[0]])
    rows = data.draw(indices(len(wanted)))
    same(stacked[rows], plainly(wanted, rows))


@settings(deadline=None)
@given(SIZES, st.integers(0, 50), st.booleans())
def test_a_row_out_of_range_is_refused(sizes, beyond, below):
    parts = parts_of(sizes)
    count = sum(sizes)
    row = -count - 1 - beyond if below else count + beyond
    for rows in (row, [row], np.array([0, row]) if count else np.array([row])):
        with pytest.raises(IndexError):
            Joined(parts)[rows]
        with pytest.raises(IndexError):
            Picked(np.concatenate(parts), np.arange(count))[rows]


@pytest.mark.parametrize(
    "rows",
    [np.ones(4, bool), np.zeros(6, bool), np.ones(6, bool), True, [0.5], np.array([1.0, 2.0]), [[0, 1]], ["1"], None],
)
def test_what_does_not_say_which_rows_is_refused(rows):
    for some in (Joined([array(2), array(3)]), Picked(array(5), np.arange(5))):
        with pytest.raises(IndexError):
            some[rows]


def test_rows_may_come_in_one_piece_or_in_parts_of_other_kinds(tmp_path):
    """A part that lies on disk is read, not copied into memory with the others."""
    np.save(tmp_path / "part.npy", array(4, 30))
    joined = Joined([array(5), np.load(tmp_path / "part.npy", mmap_mode="r")])
    same(joined[[8, 0, 5]], np.concatenate([array(5), array(4, 30)])[[8, 0, 5]])
    same(np.asarray(joined), array(9))
    same(np.asarray(Picked(joined, np.array([7, 7, 1])), np.float32), array(9)[[7, 7, 1]].astype(np.float32))


def test_only_the_parts_that_are_asked_for_are_read():
    class Locked:
        shape = (3, 2, 3)

        def __len__(self):
            return 3

        def __getitem__(self, rows):
            raise AssertionError("it was read")

    same(Joined([array(4), Locked()])[1:4], array(4)[1:4])


def test_as_rows_says_whether_it_was_a_single_number():
    for rows, wanted, single in (
        (-1, [4], True),
        (np.int32(2), [2], True),
        ([3], [3], False),
        (slice(1, 3), [1, 2], False),
    ):
        found, alone = as_rows(rows, 5)
        assert found.tolist() == wanted
        assert found.dtype == np.int64
        assert alone is single
