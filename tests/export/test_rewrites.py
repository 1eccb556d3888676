"""Rewrites change what runs, not what is computed; and what they cannot prove they leave alone."""

import numpy as np
import onnx
import pytest

from kdedge.export.rewrite_activations import (
    drop_identity,
    drop_redundant_relu,
    leaky_prelu,
    merge_pad_into_max_pool,
    relu_before_pool,
)
from kdedge.export.rewrite_pools import max_pool_globally, pool_globally
from tests.export.graphs import SHAPE, check, graph, leaves, node, values

ZERO, SIX = np.float32(0), np.float32(6)
CONV = {"w": values(4, 3, 3, 3), "b": values(4, seed=1)}


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("axes", [[2, 3], [-1, -2], [3, 2]])
@pytest.mark.parametrize("opset", [17, 18])
def test_mean_over_height_and_width_becomes_pooling(axes: list[int], keepdims: int, opset: int) -> None:
    if opset < 18:  # axes were an attribute
        mean, constants = node("ReduceMean", ["a"], ["y"], axes=axes, keepdims=keepdims), {}
    else:
        mean, constants = node("ReduceMean", ["a", "axes"], ["y"], keepdims=keepdims), {"axes": np.array(axes)}
    model = graph([node("Relu", ["x"], ["a"]), mean], constants, opset=opset)
    check(pool_globally, model, 1, ["Relu", "GlobalAveragePool"] + ([] if keepdims else ["Flatten"]))


def test_mean_of_a_reshaped_map_becomes_pooling() -> None:
    model = graph(
        [node("Reshape", ["x", "s"], ["a"]), node("ReduceMean", ["a", "axes"], ["y"], keepdims=0)],
        {"s": np.array([0, 3, 144]), "axes": np.array([-1])},
    )
    check(pool_globally, model, 1, ["Reshape", "GlobalAveragePool", "Flatten"])
    other = graph(
        [node("Reshape", ["x", "s"], ["a"]), node("ReduceMean", ["a", "axes"], ["y"], keepdims=0)],
        {"s": np.array([0, 6, 72]), "axes": np.array([-1])},
    )
    leaves(pool_globally, other)


def test_mean_of_a_map_with_channels_last_becomes_pooling() -> None:
    nodes = [
        node("Transpose", ["x"], ["a"], perm=[0, 2, 3, 1]),
        node("ReduceMean", ["a", "axes"], ["y"], keepdims=0),
    ]
    check(pool_globally, graph(nodes, {"axes": np.array([1, 2])}), 1, ["Transpose", "GlobalAveragePool", "Flatten"])
    nodes[0] = node("Transpose", ["x"], ["a"], perm=[0, 3, 2, 1])
    leaves(pool_globally, graph(nodes, {"axes": np.array([2, 3])}, shape=("batch", 3, 12)))


@pytest.mark.parametrize(
    ("axes", "shape"), [([1], SHAPE), ([2], SHAPE), ([1, 2, 3], SHAPE), ([1, 2], SHAPE[:3]), ([2, 3], None)]
)
def test_other_means_are_left_alone(axes: list[int], shape: tuple[str | int, ...] | None) -> None:
    nodes = [node("Relu", ["x"], ["a"]), node("ReduceMean", ["a", "axes"], ["y"], keepdims=0)]
    leaves(pool_globally, graph(nodes, {"axes": np.array(axes)}, shape=shape))


def test_mean_over_computed_axes_is_left_alone() -> None:
    nodes = [node("Cast", ["v"], ["axes"], to=onnx.TensorProto.INT64), node("ReduceMean", ["x", "axes"], ["y"])]
    leaves(pool_globally, graph(nodes, {"v": np.array([2.0, 3.0], np.float32)}))


@pytest.mark.parametrize("keepdims", [0, 1])
def test_global_maximum_becomes_a_pool_of_the_whole_map(keepdims: int) -> None:
    model = graph([node("ReduceMax", ["x", "axes"], ["y"], keepdims=keepdims)], {"axes": np.array([2, 3])})
    check(max_pool_globally, model, 1, ["MaxPool"] + ([] if keepdims else ["Flatten"]))
    check(max_pool_globally, graph([node("GlobalMaxPool", ["x"], ["y"])]), 1, ["MaxPool"])
    leaves(max_pool_globally, graph([node("GlobalMaxPool", ["x"], ["y"])], shape=("batch", 3, "h", "w")))


CLIP6 = ["zero", "six"]
LIMITS = {"zero": ZERO, "six": SIX}


@pytest.mark.parametrize(
    ("nodes", "after"),
    [
        ([node("Relu", ["x"], ["a"]), node("Relu", ["a"], ["y"])], ["Relu"]),
        ([node("Clip", ["x", *CLIP6], ["a"]), node("Relu", ["a"], ["y"])], ["Clip"]),
        ([node("Relu", ["x"], ["a"]), node("Clip", ["a", *CLIP6], ["y"])], ["Clip"]),
        ([node("Clip", ["x", *CLIP6], ["a"]), node("Clip", ["a", *CLIP6], ["y"])], ["Clip"]),
        (
            [
                node("Relu", ["x"], ["a"]),
                node("MaxPool", ["a"], ["b"], kernel_shape=[3, 3], pads=[1] * 4),
                node("AveragePool", ["b"], ["c"], kernel_shape=[2, 2], count_include_pad=1, pads=[1] * 4),
                node("Flatten", ["c"], ["d"]),
                node("Relu", ["d"], ["y"]),
            ],
            ["Relu", "MaxPool", "AveragePool", "Flatten"],
        ),
        (
            [
                node("Sigmoid", ["x"], ["a"]),
                node("Relu", ["x"], ["b"]),
                node("Mul", ["a", "b"], ["c"]),
                node("Concat", ["a", "c"], ["d"], axis=1),
                node("Relu", ["d"], ["y"]),
            ],
            ["Sigmoid", "Relu", "Mul", "Concat"],
        ),
        (
            [node("Relu", ["x"], ["a"]), node("Add", ["a", "six"], ["b"]), node("Relu", ["b"], ["y"])],
            ["Relu", "Add"],
        ),
    ],
)
def test_idle_activations_go(nodes: list[onnx.NodeProto], after: list[str]) -> None:
    read = {name for item in nodes for name in item.input}
    check(drop_redundant_relu, graph(nodes, {k: v for k, v in LIMITS.items() if k in read}), 1, after)


@pytest.mark.parametrize(
    "nodes",
    [
        [node("Clip", ["x", "low", "six"], ["a"]), node("Relu", ["a"], ["y"])],
        [node("Sub", ["x", "six"], ["a"]), node("Relu", ["a"], ["y"])],
        [node("Relu", ["x"], ["a"]), node("Sub", ["a", "six"], ["b"]), node("Relu", ["b"], ["y"])],
        [node("ReduceMin", ["x"], ["m"], keepdims=0), node("Clip", ["x", "m"], ["a"]), node("Relu", ["a"], ["y"])],
        [node("Relu", ["x"], ["a"]), node("Add", ["a", "low"], ["b"]), node("Relu", ["b"], ["y"])],
    ],
)
def test_activations_at_work_stay(nodes: list[onnx.NodeProto]) -> None:
    constants = {"low": np.float32(-1), "six": SIX}
    read = {name for item in nodes for name in item.input}
    leaves(drop_redundant_relu, graph(nodes, {k: v for k, v in constants.items() if k in read}))


def test_a_shown_activation_keeps_its_name() -> None:
    nodes = [node("Conv", ["x", "w", "b"], ["a"]), node("Relu", ["a"], ["e"]), node("Relu", ["e"], ["y"])]
    leaves(drop_redundant_relu, graph(nodes, CONV, ["y", "e"]))  # the same tensor cannot have two names
    check(drop_redundant_relu, graph(nodes, CONV, ["y"]), 1, ["Conv", "Relu"])


@pytest.mark.parametrize("cut", ["Relu", "Clip"])
@pytest.mark.parametrize("between", [["MaxPool"], ["MaxPool", "Transpose", "Reshape"], ["Flatten"]])
def test_activation_moves_to_its_layer(cut: str, between: list[str]) -> None:
    attributes = {
        "MaxPool": {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4},
        "Transpose": {"perm": [0, 2, 3, 1]},
    }
    nodes, last = [node("Conv", ["x", "w"], ["c"])], "c"
    for number, kind in enumerate(between):
        inputs = [last, "s"] if kind == "Reshape" else [last]
        last = f"t{number}"
        nodes.append(node(kind, inputs, [last], **attributes.get(kind, {})))
    nodes.append(node(cut, [last, *(CLIP6 if cut == "Clip" else [])], ["y"]))
    constants = {"w": CONV["w"], **(LIMITS if cut == "Clip" else {})}
    if "Reshape" in between:
        constants["s"] = np.array([0, -1])
    check(relu_before_pool, graph(nodes, constants), 1, ["Conv", cut, *between])


def test_activation_moves_where_the_embedding_is_an_output() -> None:
    nodes = [
        node("Conv", ["x", "w"], ["c"]),
        node("MaxPool", ["c"], ["m"], kernel_shape=[10, 10]),
        node("Flatten", ["m"], ["f"]),
        node("Relu", ["f"], ["e"]),
        node("Gemm", ["e", "g"], ["y"], transB=1),
    ]
    model = graph(nodes, {"w": CONV["w"], "g": values(2, 4)}, ["y", "e"])
    check(relu_before_pool, model, 1, ["Conv", "Relu", "MaxPool", "Flatten", "Gemm"])


POOL = {"kernel_shape": [2, 2], "strides": [2, 2]}


@pytest.mark.parametrize(
    ("nodes", "outputs"),
    [
        # the pool's result is read by another node, or shown
        ([node("MaxPool", ["c"], ["m"], **POOL), node("Relu", ["m"], ["y"]), node("Neg", ["m"], ["z"])], ["y", "z"]),
        ([node("MaxPool", ["c"], ["m"], **POOL), node("Relu", ["m"], ["y"])], ["y", "m"]),
        # so is the layer's
        ([node("MaxPool", ["c"], ["m"], **POOL), node("Relu", ["m"], ["y"]), node("Neg", ["c"], ["z"])], ["y", "z"]),
        # a mean is no maximum
        ([node("AveragePool", ["c"], ["m"], **POOL), node("Relu", ["m"], ["y"])], ["y"]),
        # limits that are computed
        (
            [
                node("MaxPool", ["c"], ["m"], **POOL),
                node("ReduceMin", ["x"], ["low"], keepdims=0),
                node("Clip", ["m", "low"], ["y"]),
            ],
            ["y"],
        ),
        # nothing in between
        ([node("Relu", ["c"], ["y"])], ["y"]),
        # not the layer's output
        ([node("Neg", ["c"], ["n"]), node("MaxPool", ["n"], ["m"], **POOL), node("Relu", ["m"], ["y"])], ["y"]),
    ],
)
def test_activation_stays_behind(nodes: list[onnx.NodeProto], outputs: list[str]) -> None:
    leaves(relu_before_pool, graph([node("Conv", ["x", "w"], ["c"]), *nodes], {"w": CONV["w"]}, outputs))


def _padded(first: str = "Relu", value: float = 0.0, **pool: object) -> onnx.ModelProto:
    nodes = [
        node(first, ["x"], ["a"]),
        node("Pad", ["a", "p", "v"], ["b"]),
        node("MaxPool", ["b"], ["y"], **{"kernel_shape": [3, 3], "strides": [2, 2], **pool}),
    ]
    return graph(nodes, {"p": np.array([0, 0, 0, 1, 0, 0, 1, 2]), "v": np.float32(value)})


def test_pad_goes_into_a_max_pool() -> None:
    check(merge_pad_into_max_pool, _padded(), 1, ["Relu", "MaxPool"])
    check(merge_pad_into_max_pool, _padded("Sigmoid", strides=[1, 1]), 1, ["Sigmoid", "MaxPool"])
    check(merge_pad_into_max_pool, _padded(ceil_mode=1, strides=[1, 1]), 1, ["Relu", "MaxPool"])  # nothing to round
    check(merge_pad_into_max_pool, _padded(kernel_shape=[5, 5], pads=[1, 1, 2, 2]), 1, ["Relu", "MaxPool"])


def test_pad_that_others_read_stays_for_them() -> None:
    model = _padded()
    model.graph.output.append(onnx.helper.make_tensor_value_info("b", onnx.TensorProto.FLOAT, ["batch", 3, 13, 15]))
    check(merge_pad_into_max_pool, model, 1, ["Relu", "Pad", "MaxPool"])


def test_pad_that_shows_stays() -> None:
    leaves(merge_pad_into_max_pool, _padded("Neg"))  # zero may be the maximum
    leaves(merge_pad_into_max_pool, _padded(value=1.0))
    leaves(merge_pad_into_max_pool, _padded(kernel_shape=[2, 2]))  # a window could hold nothing else
    leaves(merge_pad_into_max_pool, _padded(ceil_mode=1))
    leaves(merge_pad_into_max_pool, _padded(auto_pad="SAME_UPPER"))


def test_prelu_with_one_slope_is_leaky() -> None:
    check(leaky_prelu, graph([node("PRelu", ["x", "s"], ["y"])], {"s": np.array([0.2], np.float32)}), 1, ["LeakyRelu"])
    same = graph([node("PRelu", ["x", "s"], ["y"])], {"s": np.full((3, 1, 1), 0.1, np.float32)})
    check(leaky_prelu, same, 1, ["LeakyRelu"])
    leaves(leaky_prelu, graph([node("PRelu", ["x", "s"], ["y"])], {"s": values(3, 1, 1)}))


def test_nodes_that_do_nothing_go() -> None:
    nodes = [node("Neg", ["x"], ["a"]), node("Dropout", ["a"], ["b"]), node("Identity", ["b"], ["y"])]
    check(drop_identity, graph(nodes), 2, ["Neg"])
    leaves(drop_identity, graph([node("Identity", ["x"], ["y"])]))  # input and output cannot be one
    leaves(drop_identity, graph([node("Neg", ["x"], ["a"]), node("Identity", ["a"], ["y"])], outputs=["y", "a"]))
    training = [node("Dropout", ["x", "r", "t"], ["a"]), node("Neg", ["a"], ["y"])]
    leaves(drop_identity, graph(training, {"r": np.float32(0.5), "t": np.array(True)}))
