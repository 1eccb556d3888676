"""``benchmarks.browser``, on a small network."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import browser as script
from kdedge.runtime.web.ort_web import Runtime
from tests.conftest import environment
from tests.runtime.web.browser import chromium, required


def test_it_measures_in_the_browser_and_natively(runtime: Runtime, color_model: Path, tmp_path: Path) -> None:
    path = chromium()
    if path is None:
        required("there is no Chromium")
    arguments = [
        str(color_model),
        str(color_model),
        "--repeats",
        "20",
        "--chromium",
        str(path),
        "--results",
        str(tmp_path),
    ]
    # in a process of its own: there may be another Playwright in this one
    words = [sys.executable, "-m", "benchmarks.browser", *arguments]
    done = subprocess.run(words, capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 0, done.stderr
    written = Path(done.stdout.strip())
    found = json.loads(written.with_suffix(".json").read_text())
    assert [row["isolated"] for row in found["rows"]][:2] == [False, False]
    for row in found["rows"]:
        assert len(row["samples_ms"]) == 20
        parts = sum(row["p50_ms"][name] for name in script.STAGES)
        assert parts > 0
        assert row["p50_ms"]["inference"] <= row["inference_p90_ms"]
        assert script.apart(row) == pytest.approx(0, abs=1e-5)
        assert row["native"]["p50_ms"] > 0
    assert found["conditions"]["browser"].startswith("Chromium ")
    text = written.read_text()
    assert "test/colors fp32, 16 px" in text
    assert str(tmp_path) not in written.with_suffix(".json").read_text()
