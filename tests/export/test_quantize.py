from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from torch import nn
from torchvision.models import resnet18

from kdedge.errors import ExportError
from kdedge.export.fusion import FusionReport, fusion_report
from kdedge.export.inference import onnx_outputs
from kdedge.export.quantize import quantize_int8, shift_biases
from kdedge.export.ranges import METHODS, Calibration
from kdedge.export.session import cpu_session
from kdedge.export.targets import Target, target_for
from kdedge.export.to_onnx import export_fp32
from kdedge.export.verify import compare
from kdedge.preprocess import Preprocess
from kdedge.training.batchnorm import reestimate
from tests.export.conftest import SIZE

PRE = Preprocess(SIZE)
PLAIN = target_for("x86")  # 7-bit weights where this processor would saturate with 8


@pytest.fixture(scope="module")
def int8(small_onnx: Path, pictures: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("int8") / "small.int8.onnx"
    quantize_int8(small_onnx, path, pictures[:40], PRE, target=PLAIN)
    return path


def test_every_convolution_runs_in_int8(int8: Path, small_onnx: Path) -> None:
    report = fusion_report(int8)
    assert (report.conv_int8, report.conv_total, report.linear_int8, report.linear_total) == (3, 3, 1, 1)
    assert report.share == 1.0
    assert report.float_nodes == ()
    assert fusion_report(small_onnx).share == 0.0


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
    assert len(np.unique(onnx_outputs(int8, pictures, PRE).logits[:, 0])) > 1


@pytest.mark.parametrize("method", METHODS)
def test_int8_agrees_with_fp32(
    method: Calibration,
    small_onnx: Path,
    pictures: NDArray[np.uint8],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    quantize_int8(small_onnx, tmp_path / "x.onnx", pictures[:40], PRE, method, target=PLAIN)
    assert capfd.readouterr() == ("", "")
    unseen = pictures[40:]
    found = compare(onnx_outputs(small_onnx, unseen, PRE), onnx_outputs(tmp_path / "x.onnx", unseen, PRE))
    assert found.cosine > 0.99
    assert found.top1_agreement >= 0.9
    assert found.embedding_cosine is not None
    assert found.embedding_cosine > 0.99


def test_the_embedding_is_read_by_the_last_layer(int8: Path, pictures: NDArray[np.uint8]) -> None:
    """Logits are the last layer's of the embedding that is given out, up to the last layer's own 8 bits."""
    model = onnx.load(int8)
    given = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    made = {node.output[0]: node for node in model.graph.node}
    last = made["logits"]
    integers, scale = (given[name] for name in made[last.input[1]].input[:2])
    bias, unit = (given[name] for name in made[last.input[2]].input[:2])
    outputs = onnx_outputs(int8, pictures, PRE)
    assert outputs.embedding is not None
    weight = integers.astype(np.float32) * scale.reshape(-1, 1)
    np.testing.assert_allclose(outputs.logits, outputs.embedding @ weight.T + bias * unit, atol=1e-3)


def test_layers_left_float_stay_float(small_onnx: Path, pictures: NDArray[np.uint8], tmp_path: Path) -> None:
    """onnxruntime quantises a float layer between integers by itself; a file of kdedge does not let it."""
    names = [node.name for node in onnx.load(small_onnx).graph.node if node.op_type == "Conv"]
    for name in names:
        quantize_int8(small_onnx, tmp_path / "x.onnx", pictures[:8], PRE, "minmax", target=PLAIN, left_float=[name])
        report = fusion_report(tmp_path / "x.onnx", PLAIN, [name])
        assert name in report.float_nodes
        assert "accuracy guard" in report.reasons[name]
        outputs = onnx_outputs(tmp_path / "x.onnx", pictures[40:], PRE)
        assert compare(onnx_outputs(small_onnx, pictures[40:], PRE), outputs).cosine > 0.99


def test_reduced_range_keeps_weights_to_seven_bits(
    small_onnx: Path, pictures: NDArray[np.uint8], tmp_path: Path
) -> None:
    quantize_int8(small_onnx, tmp_path / "x.onnx", pictures[:8], PRE, "minmax", target=Target("x86", reduce_range=True))
    weights = [t for t in onnx.load(tmp_path / "x.onnx").graph.initializer if t.data_type == onnx.TensorProto.INT8]
    largest = [int(np.abs(onnx.numpy_helper.to_array(t).astype(int)).max(initial=0)) for t in weights]
    assert 60 <= max(largest) <= 64


def test_share_counts_kernels_not_quantize_nodes(small_onnx: Path, pictures: NDArray[np.uint8], tmp_path: Path) -> None:
    """A file full of QDQ nodes whose convolutions run in float must not pass: signed activations do that on x86."""
    signed = Target("x86", activations="int8")
    quantize_int8(small_onnx, tmp_path / "x.onnx", pictures[:8], PRE, "minmax", target=signed)
    model = onnx.load(tmp_path / "x.onnx")
    hoped = sum(node.op_type == "Conv" for node in model.graph.node)
    report = fusion_report(tmp_path / "x.onnx")
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
    report = fusion_report(tmp_path / "q.onnx")
    assert (report.conv_int8, report.conv_total) == (20, 20)
    assert (tmp_path / "q.onnx").stat().st_size < 0.27 * (tmp_path / "f.onnx").stat().st_size


def test_what_cannot_be_quantised_is_refused(small_onnx: Path, pictures: NDArray[np.uint8], tmp_path: Path) -> None:
    out = tmp_path / "x.onnx"
    with pytest.raises(ExportError, match="needs calibration images"):
        quantize_int8(small_onnx, out, pictures[:0], PRE)
    with pytest.raises(ExportError, match=r"'best' is not known; choose one of minmax, average, percentile"):
        quantize_int8(small_onnx, out, pictures, PRE, "best")  # type: ignore[arg-type]
    assert {path.name for path in tmp_path.iterdir()} <= {"kdedge-cache"}


def test_failing_quantiser_leaves_nothing(
    small_onnx: Path, pictures: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("inside")

    monkeypatch.setattr("kdedge.export.quantize.QDQQuantizer", fail)
    with pytest.raises(ExportError, match="the quantiser failed: inside"):
        quantize_int8(small_onnx, tmp_path / "x.onnx", pictures, PRE)
    assert {path.name for path in tmp_path.iterdir()} <= {"kdedge-cache"}


def test_session_is_on_the_cpu(small_onnx: Path) -> None:
    assert cpu_session(small_onnx).get_providers() == ["CPUExecutionProvider"]
    assert onnxruntime.get_available_providers()


@pytest.mark.parametrize("transposed", [True, False])
def test_biases_are_shifted_and_made(transposed: bool, tmp_path: Path) -> None:
    """A layer without a bias gets one; one that another node computes is left alone."""
    from onnx import TensorProto, helper

    weight = np.random.default_rng(0).normal(size=(3, 4) if transposed else (4, 3)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["x", "w"], ["a"], "bare", transB=int(transposed)),
            helper.make_node("Gemm", ["x", "w", "b"], ["c"], "biased", transB=int(transposed)),
            helper.make_node("Abs", ["b"], ["made"], "abs"),
            helper.make_node("Gemm", ["x", "w", "made"], ["d"], "computed", transB=int(transposed)),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 4])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3]) for name in "acd"],
        [onnx.numpy_helper.from_array(weight, "w"), onnx.numpy_helper.from_array(np.ones(3, np.float32), "b")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), tmp_path / "a.onnx")
    shift = np.array([0.5, -1.0, 2.0])
    shift_biases(tmp_path / "a.onnx", tmp_path / "b.onnx", dict.fromkeys(("bare", "biased", "computed"), shift))
    x = np.ones((2, 4), np.float32)
    before, after = (cpu_session(tmp_path / name).run(None, {"x": x}) for name in ("a.onnx", "b.onnx"))
    for old, new, wanted in zip(before, after, (shift, shift, 0 * shift), strict=True):
        np.testing.assert_allclose(old - new, np.tile(wanted, (2, 1)), atol=1e-6)
