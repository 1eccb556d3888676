import hashlib
import subprocess
import sys

import numpy as np
import pytest

from kdedge.data.faces import encode_png
from kdedge.data.shard_decode import decode_shard, image_id
from kdedge.data.shards import write_shard
from kdedge.errors import DataError
from kdedge.preprocess import Preprocess, decode

PREPROCESS = Preprocess(6)


def pixels(seed):
    return np.random.default_rng(seed).integers(0, 256, (9 + seed % 5, 12, 3), dtype=np.uint8)


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("count", [1, 64, 600])
def test_order_is_kept_and_bad_ones_are_skipped(tmp_path, workers, count):
    members = [(f"{i:05}.png", encode_png(pixels(i))) for i in range(count)]
    members[count // 2 : count // 2] = [("bad1.jpg", b"no image"), ("note.txt", b""), ("bad2.png", members[0][1][:40])]
    write_shard(tmp_path / "0.tar", members)
    images, keys, bad, positions = decode_shard(str(tmp_path / "0.tar"), PREPROCESS, workers=workers)
    assert keys == [f"{i:05}" for i in range(count)]
    assert [key for key, _ in bad] == ["bad1", "bad2"]
    assert positions == [i if i < count // 2 else i + 2 for i in range(count)]
    assert "truncated" in bad[1][1]
    assert images.dtype == np.uint8
    assert (images == np.stack([PREPROCESS.fit(decode(encode_png(pixels(i)))) for i in range(count)])).all()


def test_a_shard_without_images(tmp_path):
    write_shard(tmp_path / "0.tar", [("1.txt", b"text")])
    images, keys, bad, positions = decode_shard(str(tmp_path / "0.tar"), PREPROCESS)
    assert images.shape == (0, 6, 6, 3)
    assert not keys
    assert not bad
    assert not positions


def test_a_broken_shard_gives_nothing(tmp_path):
    write_shard(tmp_path / "0.tar", [(f"{i}.png", encode_png(pixels(i))) for i in range(5)])
    (tmp_path / "0.tar").write_bytes((tmp_path / "0.tar").read_bytes()[:3000])
    with pytest.raises(DataError, match=r"0\.tar: .* images were read before"):
        decode_shard(str(tmp_path / "0.tar"), PREPROCESS)


def test_identities_never_change():
    digest = hashlib.sha256(b"00012.tar\0" + b"000120034").digest()
    assert image_id("00012.tar", "000120034") == int.from_bytes(digest[:8], "big") // 2 == 0x46FD122A3E30FE98
    many = {image_id(f"{shard}.tar", str(key)) for shard in range(100) for key in range(100)}
    assert len(many) == 10_000
    assert 0 <= min(many) <= max(many) < 2**63
    assert max(many) > 2**62
    assert image_id("1", "2\udcff") != image_id("1", "2")


def test_reading_is_torch_free(tmp_path):
    write_shard(tmp_path / "0.tar", [("1.png", encode_png(pixels(1)))])
    code = (
        "import sys; from kdedge.data.shard_decode import decode_shard; from kdedge.preprocess import Preprocess; "
        "from kdedge.data.shard_list import expand_shards; "
        "assert len(decode_shard(*expand_shards(sys.argv[1]), Preprocess(6)).keys) == 1; "
        "assert not {'torch', 'webdataset'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "{0..0}.tar")], check=True)
