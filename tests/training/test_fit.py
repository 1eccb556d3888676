"""Training on labels, from folders to a run that can teach: images of three colours, a tiny network."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from kdedge.errors import DataError, ModelError, RunError
from kdedge.preprocess import Preprocess
from kdedge.training.augment import Augment
from kdedge.training.checkpoint import load_weights
from kdedge.training.config import DistillConfig
from kdedge.training.datasets import Labelled
from kdedge.training.distill import distill
from kdedge.training.engine import Engine
from kdedge.training.fit import fit
from kdedge.training.fit_config import FitConfig, read_fit_config, write_fit_config
from kdedge.training.fit_steps import some
from kdedge.training.loop import LoopConfig
from kdedge.training.run import load_run
from kdedge.training.source import ViewSource
from kdedge.training.students import Student, build_student
from kdedge.training.supervised import fit_classifier, start_classifier
from kdedge.training.targets import Standardize
from kdedge.training.teacher_run import RunTeacher
from kdedge.training.variant import Variant
from tests.training.conftest import Stop, eager_checkpoints, stop_at

NETWORK = "timm/resnet10t"
COLORS = {"blue": (220, 40, 40), "green": (40, 220, 40), "red": (40, 40, 220)}
QUIET = {"say": lambda _: None}


def paint(root, count, seed):
    rng = np.random.default_rng(seed)
    for name, color in COLORS.items():
        folder = root / name
        folder.mkdir(parents=True)
        for number in range(count):
            noise = rng.integers(-60, 60, (32, 32, 3))
            cv2.imwrite(str(folder / f"{number}.png"), np.clip(np.array(color) + noise, 0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("colors")
    paint(root / "train", 8, 0)
    paint(root / "test", 4, 1)
    return root


def settings(folders, out, **more):
    given = {"method": "teacher", "network": NETWORK, "out": str(out), "train": str(folders / "train"), "size": 32}
    return FitConfig(**{**given, "steps": 12, "batch": 8, "evaluations": 2, "precision": "fp32", **more})


@pytest.fixture(scope="module")
def taught(folders, tmp_path_factory):
    """A teacher with a connector of 16 concepts."""
    out = tmp_path_factory.mktemp("runs") / "teacher"
    return fit(settings(folders, out, connector=16, test=str(folders / "test")), **QUIET)


def test_a_teacher_learns_and_leaves_a_run(taught):
    assert taught.scores["test_accuracy"] > 0.9
    assert {"train_f1_macro", "test_precision_macro", "test_recall_micro"} <= set(taught.scores)
    assert (taught.run.path / "curves.png").stat().st_size > 5000
    assert taught.card.provenance["variant"] == {"small_images": False, "connector": 16}


def test_a_run_teaches(taught):
    teacher = RunTeacher(str(taught.run.path))
    images = np.random.default_rng(0).integers(0, 255, (5, 32, 32, 3), dtype=np.uint8)
    concepts = teacher.embed(images)
    assert teacher.concepts
    assert concepts.shape == (5, 16)
    assert teacher.classes == ("blue", "green", "red")
    student = load_run(taught.run.path).student
    with torch.inference_mode():
        whole = student(torch.from_numpy(teacher.preprocess.normalize(images))).numpy()
    np.testing.assert_allclose(teacher.logits(concepts), whole, atol=1e-5)
    assert teacher.fingerprint() == RunTeacher(str(taught.run.path)).fingerprint()


def test_label_distillation_from_a_run(folders, taught, tmp_path):
    given = settings(
        folders,
        tmp_path / "kd",
        method="label-kd",
        teacher=f"run:{taught.run.path}",
        views=2,
        test=str(folders / "test"),
    )
    assert fit(given, **QUIET).scores["test_accuracy"] > 0.6


def test_distillation_from_concepts(folders, taught, tmp_path, monkeypatch):
    config = DistillConfig(
        teacher=f"run:{taught.run.path}",
        student=NETWORK,
        out=str(tmp_path / "bce"),
        train=str(folders / "train"),
        test=str(folders / "test"),
        loss="bce",
        student_weights="random",
        size=32,
        steps=10,
        batch=8,
        train_views=4,
        heldout=0.2,
        precision="fp32",
    )
    seen = []
    real = Standardize.identity
    monkeypatch.setattr(Standardize, "identity", lambda dim: seen.append(dim) or real(dim))
    done = distill(config, **QUIET)
    assert seen == [16]  # the concepts are imitated as they are
    assert done.teacher.dim == 16
    assert done.scores["teacher_test_accuracy"] > 0.9


def test_an_interrupted_training_ends_with_the_same_weights(folders, tmp_path):
    whole = fit(settings(folders, tmp_path / "whole"), **QUIET)
    stopped = settings(folders, tmp_path / "stopped")

    with eager_checkpoints("kdedge.training.fit_steps.LoopConfig"), pytest.raises(Stop):
        fit(stopped, bars=stop_at(7, 12), **QUIET)
    with pytest.raises(RunError, match="not finished"):
        load_run(stopped.out)
    resumed = fit(stopped, resume=True, **QUIET)
    wanted = load_weights(whole.run.best)
    for key, value in load_weights(resumed.run.best).items():
        assert torch.equal(value, wanted[key]), key


def test_a_frozen_trunk_stays_bit_for_bit(folders):
    torch.manual_seed(0)
    student = build_student(NETWORK, 3, size=32)
    before = {key: value.clone() for key, value in student.trunk.state_dict().items()}
    head = student.head.weight.detach().clone()
    images = np.random.default_rng(0).integers(0, 255, (12, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(12) % 3
    config, engine = LoopConfig(steps=5, batch=4, evaluations=1), Engine(torch.device("cpu"))
    state = start_classifier(student, config, engine, freeze=True)
    done = fit_classifier(state, ViewSource(images), labels, Preprocess(32), config, engine)
    for key, value in done.student.trunk.state_dict().items():
        assert torch.equal(value, before[key]), key
    assert not torch.equal(done.student.head.weight, head)


class Constant(nn.Module):
    """Says class 0, with a logit that training moves."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return self.weight.expand(len(x), 1)


def test_the_best_validation_accuracy_is_kept():
    config, engine = LoopConfig(steps=8, batch=4, evaluations=4, ema=0.0, lr=0.5), Engine(torch.device("cpu"))
    student = Student(Constant(), 1, 2)
    images, labels = np.zeros((8, 4, 4, 3), np.uint8), np.zeros(8, int)
    state = start_classifier(student, config, engine)
    kept = []
    done = fit_classifier(
        state,
        ViewSource(images),
        labels,
        Preprocess(4),
        config,
        engine,
        validation=(
            images,
            np.ones(8, np.int64),
        ),  # the training teaches the opposite: the first evaluation is the best
        keep=lambda network, record: kept.append(record["val_loss"]),
    )
    assert kept == sorted(kept, reverse=True)
    assert done.best["val_loss"] == min(record["val_loss"] for record in done.trained.history)
    assert done.best["val_loss"] < done.trained.history[-1]["val_loss"]


def test_views_repeat_and_change_with_the_epoch():
    images = np.random.default_rng(0).integers(0, 255, (3, 16, 16, 3), dtype=np.uint8)
    source = ViewSource(images, Augment(), seed=4)
    items = np.array([0, 2])
    np.testing.assert_array_equal(source.batch(items, 1), source.batch(items, 1))
    assert not np.array_equal(source.batch(items, 1), source.batch(items, 2))
    np.testing.assert_array_equal(source.batch(items, 1)[1:], source.batch(items[1:], 1))
    np.testing.assert_array_equal(ViewSource(images).batch(items, 5), images[items])


def test_a_stem_for_small_images():
    student = Variant(small_images=True).apply(build_student("torchvision/resnet18", 2, size=32))
    shapes = []
    student.trunk.layer1.register_forward_hook(lambda _, given, __: shapes.append(tuple(given[0].shape)))
    student.eval()(torch.zeros(1, 3, 32, 32))
    assert shapes == [(1, 64, 32, 32)]
    with pytest.raises(ModelError, match="ResNets"):
        Variant(small_images=True).apply(build_student("timm/mobilenetv4_conv_small", 2, size=32))


def test_settings_survive_toml(folders, tmp_path):
    given = settings(folders, tmp_path / "run", connector=8, augment=Augment.paper(), minutes=None)
    write_fit_config(tmp_path / "config.toml", given)
    assert read_fit_config(tmp_path / "config.toml") == given


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"method": "magic"}, "unknown method"),
        ({"epochs": 3.0}, "not --epochs and --steps"),
        ({"lr": 0.0}, "--lr"),
        ({"method": "label-kd"}, "--teacher run:DIR"),
        ({"method": "transfer"}, "random weights"),
        ({"data": "x"}, "one of --data"),
        ({"smoothing": 2.0}, "--smoothing"),
        ({"size": 3}, "--size"),
    ],
)
def test_settings_that_make_no_sense(folders, tmp_path, more, words):
    with pytest.raises(RunError, match=words):
        settings(folders, tmp_path, **more)


def test_the_same_image_in_training_and_test_is_refused(folders, tmp_path):
    paint(tmp_path / "test", 2, 5)
    leaked = (folders / "train" / "red" / "3.png").read_bytes()
    (tmp_path / "test" / "red" / "copy.png").write_bytes(leaked)
    out = tmp_path / "run"
    with pytest.raises(DataError, match=r"3\.png and .*copy\.png"):
        fit(settings(folders, out, test=str(tmp_path / "test")), **QUIET)
    assert not out.exists()


def test_a_teacher_of_other_classes_or_without_any(folders, taught, tmp_path):
    base = settings(folders, tmp_path / "kd", method="label-kd", teacher="timm/resnet10t")
    with pytest.raises(ModelError, match="run:DIR"):
        fit(base, **QUIET)
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for n in range(2):
            cv2.imwrite(str(tmp_path / "pets" / name / f"{n}.png"), rng.integers(0, 255, (32, 32, 3), dtype=np.uint8))
    with pytest.raises(DataError, match="knows 3 classes"):
        fit(replace(base, train=str(tmp_path / "pets"), teacher=f"run:{taught.run.path}"), **QUIET)


def test_a_damaged_record_of_the_best_is_not_passed_over(folders, taught, tmp_path):
    from kdedge.training.fit_steps import best_so_far
    from kdedge.training.run import Run

    run = Run(tmp_path)
    assert best_so_far(run.best) == {}
    run.best.parent.mkdir()
    run.best.with_suffix(".json").write_text(json.dumps({"sha256": "x"}))
    with pytest.raises(RunError, match="damaged"):
        best_so_far(run.best)


def test_a_manifest_instead_of_folders(folders, tmp_path):
    rows = ["path,label,class_name,split"]
    for split, folder in (("train", "train"), ("val", "train"), ("test", "test")):
        for label, name in enumerate(COLORS):
            files = sorted((folders / folder / name).iterdir())
            for path in {"train": files[2:], "val": files[:2], "test": files}[split]:
                rows.append(f"{path},{label},{name},{split}")
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("\n".join(rows))
    given = {"train": None, "manifest": str(manifest), "steps": 2, "evaluations": 1}
    done = fit(settings(folders, tmp_path / "run", **given), **QUIET)
    kept = json.loads(done.run.images.read_text())
    assert (len(kept["trained"]), len(kept["heldout"])) == (18, 6)
    assert {"val_accuracy", "test_accuracy"} <= set(done.scores)
    student = DistillConfig(
        f"run:{done.run.path}",
        NETWORK,
        str(tmp_path / "d"),
        manifest=str(manifest),
        size=32,
        steps=2,
        train_views=2,
        student_weights="random",
    )
    scores = distill(student, **QUIET).scores
    assert {"val_accuracy", "test_accuracy"} <= set(scores)
    leaked = tmp_path / "leaked.csv"
    leaked.write_text("\n".join([*rows, f"{folders / 'test' / 'red' / '..' / 'red' / '0.png'},2,red,train"]))
    with pytest.raises(DataError, match="stand in two parts"):
        fit(settings(folders, tmp_path / "other", **{**given, "manifest": str(leaked)}), **QUIET)
    with pytest.raises(RunError, match="one of --data DIR, --train DIR and --manifest"):
        settings(folders, tmp_path / "other", manifest=str(manifest))


def test_training_scores_of_many_images_come_from_some_of_them():
    part = Labelled(
        [Path(str(n)) for n in range(50)], np.arange(50, dtype=np.uint8).reshape(-1, 1, 1, 1), np.arange(50)
    )
    few = some(part, 20)
    assert len(few.paths) == 20
    assert [int(str(path)) for path in few.paths] == few.labels.tolist() == few.images.ravel().tolist()
    assert len(set(few.labels.tolist())) == 20
    assert some(part, 50) is part
