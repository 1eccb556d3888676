import json
import mmap
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from kdedge.errors import ExportError
from kdedge.export import calibrate
from kdedge.export.calibrate import collect
from kdedge.export.pictures import Pictures
from kdedge.export.session import cpu_session
from kdedge.preprocess import Preprocess
from tests.conftest import environment
from tests.export.conftest import SIZE

PREPROCESS = Preprocess(SIZE)


def _all_outputs(path: Path, pictures: NDArray[np.uint8], folder: Path) -> dict[str, NDArray[np.float32]]:
    """Every activation, by onnx's shape inference and one run over all images."""
    model = onnx.shape_inference.infer_shapes(onnx.load(path))
    present = {value.name for value in model.graph.output}
    model.graph.output.extend(
        value
        for value in model.graph.value_info
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT and value.name not in present
    )
    onnx.save(model, folder / "all.onnx")
    session = cpu_session(folder / "all.onnx")
    names = [output.name for output in session.get_outputs()]
    pixels = PREPROCESS.normalize(pictures)
    return {"input": pixels, **dict(zip(names, session.run(names, {"input": pixels}), strict=True))}


def test_every_activation_of_every_image_is_seen(small_onnx: Path, pictures: NDArray[np.uint8], tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    found = collect(small_onnx, pictures, PREPROCESS, lambda done, total, _note="": told.append((done, total)))
    expected = _all_outputs(small_onnx, pictures, tmp_path)
    assert {"input", "logits"} < set(expected) <= set(found.activations)
    assert found.images == 60
    for name, values in expected.items():
        seen = found.activations[name]
        assert (seen.low, seen.high) == pytest.approx((values.min(), values.max()), rel=1e-4, abs=1e-5)
        assert seen.counts.sum() == min(values[0].size, 4096) * 60
        # as many below each quantile as there should be
        for part in (0.1, 0.5, 0.9):
            below = seen.counts[seen.edges[1:] <= np.quantile(values, part)].sum() / seen.counts.sum()
            assert below <= np.mean(values <= np.quantile(values, part)) + 0.01
        middle = (seen.edges[:-1] + seen.edges[1:]) / 2
        mean, slack = float(values.mean()), 0.01 * float(values.std()) + 1e-3
        assert seen.counts @ middle / seen.counts.sum() == pytest.approx(mean, abs=slack)
    assert told[-1] == (60, 60)
    assert sorted(told) == told


def test_sample_is_the_same_for_all_sizes_of_a_batch(
    small_onnx: Path, pictures: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibrate, "_VALUES", 100)
    found = []
    for batch in (1, 7, 32):
        monkeypatch.setattr(calibrate, "_BATCH_PIXELS", batch * SIZE**2)
        found.append(collect(small_onnx, pictures, PREPROCESS).activations)
    for other in found[1:]:
        assert list(other) == list(found[0])
        np.testing.assert_array_equal(other["input"].counts, found[0]["input"].counts)
        assert {name: seen.counts.sum() for name, seen in other.items()} == {
            name: seen.counts.sum() for name, seen in found[0].items()
        }
    assert found[0]["input"].counts.sum() == 6000


def test_sample_looks_like_the_whole(
    small_onnx: Path, pictures: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = collect(small_onnx, pictures, PREPROCESS).activations["input"]
    monkeypatch.setattr(calibrate, "_VALUES", 300)
    sample = collect(small_onnx, pictures, PREPROCESS).activations["input"]
    assert whole.counts.sum() == 60 * 3 * SIZE**2
    assert sample.counts.sum() == 60 * 300
    assert (sample.low, sample.high) == (whole.low, whole.high)
    np.testing.assert_array_equal(sample.edges, whole.edges)
    parts = np.cumsum(sample.counts) / sample.counts.sum() - np.cumsum(whole.counts) / whole.counts.sum()
    assert np.abs(parts).max() < 0.02


def test_extremes_are_exact_where_the_sample_misses_them(
    small_onnx: Path, pictures: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibrate, "_VALUES", 10)
    images = np.clip(pictures, 100, 120)
    images[3, 5, 7], images[40, 1, 2] = 0, 255
    seen = collect(small_onnx, images, PREPROCESS).activations["input"]
    pixels = PREPROCESS.normalize(images)
    assert (seen.low, seen.high) == (float(pixels.min()), float(pixels.max()))
    assert seen.counts[0] == seen.counts[-1] == 0  # missed indeed


def test_a_fixed_batch_is_filled_up_and_not_counted(
    small_onnx: Path, pictures: NDArray[np.uint8], tmp_path: Path
) -> None:
    model = onnx.load(small_onnx)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 4
    onnx.save(model, tmp_path / "four.onnx")
    free = collect(small_onnx, pictures[:10], PREPROCESS)
    fixed = collect(tmp_path / "four.onnx", pictures[:10], PREPROCESS)
    assert free.images == fixed.images == 10
    for name, seen in free.activations.items():
        other = fixed.activations[name]
        assert (seen.low, seen.high) == pytest.approx((other.low, other.high), rel=1e-4, abs=1e-5)
        assert seen.counts.sum() == other.counts.sum()
    np.testing.assert_array_equal(free.activations["input"].counts, fixed.activations["input"].counts)


def test_a_network_that_computes_no_numbers_is_refused(
    small_onnx: Path, pictures: NDArray[np.uint8], tmp_path: Path
) -> None:
    model = onnx.load(small_onnx)
    gemm = next(node for node in model.graph.node if node.op_type == "Gemm")
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == gemm.input[1])
    values = numpy_helper.to_array(weight).copy()
    values[0, 0] = np.nan
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    onnx.save(model, tmp_path / "nan.onnx")
    with pytest.raises(ExportError, match="logits"):
        collect(tmp_path / "nan.onnx", pictures, PREPROCESS)


def test_no_images_are_refused(small_onnx: Path) -> None:
    with pytest.raises(ExportError, match="needs images"):
        collect(small_onnx, Pictures([], PREPROCESS), PREPROCESS)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux forgets its peak")
def test_peak_is_that_of_the_collection_alone(small_onnx: Path, pictures: NDArray[np.uint8]) -> None:
    # An array may lie in memory that the process has freed and kept, and would go back there; a mapping is given back.
    with mmap.mmap(-1, 400_000_000, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as mine:
        for _ in range(400):
            mine.write(b"1" * 1_000_000)
    before = calibrate._highest_resident()
    found = collect(small_onnx, pictures, PREPROCESS)
    assert before is not None
    assert found.peak_rss_mb is not None
    assert 50 < found.peak_rss_mb < before / 1e6 - 200


_PROGRAM = """
import json, sys
from pathlib import Path
from kdedge.export import calibrate
from kdedge.export.pictures import Pictures
from kdedge.preprocess import Preprocess

network, folder, size, most, keep = sys.argv[1:]
kept, count = [], calibrate._count
if keep == "keep":
    calibrate._count = lambda histograms, outputs, *rest: (kept.append(outputs), count(histograms, outputs, *rest))
pictures = Pictures(sorted(Path(folder).iterdir())[: int(most)], Preprocess(int(size)))
calibrate.collect(Path(network), pictures, Preprocess(int(size)))
print(json.dumps(calibrate._highest_resident()))
"""


def test_memory_does_not_grow_with_the_images(small_onnx: Path, tmp_path: Path) -> None:
    """2,000 images need no more than 200; keeping their activations would, which shows that the measure works."""
    folder, rng = tmp_path / "images", np.random.default_rng(0)
    folder.mkdir()
    for number in range(2000):
        assert cv2.imwrite(str(folder / f"{number:04}.png"), rng.integers(0, 256, (8, 8, 3), np.uint8).repeat(8, 1))

    def start(most: int, keep: str) -> subprocess.Popen[str]:
        words = [sys.executable, "-c", _PROGRAM, str(small_onnx), str(folder), str(SIZE), str(most), keep]
        return subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment())

    peaks = []
    for running in [start(200, "no"), start(2000, "no"), start(2000, "keep")]:
        out, _ = running.communicate()
        assert running.returncode == 0
        peaks.append(json.loads(out) / 1e6)
    few, many, kept = peaks
    assert many < few + 15
    assert kept > few + 60


def test_the_extremes_of_an_average_image(small_onnx: Path, pictures: NDArray[np.uint8]) -> None:
    preprocess = Preprocess(SIZE)
    pixels = preprocess.normalize(pictures).reshape(len(pictures), -1)
    found = collect(small_onnx, pictures, preprocess).activations["input"]
    assert found.typical == pytest.approx((pixels.min(1).mean(), pixels.max(1).mean()), rel=1e-6)
    assert found.low < found.typical[0] < found.typical[1] < found.high
