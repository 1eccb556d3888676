import numpy as np
import pytest
import torch
from torch import nn

from kdedge.errors import DataError
from kdedge.preprocess import Preprocess
from kdedge.training.baselines.oneshot import train_oneshot
from kdedge.training.engine import Engine
from kdedge.training.loop import LoopConfig, start
from kdedge.training.source import ViewSource
from kdedge.training.triplets import draw_triplets, triplet_accuracy, triplet_loss

RNG = np.random.default_rng(0)
A, P, N = (RNG.normal(size=(9, 4)) for _ in range(3))


@pytest.mark.parametrize("margin", [0.0, 0.5, 3.0])
def test_the_papers_loss(margin):
    wanted = np.maximum(((A - P) ** 2).sum(1) - ((A - N) ** 2).sum(1) + margin, 0).mean()
    found = triplet_loss(*(torch.from_numpy(x) for x in (A, P, N)), margin)
    assert float(found) == pytest.approx(wanted, rel=1e-12)


def test_accuracy_against_counting():
    embeddings = np.concatenate([A, P, N])
    triplets = np.stack([np.arange(9), np.arange(9) + 9, np.arange(9) + 18], 1)
    hits = sum(np.linalg.norm(a - p) < np.linalg.norm(a - n) for a, p, n in zip(A, P, N, strict=True))
    assert 0 < hits < 9
    assert triplet_accuracy(embeddings, triplets) == pytest.approx(hits / 9)
    assert triplet_accuracy(np.zeros((27, 4)), triplets) == 0.0  # a network that says the same of everything


def test_triplets_hold_what_they_should():
    labels = np.array([0, 1, 0, 2, 1, 2, 0])
    triplets = np.concatenate([draw_triplets(labels, np.arange(7), 3, epoch) for epoch in range(20)])
    anchor, positive, negative = triplets.T
    assert (anchor != positive).all()
    assert (labels[anchor] == labels[positive]).all()
    assert (labels[anchor] != labels[negative]).all()
    assert {p for a, p in zip(anchor, positive, strict=True) if a == 2} == {0, 6}
    np.testing.assert_array_equal(
        draw_triplets(labels, np.array([5, 2]), 3)[1], draw_triplets(labels, np.array([2]), 3)[0]
    )


@pytest.mark.parametrize(("labels", "words"), [([0, 0, 1], "number 1 has one image"), ([2, 2], "two classes")])
def test_classes_that_make_no_triplet(labels, words):
    with pytest.raises(DataError, match=words):
        draw_triplets(np.array(labels), np.array([0]), 0)


def test_it_learns_to_tell_classes_apart():
    """The class is the brightness of the green channel; the red one, much stronger, is noise."""
    rng = np.random.default_rng(1)

    def images(count):
        labels = np.arange(count) % 3
        pixels = np.zeros((count, 4, 4, 3), np.uint8)
        pixels[..., 0] = rng.integers(0, 255, (count, 1, 1))
        pixels[..., 1] = 100 + 20 * labels[:, None, None]
        return pixels, labels

    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Flatten(), nn.Linear(48, 2))
    config = LoopConfig(steps=150, batch=16, lr=0.02, optimizer="adam", schedule="inverse-sqrt", evaluations=3)
    engine = Engine(torch.device("cpu"))
    train_part, validation = images(60), images(30)
    state = start(trunk, config)
    done = train_oneshot(
        state, ViewSource(train_part[0]), train_part[1], Preprocess(4), config, engine, validation=validation
    )
    raw = validation[0].reshape(30, -1).astype(float)
    before = triplet_accuracy(raw, draw_triplets(validation[1], np.arange(30), 0))
    assert done.best["val_accuracy"] > max(0.9, before + 0.15)
    assert done.best["val_accuracy"] == max(record["val_accuracy"] for record in done.trained.history)
