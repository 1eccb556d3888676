"""What onnxruntime 1.32, PyTorch 2.14 and onnx 1.23 really do, where an int8 network could quietly be none.

Each test says what the export works round. One that fails after an update may mean that a detour can go.
"""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from torch import nn

from kdedge.export.fusion import fusion_report
from kdedge.export.quiet import quiet
from kdedge.export.rewrites import rewrite
from kdedge.export.targets import TARGETS
from kdedge.export.to_onnx import export_fp32
from tests.export.graphs import graph, kinds, node, optimised, quantise, values

X86, ARM = TARGETS["x86"], TARGETS["arm64"]


class Residual(nn.Module):
    """A stem and two residual blocks: five convolutions, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2, 1)
        self.convs = nn.ModuleList([nn.Conv2d(16, 16, 3, 1, 1) for _ in range(4)])
        self.head = nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        for first, second in zip(self.convs[::2], self.convs[1::2], strict=True):
            x = torch.relu(x + second(torch.relu(first(x))))
        logits: torch.Tensor = self.head(x.mean((2, 3)))
        return logits


class Excited(nn.Module):
    """Two convolutions with HardSwish and a squeeze-and-excitation gate, as in MobileNetV3."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.point = nn.Conv2d(3, 16, 3, 2, 1), nn.Conv2d(16, 16, 1)
        self.less, self.more = nn.Conv2d(16, 8, 1), nn.Conv2d(8, 16, 1)
        self.head = nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.hardswish(self.stem(x))
        gate = nn.functional.hardsigmoid(self.more(torch.relu(self.less(x.mean((2, 3), keepdim=True)))))
        x = torch.relu(self.point(x * gate))
        logits: torch.Tensor = self.head(x.mean((2, 3)))
        return logits


def plain(model: nn.Module, path: Path) -> onnx.ModelProto:
    """What PyTorch's exporter writes, before any of our rewrites."""
    with quiet(), torch.no_grad():
        program = torch.onnx.export(model.eval(), (torch.zeros(2, 3, 32, 32),), dynamo=True, external_data=False)
    assert program is not None
    onnx.save(program.model_proto, path)
    return onnx.load(path)


@pytest.fixture(scope="module")
def residual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("traps") / "residual.onnx"
    export_fp32(Residual(), 32, path)
    return path


def test_a_signed_activations_keep_residual_convolutions_float(residual: Path, tmp_path: Path) -> None:
    """S8S8, the quantiser's default: on x86 only convolutions away from a residual run in int8; with U8S8 all do."""
    unsigned = fusion_report(quantise(residual, tmp_path / "u.onnx"), X86)
    assert (unsigned.conv_int8, unsigned.conv_total, unsigned.islands) == (5, 5, ())
    path = quantise(residual, tmp_path / "s.onnx", signed=True)
    signed = fusion_report(path, X86)
    assert 0 < signed.conv_int8 < signed.conv_total == 5
    assert {ops for island in signed.islands for ops in island.ops} >= {"Conv", "Add"}
    arm = fusion_report(path, ARM)
    assert (arm.conv_int8, arm.islands) == (5, ())


def test_a_switch_for_arm_is_off_on_x86(residual: Path, tmp_path: Path) -> None:
    """What the report sets for ``arm64`` is what this machine's build does not do by default, unless it is an ARM."""
    path = quantise(residual, tmp_path / "s.onnx", signed=True)
    floats = {on: kinds(optimised(path, {"session.qdqisint8allowed": on})).count("Conv") for on in "01"}
    assert floats["1"] == 0 < floats["0"]
    here = kinds(optimised(path)).count("Conv")
    assert here == floats["1" if X86.runs_here is False and ARM.runs_here else "0"]


@pytest.mark.parametrize("signed", [False, True])
def test_b_symmetric_activations_keep_relu_apart(signed: bool, residual: Path, tmp_path: Path) -> None:
    """With zero point 0 for signed integers a ReLU is no saturation: each stays, in float, between two conversions.

    Unsigned integers with a symmetric scale have zero point 128, and it is the same.
    """
    config = {"session.qdqisint8allowed": "1"}
    free = Counter(kinds(optimised(quantise(residual, tmp_path / "a.onnx", signed), config)))
    path = quantise(residual, tmp_path / "s.onnx", signed, ActivationSymmetric=True)
    bound = Counter(kinds(optimised(path, config)))
    assert free["Relu"] == 0
    assert bound["Relu"] == 5
    assert bound["QLinearConv"] == free["QLinearConv"] == 5
    assert sum(bound.values()) >= sum(free.values()) + 3 * 5 - 1  # DequantizeLinear, Relu, QuantizeLinear for each
    islands = fusion_report(path, ARM if signed else X86).islands
    assert Counter(island.ops for island in islands) == {("Relu",): 5}


def test_c_hardswish_and_gates_are_float_islands(tmp_path: Path) -> None:
    """HardSwish and HardSigmoid have no int8 kernel; the gate's HardSigmoid can go into its convolution, HardSwish not."""
    torch.manual_seed(0)
    source = plain(Excited(), tmp_path / "f.onnx")
    assert Counter(kinds(source))["HardSigmoid"] == Counter(kinds(source))["HardSwish"] == 1
    before = fusion_report(quantise(source, tmp_path / "q.onnx"), X86)
    assert before.share == 1.0  # every convolution is int8, and yet the network is no faster
    assert Counter(island.ops for island in before.islands)["HardSigmoid",] == 1
    assert any("Mul" in island.ops for island in before.islands)  # HardSwish is written x * hardsigmoid(x)
    rewrite(source)
    after = fusion_report(quantise(source, tmp_path / "r.onnx"), X86)
    assert [island.ops for island in after.islands] == [("HardSigmoid", "Mul")]


def test_c_sigmoid_silu_and_leaky_relu_have_kernels(tmp_path: Path) -> None:
    nodes = [
        node("Conv", ["x", "w0"], ["c0"]),
        node("Sigmoid", ["c0"], ["s0"]),
        node("Mul", ["c0", "s0"], ["m0"]),
        node("Conv", ["m0", "w1"], ["c1"]),
        node("LeakyRelu", ["c1"], ["l1"], alpha=0.1),
        node("Conv", ["l1", "w1"], ["y"]),
    ]
    path = quantise(graph(nodes, {"w0": values(8, 3, 3, 3), "w1": values(8, 8, 3, 3)}), tmp_path / "q.onnx")
    assert fusion_report(path, X86).islands == ()
    assert {"QLinearSigmoid", "QLinearMul", "QLinearLeakyRelu"} <= set(kinds(optimised(path)))


def test_d_a_mean_over_the_map_stays_float(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = plain(Residual(), tmp_path / "f.onnx")
    assert "ReduceMean" in kinds(source)
    assert "GlobalAveragePool" not in kinds(source)
    path = quantise(source, tmp_path / "q.onnx")
    assert "ReduceMean" in kinds(optimised(path))
    assert [island.ops for island in fusion_report(path, X86).islands] == [("ReduceMean",)]
    assert rewrite(source) == {"pool_globally": 1}
    path = quantise(source, tmp_path / "r.onnx")
    assert "QLinearGlobalAveragePool" in kinds(optimised(path))
    assert fusion_report(path, X86).islands == ()


def test_e_default_file_formats_are_newer_than_devices(residual: Path, tmp_path: Path) -> None:
    """onnx writes the newest IR version unless told; PyTorch and our own files do not."""
    made = helper.make_model(helper.make_graph([], "g", [], []))
    assert made.ir_version == onnx.IR_VERSION >= 14
    assert made.opset_import[0].version == onnx.defs.onnx_opset_version() >= 28
    torchs = plain(Residual(), tmp_path / "f.onnx")
    assert torchs.ir_version == 10
    assert [item.version for item in torchs.opset_import if item.domain == ""] == [20]
    ours = onnx.load(residual)
    assert (ours.ir_version, [item.version for item in ours.opset_import]) == (8, [18])


def test_g_a_relu_behind_a_pool_makes_the_pool_float(tmp_path: Path) -> None:
    nodes = [
        node("Conv", ["x", "w0"], ["c0"]),
        node("MaxPool", ["c0"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Relu", ["p"], ["r"]),
        node("Conv", ["r", "w1"], ["y"]),
    ]
    source = graph(nodes, {"w0": values(8, 3, 3, 3), "w1": values(8, 8, 3, 3)})
    before = fusion_report(quantise(source, tmp_path / "q.onnx"), X86)
    assert any("MaxPool" in island.ops for island in before.islands)
    rewrite(source)
    assert fusion_report(quantise(source, tmp_path / "r.onnx"), X86).islands == ()


def test_h_a_batchnorm_by_itself_is_an_island(tmp_path: Path) -> None:
    """Pre-activation and dense networks; as a depthwise convolution of one pixel it is int8."""
    norm = {
        "gamma": values(8),
        "beta": values(8, seed=1),
        "mean": values(8, seed=2),
        "variance": np.ones(8, np.float32),
    }
    nodes = [
        node("Conv", ["x", "w0"], ["c0"]),
        node("BatchNormalization", ["c0", *norm], ["n"]),
        node("Relu", ["n"], ["r"]),
        node("Conv", ["r", "w1"], ["c1"], pads=[1] * 4),
        node("Add", ["c0", "c1"], ["y"]),
    ]
    source = graph(nodes, {"w0": values(8, 3, 3, 3), "w1": values(8, 8, 3, 3), **norm})
    before = fusion_report(quantise(source, tmp_path / "q.onnx"), X86)
    assert [island.ops for island in before.islands] == [("BatchNormalization",)]
    assert rewrite(source) == {"batchnorm_to_conv": 1}
    after = fusion_report(quantise(source, tmp_path / "r.onnx"), X86)
    assert (after.conv_int8, after.conv_total, after.islands) == (3, 3, ())


def _block_quantised(kind: str) -> onnx.ModelProto:
    """A layer of 64 inputs and 8 outputs whose int8 weights have a scale for every 16 inputs."""
    inputs, block = 64, 16
    conv = kind == "Conv"
    shape, tail = ((8, inputs, 3, 3), (3, 3)) if conv else ((inputs, 8), ())
    integers = np.random.default_rng(0).integers(-127, 128, shape).astype(np.int8)
    scales = np.abs(values(*((8, inputs // block, *tail) if conv else (inputs // block, 8)))) * np.float32(0.01)
    nodes = [
        node("DequantizeLinear", ["q", "s"], ["w"], axis=1 if conv else 0, block_size=block),
        node(kind, ["x", "w"], ["y"]),
    ]
    return graph(
        nodes, {"q": integers, "s": scales}, shape=("batch", inputs, 6, 6) if conv else ("batch", inputs), opset=21
    )


@pytest.mark.parametrize("kind", ["Conv", "Gemm", "MatMul"])
def test_i_block_quantised_weights(kind: str, tmp_path: Path) -> None:
    """Not what was told of older versions: products get a kernel that reads the integers, and that is faster than float.

    Only a convolution's weights are dequantised at every run (a third slower), unless ``session.disable_quant_qdq``
    folds them once.
    """
    path = tmp_path / "b.onnx"
    onnx.save(_block_quantised(kind), path)
    assert kinds(optimised(path)) == (["DequantizeLinear", "Conv"] if kind == "Conv" else ["MatMulNBits"])
    report = fusion_report(path, X86)
    assert (report.conv_int8 + report.linear_int8, report.conv_total + report.linear_total) == (0, 1)
    assert report.float_nodes == ("y",)
    folded = kinds(optimised(path, {"session.disable_quant_qdq": "1"}))
    assert kind in folded
    assert "DequantizeLinear" not in folded
