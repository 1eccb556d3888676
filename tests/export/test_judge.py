import numpy as np
import pytest
from scipy.special import softmax

from kdedge.export import judge
from kdedge.export.judge import ENOUGH_LABELS, Judge
from kdedge.export.outputs import Outputs
from kdedge.preprocess import Preprocess

RANDOM = np.random.default_rng(0)
LOGITS = RANDOM.normal(0, 3, (150, 4)).astype(np.float32)
OTHER = (LOGITS + RANDOM.normal(0, 1.5, LOGITS.shape)).astype(np.float32)
IMAGES = np.zeros((150, 8, 8, 3), np.uint8)


def _judge(labels: np.ndarray, monkeypatch: pytest.MonkeyPatch, found: np.ndarray = OTHER) -> Judge:
    monkeypatch.setattr(judge, "onnx_outputs", lambda *_: Outputs(found))
    return Judge(IMAGES, labels, Outputs(LOGITS), Preprocess(8))


def test_with_labels_the_drop_is_that_of_accuracy(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = LOGITS.argmax(1).astype(np.int64)
    labels[:20] = -1
    labels[20:30] = (labels[20:30] + 1) % 4
    found = _judge(labels, monkeypatch).look(None)  # type: ignore[arg-type]
    right = [(logits.argmax(1)[20:] == labels[20:]).mean() for logits in (LOGITS, OTHER)]
    assert (found.measured_by, found.images) == ("accuracy", 130)
    assert found.accuracy == pytest.approx(right[1])
    assert found.drop == pytest.approx(100 * (right[0] - right[1]))


def test_without_labels_a_change_of_mind_costs_what_fp32_was_sure_of(monkeypatch: pytest.MonkeyPatch) -> None:
    few = np.full(150, -1, np.int64)
    few[: ENOUGH_LABELS - 1] = 0
    found = _judge(few, monkeypatch).look(None)  # type: ignore[arg-type]
    shares = softmax(LOGITS.astype(np.float64), axis=1)
    lost = [row[p.argmax()] - row[q.argmax()] for row, p, q in zip(shares, LOGITS, OTHER, strict=True)]
    assert (found.measured_by, found.images, found.accuracy) == ("agreement", 150, None)
    assert found.drop == pytest.approx(100 * np.mean(lost))
    assert 0 < found.drop < 100 * (1 - found.parity.top1_agreement)


def test_nothing_is_lost_between_equals(monkeypatch: pytest.MonkeyPatch) -> None:
    found = _judge(np.full(150, -1, np.int64), monkeypatch, LOGITS).look(None)  # type: ignore[arg-type]
    assert (found.drop, found.parity.top1_agreement) == (0.0, 1.0)
