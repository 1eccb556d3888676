"""Round trips, damage, and a resumed training that ends bit-equal to one that was never interrupted."""

import errno
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from kdedge.errors import RunError
from kdedge.training.checkpoint import load_state, load_weights, read_about, save_state, save_weights
from kdedge.training.config import DistillConfig
from kdedge.training.distill import distill
from kdedge.training.engine import Engine
from kdedge.training.loop import LoopConfig, start, train
from kdedge.training.run import Run
from tests.training.conftest import Stop, Tiny, tiny_student

ENGINE = Engine(torch.device("cpu"))
IMAGES = torch.randn(40, 3, 16, 16, generator=torch.Generator().manual_seed(0))
WANTED = IMAGES.mean((2, 3))


def test_weights_round_trip(tmp_path):
    torch.manual_seed(0)
    student = tiny_student()
    path = tmp_path / "deep" / "best.safetensors"
    save_weights(path, student, {"accuracy": 0.5})
    found = load_weights(path)
    assert set(found) == set(student.state_dict())
    assert all(torch.equal(found[key], value) for key, value in student.state_dict().items())
    assert json.loads(path.with_suffix(".json").read_text())["accuracy"] == 0.5
    assert sorted(file.name for file in path.parent.iterdir()) == ["best.json", "best.safetensors"]


@pytest.mark.parametrize("damage", ["bytes", "cut", "empty", "json", "no sha", "no json", "gone"])
def test_a_damaged_checkpoint(tmp_path, damage):
    path = tmp_path / "best.safetensors"
    save_weights(path, tiny_student(), {})
    data, about = path.read_bytes(), path.with_suffix(".json")
    if damage == "bytes":
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "json":
        about.write_text("{")
    elif damage == "no sha":
        about.write_text("{}")
    elif damage == "no json":
        about.unlink()
    else:
        path.unlink()
    with pytest.raises(RunError, match=r"damaged|no such checkpoint") as caught:
        load_weights(path)
    assert "\n" not in str(caught.value)


def network():
    torch.manual_seed(1)
    return nn.Sequential(Tiny(), nn.Dropout(0.3), nn.Linear(8, 3))


def loss_of(model, indices, epoch):
    return nn.functional.mse_loss(model(IMAGES[indices]), WANTED[indices])


CONFIG = LoopConfig(steps=14, batch=8, lr=0.01, evaluations=0, save_every=0.0)


def test_a_state_goes_on_exactly_where_it_stopped(tmp_path):
    """Epoch order, AdamW moments, averaged weights, BatchNorm and dropout."""
    whole = start(network(), CONFIG)
    torch.manual_seed(2)
    train(whole, loss_of, len(IMAGES), CONFIG, ENGINE)

    path, count = tmp_path / "last.safetensors", itertools.count()

    def interrupted(model, indices, epoch):
        if next(count) == 6:
            raise KeyboardInterrupt
        return loss_of(model, indices, epoch)

    first = start(network(), CONFIG)
    torch.manual_seed(2)
    with pytest.raises(KeyboardInterrupt):
        train(first, interrupted, len(IMAGES), CONFIG, ENGINE, save=lambda state: save_state(path, state, {"a": 1}))
    torch.manual_seed(99)
    second = start(network().apply(lambda m: m.reset_parameters() if isinstance(m, nn.Linear) else None), CONFIG)
    load_state(path, second)
    assert (second.step, second.elapsed > 0) == (6, True)
    train(second, loss_of, len(IMAGES), CONFIG, ENGINE)
    for key, value in whole.model.state_dict().items():
        assert torch.equal(second.model.state_dict()[key], value), key
    for key, value in whole.averaged.state_dict().items():
        assert torch.equal(second.averaged.state_dict()[key], value), key


def test_a_state_of_other_networks_is_refused(tmp_path):
    path = tmp_path / "last.safetensors"
    save_state(path, start(network(), CONFIG), {})
    with pytest.raises(RunError, match="belongs to other networks") as caught:
        load_state(path, start(nn.Linear(3, 3), CONFIG))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("first", [True, False], ids=["first", "later"])
def test_a_process_that_died_between_the_two_renames_left_the_new_checkpoint(tmp_path, monkeypatch, first):
    path = tmp_path / "last.safetensors"
    if not first:
        save_weights(path, tiny_student(), {"number": 1})
    student = tiny_student()

    def die(self, target):
        if target.suffix == ".json" and target.stem == "last":
            raise Stop
        return replace(self, target)

    replace = Path.replace
    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", die)
        with pytest.raises(Stop):
            save_weights(path, student, {"number": 2})
    found = load_weights(path)
    assert all(torch.equal(found[key], value) for key, value in student.state_dict().items())
    assert read_about(path)["number"] == 2
    assert sorted(file.name for file in tmp_path.iterdir()) == ["last.json", "last.safetensors"]


def test_a_process_that_died_before_both_left_the_old_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "last.safetensors"
    student = tiny_student()
    save_weights(path, student, {"number": 1})

    def die(self, target):
        if target == path:
            raise Stop
        return replace(self, target)

    replace = Path.replace
    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", die)
        with pytest.raises(Stop):
            save_weights(path, tiny_student(), {"number": 2})
    found = load_weights(path)
    assert all(torch.equal(found[key], value) for key, value in student.state_dict().items())
    assert read_about(path)["number"] == 1


@pytest.mark.parametrize("damage", ["{", "{}"])
def test_a_damaged_json_that_was_coming_is_not_looked_at(tmp_path, damage):
    path = tmp_path / "last.safetensors"
    save_weights(path, tiny_student(), {"number": 1})
    path.with_suffix(".next.json").write_text(damage)
    assert read_about(path)["number"] == 1
    assert load_weights(path)


def test_a_full_disk_is_an_os_error_and_the_old_checkpoint_is_whole(tmp_path, monkeypatch):
    """safetensors says it in words of its own: this is what it raised on a file system of 1 MB."""
    path = tmp_path / "last.safetensors"
    student = tiny_student()
    save_weights(path, student, {"number": 1})

    def full(tensors, file):
        Path(file).write_bytes(b"half")
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("kdedge.training.checkpoint.save_file", full)
    with pytest.raises(OSError, match="No space left") as caught:
        save_weights(path, tiny_student(), {"number": 2})
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(path))
    found = load_weights(path)
    assert all(torch.equal(found[key], value) for key, value in student.state_dict().items())
    assert sorted(file.name for file in tmp_path.iterdir()) == ["last.json", "last.safetensors"]


@pytest.fixture
def config(teacher_file, write_pictures, tmp_path):
    write_pictures("transfer", 40)
    return DistillConfig(
        teacher=f"onnx:{teacher_file}",
        student="timm/test_resnet",
        out=str(tmp_path / "whole"),
        transfer=str(tmp_path / "transfer"),
        size=32,
        steps=10,
        batch=8,
        evaluations=2,
        student_weights="random",
        precision="fp32",
    )


def quiet(_):
    """Nobody listens."""


def test_resuming_a_finished_distillation_changes_no_weights(config):
    done = distill(config, say=quiet)
    before = {name: load_file(getattr(done.run, name)) for name in ("last", "best")}
    said = []
    again = distill(config, resume=True, say=said.append)
    assert "resumed at step 10" in said
    assert again.card.provenance["steps"] == 10
    after = load_file(again.run.last)
    assert all(torch.equal(after[key], value) for key, value in before["last"].items() if key != "random")
    np.testing.assert_allclose(again.scores["heldout_r2"], done.scores["heldout_r2"], atol=1e-5)
    for key, value in before["best"].items():
        torch.testing.assert_close(load_file(again.run.best)[key], value, rtol=1e-4, atol=1e-5)


def test_a_record_that_a_full_disk_cut_off_is_no_record(tmp_path):
    run = Run.create(tmp_path / "run")
    for step in (10, 20):
        run.log({"step": step, "loss": 0.5})
    with run.metrics.open("a") as file:
        file.write('{"step": 30, "lo')
    assert [record["step"] for record in run.history()] == [10, 20]
    run.forget_after(10)
    assert run.metrics.read_text() == '{"step": 10, "loss": 0.5}\n'
