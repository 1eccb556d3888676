"""A layer left in float must not become int8 behind everybody's back."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from kdedge.export.fusion import fusion_report
from kdedge.export.leave_float import keep_float
from kdedge.export.targets import TARGETS
from tests.export.graphs import graph, kinds, node, optimised, quantise, run, values


def network() -> onnx.ModelProto:
    """Three convolutions and two linear layers; a channel of the second has large weights for what is always zero."""
    first, uneven = values(8, 3, 3, 3), values(8, 8, 3, 3, seed=1) * np.float32(0.1)
    first[0], uneven[0, 0] = 0, 100
    nodes = [
        node("Conv", ["x", "w0"], ["c0"]),
        node("Relu", ["c0"], ["r0"]),
        node("Conv", ["r0", "w1", "b1"], ["c1"], pads=[1] * 4),
        node("Relu", ["c1"], ["r1"]),
        node("Conv", ["r1", "w2"], ["c2"]),
        node("GlobalAveragePool", ["c2"], ["p"]),
        node("Flatten", ["p"], ["f"]),
        node("Gemm", ["f", "g0"], ["h"], transB=1),
        node("Relu", ["h"], ["e"]),
        node("Gemm", ["e", "g1"], ["y"], transB=1),
    ]
    constants = {
        "w0": first,
        "w1": uneven,
        "b1": values(8),
        "w2": values(8, 8, 3, 3, seed=2) * np.float32(0.1),
        "g0": values(8, 8),
        "g1": values(4, 8),
    }
    return graph(nodes, constants)


@pytest.mark.parametrize(("signed", "target"), [(False, "x86"), (True, "arm64")])
def test_onnxruntime_quantises_what_was_left_in_float(signed: bool, target: str, tmp_path: Path) -> None:
    """With one scale for all channels; the day this fails :mod:`kdedge.export.leave_float` is no longer needed."""
    path = quantise(network(), tmp_path / "q.onnx", signed, leave=["c1"])
    assert fusion_report(path, TARGETS[target], ["c1"]).conv_int8 == 3
    config = {"session.qdqisint8allowed": str(int(signed))}
    scales = [item for item in optimised(path, config).graph.initializer if item.name.startswith("c1_weight_scale")]
    assert [onnx.numpy_helper.to_array(item).size for item in scales] == [1]


@pytest.mark.parametrize(("signed", "target"), [(False, "x86"), (True, "arm64")])
def test_it_stays_float(signed: bool, target: str, tmp_path: Path) -> None:
    path = quantise(network(), tmp_path / "q.onnx", signed, leave=["c1"])
    x = values(4, 3, 12, 12, seed=5)
    wanted, before = run(path, x)[0], kinds(onnx.load(path))
    model = onnx.load(path)
    assert keep_float(model, ["c1"]) == 1
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, tmp_path / "k.onnx")
    assert sorted(kinds(model)) == sorted(before)
    np.testing.assert_array_equal(run(tmp_path / "k.onnx", x)[0], wanted)  # unoptimised, the file computes what it did
    report = fusion_report(tmp_path / "k.onnx", TARGETS[target], ["c1"])
    assert (report.conv_int8, report.float_nodes) == (2, ("c1",))
    assert report.reasons == {"c1": "left in float by the accuracy guard"}
    assert len(report.islands) == 1
    assert "Conv" in report.islands[0].ops


def test_it_is_worth_it(tmp_path: Path) -> None:
    """In onnxruntime's own int8 the large weights leave the others next to no steps."""
    from kdedge.export.session import cpu_session

    path = quantise(network(), tmp_path / "q.onnx", leave=["c1"])
    model = onnx.load(path)
    keep_float(model, ["c1"])
    onnx.save(model, tmp_path / "k.onnx")
    x = values(32, 3, 12, 12, seed=5)
    wanted = run(network(), x)[0]
    lost, kept = (np.abs(cpu_session(p).run(None, {"x": x})[0] - wanted).mean() for p in (path, tmp_path / "k.onnx"))
    assert kept < 0.5 * lost


def test_others_read_what_they_did(tmp_path: Path) -> None:
    """The DequantizeLinear another layer reads stays as it is."""
    nodes = [
        node("Conv", ["x", "w0"], ["c0"]),
        node("Relu", ["c0"], ["r0"]),
        node("Conv", ["r0", "w1"], ["c1"], pads=[1] * 4),
        node("Add", ["c1", "r0"], ["s"]),
        node("Conv", ["s", "w2"], ["y"]),
    ]
    model = graph(nodes, {"w0": values(8, 3, 3, 3), "w1": values(8, 8, 3, 3), "w2": values(8, 8, 3, 3, seed=2)})
    path = quantise(model, tmp_path / "q.onnx", leave=["c1"])
    model = onnx.load(path)
    assert keep_float(model, ["c1"]) == 1
    x = values(2, 3, 12, 12, seed=5)
    np.testing.assert_array_equal(run(model, x)[0], run(path, x)[0])
    onnx.save(model, tmp_path / "k.onnx")
    report = fusion_report(tmp_path / "k.onnx", TARGETS["x86"], ["c1"])
    assert report.float_nodes == ("c1",)


def test_what_is_float_anyway_is_left_alone(tmp_path: Path) -> None:
    path = quantise(network(), tmp_path / "q.onnx", leave=["c0"])
    model = onnx.load(path)
    assert keep_float(model, ["c0", "nobody"]) == 0
    assert model == onnx.load(path)
    assert fusion_report(path, TARGETS["x86"], ["c0"]).float_nodes == ("c0",)


def test_weights_that_a_quantised_layer_shares(tmp_path: Path) -> None:
    """They are integers: the layer cannot be float, and a file that onnxruntime cannot run would be worse."""
    from kdedge.export.session import cpu_session

    nodes = [
        node("Conv", ["x", "w0"], ["c0"]),
        node("Conv", ["c0", "w1"], ["c1"]),
        node("Relu", ["c1"], ["r1"]),
        node("Conv", ["r1", "w1"], ["y"]),
    ]
    path = quantise(
        graph(nodes, {"w0": values(8, 3, 3, 3), "w1": values(8, 8, 3, 3)}), tmp_path / "q.onnx", leave=["c1"]
    )
    model = onnx.load(path)
    assert keep_float(model, ["c1"]) == 0
    onnx.save(model, tmp_path / "k.onnx")
    assert fusion_report(tmp_path / "k.onnx", TARGETS["x86"], ["c1"]).float_nodes == ()
    assert np.isfinite(cpu_session(tmp_path / "k.onnx").run(None, {"x": values(2, 3, 12, 12)})[0]).all()
