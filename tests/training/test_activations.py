"""The view cache: exact, keyed by everything it depends on, resumable, and mended where it is damaged."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from kdedge.errors import DataError
from kdedge.files import cache_dir
from kdedge.training import activations as module
from kdedge.training.activations import Resident, Views, build_bank, fit_to
from kdedge.training.augment import Augment
from kdedge.training.make_views import make_views
from kdedge.training.metrics import cosine_similarity
from kdedge.training.teachers import TeacherInput, build_teacher
from tests.training.conftest import DIM, PREPROCESS, pictures, write_teacher

IMAGES = pictures(9)
VIEWS = [3, 1, 2, 5, 1, 1, 4, 2, 1]


@pytest.fixture
def teacher(teacher_file):
    return build_teacher(f"onnx:{teacher_file}")


@pytest.fixture
def asked(teacher, monkeypatch):
    """How many images the teacher was shown, call by call."""
    calls: list[int] = []
    embed = teacher.embed

    def watched(images):
        calls.append(len(images))
        return embed(images)

    monkeypatch.setattr(teacher, "embed", watched)
    return calls


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(module, "SHARD_ROWS", 4)


def build(teacher, images=IMAGES, views=VIEWS, augment=None, seed=0, progress=None, say=lambda _: None):
    return build_bank(images, views, teacher, augment or Augment(), seed, progress, say=say)


def shards() -> list[Path]:
    return sorted(cache_dir("activations").rglob("0*.npy"))


def test_rows_show_the_views_of_each_image_in_order(teacher):
    told = []
    bank = build(teacher, progress=lambda done, total: told.append((done, total)))
    assert len(bank) == sum(VIEWS) == 20
    assert bank.image.tolist() == np.repeat(np.arange(9), VIEWS).tolist()
    assert bank.activations.shape == (20, DIM)
    assert not bank.reused
    assert told[-1] == (20, 20)
    assert told == sorted(told)
    number, view = bank.image, np.concatenate([np.arange(count) for count in VIEWS])
    pixels = torch.from_numpy(IMAGES).permute(0, 3, 1, 2)[number]
    expected = make_views(pixels, number, view, Augment(), 0).permute(0, 2, 3, 1).numpy()
    assert (bank.views[:] == expected).all()
    assert (bank.views[np.flatnonzero(view == 0)] == IMAGES).all()


def test_a_view_is_the_same_however_it_is_asked_for(teacher):
    views = build(teacher).views
    whole = views[:]
    assert views.shape == (20, *IMAGES.shape[1:])
    for row in (0, 7, 19, -1):
        assert (views[row] == whole[row]).all()
    assert (views[[5, 3, 5]] == whole[[5, 3, 5]]).all()
    assert (views[np.arange(20) % 3 == 0] == whole[::3][: len(whole[::3])]).all()
    with pytest.raises(IndexError):
        views[20]
    kept = views.resident(torch.device("cpu"), most=1e9)
    assert isinstance(kept.images, Resident)
    assert (kept[:] == whole).all()
    assert torch.equal(
        kept.tensor(np.asarray([4, 2]), torch.device("cpu")).permute(0, 2, 3, 1), torch.from_numpy(whole[[4, 2]])
    )
    assert views.resident(torch.device("cpu"), most=10) is views


def test_fresh_views_are_others_in_every_epoch_and_no_image_itself(teacher):
    views = build(teacher).views
    assert isinstance(views, Views)
    seen = {view.tobytes() for epoch in range(3) for view in views.fresh(epoch)[:]}
    assert len(seen) == 60
    assert not seen & {view.tobytes() for view in views[:]}


def test_a_hit_replays_exactly_and_asks_no_teacher(teacher, asked):
    first = build(teacher)
    views, found = first.views[:], first.activations[:]
    asked.clear()
    again = build(teacher)
    assert asked == []
    assert again.reused
    assert (again.views[:] == views).all()
    assert (again.activations[:] == found).all()
    assert (again.image == first.image).all()


def test_cached_activations_are_the_live_ones(teacher):
    build(teacher)
    bank = build(teacher)
    live = teacher.embed(fit_to(bank.views[:], teacher.preprocess))
    cosines = [cosine_similarity(a[None], b[None]) for a, b in zip(bank.activations[:], live, strict=True)]
    assert min(cosines) >= 0.999
    centred = bank.activations[:] - live.mean(0), live - live.mean(0)
    assert cosine_similarity(*centred) >= 0.999


def test_whatever_changes_the_activations_changes_the_key(teacher, tmp_path):
    build(teacher)
    other_pixels = IMAGES.copy()
    other_pixels[4, 3, 3, 0] ^= 1
    other_weights = build_teacher(f"onnx:{write_teacher(tmp_path / 'other.onnx', 1, PREPROCESS)}")
    brighter = build_teacher(teacher.name, given=TeacherInput(mean=(100.0, 127.5, 127.5)))
    swapped = build_teacher(teacher.name, given=TeacherInput(color="bgr"))
    inner = build_teacher(f"{teacher.name}:flat")
    changes = [
        lambda: build(teacher, seed=1),
        lambda: build(teacher, images=other_pixels),
        lambda: build(teacher, images=IMAGES[::-1]),
        lambda: build(teacher, views=[*VIEWS[:-1], 2]),
        lambda: build(teacher, augment=replace(Augment(), rotate=21.0)),
        lambda: build(other_weights),
        lambda: build(brighter),
        lambda: build(swapped),
        lambda: build(inner),
    ]
    for number, change in enumerate(changes, 2):
        assert not change().reused
        assert len(list(cache_dir("activations").iterdir())) == number
        assert change().reused


def test_a_torch_teachers_precision_is_in_the_key():
    teacher = build_teacher("timm/test_resnet", "random", TeacherInput(size=32))
    exact = teacher.fingerprint()
    teacher.precision = "bf16"
    assert teacher.fingerprint() != exact


def test_the_name_of_the_file_is_not_in_the_key(teacher, teacher_file, tmp_path):
    build(teacher)
    copied = Path(shutil.copy(teacher_file, tmp_path / "elsewhere.onnx"))
    assert build(build_teacher(f"onnx:{copied}")).reused


def test_an_interrupted_pass_goes_on_where_it_was(teacher, asked, small_shards, monkeypatch):
    expected = build(teacher).activations[:]
    shutil.rmtree(cache_dir("activations"))
    write, written = module.write_activations, []

    def stop_at_the_third(path, values):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path)
        write(path, values)

    with monkeypatch.context() as patched:
        patched.setattr(module, "write_activations", stop_at_the_third)
        with pytest.raises(KeyboardInterrupt):
            build(teacher)
    assert [path.name for path in shards()] == ["00000.npy", "00001.npy"]
    asked.clear()
    told = []
    bank = build(teacher, progress=lambda done, total: told.append(done))
    assert sum(asked) == 12
    assert told[0] > 8
    assert not bank.reused
    assert (bank.activations[:] == expected).all()
    assert build(teacher).reused


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(bytes(data))


DAMAGE = {
    "a flipped bit": flip,
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:-8]),
    "empty": lambda path: path.write_bytes(b""),
    "gone": Path.unlink,
    "no JSON": lambda path: path.with_suffix(".json").write_text("{", encoding="utf-8"),
    "another shard's": lambda path: shutil.copy(path.with_name("00002.npy"), path),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_shard_is_found_and_computed_again(teacher, asked, small_shards, damage):
    expected = build(teacher).activations[:]
    DAMAGE[damage](shards()[1])
    asked.clear()
    said = []
    bank = build(teacher, say=said.append)
    assert sum(asked) == 4
    assert len(said) == 1
    assert "1 damaged shard(s), computed again (00001.npy)" in said[0]
    assert (bank.activations[:] == expected).all()
    assert build(teacher, say=said.append).reused
    assert len(said) == 1


def test_activations_that_are_not_finite_are_refused(teacher, monkeypatch):
    monkeypatch.setattr(teacher, "embed", lambda images: np.full((len(images), DIM), np.inf, np.float32))
    with pytest.raises(DataError, match="not finite"):
        build(teacher)
    assert shards() == []
