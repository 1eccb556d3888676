"""The report tells what runs, not what the file hopes for, and why."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from kdedge.export.fusion import FusionReport, Island, fusion_report
from kdedge.export.targets import TARGETS
from tests.export.graphs import graph, node, quantise, values

X86, ARM, JETSON = TARGETS["x86"], TARGETS["arm64"], TARGETS["jetson"]


def residual(middle: list[onnx.NodeProto] | None = None, last: str = "r") -> onnx.ModelProto:
    """Four convolutions, one of them in a residual branch, and a linear layer; ``middle`` may stand before the last."""
    nodes = [
        node("Conv", ["x", "w0"], ["c0"]),
        node("Relu", ["c0"], ["r0"]),
        node("Conv", ["r0", "w1"], ["c1"], pads=[1] * 4),
        node("Relu", ["c1"], ["r1"]),
        node("Conv", ["r1", "w2"], ["c2"], pads=[1] * 4),
        node("Add", ["c2", "r0"], ["s"]),
        node("Relu", ["s"], ["r"]),
        *(middle or []),
        node("Conv", [last, "w3"], ["c3"]),
        node("GlobalAveragePool", ["c3"], ["p"]),
        node("Flatten", ["p"], ["e"]),
        node("Gemm", ["e", "g"], ["y"], transB=1),
    ]
    constants = {
        "w0": values(8, 3, 3, 3),
        **{f"w{n}": values(8, 8, 3, 3, seed=n) * np.float32(0.1) for n in (1, 2, 3)},
        "g": values(4, 8),
    }
    return graph(nodes, constants, ["y", "e"])


def test_all_int8(tmp_path: Path) -> None:
    report = fusion_report(quantise(residual(), tmp_path / "q.onnx"), X86)
    assert (report.conv_int8, report.conv_total, report.linear_int8, report.linear_total) == (4, 4, 1, 1)
    assert (report.share, report.float_nodes, report.reasons, report.islands) == (1.0, (), {}, ())
    assert report.kernel_source == "onnxruntime CPU"


def test_embedding_and_logits_are_no_island(tmp_path: Path) -> None:
    path = quantise(residual(), tmp_path / "q.onnx")
    names = {value.name for value in onnx.load(path).graph.output}
    assert names == {"y", "e"}
    assert fusion_report(path, X86).islands == ()


def test_fp32_file_has_no_int8(tmp_path: Path) -> None:
    onnx.save(residual(), tmp_path / "f.onnx")
    report = fusion_report(tmp_path / "f.onnx")
    assert (report.conv_int8, report.conv_total, report.linear_int8, report.share) == (0, 4, 0, 0.0)
    assert sorted(report.float_nodes) == ["c0", "c1", "c2", "c3", "y"]
    assert set(report.reasons.values()) == {"the file is not quantised"}
    assert report.islands == ()


def test_signed_activations(tmp_path: Path) -> None:
    """The same file is all int8 on ARM and half float on x86."""
    path = quantise(residual(), tmp_path / "q.onnx", signed=True)
    assert fusion_report(path, ARM).share == 1.0
    assert fusion_report(path, ARM).islands == ()
    report = fusion_report(path, X86)
    assert report.conv_int8 < report.conv_total == 4
    assert set(report.float_nodes) == set(report.reasons) <= {"c0", "c1", "c2", "c3"}
    assert all(reason.startswith("signed activations") for reason in report.reasons.values())
    assert any("Add" in island.ops for island in report.islands)


@pytest.mark.parametrize("kind", ["HardSwish", "Elu", "BatchNormalization"])
def test_operators_without_a_kernel_are_islands(kind: str, tmp_path: Path) -> None:
    norm = ["w", "w", "w", "w"] if kind == "BatchNormalization" else []
    model = residual([node(kind, ["r", *norm], ["h"])], "h")
    if norm:
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(8, np.float32), "w"))
    report = fusion_report(quantise(model, tmp_path / "q.onnx"), X86)
    assert report.share == 1.0
    assert len(report.islands) == 1
    # onnxruntime writes HardSwish as x * hardsigmoid(x)
    assert report.islands[0].ops == (("HardSigmoid", "Mul") if kind == "HardSwish" else (kind,))
    assert len(report.islands[0].nodes) == len(report.islands[0].ops)


def test_neighbouring_float_operators_are_one_island(tmp_path: Path) -> None:
    middle = [node("Elu", ["r"], ["h0"]), node("Neg", ["h0"], ["h1"]), node("Exp", ["h1"], ["h"])]
    report = fusion_report(quantise(residual(middle, "h"), tmp_path / "q.onnx"), X86)
    assert [island.ops for island in report.islands] == [("Elu", "Neg", "Exp")]
    assert report.islands[0].nodes == ("h0", "h1", "h")


def test_what_was_left_in_float_is_said_so(tmp_path: Path) -> None:
    path = quantise(residual(), tmp_path / "q.onnx", leave=["c0", "y"])
    report = fusion_report(path, X86, ["c0", "y"])
    assert (report.conv_int8, report.linear_int8) == (3, 0)
    assert report.reasons == dict.fromkeys(["c0", "y"], "left in float by the accuracy guard")
    assert report.islands == ()  # the first and the last layer have integers on one side only
    unasked = fusion_report(path, X86)
    assert unasked.reasons == {
        "c0": "its input is the network's, which is not quantised",
        "y": "its weights are not quantised",
    }


def test_a_float_operator_before_a_layer_is_named(tmp_path: Path) -> None:
    model = residual([node("Elu", ["r"], ["h"])], "h")
    report = fusion_report(quantise(model, tmp_path / "q.onnx", leave=["c3", "h"]), X86)
    assert report.reasons == {"c3": "its input is float: Elu before it gives no integers"}


def test_placement_for_other_runtimes(tmp_path: Path) -> None:
    jetson = {"ActivationSymmetric": True, "AddQDQPairToWeight": True, "QuantizeBias": False}
    path = quantise(residual(), tmp_path / "q.onnx", signed=True, **jetson)
    report = fusion_report(path, JETSON)
    assert (report.conv_int8, report.conv_total, report.linear_int8, report.linear_total) == (4, 4, 1, 1)
    assert report.kernel_source == "placement of Q/DQ"
    path = quantise(residual(), tmp_path / "q.onnx", signed=True, leave=["c1", "c2"], **jetson)
    report = fusion_report(path, JETSON, ["c2"])
    assert (report.conv_int8, report.float_nodes) == (2, ("c1", "c2"))
    assert report.reasons["c2"] == "left in float by the accuracy guard"
    assert report.reasons["c1"] == "its weights are not quantised"


def test_names_are_those_of_the_file(tmp_path: Path) -> None:
    """onnxruntime renames layers it merges with activations or puts into another layout."""
    model = residual()
    for item in model.graph.node:
        item.name = f"layer/{item.output[0]}"
    path = quantise(model, tmp_path / "q.onnx", leave=["layer/c1", "layer/c2", "layer/r1"])
    assert set(fusion_report(path, X86).float_nodes) == {"layer/c1", "layer/c2"}


def test_report_survives_json() -> None:
    islands = (Island(("Elu", "Neg"), ("a", "b")),)
    report = FusionReport(4, 3, 1, 1, ("c",), {"c": "why"}, islands, "placement of Q/DQ")
    value = json.loads(json.dumps(report.to_dict()))
    assert value["share"] == 0.75
    assert FusionReport.from_dict(value) == report
    old = {key: value[key] for key in ("conv_total", "conv_int8", "linear_total", "linear_int8", "float_nodes")}
    assert FusionReport.from_dict(old) == FusionReport(4, 3, 1, 1, ("c",))


def test_network_without_convolutions_has_a_share() -> None:
    assert FusionReport(0, 0, 4, 3, ("x",)).share == 0.75
    assert FusionReport(0, 0, 0, 0, ()).share == 1.0
