"""Transfer sets in tar shards: what the teacher is asked, what is kept, what is left out."""

from pathlib import Path

import numpy as np
import pytest

from kdedge.data.faces import encode_png
from kdedge.data.shards import write_shard
from kdedge.errors import DataError
from kdedge.files import cache_dir
from kdedge.training.activations import fit_to
from kdedge.training.augment import Augment
from kdedge.training.config import DistillConfig
from kdedge.training.distill import distill
from kdedge.training.engine import Engine
from kdedge.training.make_views import make_views
from kdedge.training.sharded_images import OPEN
from kdedge.training.stream import held_out, image_ids, read_stream
from kdedge.training.teachers import build_teacher
from tests.training.conftest import SIZE, pictures


def quiet(_):
    """Nobody listens."""


def write(folder: Path, shards: int, images: int, seed: int = 0) -> list[np.ndarray]:
    """Shards 00000.tar, ... as img2dataset writes them, with a caption beside every image."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for shard in range(shards):
        shown = pictures(images, SIZE, seed=seed + shard)
        found.append(shown)
        members = []
        for number, image in enumerate(shown):
            members += [
                (f"{shard:05d}{number:04d}.png", encode_png(image)),
                (f"{shard:05d}{number:04d}.txt", b"a word"),
            ]
        write_shard(folder / f"{shard:05d}.tar", members)
    return found


@pytest.fixture
def teacher(teacher_file):
    return build_teacher(f"onnx:{teacher_file}")


def read(teacher, folder, views=2, reserved=frozenset(), keep="auto", say=quiet, engine=None):
    from kdedge.progress import no_bars

    engine = engine or Engine.choose()
    return read_stream(
        str(folder), SIZE, views, teacher, Augment(), 0, set(reserved), keep=keep, engine=engine, bars=no_bars, say=say
    )


def counted(teacher, monkeypatch) -> list[int]:
    asked: list[int] = []
    embed = teacher.embed

    def watched(images):
        asked.append(len(images))
        return embed(images)

    monkeypatch.setattr(teacher, "embed", watched)
    return asked


@pytest.mark.parametrize("keep", ["off", "on"])
def test_activations_are_those_of_the_views_that_are_made_again(teacher, tmp_path, keep):
    import torch

    shown = write(tmp_path, 3, 5)
    found = read(teacher, tmp_path, keep=keep)
    assert found.images.shape == (15, SIZE, SIZE, 3)
    assert (found.images[:] == np.concatenate(shown)).all()
    rows = np.arange(30)
    made = make_views(
        torch.from_numpy(found.images[rows // 2]).permute(0, 3, 1, 2), found.ids[rows // 2], rows % 2, Augment(), 0
    )
    live = teacher.embed(fit_to(made.permute(0, 2, 3, 1).contiguous().numpy(), teacher.preprocess))
    np.testing.assert_allclose(found.activations[:], live, atol=2e-3 * np.abs(live).max())
    assert [block.tolist() for block in found.blocks()] == [list(range(10 * k, 10 * k + 10)) for k in range(3)]
    decoded = list(cache_dir("images").rglob("*.npy"))
    assert len(decoded) == (3 if keep == "off" else 0)


def test_what_is_known_is_not_asked_again_and_a_set_may_grow(teacher, tmp_path, monkeypatch):
    write(tmp_path, 2, 4)
    first = read(teacher, tmp_path).activations[:]
    asked = counted(teacher, monkeypatch)
    assert (read(teacher, tmp_path).activations[:] == first).all()
    assert asked == []
    extra = tmp_path / "more"
    write(extra, 3, 4, seed=50)
    (extra / "00002.tar").rename(tmp_path / "00002.tar")
    for name in ("00000.tar", "00001.tar"):
        (extra / name).unlink()
    extra.rmdir()
    grown = read(teacher, tmp_path)
    assert sum(asked) == 8
    assert (grown.activations[:16] == first).all()
    asked.clear()
    read(teacher, tmp_path, views=3)  # another number of views is another set of activations
    assert sum(asked) == 36


def test_a_broken_shard_is_skipped_and_named(teacher, tmp_path):
    write(tmp_path, 3, 4)
    whole = (tmp_path / "00001.tar").read_bytes()
    (tmp_path / "00001.tar").write_bytes(whole[: len(whole) // 2])
    said = []
    found = read(teacher, tmp_path, say=said.append)
    assert len(found.images) == 8
    assert any("00001.tar" in line and "skipped" in line for line in said)
    (tmp_path / "00002.tar").write_bytes(b"no tar file at all")
    with pytest.raises(DataError, match="2 of 3 shards cannot be read"):
        read(teacher, tmp_path)
    (tmp_path / "00001.tar").write_bytes(whole)  # mended: it is seen now
    assert len(read(teacher, tmp_path).images) == 8


def test_a_damaged_shard_of_activations_is_computed_again(teacher, tmp_path, monkeypatch):
    write(tmp_path, 2, 4)
    first = read(teacher, tmp_path).activations[:]
    spoiled = sorted(cache_dir("activations").rglob("*.npy"))[0]
    data = bytearray(spoiled.read_bytes())
    data[-1] ^= 255
    spoiled.write_bytes(bytes(data))
    asked = counted(teacher, monkeypatch)
    assert (read(teacher, tmp_path).activations[:] == first).all()
    assert sum(asked) == 8


def test_reserved_images_are_left_out_and_ids_depend_on_the_name_alone(teacher, tmp_path):
    from hashlib import sha256

    shown = write(tmp_path / "a", 2, 4)
    all_ids = read(teacher, tmp_path / "a").ids
    reserved = {sha256(shown[0][1].tobytes()).digest(), sha256(shown[1][3].tobytes()).digest()}
    few = read(teacher, tmp_path / "a", reserved=reserved)
    assert few.ids.tolist() == np.delete(all_ids, [1, 7]).tolist()
    assert (few.images[:] == np.delete(np.concatenate(shown), [1, 7], 0)).all()
    (tmp_path / "a").rename(tmp_path / "b")
    assert read(teacher, tmp_path / "b").ids.tolist() == all_ids.tolist()
    assert len(set(all_ids.tolist())) == 8


def test_held_out_images_are_decided_one_by_one():
    ids = image_ids("00000.tar", [str(number) for number in range(20_000)])
    chosen = held_out(ids, 0.05, seed=3)
    assert 0.045 < len(chosen) / len(ids) < 0.055
    part = held_out(ids[5000:9000], 0.05, seed=3)
    assert (part + 5000).tolist() == [n for n in chosen.tolist() if 5000 <= n < 9000]
    assert set(chosen.tolist()) != set(held_out(ids, 0.05, seed=4).tolist())
    assert len(held_out(ids[:2], 1e-9, 0)) == 1


def test_reading_shards_block_by_block_opens_each_once_an_epoch(teacher, tmp_path, monkeypatch):
    from kdedge.training import sharded_images
    from kdedge.training.order import Order

    write(tmp_path, 12, 4)
    found = read(teacher, tmp_path, keep="on")
    opened = []
    whole = sharded_images.read_shard
    monkeypatch.setattr(sharded_images, "read_shard", lambda url: opened.append(url) or whole(url))
    order = Order(96, 4, 0, found.blocks(), mixed=min(4, OPEN))
    seen = []
    for step in range(order.an_epoch):
        rows = order.at(step)
        found.images[rows // 2]
        seen += rows.tolist()
    assert sorted(seen) == list(range(96))
    assert len(opened) == len(set(opened)) == 12


def test_distilling_from_shards(teacher_file, tmp_path, write_pictures):
    write(tmp_path / "shards", 3, 20)
    for label in ("a", "b"):
        write_pictures(f"labelled/{label}", 4, seed=100 + ord(label))
    config = DistillConfig(
        teacher=f"onnx:{teacher_file}",
        student="timm/test_resnet",
        out=str(tmp_path / "run"),
        transfer=str(tmp_path / "shards"),
        train=str(tmp_path / "labelled"),
        train_views=3,
        size=32,
        steps=12,
        batch=8,
        evaluations=2,
        student_weights="random",
        precision="fp32",
    )
    said = []
    done = distill(config, say=said.append)
    assert any("60 images in 3 shards" in line for line in said)
    assert len(done.material.transfer) == 60
    assert done.card.provenance["transfer_images"] == 60
    assert np.isfinite(done.scores["heldout_r2"])
    assert {"cv_accuracy", "teacher_cv_accuracy"} <= set(done.scores)
    blocks = np.concatenate(done.bank.blocks)
    assert sorted(blocks.tolist()) == list(range(len(done.bank)))
    held = set(done.material.held_transfer.tolist())
    assert held
    assert not held & set(done.bank.image[done.rows].tolist())
