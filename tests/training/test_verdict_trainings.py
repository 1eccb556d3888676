"""Verdicts on real trainings: a tiny network of 8 x 8 pictures imitates 6 numbers, or cannot."""

import numpy as np
import torch
from torch import nn

from kdedge.training.engine import Engine
from kdedge.training.loop import LoopConfig, start, train
from kdedge.training.metrics import cosine_similarity, knn_agreement, r2_variance_weighted
from kdedge.training.verdict import judge, short

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(256, 1, 8, 8)).astype(np.float32)
TEACHER = torch.manual_seed(7) and nn.Sequential(
    nn.Conv2d(1, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(36, 6)
)


def taught():
    with torch.no_grad():
        found = TEACHER(torch.from_numpy(IMAGES)).numpy()
    return (found - found.mean(0)) / found.std(0)


def history_of(targets, trained=192, evaluations=8, **settings):
    """All records of a training on the first images, evaluated on the last 64, as a run directory keeps them."""
    config = LoopConfig(evaluations=evaluations, weight_decay=0.0, **{"steps": 240} | settings)
    x, y = torch.from_numpy(IMAGES), torch.from_numpy(targets.astype(np.float32))
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(1, 8, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(72, 6))

    def loss_of(net, indices, epoch):
        return nn.functional.mse_loss(net(x[indices]), y[indices])

    def evaluate(net):
        with torch.no_grad():
            pair = targets[-64:], net(x[-64:]).numpy()
        return {"r2": r2_variance_weighted(*pair), "cosine": cosine_similarity(*pair), "knn": knn_agreement(*pair)}

    told = []
    train(start(model, config), loss_of, trained, config, Engine(torch.device("cpu")), evaluate, told.append)
    return told


def with_share(history):
    return [record | {"share": record["step"] / history[-1]["step"]} for record in history]


def test_a_training_that_learns():
    history = history_of(taught(), lr=0.01, evaluations=4)
    end = judge(history)
    assert end.state == "learned"
    assert end.words.startswith("The student has learned")
    assert short(end) == "learned"
    live = with_share(history)
    marks = [number for number, record in enumerate(live, 1) if "r2" in record]
    assert judge(live[: marks[1]]).state == "learning"
    assert short(judge(live[: marks[0] - 1])) == "starting"
    assert judge([record for record in live if "r2" in record]).state == "learned"  # evaluations alone do as well


def test_targets_that_have_nothing_to_do_with_the_images():
    noise = RNG.normal(size=(256, 6))
    history = history_of(noise, lr=0.01, trained=64)
    end = judge(history)
    assert (end.state, short(end)) == ("not learning", "NOT learning")
    assert "training loss falls" in end.words
    assert "too few training images" in end.words
    live = with_share(history)
    middle = [number for number, record in enumerate(live, 1) if "r2" in record][4]
    assert judge(live[:middle]).state == "not learning"


def test_a_learning_rate_of_next_to_nothing():
    end = judge(history_of(taught(), lr=1e-9))
    assert end.state == "not learning"
    assert "learning rate is far too low (9.9e-10)" in end.words


def test_a_huge_learning_rate():
    end = judge(history_of(taught(), lr=30.0, schedule="constant"))
    assert end.state == "not learning"
    assert "learning rate is far too high (30)" in end.words


def test_few_images_seen_too_often():
    history = with_share(history_of(taught(), lr=0.01, trained=64, steps=1000))
    marks = [number for number, record in enumerate(history, 1) if "r2" in record]
    assert judge(history[: marks[0]]).state == "learning"
    assert "overfitting" in judge(history).words
    assert judge(history).state == "not learning"


def test_a_teacher_that_always_says_the_same():
    end = judge(history_of(np.zeros((256, 6)), lr=0.01))
    assert end.state == "not learning"
    assert "targets are constant" in end.words


def test_a_training_of_a_few_steps():
    end = judge(history_of(taught(), lr=2e-4, steps=20, evaluations=2))
    assert end.state == "not learning"
    assert "too short" in end.words
