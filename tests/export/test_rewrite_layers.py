"""Layers take up what stands behind them, and compute what both did."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import nn

from kdedge.export.rewrite_layers import (
    batchnorm_to_conv,
    convolution_to_gemm,
    fold_batchnorm,
    fold_hardsigmoid,
    matmul_to_gemm,
)
from kdedge.export.rewrites import REWRITES, rewrite
from kdedge.export.wiring import constants_to_initializers
from tests.export.graphs import check, graph, kinds, leaves, node, run, values

NORM = ["gamma", "beta", "mean", "variance"]


def norm(channels: int) -> dict[str, NDArray[np.float32]]:
    """Parameters of a BatchNormalization far from those of a new one."""
    parts = {name: values(channels, seed=number) for number, name in enumerate(NORM)}
    return {**parts, "variance": np.abs(parts["variance"]) + np.float32(0.1)}


def layer(kind: str, bias: bool = True, **attributes: Any) -> tuple[list[onnx.NodeProto], dict[str, NDArray[Any]]]:
    """A layer of 4 outputs called ``a`` of the input ``x``."""
    constants = {"b": values(4, seed=9)} if bias else {}
    if kind == "Conv":
        shape = (4, 3, 3, 3)
        return [node("Conv", ["x", "w", *constants], ["a"], **attributes)], {"w": values(*shape), **constants}
    shape = (4, 432) if attributes.get("transB") else (432, 4)
    nodes = [node("Flatten", ["x"], ["f"]), node("Gemm", ["f", "w", *constants], ["a"], **attributes)]
    return nodes, {"w": values(*shape) * np.float32(0.05), **constants}


LAYERS = [
    ("Conv", True, {}),
    ("Conv", False, {"pads": [1] * 4, "strides": [2, 2]}),
    ("Gemm", True, {}),
    ("Gemm", False, {"transB": 1}),
    ("Gemm", True, {"transB": 1, "alpha": 0.5, "beta": 2.0}),
]


@pytest.mark.parametrize(("kind", "bias", "attributes"), LAYERS)
def test_batchnorm_goes_into_its_layer(kind: str, bias: bool, attributes: dict[str, Any]) -> None:
    nodes, constants = layer(kind, bias, **attributes)
    nodes.append(node("BatchNormalization", ["a", *NORM], ["y"], epsilon=1e-3))
    check(fold_batchnorm, graph(nodes, {**constants, **norm(4)}), 1, kinds(graph(nodes[:-1], outputs=["a"])))


def test_batchnorm_of_a_grouped_convolution() -> None:
    nodes = [node("Conv", ["x", "w"], ["a"], group=3), node("BatchNormalization", ["a", *NORM], ["y"])]
    check(fold_batchnorm, graph(nodes, {"w": values(6, 1, 3, 3), **norm(6)}), 1, ["Conv"])


def test_a_shared_weight_is_copied() -> None:
    nodes = [
        node("Conv", ["x", "w"], ["a"]),
        node("Conv", ["x", "w"], ["z"]),
        node("BatchNormalization", ["a", *NORM], ["y"]),
    ]
    check(fold_batchnorm, graph(nodes, {"w": values(4, 3, 3, 3), **norm(4)}, ["y", "z"]), 1, ["Conv", "Conv"])


def test_arithmetic_is_exact() -> None:
    """As close as float32 weights can be to the product in float64, where float32 arithmetic is not."""
    nodes, constants = layer("Conv")
    nodes.append(node("BatchNormalization", ["a", *NORM], ["y"]))
    model = graph(nodes, {**constants, **norm(4)})
    fold_batchnorm(model)
    p = {name: value.astype(np.float64) for name, value in norm(4).items()}
    scale = p["gamma"] / np.sqrt(p["variance"] + 1e-5)
    found = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    weight, bias = (found[name] for name in model.graph.node[0].input[1:])
    np.testing.assert_array_equal(weight, (constants["w"] * scale.reshape(-1, 1, 1, 1)).astype(np.float32))
    np.testing.assert_array_equal(bias, ((constants["b"] - p["mean"]) * scale + p["beta"]).astype(np.float32))


@pytest.mark.parametrize(
    ("more", "outputs", "attributes"),
    [
        ([node("Neg", ["a"], ["z"])], ["y", "z"], {}),  # read twice
        ([], ["y", "a"], {}),  # shown
        ([], ["y"], {"training_mode": 1}),
    ],
)
def test_batchnorm_stays(more: list[onnx.NodeProto], outputs: list[str], attributes: dict[str, Any]) -> None:
    nodes, constants = layer("Conv")
    results = ["y", "m", "v"] if attributes else ["y"]
    nodes += [node("BatchNormalization", ["a", *NORM], results, **attributes), *more]
    leaves(fold_batchnorm, graph(nodes, {**constants, **norm(4)}, outputs))


def test_computed_parameters_stay() -> None:
    nodes, constants = layer("Conv")
    nodes += [node("Abs", ["v"], ["variance"]), node("BatchNormalization", ["a", *NORM], ["y"])]
    parameters = norm(4)
    parameters["v"] = parameters.pop("variance")
    leaves(fold_batchnorm, graph(nodes, {**constants, **parameters}))
    nodes = [
        node("Abs", ["u"], ["w"]),
        node("Conv", ["x", "w"], ["a"]),
        node("BatchNormalization", ["a", *NORM], ["y"]),
    ]
    leaves(fold_batchnorm, graph(nodes, {"u": values(4, 3, 3, 3), **norm(4)}))


@pytest.mark.parametrize(("kind", "bias", "attributes"), LAYERS)
@pytest.mark.parametrize("slope", [{}, {"alpha": 1 / 6, "beta": 0.5}, {"alpha": -0.3, "beta": 0.1}])
def test_hardsigmoid_becomes_a_clip(kind: str, bias: bool, attributes: dict[str, Any], slope: dict[str, float]) -> None:
    nodes, constants = layer(kind, bias, **attributes)
    before = kinds(graph(nodes, outputs=["a"]))
    nodes.append(node("HardSigmoid", ["a"], ["y"], **slope))
    check(fold_hardsigmoid, graph(nodes, constants), 1, [*before, "Clip"])


def test_hardsigmoid_of_something_else_stays() -> None:
    leaves(fold_hardsigmoid, graph([node("HardSigmoid", ["x"], ["y"])]))
    nodes, constants = layer("Conv")
    nodes += [node("HardSigmoid", ["a"], ["h"]), node("Mul", ["a", "h"], ["y"])]  # a HardSwish
    leaves(fold_hardsigmoid, graph(nodes, constants))


def test_batchnorm_without_a_layer_becomes_one() -> None:
    nodes = [node("BatchNormalization", ["x", *NORM], ["a"], epsilon=1e-3), node("Relu", ["a"], ["y"])]
    model = graph(nodes, norm(3))
    check(batchnorm_to_conv, model, 1, ["Conv", "Relu"])
    flat = [node("Flatten", ["x"], ["f"]), node("BatchNormalization", ["f", *NORM], ["y"])]
    leaves(batchnorm_to_conv, graph(flat, norm(432)))
    leaves(batchnorm_to_conv, graph(nodes, norm(3), shape=None))


@pytest.mark.parametrize("bias", [None, (5,), (1, 5)])
def test_product_becomes_gemm(bias: Sequence[int] | None) -> None:
    nodes, constants = [node("Flatten", ["x"], ["f"]), node("MatMul", ["f", "w"], ["a"])], {"w": values(432, 5)}
    if bias:
        nodes, constants = [*nodes, node("Add", ["b", "a"], ["y"])], {**constants, "b": values(*bias)}
    check(matmul_to_gemm, graph(nodes, constants, ["y" if bias else "a"]), 1, ["Flatten", "Gemm"])


def test_other_products_stay() -> None:
    leaves(matmul_to_gemm, graph([node("MatMul", ["x", "w"], ["y"])], {"w": values(12, 5)}))
    nodes = [node("Flatten", ["x"], ["f"]), node("MatMul", ["f", "w"], ["a"]), node("Add", ["a", "b"], ["y"])]
    model = graph(nodes, {"w": values(432, 5), "b": values(2, 5)}, ["y", "a"])
    check(matmul_to_gemm, model, 1, ["Flatten", "Gemm", "Add"])  # the sum stays: its other half is shown, and no bias


@pytest.mark.parametrize("flat", ["Flatten", "Reshape", "Squeeze"])
def test_last_convolution_of_a_pixel_becomes_gemm(flat: str) -> None:
    shape = {"Flatten": [], "Reshape": ["s"], "Squeeze": ["q"]}[flat]
    nodes = [
        node("GlobalAveragePool", ["x"], ["p"]),
        node("Conv", ["p", "w", "b"], ["a"]),
        node(flat, ["a", *shape], ["y"]),
    ]
    constants = {"w": values(5, 3, 1, 1), "b": values(5), "s": np.array([0, 5]), "q": np.array([2, 3])}
    used = {name: value for name, value in constants.items() if name in ("w", "b", *shape)}
    model = graph(nodes, used)
    check(convolution_to_gemm, model, 1, ["GlobalAveragePool", "Flatten", "Gemm"])


def test_other_convolutions_stay() -> None:
    nodes = [node("Conv", ["x", "w"], ["a"]), node("Flatten", ["a"], ["y"])]
    leaves(convolution_to_gemm, graph(nodes, {"w": values(5, 3, 1, 1)}))
    pool = node("GlobalAveragePool", ["x"], ["p"])
    grouped = [pool, node("Conv", ["p", "w"], ["a"], group=3), node("Flatten", ["a"], ["y"])]
    leaves(convolution_to_gemm, graph(grouped, {"w": values(6, 1, 1, 1)}))
    padded = [pool, node("Conv", ["p", "w"], ["a"], pads=[1] * 4), node("Flatten", ["a"], ["y"])]
    leaves(convolution_to_gemm, graph(padded, {"w": values(6, 3, 1, 1)}))
    between = [pool, node("Conv", ["p", "w"], ["a"]), node("Flatten", ["a"], ["f"]), node("Relu", ["f"], ["y"])]
    leaves(convolution_to_gemm, graph(between, {"w": values(6, 3, 1, 1)}))


def test_constants_become_initializers() -> None:
    made = node("Constant", [], ["c"], value=numpy_helper.from_array(values(1, 3, 1, 1)))
    check(constants_to_initializers, graph([made, node("Add", ["x", "c"], ["y"])]), 1, ["Add"])


def test_all_together_and_again() -> None:
    """Each makes way for the next: without Identity and the pool in between, everything is one layer."""
    nodes, constants = layer("Conv")
    nodes += [
        node("Identity", ["a"], ["i"]),
        node("BatchNormalization", ["i", *NORM], ["n"]),
        node("MaxPool", ["n"], ["m"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Relu", ["m"], ["r"]),
        node("Relu", ["r"], ["r2"]),
        node("ReduceMean", ["r2", "axes"], ["e"], keepdims=0),
        node("MatMul", ["e", "g"], ["y"]),
    ]
    constants = {**constants, **norm(4), "axes": np.array([2, 3]), "g": values(4, 2)}
    model = graph(nodes, constants, ["y", "e"])
    x = values(2, 3, 12, 12, seed=7)
    before = run(model, x)
    found = rewrite(model)
    assert found == {
        "drop_identity": 1,
        "pool_globally": 1,
        "matmul_to_gemm": 1,
        "fold_batchnorm": 1,
        "drop_redundant_relu": 1,
        "relu_before_pool": 1,
    }
    assert set(found) <= set(REWRITES)
    onnx.checker.check_model(model, full_check=True)
    assert kinds(model) == ["Conv", "Relu", "MaxPool", "GlobalAveragePool", "Flatten", "Gemm"]
    for old, new in zip(before, run(model, x), strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-5, atol=1e-5)
    assert rewrite(model) == {}


@pytest.mark.parametrize("name", ["repvgg_a0", "mobileone_s0"])
def test_merged_branches_compute_what_the_branches_did(name: str) -> None:
    """With the statistics of a new network every BatchNormalization is the identity, and the test would prove little."""
    import timm
    from timm.utils.model import reparameterize_model

    torch.manual_seed(0)
    model: nn.Module = timm.create_model(name, num_classes=3).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    x = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        wanted = model.double()(x.double())
        merged = reparameterize_model(model)
        found = merged(x.double())
        plain: Callable[[torch.Tensor], torch.Tensor] = merged.float()
        single = plain(x)
    assert sum(isinstance(module, nn.BatchNorm2d) for module in merged.modules()) == 0
    assert float(wanted.abs().max()) > 1e-3
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(single.double(), wanted, rtol=1e-3, atol=1e-3 * float(wanted.abs().max()))
