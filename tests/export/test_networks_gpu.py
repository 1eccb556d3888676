"""Untrained networks for a GPU: they load on the CPU too, and say what they are."""

import numpy as np
import onnx
import pytest

from kdedge.errors import ExportError
from kdedge.export.networks_gpu import network_gpu
from kdedge.runtime.classifier import Classifier

SMALL = ("timm/resnet10t", 32)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_network_for_tensorrt(precision) -> None:
    path = network_gpu(*SMALL, precision, classes=5)
    made = path.stat().st_mtime_ns
    card = Classifier(path, 1).card
    assert (card.precision, card.target, len(card.labels)) == (precision, "jetson", 5)
    model = onnx.load(path)
    kinds = {tensor.data_type for tensor in model.graph.initializer}
    if precision == "fp16":
        assert onnx.TensorProto.FLOAT16 in kinds
    else:
        zeros = {node.input[2] for node in model.graph.node if node.op_type == "QuantizeLinear" and len(node.input) > 2}
        values = [onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer if tensor.name in zeros]
        assert all(value.dtype == np.int8 and not value.any() for value in values)
        assert values
    assert network_gpu(*SMALL, precision, classes=5) == path
    assert path.stat().st_mtime_ns == made


def test_other_precisions() -> None:
    with pytest.raises(ExportError, match="fp64"):
        network_gpu(*SMALL, "fp64")  # type: ignore[arg-type]
