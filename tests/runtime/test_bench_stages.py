"""Stages and overhead of the classifier; no figure is asserted."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from kdedge.errors import DataError, ModelError
from kdedge.runtime.bench import stages as bench_stages
from kdedge.runtime.bench.overhead import overhead
from kdedge.runtime.bench.stages import STAGES, stages, synthetic_photograph
from tests.conftest import write_color_model


def test_stages_add_up_to_the_call(color_model: Path, tmp_path: Path) -> None:
    image = synthetic_photograph(tmp_path / "x.jpg", 64, 48)
    found = stages(color_model, image, threads=1, repeats=6)
    assert (found.width, found.height, found.bytes) == (64, 48, image.stat().st_size)
    assert set(found.ms) == {*STAGES, "end to end"}
    for call in range(6):
        parts = [found.ms[stage][call] for stage in STAGES]
        assert min(parts) > 0
        assert sum(parts) == pytest.approx(found.ms["end to end"][call])
    assert found.to_dict()["p50_ms"]["decode"] == found.p50_ms("decode")


def test_a_large_image_is_timed_a_few_times(color_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_stages, "SECONDS", 0.0)
    image = synthetic_photograph(tmp_path / "x.jpg", 64, 48)
    assert len(stages(color_model, image, 1, repeats=1000).ms["decode"]) == bench_stages.FEWEST


def test_an_image_that_cannot_be_read(color_model: Path, tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_text("no image")
    with pytest.raises(DataError, match=r"x\.jpg"):
        stages(color_model, tmp_path / "x.jpg", 1)


def test_a_classifier_that_took_another_way_is_noticed() -> None:
    with pytest.raises(ModelError, match="inference, normalise"):
        bench_stages._split({"load": 1, "resize": 1}, 5)
    parts = bench_stages._split({"load": 5, "normalise": 1, "inference": 2}, 10)  # an image of the right size already
    assert (parts["decode"], parts["resize"], parts["postprocess"]) == (5, 0, 2)


def test_the_photograph_is_like_one(tmp_path: Path) -> None:
    pixels = cv2.imread(str(synthetic_photograph(tmp_path / "x.jpg", 320, 240)))
    assert pixels.shape == (240, 320, 3)
    assert 20 < pixels.std() < 90
    near, far = (np.abs(np.diff(pixels[..., 0].astype(float)[:, ::step], axis=1)).mean() for step in (1, 32))
    assert near < far / 2  # neighbours are alike
    assert near > 1  # and yet not the same


@pytest.mark.parametrize("batch", ["batch", 2])
def test_overhead_is_of_pairs(tmp_path: Path, batch: str | int) -> None:
    model = write_color_model(tmp_path / "x.onnx", batch=batch)
    seen: list[int] = []
    found = overhead(model, threads=1, pairs=40, progress=lambda done, total, note="": seen.append(done))
    assert len(found.run_ms) == len(found.predict_ms) == 40
    assert seen == [20, 40]
    assert found.low <= found.microseconds <= found.high
    difference = 1000 * (np.median(found.predict_ms) - np.median(found.run_ms))
    assert found.microseconds == pytest.approx(difference)
    assert found.share == pytest.approx(difference / 1000 / np.median(found.run_ms))
    inside = np.median(np.subtract(found.predict_ms, found.run_ms))
    assert found.paired_microseconds == pytest.approx(1000 * inside)
    assert found.microseconds > 0  # normalising and a softmax take some time beside a network of twelve weights
