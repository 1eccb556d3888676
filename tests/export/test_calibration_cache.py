from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from kdedge.card import ModelCard
from kdedge.errors import ExportError
from kdedge.export import calibration_cache
from kdedge.export.calibrate import Collected, collect
from kdedge.export.calibration_cache import calibrated
from kdedge.export.graph import write_card
from kdedge.export.pictures import Pictures
from kdedge.files import cache_dir
from kdedge.preprocess import Preprocess
from tests.export.conftest import SIZE

PREPROCESS = Preprocess(SIZE)


@pytest.fixture
def few(pictures: NDArray[np.uint8]) -> Pictures:
    return Pictures(pictures[:8], PREPROCESS)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The networks that were really run."""
    seen: list[Path] = []

    def counted(path: Path, *rest: object) -> Collected:
        seen.append(path)
        return collect(path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(calibration_cache, "collect", counted)
    return seen


def _file(key: str) -> Path:
    return cache_dir("calibration") / f"{key}.npz"


def _assert_same(one: Collected, other: Collected) -> None:
    assert list(one.activations) == list(other.activations)
    assert (one.images, one.peak_rss_mb) == (other.images, other.peak_rss_mb)
    for name, seen in one.activations.items():
        read = other.activations[name]
        assert (seen.low, seen.high, seen.zeros) == (read.low, read.high, read.zeros)
        np.testing.assert_array_equal(seen.counts, read.counts)
        np.testing.assert_array_equal(seen.edges, read.edges)
        assert (read.counts.dtype, read.edges.dtype) == (np.int64, np.float64)


def test_a_second_time_nothing_is_run(small_onnx: Path, few: Pictures, runs: list[Path]) -> None:
    told: list[tuple[int, int]] = []
    first = calibrated(small_onnx, few, PREPROCESS)
    second = calibrated(small_onnx, few, PREPROCESS, lambda done, total, _note="": told.append((done, total)))
    assert (first.cached, second.cached, len(runs)) == (False, True, 1)
    assert first.key == second.key
    assert len(first.key) == 64
    _assert_same(first.collected, second.collected)
    assert told == [(8, 8)]
    assert [path.name for path in cache_dir("calibration").iterdir()] == [f"{first.key}.npz"]


def test_unknown_memory_stays_unknown(small_onnx: Path, few: Pictures, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration_cache, "collect", lambda *arguments: replace(collect(*arguments), peak_rss_mb=None))
    assert calibrated(small_onnx, few, PREPROCESS).collected.peak_rss_mb is None
    again = calibrated(small_onnx, few, PREPROCESS)
    assert again.cached
    assert again.collected.peak_rss_mb is None


def test_what_a_file_says_about_itself_does_not_matter(
    small_onnx: Path, few: Pictures, card: ModelCard, tmp_path: Path, runs: list[Path]
) -> None:
    before = calibrated(small_onnx, few, PREPROCESS)
    model = onnx.load(small_onnx)
    model.producer_name, model.producer_version, model.doc_string, model.graph.name = "me", "9", "words", "mine"
    model.graph.node[0].doc_string = "more words"
    onnx.save(model, tmp_path / "other.onnx")
    write_card(tmp_path / "other.onnx", card.with_(name="other"))
    after = calibrated(tmp_path / "other.onnx", few, PREPROCESS)
    assert after.cached
    assert after.key == before.key
    assert len(runs) == 1


def test_all_that_matters_changes_the_key(
    small_onnx: Path, pictures: NDArray[np.uint8], few: Pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [calibrated(small_onnx, few, PREPROCESS).key]
    model = onnx.load(small_onnx)
    weight = model.graph.initializer[0]
    values = onnx.numpy_helper.to_array(weight).copy()
    values.reshape(-1)[0] += 0.5
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    onnx.save(model, tmp_path / "other.onnx")
    keys.append(calibrated(tmp_path / "other.onnx", few, PREPROCESS).key)
    keys.append(calibrated(small_onnx, Pictures(pictures[1:9], PREPROCESS), PREPROCESS).key)
    bgr = replace(PREPROCESS, color="bgr")
    keys.append(calibrated(small_onnx, Pictures(pictures[:8], bgr), bgr).key)
    monkeypatch.setattr(calibration_cache.onnxruntime, "__version__", "0.0")
    keys.append(calibrated(small_onnx, few, PREPROCESS).key)
    monkeypatch.setattr(calibration_cache, "_FORMAT", -1)
    keys.append(calibrated(small_onnx, few, PREPROCESS).key)
    assert len(set(keys)) == 6


def _objects(data: bytes, path: Path) -> bytes:
    with np.load(path) as stored:
        parts = {name: stored[name] for name in stored.files}
    parts["counts"] = np.array([object()], dtype=object)
    np.savez_compressed(path, **parts)
    return path.read_bytes()


def _mismatch(data: bytes, path: Path) -> bytes:
    with np.load(path) as stored:
        parts = {name: stored[name] for name in stored.files}
    parts["bins"] = parts["bins"][:-1]
    np.savez_compressed(path, **parts)
    return path.read_bytes()


@pytest.mark.parametrize(
    "damage",
    [
        lambda data, path: b"",
        lambda data, path: data[: len(data) // 2],
        lambda data, path: data[:-1],
        lambda data, path: b"no archive" * 100,
        lambda data, path: data[:1000] + bytes([data[1000] ^ 0xFF]) + data[1001:],
        _objects,
        _mismatch,
    ],
)
def test_a_damaged_file_is_replaced(damage: object, small_onnx: Path, few: Pictures, runs: list[Path]) -> None:
    first = calibrated(small_onnx, few, PREPROCESS)
    file = _file(first.key)
    file.write_bytes(damage(file.read_bytes(), file))  # type: ignore[operator]
    second = calibrated(small_onnx, few, PREPROCESS)
    assert (second.cached, second.damaged, len(runs)) == (False, True, 2)
    third = calibrated(small_onnx, few, PREPROCESS)
    assert (third.cached, third.damaged, len(runs)) == (True, False, 2)
    _assert_same(second.collected, third.collected)


def test_no_flipped_byte_is_taken_for_the_truth(small_onnx: Path, few: Pictures) -> None:
    first = calibrated(small_onnx, few, PREPROCESS)
    file = _file(first.key)
    data = file.read_bytes()
    refused = 0
    for place in np.random.default_rng(0).integers(0, len(data), 200):
        file.write_bytes(data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :])
        try:
            read = calibration_cache._read(file, first.key)
        except Exception:
            refused += 1
        else:
            _assert_same(read, first.collected)  # a byte that nobody reads, such as a date
    assert refused > 100


def test_the_file_of_another_calibration_is_not_used(
    small_onnx: Path, few: Pictures, pictures: NDArray[np.uint8]
) -> None:
    one = calibrated(small_onnx, few, PREPROCESS)
    other = calibrated(small_onnx, Pictures(pictures[8:16], PREPROCESS), PREPROCESS)
    _file(one.key).write_bytes(_file(other.key).read_bytes())
    again = calibrated(small_onnx, few, PREPROCESS)
    assert again.damaged
    _assert_same(replace(again.collected, peak_rss_mb=None), replace(one.collected, peak_rss_mb=None))


def test_a_cache_that_cannot_be_written_is_no_error(
    small_onnx: Path, few: Pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("KDEDGE_CACHE", str(tmp_path / "file"))
    found = calibrated(small_onnx, few, PREPROCESS)
    assert (found.cached, found.collected.images) == (False, 8)


def test_errors_are_those_of_the_calibration(small_onnx: Path) -> None:
    with pytest.raises(ExportError, match="needs images"):
        calibrated(small_onnx, Pictures([], PREPROCESS), PREPROCESS)
    assert not list(cache_dir("calibration").iterdir())
