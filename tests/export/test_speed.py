from pathlib import Path

import pytest

from kdedge.export import speed
from kdedge.export.speed import speedup
from kdedge.runtime.latency import Latency


def _measured(monkeypatch: pytest.MonkeyPatch, *pairs: tuple[float, float]) -> list[int]:
    calls: list[int] = []

    def measure(runs: dict[str, object], repeats: int, warmup: int) -> dict[str, Latency]:
        before, after = pairs[len(calls)]
        calls.append(repeats)
        return {"before": Latency((before,)), "after": Latency((after,))}

    monkeypatch.setattr(speed, "measure", measure)
    return calls


def test_a_clear_case_is_measured_once(small_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = _measured(monkeypatch, (3.0, 1.0))
    found = speedup(small_onnx, small_onnx, 1.0)
    assert (found.ratio, found.before_ms, found.after_ms, len(calls)) == (3.0, 3.0, 1.0, 1)


def test_a_miss_is_measured_thrice_and_the_middle_one_counts(small_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = _measured(monkeypatch, (0.5, 1.0), (2.0, 1.0), (1.2, 1.0))
    found = speedup(small_onnx, small_onnx, 1.0)
    assert (found.ratio, len(calls)) == (pytest.approx(1.2), 3)


def test_a_file_is_as_fast_as_itself(small_onnx: Path) -> None:
    found = speedup(small_onnx, small_onnx, repeats=20)
    assert 0.2 < found.ratio < 5
    assert found.before_ms > 0
    assert found.threads >= 1
