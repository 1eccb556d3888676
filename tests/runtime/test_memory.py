"""Memory and start of a model in a fresh process."""

from pathlib import Path

import pytest

from kdedge.errors import ModelError
from kdedge.runtime.bench.start import STEPS, ColdStart, Start, cold_start, engine_build_seconds
from kdedge.runtime.memory import peak_rss_mb
from tests.conftest import write_color_model


def test_memory_is_that_of_a_fresh_process(color_model: Path) -> None:
    heap = bytearray(300_000_000)  # what this process holds must not count
    heap[::4096] = b"x" * len(heap[::4096])
    peak = peak_rss_mb(color_model, 16, threads=1)
    assert peak is not None
    assert 20 < peak < 250


def test_what_fails_there_is_named_here(color_model: Path) -> None:
    with pytest.raises(ModelError, match=r"a process of its own failed .*\(1, 3, 32, 32\)"):
        peak_rss_mb(color_model, 32, threads=1)
    with pytest.raises(ModelError, match="tensorrt"):
        engine_build_seconds(color_model, 16, 1)
    with pytest.raises(ModelError, match="0 processes"):
        cold_start(color_model, 16, 1, 0)


def test_steps_of_a_cold_start(tmp_path: Path) -> None:
    fixed = write_color_model(tmp_path / "fixed.onnx", batch=3)
    found = cold_start(fixed, 16, 1, processes=1)
    (only,) = found.starts
    assert tuple(only.ms) == STEPS
    assert all(value > 0 for value in only.ms.values())
    assert only.provider == "cpu"
    assert found.total_ms == pytest.approx(sum(only.ms.values()))


def test_medians_over_processes() -> None:
    starts = [
        Start(dict.fromkeys(STEPS, value), peak, "cpu") for value, peak in ((1.0, 90.0), (9.0, None), (2.0, 80.0))
    ]
    found = ColdStart(tuple(starts))
    assert found.step_ms("session") == 2.0
    assert found.total_ms == 2.0 * len(STEPS)
    assert found.peak_rss_mb == 85.0
    assert ColdStart((starts[1],)).peak_rss_mb is None
    assert len(found.to_dict()["samples"]) == 3
