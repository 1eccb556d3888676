"""Scores against scikit-learn, and evaluation of a folder."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics

from kdedge.data.folder import class_folders
from kdedge.errors import DataError
from kdedge.runtime.classifier import Classifier
from kdedge.runtime.evaluate import evaluate, scores


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("absent", [(), (0,), (2, 5)])
def test_scores_agree_with_scikit_learn(seed: int, absent: tuple[int, ...]) -> None:
    rng = np.random.default_rng(seed)
    present = [c for c in range(6) if c not in absent]
    true = rng.choice(present, 60)
    guess = np.where(rng.random(60) < 0.6, true, rng.choice(present[:-1] if seed % 2 else range(6), 60))
    found = scores(true, guess, [f"c{i}" for i in range(6)])
    assert found.accuracy == pytest.approx(metrics.accuracy_score(true, guess))
    np.testing.assert_array_equal(found.confusion, metrics.confusion_matrix(true, guess, labels=range(6)))
    for average, mine in (("micro", found.micro), ("macro", found.macro)):
        wanted = metrics.precision_recall_fscore_support(true, guess, average=average, zero_division=0)[:3]
        assert (mine.precision, mine.recall, mine.f1) == pytest.approx(wanted)
    wanted = metrics.precision_recall_fscore_support(true, guess, labels=range(6), average=None, zero_division=0)
    mine = [(score.precision, score.recall, score.f1, score.images) for score in found.classes]
    np.testing.assert_allclose(mine, np.transpose(wanted), atol=1e-12)


def test_all_wrong_is_zero() -> None:
    found = scores([0, 0], [1, 1], "ab")
    assert (found.accuracy, found.macro.f1, found.micro.f1) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(("true", "guess"), [([], []), ([0], [0, 1]), ([0], [2]), ([-1], [0])])
def test_bad_numbers_are_refused(true: list[int], guess: list[int]) -> None:
    with pytest.raises(DataError):
        scores(true, guess, "ab")


def test_evaluate_a_folder(color_model: Path, color_images: Path) -> None:
    classifier = Classifier(color_model, threads=1)
    seen: list[tuple[int, int]] = []
    found = evaluate(
        classifier,
        class_folders(color_images, classifier.card.labels),
        5,
        lambda done, total: seen.append((done, total)),
    )
    assert found.scores.accuracy == 1.0
    assert found.images == 12
    assert seen == [(5, 12), (10, 12), (12, 12)]
    assert found.to_dict()["confusion"] == np.diag([4, 4, 4]).tolist()


def test_unreadable_images_are_named_up_to_a_share(color_model: Path, color_images: Path, tmp_path: Path) -> None:
    root = tmp_path / "images"
    shutil.copytree(color_images, root)
    for number in range(10):
        shutil.copy(root / "red/0.png", root / f"red/more{number}.png")
    (root / "blue/bad.jpg").write_text("no image")
    classifier = Classifier(color_model, threads=1)
    found = evaluate(classifier, class_folders(root, classifier.card.labels))
    assert found.images == 22
    assert [Path(path).name for path, _ in found.unreadable] == ["bad.jpg"]
    assert found.scores.accuracy == 1.0
    (root / "blue/worse.jpg").write_text("no image")
    with pytest.raises(DataError, match=r"2 of 24 images are unreadable.*bad\.jpg"):
        evaluate(classifier, class_folders(root, classifier.card.labels))


def test_other_classes_are_refused(color_model: Path, color_images: Path) -> None:
    classifier = Classifier(color_model, threads=1)
    with pytest.raises(DataError, match="not the labels of the model"):
        evaluate(classifier, class_folders(color_images, ("red", "green", "blue")))
