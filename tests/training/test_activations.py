"""The view cache: exact, keyed by everything it depends on, resumable, and mended where it is damaged."""

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from kdedge.errors import DataError
from kdedge.files import cache_dir
from kdedge.training import activations as module
from kdedge.training.activation_shards import write_activations
from kdedge.training.activations import Resident, Views, build_bank, fit_to
from kdedge.training.augment import Augment
from kdedge.training.engine import Engine
from kdedge.training.make_views import make_views
from kdedge.training.metrics import cosine_similarity
from kdedge.training.teachers import build_teacher
from tests.training.conftest import DIM, PREPROCESS, pictures

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


class Far:
    """A teacher whose activations have a huge mean and a tiny spread; one of three never varies."""

    name, dim, preprocess = "far", 24, PREPROCESS

    def embed(self, images):
        weight = np.random.default_rng(0).normal(size=(images[0].size, self.dim)) / np.sqrt(images[0].size)
        seen = (images.reshape(len(images), -1) / 255 - 0.5) @ weight
        return (4e4 + np.where(np.arange(self.dim) % 3 > 0, seen, 0)).astype(np.float32)

    def fingerprint(self):
        return "far"


def test_a_huge_mean_hides_no_error():
    """Standardised, as students regress them, cached activations still point where live ones do."""
    bank = build(Far())
    live = Far().embed(bank.views[:]).astype(np.float64)
    varies = np.arange(24) % 3 > 0
    assert (bank.activations[:][:, ~varies] == 4e4).all()
    one, two = ((some[:, varies] - live.mean(0)[varies]) / live.std(0)[varies] for some in (live, bank.activations[:]))
    cosines = (one * two).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(two, axis=1)
    assert cosines.min() >= 0.999


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


@pytest.mark.parametrize("whole", range(5))
def test_killed_after_any_shard_only_the_others_are_computed(teacher, asked, small_shards, monkeypatch, whole):
    expected = build(teacher).activations[:]
    shutil.rmtree(cache_dir("activations"))
    look = teacher.embed

    def dies(images):
        if not left:
            raise SystemExit
        left.pop()
        return look(images)

    left = list(range(whole))
    with monkeypatch.context() as patched:
        patched.setattr(teacher, "embed", dies)
        with pytest.raises(SystemExit):
            build(teacher)
    asked.clear()
    told, said = [], []
    bank = build(teacher, progress=lambda done, total: told.append((done, total)), say=said.append)
    assert asked == [4] * (5 - whole)
    assert [done for done, _ in told] == [*range(4 * whole + 4, 21, 4), 20]
    assert {total for _, total in told} == {20}
    assert said == []
    assert (bank.activations[:] == expected).all()


def test_a_shard_whose_json_was_not_yet_written_is_no_damage(teacher, asked, small_shards):
    expected = build(teacher).activations[:]
    shards()[1].with_suffix(".json").unlink()
    asked.clear()
    said = []
    assert (build(teacher, say=said.append).activations[:] == expected).all()
    assert (asked, said) == ([4], [])


@dataclass(frozen=True)
class OneOf(Engine):
    """A thread in the place of a process."""

    number: int = 0
    barrier: threading.Barrier | None = None
    rank = property(lambda self: self.number)
    world = property(lambda self: self.barrier.parties)

    def wait(self) -> None:
        self.barrier.wait(30)


def test_processes_share_the_work(teacher, asked, small_shards):
    expected = build(teacher).activations[:]
    shutil.rmtree(cache_dir("activations"))
    asked.clear()
    barrier, told = threading.Barrier(2), []

    def process(number):
        engine = OneOf(torch.device("cpu"), number=number, barrier=barrier)
        progress = (lambda done, total: told.append((done, total))) if number == 0 else None
        return build_bank(IMAGES, VIEWS, teacher, Augment(), 0, progress, engine=engine)

    with ThreadPoolExecutor(2) as pool:
        banks = list(pool.map(process, range(2)))
    assert asked == [4] * 5
    for bank in banks:
        assert (bank.activations[:] == expected).all()
    assert told == sorted(told)
    assert told[-1] == (20, 20)


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
    "an offset": lambda path: path.with_suffix(".json").write_text(
        path.with_suffix(".json").read_text().replace('"offset": [\n    ', '"offset": [\n    9', 1).replace("9-", "-9")
    ),
    "fewer rows": lambda path: write_activations(path, np.zeros((3, DIM))),
    "another teacher's width": lambda path: write_activations(path, np.zeros((4, DIM + 1))),
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
