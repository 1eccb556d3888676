import numpy as np
import pytest

from kdedge.data.generate import generate
from kdedge.errors import DataError
from kdedge.preprocess import decode


class Fake:
    """One colour a seed; remembers what it was asked for."""

    def __init__(self):
        self.asked = []

    def __call__(self, seeds):
        self.asked.append(list(seeds))
        return np.stack([np.full((4, 4, 3), [seed, 0, 255], np.uint8) for seed in seeds])


def test_one_file_a_seed_in_batches(tmp_path):
    fake, steps = Fake(), []
    paths = generate(fake, range(3, 10), tmp_path, batch=3, progress=lambda i, n: steps.append((i, n)))
    assert [path.name for path in paths] == [f"{seed:06d}.png" for seed in range(3, 10)]
    assert all((decode(path) == [seed, 0, 255]).all() for seed, path in zip(range(3, 10), paths, strict=True))
    assert [len(part) for part in fake.asked] == [3, 3, 1]
    assert steps == [(0, 7), (3, 7), (6, 7), (7, 7)]


def test_goes_on_where_it_stopped(tmp_path):
    def stops(seeds):
        if 4 in seeds:
            raise KeyboardInterrupt
        return Fake()(seeds)

    with pytest.raises(KeyboardInterrupt):
        generate(stops, range(8), tmp_path, batch=2)
    cut = tmp_path / "000001.png"
    cut.write_bytes(cut.read_bytes()[:-5])
    fake = Fake()
    paths = generate(fake, range(8), tmp_path, batch=8)
    assert fake.asked == [[1, 4, 5, 6, 7]]
    assert len(paths) == len(list(tmp_path.iterdir())) == 8
    assert (decode(cut) == [1, 0, 255]).all()


@pytest.mark.parametrize("seeds", [range(0), range(-1, 3)])
def test_seeds_are_checked(tmp_path, seeds):
    with pytest.raises(DataError, match="seeds"):
        generate(Fake(), seeds, tmp_path)


def test_what_the_generator_returns_is_checked(tmp_path):
    with pytest.raises(DataError, match="float64"):
        generate(lambda seeds: np.zeros((len(seeds), 4, 4, 3)), range(2), tmp_path)
    with pytest.raises(DataError, match="batch of 0"):
        generate(Fake(), range(2), tmp_path, batch=0)
