from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from torch import nn
from torchvision.models import resnet18

from kdedge.errors import ExportError
from kdedge.export.fusion import FusionReport, int8_share
from kdedge.export.quantize import quantize_int8
from kdedge.export.session import cpu_session, onnx_logits
from kdedge.export.targets import Target
from kdedge.export.to_onnx import export_fp32
from kdedge.export.verify import parity
from kdedge.preprocess import Preprocess
from kdedge.training.batchnorm import reestimate
from tests.export.conftest import SIZE

PRE = Preprocess(SIZE)
PLAIN = Target("x86")


@pytest.fixture(scope="module")
def int8(small_onnx: Path, pictures: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("int8") / "small.int8.onnx"
    quantize_int8(small_onnx, path, pictures[:40], PRE, target=PLAIN)
    return path


def test_every_convolution_runs_in_int8(int8: Path, small_onnx: Path) -> None:
    report = int8_share(int8)
    assert (report.conv_int8, report.conv_total, report.linear_int8, report.linear_total) == (3, 3, 1, 1)
    assert report.share == 1.0
    assert report.float_nodes == ()
    assert int8_share(small_onnx).share == 0.0


def test_file_format_survives(int8: Path) -> None:
    model = onnx.load(int8)
    assert model.ir_version == 8
    assert [(item.domain, item.version) for item in model.opset_import] == [("", 18)]
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert not model.metadata_props


def test_logits_are_not_quantised(int8: Path, pictures: NDArray[np.uint8]) -> None:
    last = next(node for node in onnx.load(int8).graph.node if "logits" in node.output)
    assert last.op_type == "Gemm"
    assert len(np.unique(onnx_logits(int8, pictures, PRE)[:, 0])) > 1


@pytest.mark.parametrize("method", ["minmax", "percentile", "mse"])
def test_int8_agrees_with_fp32(
    method: str, small_onnx: Path, pictures: NDArray[np.uint8], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    made = quantize_int8(small_onnx, tmp_path / "x.onnx", pictures[:40], PRE, method, target=PLAIN)  # type: ignore[arg-type]
    assert capfd.readouterr() == ("", "")
    assert (made.method, made.images) == (method, 40)
    unseen = pictures[40:]
    found = parity(onnx_logits(small_onnx, unseen, PRE), onnx_logits(tmp_path / "x.onnx", unseen, PRE))
    assert found.cosine > 0.99
    assert found.top1_agreement >= 0.9


def test_auto_keeps_the_best(small_onnx: Path, pictures: NDArray[np.uint8], tmp_path: Path) -> None:
    made = quantize_int8(
        small_onnx, tmp_path / "x.onnx", pictures[:40], PRE, "auto", heldout=pictures[40:], target=PLAIN
    )
    assert set(made.candidates) == {"minmax", "percentile", "mse"}
    assert made.candidates[made.method] == max(made.candidates.values())
    found = parity(onnx_logits(small_onnx, pictures[40:], PRE), onnx_logits(tmp_path / "x.onnx", pictures[40:], PRE))
    assert found.cosine == pytest.approx(made.candidates[made.method])


def test_reduced_range_keeps_weights_to_seven_bits(
    small_onnx: Path, pictures: NDArray[np.uint8], tmp_path: Path
) -> None:
    quantize_int8(small_onnx, tmp_path / "x.onnx", pictures[:8], PRE, "minmax", target=Target("x86", reduce_range=True))
    weights = [t for t in onnx.load(tmp_path / "x.onnx").graph.initializer if t.data_type == onnx.TensorProto.INT8]
    largest = [int(np.abs(onnx.numpy_helper.to_array(t).astype(int)).max(initial=0)) for t in weights]
    assert 60 <= max(largest) <= 64


def test_excluded_layer_shows_in_the_share(small_onnx: Path, pictures: NDArray[np.uint8], tmp_path: Path) -> None:
    name = next(node.name for node in onnx.load(small_onnx).graph.node if node.op_type == "Conv")
    quantize_int8(small_onnx, tmp_path / "x.onnx", pictures[:8], PRE, "minmax", target=PLAIN, exclude=[name])
    report = int8_share(tmp_path / "x.onnx")
    assert (report.conv_int8, report.conv_total) == (2, 3)
    assert report.share == pytest.approx(2 / 3)
    assert len(report.float_nodes) == 1


def test_share_counts_kernels_not_quantize_nodes(small_onnx: Path, pictures: NDArray[np.uint8], tmp_path: Path) -> None:
    """A file full of QDQ nodes whose convolutions run in float must not pass: signed activations do that on x86."""
    signed = Target("x86", activations="int8")
    quantize_int8(small_onnx, tmp_path / "x.onnx", pictures[:8], PRE, "minmax", target=signed)
    model = onnx.load(tmp_path / "x.onnx")
    hoped = sum(node.op_type == "Conv" for node in model.graph.node)
    report = int8_share(tmp_path / "x.onnx")
    assert report.conv_total == hoped == 3
    assert report.conv_int8 + len(report.float_nodes) - (report.linear_total - report.linear_int8) == hoped


def test_network_without_convolutions_has_a_share() -> None:
    assert FusionReport(0, 0, 4, 3, ("x",)).share == 0.75
    assert FusionReport(0, 0, 0, 0, ()).share == 1.0


def test_resnet_residuals_run_in_int8(tmp_path: Path) -> None:
    import torch

    torch.manual_seed(0)
    model: nn.Module = resnet18(num_classes=5)
    reestimate(model, [torch.randn(8, 3, 64, 64)])
    export_fp32(model, 64, tmp_path / "f.onnx")
    noise = np.random.default_rng(0).integers(0, 256, (12, 64, 64, 3), np.uint8)
    quantize_int8(tmp_path / "f.onnx", tmp_path / "q.onnx", noise, Preprocess(64), "minmax", target=PLAIN)
    report = int8_share(tmp_path / "q.onnx")
    assert (report.conv_int8, report.conv_total) == (20, 20)
    assert (tmp_path / "q.onnx").stat().st_size < 0.27 * (tmp_path / "f.onnx").stat().st_size


def test_what_cannot_be_quantised_is_refused(small_onnx: Path, pictures: NDArray[np.uint8], tmp_path: Path) -> None:
    out = tmp_path / "x.onnx"
    with pytest.raises(ExportError, match="needs calibration images"):
        quantize_int8(small_onnx, out, pictures[:0], PRE)
    with pytest.raises(ExportError, match="needs held-out images"):
        quantize_int8(small_onnx, out, pictures, PRE, "auto")
    with pytest.raises(ExportError, match=r"'best' is not known; choose one of auto, minmax"):
        quantize_int8(small_onnx, out, pictures, PRE, "best")  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_failing_quantiser_leaves_nothing(
    small_onnx: Path, pictures: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("inside")

    monkeypatch.setattr("kdedge.export.quantize.quantize_static", fail)
    with pytest.raises(ExportError, match="the quantiser failed: inside"):
        quantize_int8(small_onnx, tmp_path / "x.onnx", pictures, PRE)
    assert not list(tmp_path.iterdir())


def test_session_is_on_the_cpu(small_onnx: Path) -> None:
    assert cpu_session(small_onnx).get_providers() == ["CPUExecutionProvider"]
    assert onnxruntime.get_available_providers()
