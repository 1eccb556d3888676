"""Thresholds against scikit-learn and NumPy, prototypes against Gaussians, decisions against what they must keep."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.metrics import roc_auc_score, roc_curve

from kdedge.errors import DataError, ModelError
from kdedge.runtime.calibration import Embedded, calibrate
from kdedge.runtime.classifier import Classifier
from kdedge.runtime.decide import Decider
from kdedge.runtime.prototypes import (
    Classes,
    Prototypes,
    decoded,
    encoded,
    fit_prototypes,
    log_ratios,
    main_directions,
    unit_rows,
)
from kdedge.runtime.rejection import accepted, auroc, keeping, mixed, threshold_for
from tests.conftest import COLORS, color_card
from tests.runtime.knowing import OTHERS, painted, write_knowing
from tests.runtime.test_classifier import write_two_outputs

RNG = np.random.default_rng(3)
STRANGERS, KNOWN = RNG.normal(0, 1, 199), RNG.normal(2, 1, 150)


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.1, 0.333, 0.9])
@pytest.mark.parametrize("strangers", [STRANGERS, np.round(STRANGERS, 1)], ids=["apart", "ties"])
def test_threshold_lies_on_the_roc_curve(rate: float, strangers: np.ndarray) -> None:
    """The most of the known images that a curve of scikit-learn gives at the count of strangers that is allowed."""
    found = threshold_for(strangers, KNOWN, rate)
    allowed = int(np.floor(rate * (len(strangers) + 1) + 1e-9)) - 1
    truth = np.r_[np.ones(len(KNOWN)), np.zeros(len(strangers))]
    false, true, _ = roc_curve(truth, np.r_[KNOWN, strangers], drop_intermediate=False)
    best = true[np.round(false * len(strangers)) <= allowed].max()
    assert found.known_accept == pytest.approx(best, abs=1 / len(KNOWN) + 1e-12)
    assert (strangers >= found.threshold).sum() <= allowed
    assert found.false_accept == rate
    # and no lower one would do
    lower = np.sort(strangers)[-(allowed + 1)]
    assert (strangers >= lower).sum() > allowed
    assert np.nextafter(lower, np.inf) == found.threshold


@pytest.mark.parametrize(("count", "rate"), [(19, 0.05), (39, 0.1), (24, 0.01)])
def test_a_new_stranger_passes_no_more_often_than_promised(count: int, rate: float) -> None:
    """The invariant over draws: exact for 19 at 5 %, where m = 1."""
    rng = np.random.default_rng(0)
    draws = rng.standard_exponential((20_000, count + 1))
    passed = [row[-1] >= threshold_for(row[:-1], [], rate).threshold for row in draws[:3000]]
    promised = threshold_for(draws[0][:-1], [], rate).false_accept
    sigma = np.sqrt(promised * (1 - promised) / len(passed))
    assert np.mean(passed) == pytest.approx(promised, abs=4 * sigma)


def test_few_strangers_promise_what_they_can() -> None:
    found = threshold_for([0.1, 0.5, 0.3], [0.4, 0.6], 0.01)
    assert found.false_accept == 1 / 4
    assert found.threshold == np.nextafter(0.5, 1)
    assert (found.known_accept, found.known, found.strangers) == (0.5, 2, 3)
    assert threshold_for([0.1], [], 0.5).known_accept is None


def test_threshold_refuses_nonsense() -> None:
    for rate in (0.0, 1.0, -0.1, float("nan")):
        with pytest.raises(DataError, match="rate"):
            threshold_for([0.1], [], rate)
    with pytest.raises(DataError, match="strangers"):
        threshold_for([], [0.1], 0.1)
    with pytest.raises(DataError, match="finite"):
        threshold_for([np.nan], [0.1], 0.1)


def test_keeping_loses_no_more_than_it_may() -> None:
    scores = np.arange(1.0, 100.0)
    assert keeping(scores, 0.05) == 5.0  # 4 of 99 lie below
    assert keeping(scores, 0.001) == 1.0
    assert accepted(scores, keeping(scores, 0.5)) == pytest.approx(50 / 99)


@pytest.mark.parametrize("digits", [8, 1, 0])
def test_auroc_is_that_of_scikit_learn(digits: int) -> None:
    known, strangers = np.round(KNOWN, digits), np.round(STRANGERS, digits)
    truth = np.r_[np.ones(len(known)), np.zeros(len(strangers))]
    assert auroc(known, strangers) == pytest.approx(roc_auc_score(truth, np.r_[known, strangers]), abs=1e-12)
    with pytest.raises(DataError):
        auroc([], strangers)


@pytest.mark.parametrize("count", [1, 4, 30])
def test_log_ratio_is_that_of_the_gaussians(count: int) -> None:
    """Class mean ~ N(0, rho/d), image ~ N(mean, (1 - rho)/d): the posterior predictive against the prior, by scipy."""
    dim, rho = 6, 0.4
    x, images = RNG.normal(size=dim), RNG.normal(size=(count, dim))
    x /= np.linalg.norm(x)
    mean = images.mean(0)
    between, within = rho / dim, (1 - rho) / dim
    weight = count * between / (count * between + within)
    variance = between * within / (count * between + within) + within
    expected = multivariate_normal(weight * mean, variance * np.eye(dim)).logpdf(x)
    expected -= multivariate_normal(np.zeros(dim), np.eye(dim) / dim).logpdf(x)
    assert log_ratios(x[None], mean[None], np.array([count]), rho)[0, 0] * dim == pytest.approx(expected)


def cloud(classes: int = 5, images: int = 12, dim: int = 40, seed: int = 0) -> Embedded:
    """Classes with one strong direction of nuisance, off the origin."""
    rng = np.random.default_rng(seed)
    nuisance = unit_rows(np.random.default_rng(99).normal(size=(2, dim)))
    centres = np.random.default_rng(7).normal(size=(classes, dim))
    labels = np.repeat(np.arange(classes), images)
    noise = rng.normal(size=(len(labels), dim)) * 0.5 + rng.normal(size=(len(labels), 2)) @ nuisance * 8
    return Embedded((centres[labels] + noise + 3).astype(np.float32), labels)


def test_main_directions_are_those_of_pooled_within_class_scatter() -> None:
    for data in (cloud(images=30), cloud(images=4)):  # more images than dimensions, and fewer
        residuals = data.embeddings.astype(np.float64)
        for label in range(5):
            residuals[data.labels == label] -= residuals[data.labels == label].mean(0)
        expected = np.linalg.svd(residuals)[2][:4]
        found = main_directions(data.embeddings, data.labels, 5, 4)
        assert np.abs(np.sum(found * expected, axis=1)) == pytest.approx(np.ones(4), abs=1e-9)
        assert found @ found.T == pytest.approx(np.eye(4), abs=1e-9)


def test_units_have_length_one_and_no_nuisance() -> None:
    data = cloud()
    rows = main_directions(data.embeddings, data.labels, 5, 3)
    made = fit_prototypes(data.embeddings, data.labels, 5, rows)
    units = made.units(data.embeddings)
    assert np.linalg.norm(units, axis=1) == pytest.approx(np.ones(len(units)))
    assert np.abs(units @ rows.T).max() < 1e-6
    assert made.units(made.centre[None] * 1.0) == pytest.approx(np.zeros((1, 40)), abs=1e-3)
    assert made.means[2] == pytest.approx(units[data.labels == 2].mean(0), abs=1e-6)
    with pytest.raises(DataError, match=r"\(N, 40\)"):
        made.units(np.zeros((2, 3)))


def test_prototypes_survive_the_metadata() -> None:
    data = cloud()
    made = calibrate(data, cloud(seed=1), 5).prototypes
    text = encoded(made)
    back = decoded(text, "x")
    for mine, theirs in ((made.means, back.means), (made.nuisance, back.nuisance)):
        cosines = (unit_rows(mine) * unit_rows(theirs)).sum(1)
        assert cosines.min() > np.cos(np.radians(0.5))
    assert (back.rho, back.sharpness, back.counts.tolist()) == (made.rho, made.sharpness, made.counts.tolist())
    value = json.loads(text)
    for change in (
        {"format": 2},
        {"dim": 41},
        {"rho": 1.0},
        {"sharpness": 0},
        {"counts": [1]},
        {"counts": [0] * 5},
        {"centre": "!"},
        {"means": None},
    ):
        with pytest.raises(ModelError, match="x: "):
            decoded(json.dumps({**value, **change}), "x")
    with pytest.raises(ModelError, match="garbled"):
        decoded("[]", "x")


def test_calibration_takes_the_nuisance_out_and_measures_what_it_says() -> None:
    base, held = cloud(), cloud(seed=1)
    found = calibrate(base, held, 5)
    said = found.rejection
    assert len(found.prototypes.nuisance) == 8
    assert said["separation"]["8"] > said["separation"]["0"] + 0.3
    assert said["images"] == {"known": 60, "strangers": 60}
    scores = found.prototypes.judge(found.prototypes.units(held.embeddings)).scores
    assert said["known_accept"] == accepted(scores, said["threshold"])
    assert said["known_accept"] >= 0.95
    assert json.loads(json.dumps(said)) == said
    assert said["applied"] == (said["false_accept"] <= 0.1)
    assert "held-out images; every class" in said["how"]


def test_classes_that_are_alike_have_no_threshold_of_their_own() -> None:
    data = cloud()
    shuffled = np.random.default_rng(0).permutation(data.labels)
    said = calibrate(Embedded(data.embeddings, shuffled), Embedded(cloud(seed=1).embeddings, shuffled), 5).rejection
    assert not said["applied"]
    assert abs(said["auroc"] - 0.5) < 0.2


def test_calibration_without_held_out_images() -> None:
    data = cloud()
    trained = calibrate(data, None, 5)
    assert not trained.rejection["applied"]  # the network knows these images
    assert "training images, a quarter" in trained.rejection["how"]
    unseen = calibrate(data, None, 5, seen=False)
    assert unseen.rejection["applied"]
    assert unseen.rejection["images"]["known"] == 60
    assert calibrate(data, None, 5).prototypes.counts.tolist() == [12] * 5
    two = data.only(data.labels < 2)
    assert calibrate(two, None, 2).rejection == {}  # nobody is left to compare with
    one = data.only(np.arange(0, 60, 12))
    assert calibrate(one, None, 5).rejection == {}
    with pytest.raises(DataError, match="class number 3"):
        calibrate(data.only(data.labels != 3), None, 5)


def test_mixed_probabilities() -> None:
    head = np.array([[0.7, 0.3], [0.5, 0.5]])
    assert mixed(head, np.zeros(2), np.empty((2, 0)), 5.0) is head
    found = mixed(head, np.array([0.2, -0.1]), np.array([[0.2, -9.0], [0.9, 0.1]]), 10.0)
    assert found.sum(1) == pytest.approx(np.ones(2))
    assert found[0] == pytest.approx([0.35, 0.15, 0.5, 0.0], abs=1e-9)
    assert found[1].argmax() == 2
    ratios = found[:, :2] / found[:, :2].sum(1, keepdims=True)
    assert ratios == pytest.approx(head)  # the head's own odds stay
    assert np.isfinite(mixed(head, np.array([1e4, -1e4]), np.array([[0.0], [0.0]]), 50.0)).all()


@pytest.fixture(scope="module")
def knowing(tmp_path_factory: pytest.TempPathFactory, color_images: Path) -> Path:
    folder = tmp_path_factory.mktemp("knowing")
    return write_knowing(folder / "student.onnx", color_images, threshold=0.9, applied=True)


def test_what_is_no_class_is_unknown(knowing: Path) -> None:
    with Classifier(knowing, 1) as classifier:
        known = classifier.predict([image for color in COLORS.values() for image in painted(color, 5)])
        strange = classifier.predict([image for color in OTHERS.values() for image in painted(color, 5)])
    assert [found.label for found in known] == [name for name in COLORS for _ in range(5)]
    assert {found.label for found in strange} == {"unknown"}
    assert all(found.unknown == (found.score is not None and found.score < 0.9) for found in known + strange)
    assert all(found.embedding is None for found in known)
    assert strange[0].labels[0] in COLORS  # what it is least unlike


def test_whoever_wants_no_threshold_gets_the_answers_of_before(knowing: Path) -> None:
    images = [image for color in (*COLORS.values(), *OTHERS.values()) for image in painted(color, 3)]
    with Classifier(knowing, 1, unknown="never") as never, Classifier(knowing, 1, unknown=-1.0) as low:
        plain, scored = never.predict(images), low.predict(images)
    assert [replace(found, score=None) for found in scored] == plain
    assert {found.score for found in plain} == {None}
    with Classifier(knowing, 1, unknown=1.0) as high:
        assert all(found.unknown for found in high.predict(images))


def test_a_threshold_that_may_not_be_applied_is_not(tmp_path: Path, color_images: Path) -> None:
    path = write_knowing(tmp_path / "a.onnx", color_images, threshold=2.0, applied=False)
    with Classifier(path, 1) as classifier:
        assert classifier.predict(painted(COLORS["red"], 1))[0].label == "red"


def test_a_threshold_needs_prototypes(tmp_path: Path, color_model: Path) -> None:
    for path in (color_model, write_two_outputs(tmp_path / "a.onnx")):
        with pytest.raises(ModelError, match=r"no prototypes .* export the model again"):
            Classifier(path, 1, unknown=0.3)
        Classifier(path, 1, unknown="auto").close()
    with pytest.raises(ModelError, match="'sometimes'"):
        Classifier(write_two_outputs(tmp_path / "b.onnx"), 1, unknown="sometimes")


def test_judge_scores_the_class_that_explains_best() -> None:
    made = Prototypes(np.zeros(3, "f4"), np.empty((0, 3), "f4"), np.eye(3, dtype="f4")[:2] * 0.8, np.array([9, 9]), 0.6)
    units = unit_rows(np.array([[1.0, 0.1, 0], [0, 0, 1]]))
    more = Classes(np.array([[0, 0, 1.0]]), np.array([1]))
    judged = made.judge(units, more)
    assert judged.ratios.argmax(1).tolist() == [0, 2]
    assert judged.scores == pytest.approx([units[0, 0], 1.0])
    assert made.judge(units).ratios == pytest.approx(judged.ratios[:, :2])


@pytest.mark.parametrize("enrolled", [0, 2])
def test_the_short_way_judges_alike(enrolled: int) -> None:
    base, asked = cloud(), cloud(seed=1)
    made = decoded(encoded(calibrate(base, asked, 5).prototypes), "x")
    units = made.units(asked.embeddings)
    more = Classes(np.stack([units[:2].mean(0), units[30]])[:enrolled], np.array([2, 1])[:enrolled])
    head = RNG.dirichlet(np.ones(5), len(units))
    found, scores = Decider(made, more, (), None)(head, asked.embeddings)
    judged = made.judge(units, more)
    assert scores == pytest.approx(judged.scores, abs=1e-5)
    expected = mixed(head, judged.ratios[:, :5].max(1), judged.ratios[:, 5:], made.sharpness)
    assert found == pytest.approx(expected, abs=1e-4)
    assert (found is head) == (enrolled == 0)
    alone = Decider(made, more, (), None)(head[:1], made.centre[None])
    assert np.isfinite(alone[0]).all()
    assert np.isfinite(alone[1]).all()


def test_card_keeps_the_rejection() -> None:
    card = color_card(rejection={"threshold": 0.5, "applied": True})
    assert type(card).from_json(card.to_json()) == card
