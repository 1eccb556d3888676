from pathlib import Path

import numpy as np
import pytest

from kdedge.errors import ExportError
from kdedge.export.fusion import fusion_report
from kdedge.export.graph import read_card
from kdedge.export.networks import network_onnx
from kdedge.export.session import cpu_session

NAME = "timm/resnet10t"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KDEDGE_CACHE", str(tmp_path))
    return tmp_path


def test_network_is_built_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fp32 = network_onnx(NAME, 32, "fp32", classes=7)
    int8 = network_onnx(NAME, 32, "int8", classes=7)
    assert sorted((cache / "networks").iterdir()) == sorted([fp32, int8])
    assert fusion_report(int8).share == 1.0
    assert int8.stat().st_size < 0.3 * fp32.stat().st_size
    for path, precision in ((fp32, "fp32"), (int8, "int8")):
        card = read_card(path)
        assert (card.labels, card.precision, card.preprocess.size) == (tuple("0123456"), precision, 32)
        assert "Untrained" in card.notes
        logits = cpu_session(path).run(None, {"input": np.zeros((2, 3, 32, 32), np.float32)})[0]
        assert logits.shape == (2, 7)
        assert np.isfinite(logits).all()
    monkeypatch.setattr("kdedge.export.networks.build_student", lambda *_, **__: pytest.fail("built again"))
    assert network_onnx(NAME, 32, "fp32", classes=7) == fp32


def test_failure_leaves_no_file(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ExportError("broken")

    monkeypatch.setattr("kdedge.export.networks.write_card", fail)
    with pytest.raises(ExportError, match="broken"):
        network_onnx(NAME, 32, "fp32", classes=2)
    assert not list((cache / "networks").iterdir())


def test_unknown_precision() -> None:
    with pytest.raises(ExportError, match="'fp16' is not known"):
        network_onnx(NAME, 32, "fp16")  # type: ignore[arg-type]
