"""One-shot learning and MAML from folders to a run: images of four colours, a tiny network."""

import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from kdedge.cli.app import app
from kdedge.errors import DataError
from kdedge.training.checkpoint import load_weights
from kdedge.training.fit_config import FitConfig
from kdedge.training.fit_meta import fit_meta
from kdedge.training.prototypes import prototype_head
from kdedge.training.run import load_run
from tests.training.conftest import Stop, eager_checkpoints, stop_at
from tests.training.test_fit import COLORS, paint

QUIET = {"say": lambda _: None}


@pytest.fixture(autouse=True)
def _few_tasks(monkeypatch):
    monkeypatch.setattr("kdedge.training.baselines.maml_train.JUDGED_TASKS", 10)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("colors")
    for seed, (part, count) in enumerate((("train", 8), ("val", 6), ("test", 6))):
        paint(root / part, count, seed)
    return root


def settings(folders, out, method, **more):
    given = {"network": "timm/resnet10t", "train": str(folders / "train"), "val": str(folders / "val")}
    given |= {"test": str(folders / "test"), "size": 32, "steps": 10, "batch": 8, "evaluations": 1, "precision": "fp32"}
    given |= {"ways": 3, "shots": 1, "queries": 3, "tasks": 2, "inner_lr": 0.1} if method == "maml" else {}
    return FitConfig(method, out=str(out), **{**given, **more})


@pytest.mark.parametrize("method", ["oneshot", "maml"])
def test_it_learns_and_leaves_a_run_that_classifies(folders, tmp_path, method):
    done = fit_meta(settings(folders, tmp_path / "run", method, steps=20), **QUIET)
    own = "triplet_accuracy" if method == "oneshot" else "task_accuracy"
    assert done.scores[f"test_{own}"] > 0.8
    assert done.scores["test_accuracy"] > 0.9
    if method == "maml":  # labels of a task are drawn anew, so without adaptation nothing but chance is to be had
        assert done.scores["test_task_accuracy_before"] < 0.6
    loaded = load_run(done.run.path)
    assert loaded.student.head.out_features == len(COLORS)
    assert loaded.card.provenance["method"] == method
    assert (done.run.path / "curves.png").stat().st_size > 5000
    history = done.run.history()
    assert {"train_accuracy", "val_accuracy"} <= set(next(record for record in history if "val_accuracy" in record))


@pytest.mark.parametrize("method", ["oneshot", "maml"])
def test_an_interrupted_training_ends_with_the_same_weights(folders, tmp_path, method):
    whole = fit_meta(settings(folders, tmp_path / "whole", method), **QUIET)
    stopped = settings(folders, tmp_path / "stopped", method)

    with eager_checkpoints("kdedge.training.fit_steps.LoopConfig"), pytest.raises(Stop):
        fit_meta(stopped, bars=stop_at(7, 10), **QUIET)
    resumed = fit_meta(stopped, resume=True, **QUIET)
    wanted = load_weights(whole.run.best)
    for key, value in load_weights(resumed.run.best).items():
        assert torch.equal(value, wanted[key]), key


def test_classes_that_make_no_task_are_refused_before_anything_is_written(folders, tmp_path):
    with pytest.raises(DataError, match="5 such classes make a task"):
        fit_meta(settings(folders, tmp_path / "run", "maml", ways=5), **QUIET)
    assert not (tmp_path / "run").exists()


def test_the_command_prints_what_the_method_is_about(folders, tmp_path):
    parts = [f"--{part}={folders / part}" for part in ("train", "val", "test")]
    common = [*parts, "--size", "32", "--steps", "2", "--evaluations", "1", "--network", "timm/resnet10t"]
    run = CliRunner().invoke
    done = run(app, ["train", "oneshot", *common, "--out", str(tmp_path / "a")])
    assert "test  triplets" in done.stdout
    task = ["--ways", "3", "--queries", "2", "--tasks", "2"]
    done = run(app, ["train", "maml", *common, *task, "--out", str(tmp_path / "b"), "--json"])
    assert "test_task_accuracy" in json.loads(done.stdout)
    done = run(app, ["train", "maml", *common, *task, "--tasks", "1", "--out", str(tmp_path / "c")])
    assert "--tasks is 1" in str(done.exception)


def test_prototypes_choose_the_nearest_mean():
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(30, 4)), np.arange(30) % 3
    head = prototype_head(x, labels, 3)
    means = np.stack([x[labels == label].mean(0) for label in range(3)])
    shown = rng.normal(size=(50, 4))
    nearest = np.linalg.norm(shown[:, None] - means, axis=2).argmin(1)
    np.testing.assert_array_equal((shown @ head.weight.T + head.bias).argmax(1), nearest)
    with pytest.raises(DataError, match="class number 3"):
        prototype_head(x, labels, 4)
