"""The rules of each target hold on the files that are written, and each of them can be broken."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from kdedge.card import ModelCard
from kdedge.errors import ExportError
from kdedge.export.graph import write_card
from kdedge.export.quantize import quantize_int8
from kdedge.export.targets import TARGETS, Target, target_for
from kdedge.export.to_onnx import export_fp32
from kdedge.export.validate import broken, refuse_broken, validate
from tests.export.conftest import SIZE

VARIANTS = {**TARGETS, "x86-no-vnni": target_for("x86", vnni=False)}


@pytest.fixture(scope="module")
def files(
    small: nn.Module, card: ModelCard, pictures: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """An int8 file for each target, with its card."""
    folder = tmp_path_factory.mktemp("targets")
    made = {}
    for name, target in VARIANTS.items():
        fp32, made[name] = folder / f"{name}.onnx", folder / f"{name}.int8.onnx"
        export_fp32(small, SIZE, fp32, opset=target.opset, ir_version=target.ir_version, batch=target.batch)
        quantize_int8(fp32, made[name], pictures[:20], card.preprocess, "minmax", target=target)
        write_card(made[name], card.with_(precision="int8"))
    return made


@pytest.mark.parametrize("name", VARIANTS)
def test_every_rule_holds(name: str, files: dict[str, Path]) -> None:
    rules = validate(files[name], VARIANTS[name], "int8", SIZE)
    assert broken(rules) == []
    assert len(rules) >= 19
    refuse_broken(rules, VARIANTS[name])


def test_files_of_targets_differ(files: dict[str, Path]) -> None:
    """No target's file passes for another's (but web's, which is x86's)."""
    for name in VARIANTS:
        others = [other for other in VARIANTS if other != name and not {name, other} <= {"x86", "web", "x86-no-vnni"}]
        for other in others:
            assert broken(validate(files[name], VARIANTS[other], "int8", SIZE)), (name, other)
    assert broken(validate(files["x86"], VARIANTS["x86-no-vnni"], "int8", SIZE))


def _set_zero_points(model: onnx.ModelProto) -> None:
    zero = next(node.input[2] for node in model.graph.node if node.op_type == "QuantizeLinear")
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == zero)
    kind = numpy_helper.to_array(tensor).dtype
    tensor.CopyFrom(numpy_helper.from_array(np.array(3, kind), zero))


def _foreign_operator(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Gelu", ["logits"], ["x"], domain="com.microsoft"))
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def _external(model: onnx.ModelProto) -> None:
    entry = model.graph.initializer[0].external_data.add()
    entry.key, entry.value = "location", "weights.bin"


def _quantised_logits(model: onnx.ModelProto) -> None:
    last = next(node for node in model.graph.node if "logits" in node.output)
    last.output[0] = "raw"
    scale, zero = next((n.input[1], n.input[2]) for n in model.graph.node if n.op_type == "QuantizeLinear")
    model.graph.node.append(helper.make_node("QuantizeLinear", ["raw", scale, zero], ["integers"]))
    model.graph.node.append(helper.make_node("DequantizeLinear", ["integers", scale, zero], ["logits"]))


def _large_bias(model: onnx.ModelProto) -> None:
    tensor = next(tensor for tensor in model.graph.initializer if tensor.data_type == TensorProto.INT32 and tensor.dims)
    values = numpy_helper.to_array(tensor).copy()
    values[0] = 2**31 - 1
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def _fixed_batch(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2


def _no_card(model: onnx.ModelProto) -> None:
    del model.metadata_props[:]


def _per_tensor(model: onnx.ModelProto) -> None:
    made = {name: node for node in model.graph.node for name in node.output}
    conv = next(node for node in model.graph.node if node.op_type == "Conv")
    names = made[conv.input[1]].input
    for name in names[1:3]:
        tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).reshape(-1)[0], name))


@pytest.mark.parametrize(
    ("target", "damage", "rule"),
    [
        ("jetson", _set_zero_points, "all zero points are 0"),
        ("x86", _foreign_operator, "standard operators alone"),
        ("x86", _external, "all weights in one file"),
        ("x86", _quantised_logits, "the answer is not quantised"),
        ("jetson", _quantised_logits, "no Q-DQ pair on an output"),
        ("x86", _large_bias, "room for the accumulator above the biases"),
        ("x86", _fixed_batch, f"one input, 'input', float32 ['any', 3, {SIZE}, {SIZE}]"),
        ("x86", _no_card, "a card of this file is inside"),
        ("arm64", _per_tensor, "a scale for each output channel"),
        ("x86", lambda model: setattr(model, "ir_version", 10), "IR version 8"),
        ("x86", lambda model: setattr(model.opset_import[0], "version", 19), "opset 18"),
    ],
)
def test_each_rule_can_break(
    target: str, damage: Callable[[onnx.ModelProto], None], rule: str, files: dict[str, Path], tmp_path: Path
) -> None:
    model = onnx.load(files[target])
    damage(model)
    (tmp_path / "x.onnx").write_bytes(model.SerializeToString())
    rules = validate(tmp_path / "x.onnx", VARIANTS[target], "int8", SIZE)
    assert rule in {found.name for found in broken(rules)}
    with pytest.raises(ExportError, match=f"rules of target {target}"):
        refuse_broken(rules, VARIANTS[target])


def test_a_pair_between_convolution_and_relu_is_found(files: dict[str, Path], tmp_path: Path) -> None:
    model = onnx.load(files["jetson"])
    relu = next(node for node in model.graph.node if node.op_type == "Relu")
    scale, zero = next((n.input[1], n.input[2]) for n in model.graph.node if n.op_type == "QuantizeLinear")
    place = list(model.graph.node).index(relu)
    model.graph.node.insert(place, helper.make_node("QuantizeLinear", [relu.input[0], scale, zero], ["i"]))
    model.graph.node.insert(place + 1, helper.make_node("DequantizeLinear", ["i", scale, zero], ["f"]))
    model.graph.node[place + 2].input[0] = "f"
    onnx.save(model, tmp_path / "x.onnx")
    names = {rule.name for rule in broken(validate(tmp_path / "x.onnx", VARIANTS["jetson"], "int8", SIZE))}
    assert names == {"no Q-DQ pair between a convolution and its ReLU"}


def test_what_is_no_onnx_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"no network")
    with pytest.raises(ExportError, match="not an ONNX file"):
        validate(tmp_path / "x.onnx", Target("x86"), "int8", SIZE)
