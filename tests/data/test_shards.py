import tarfile

import pytest

from kdedge.data.generate import claim, generate, generate_shards
from kdedge.data.shards import shard_names, write_shard
from kdedge.errors import DataError
from kdedge.preprocess import decode
from tests.data.test_generate import Fake


def test_shards_hold_their_seeds_and_repeat_bit_for_bit(tmp_path):
    steps = []
    done = generate_shards(Fake(), range(5, 12), tmp_path / "a", each=3, batch=2, progress=lambda *s: steps.append(s))
    assert [path.name for path in done] == ["000005-000007.tar", "000008-000010.tar", "000011-000011.tar"]
    assert shard_names(done[0]) == ["000005.png", "000006.png", "000007.png"]
    with tarfile.open(done[1]) as archive:
        pixels = decode(archive.extractfile("000009.png").read())
    assert (pixels == [9, 0, 255]).all()
    again = generate_shards(Fake(), range(5, 12), tmp_path / "b", each=3, batch=7)
    assert [path.read_bytes() for path in done] == [path.read_bytes() for path in again]
    assert steps[-1] == (7, 7)
    assert [step for step, _ in steps] == sorted(step for step, _ in steps)


def test_shards_go_on_where_they_stopped(tmp_path):
    def stops(seeds):
        if 5 in seeds:
            raise KeyboardInterrupt
        return Fake()(seeds)

    with pytest.raises(KeyboardInterrupt):
        generate_shards(stops, range(9), tmp_path, each=3, batch=3)
    assert [path.name for path in tmp_path.iterdir()] == ["000000-000002.tar"]
    fake = Fake()
    (tmp_path / "000006-000008.tar").write_bytes(b"cut off")
    generate_shards(fake, range(9), tmp_path, each=3, batch=3)
    assert fake.asked == [[3, 4, 5], [6, 7, 8]]


def test_images_are_scaled(tmp_path):
    (path,) = generate(Fake(), range(1), tmp_path, size=8)
    assert decode(path).shape == (8, 8, 3)


def test_a_folder_belongs_to_one_generator(tmp_path):
    claim(tmp_path, {"generator": "a", "size": None})
    claim(tmp_path, {"generator": "a", "size": None})
    with pytest.raises(DataError, match="other settings \\(size\\)"):
        claim(tmp_path, {"generator": "a", "size": 8})
    (tmp_path / "generator.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read"):
        claim(tmp_path, {"generator": "a"})


def test_what_cannot_be_read_or_written(tmp_path):
    with pytest.raises(DataError, match="at least 1"):
        generate_shards(Fake(), range(3), tmp_path, each=0)
    (tmp_path / "a.tar").write_bytes(b"x" * 700)
    with pytest.raises(DataError, match="tar file"):
        shard_names(tmp_path / "a.tar")
    with pytest.raises(RuntimeError):
        write_shard(tmp_path / "b.tar", (_ for _ in [1]).throw(RuntimeError("disk full")))
    assert not (tmp_path / "b.tar").exists()
