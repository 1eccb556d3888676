"""How much of its own error each layer makes when it is quantised, all layers at once.

The float network and the quantised layers run in one graph: every layer is there twice, once in float and once with its
quantised weights on the quantised form of the *float* network's activations. What a layer's two outputs differ by is
its own error, whatever the layers before it do. One run over a few images gives the error of every layer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from kdedge.export.order import sort_nodes
from kdedge.export.quantize import WEIGHTED
from kdedge.export.session import cpu_session
from kdedge.preprocess import Preprocess

__all__ = ["LayerError", "layer_errors"]

_BEFORE = "_QuantizeLinear_Input"
"""What onnxruntime's quantiser calls a graph output before it is quantised."""


@dataclass(frozen=True)
class LayerError:
    """Error of one layer.

    Attributes:
        name, op: of the node.
        noise: mean squared error over mean square (noise to signal), averaged over channels, of what quantised input and
            weights do to the output, plus that of rounding the output itself; 0 for none, at most 2.
        shift: mean of quantised minus float output, float64, one number a channel: what a bias can take back
            (bias correction, Nagel et al. 2019, section 4.2, measured instead of derived).
    """

    name: str
    op: str
    noise: float
    shift: NDArray[np.float64]


def layer_errors(prepared: Path, int8: Path, images: NDArray[np.uint8], preprocess: Preprocess) -> list[LayerError]:
    """The error of every quantised layer, largest first.

    Args:
        prepared: the fp32 network that was quantised.
        int8: what became of it.
        images: fitted RGB, uint8, (N, size, size, 3).
    """
    model, pairs = _both(onnx.load(prepared), onnx.load(int8))
    if not pairs:
        return []
    with TemporaryDirectory(prefix="kdedge-") as folder:
        onnx.save(model, Path(folder) / "both.onnx")
        session = cpu_session(Path(folder) / "both.onnx")
    entry = session.get_inputs()[0]
    together = entry.shape[0] if isinstance(entry.shape[0], int) else 1  # every output is in memory at once
    names = sorted({name for pair in pairs.values() for name in pair.tensors()})
    sums: dict[str, tuple[_Sums, _Sums]] = {layer: (_Sums(), _Sums()) for layer in pairs}
    for start in range(0, len(images), together):
        rows = np.arange(start, start + together) % len(images)
        values = dict(zip(names, session.run(names, {entry.name: preprocess.normalize(images[rows])}), strict=True))
        for layer, pair in pairs.items():
            axis = 1 if pair.op == "Conv" else -1
            sums[layer][0].add(values[pair.difference], values[pair.signal], axis)
            if pair.rounding:
                sums[layer][1].add(values[pair.rounding], values[pair.rounded], axis)
    found = [
        LayerError(layer, pairs[layer].op, own.noise() + rounding.noise(), np.asarray(own.shift) / own.count)
        for layer, (own, rounding) in sums.items()
    ]
    return sorted(found, key=lambda layer: (-layer.noise, layer.name))


@dataclass(frozen=True)
class _Pair:
    """A layer in both forms: names of tensors.

    Attributes:
        difference, signal: of the two outputs, and the float one.
        rounding, rounded: of the layer's output (after its ReLU) and its quantised form, and the float one; empty if the
            output is not quantised.
    """

    op: str
    difference: str
    signal: str
    rounding: str = ""
    rounded: str = ""

    def tensors(self) -> list[str]:
        return [name for name in (self.difference, self.signal, self.rounding, self.rounded) if name]


@dataclass
class _Sums:
    """Sums over images and places, a number a channel."""

    error: NDArray[np.float64] | float = 0.0
    power: NDArray[np.float64] | float = 0.0
    shift: NDArray[np.float64] | float = 0.0
    count: int = 0

    def add(self, difference: NDArray[np.float32], signal: NDArray[np.float32], axis: int) -> None:
        wide = np.moveaxis(difference, axis, -1).astype(np.float64)
        wide = wide.reshape(-1, wide.shape[-1])
        known = np.moveaxis(signal, axis, -1).astype(np.float64).reshape(wide.shape)
        self.error, self.power = self.error + (wide**2).sum(0), self.power + (known**2).sum(0)
        self.shift, self.count = self.shift + wide.sum(0), self.count + len(wide)

    def noise(self) -> float:
        """Noise to signal of a channel, at most 1, averaged over channels: a channel of large values outshouts none."""
        if not self.count:
            return 0.0
        error, power = np.asarray(self.error), np.asarray(self.power)
        ratio = np.divide(error, power, out=(error > 0).astype(np.float64), where=power > 0)
        return float(np.minimum(ratio, 1.0).mean())


def _both(plain: onnx.ModelProto, quantised: onnx.ModelProto) -> tuple[onnx.ModelProto, Mapping[str, _Pair]]:
    """One graph with both networks, and by name of a layer what to look at."""
    graph = plain.graph
    layers = {node.name: node for node in graph.node if node.op_type in WEIGHTED}
    known = {name for node in graph.node for name in node.output} | {value.name for value in graph.input}
    known |= {tensor.name for tensor in graph.initializer}
    graph.initializer.extend(tensor for tensor in quantised.graph.initializer if tensor.name not in known)
    pairs: dict[str, _Pair] = {}
    for node in quantised.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copy.name = f"{node.name}/twin"
            copy.input[:] = [name.removesuffix(_BEFORE) if name not in known else name for name in copy.input]
            copy.output[:] = [name if name not in known else f"{name}/twin" for name in copy.output]
            graph.node.append(copy)
        elif node.op_type in WEIGHTED and node.name in layers:
            _twin(graph, node, layers[node.name], quantised, known, pairs)
    del graph.output[:]
    wanted = sorted({name for pair in pairs.values() for name in pair.tensors()})
    graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in wanted)
    sort_nodes(graph)
    return plain, pairs


def _twin(
    graph: onnx.GraphProto,
    node: onnx.NodeProto,
    layer: onnx.NodeProto,
    quantised: onnx.ModelProto,
    known: set[str],
    pairs: dict[str, _Pair],
) -> None:
    """Add the quantised form of ``layer`` and the difference of the two, unless it was left in float."""
    made = {name for other in quantised.graph.node if other.op_type == "DequantizeLinear" for name in other.output}
    if not any(name in made for name in node.input):
        return
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.name = f"{node.name}/twin"
    # a graph output that is also read (the embedding) is known to both networks: the twin reads the quantised one
    copy.input[:] = [f"{name}/twin" if name in made and name in known else name for name in copy.input]
    copy.output[0] = f"{layer.output[0]}/{node.name}/twin"
    difference = f"{layer.output[0]}/{node.name}/difference"
    graph.node.append(copy)
    graph.node.append(helper.make_node("Sub", [copy.output[0], layer.output[0]], [difference]))
    rounded = _after_activation(quantised.graph, node)
    quantizer = next((o for o in quantised.graph.node if o.op_type == "QuantizeLinear" and o.input[0] == rounded), None)
    rounded = rounded if rounded in known else rounded.removesuffix(_BEFORE)
    if quantizer is None or rounded not in known:
        pairs[node.name] = _Pair(node.op_type, difference, layer.output[0])
        return
    restored = next(str(o.output[0]) for o in quantised.graph.node if quantizer.output[0] in o.input)
    restored = f"{restored}/twin" if restored in known else restored
    rounding = f"{rounded}/{node.name}/rounding"
    graph.node.append(helper.make_node("Sub", [restored, rounded], [rounding]))
    pairs[node.name] = _Pair(node.op_type, difference, layer.output[0], rounding, rounded)


def _after_activation(graph: onnx.GraphProto, node: onnx.NodeProto) -> str:
    """The output of a layer, or of the ReLU that alone reads it."""
    readers = [other for other in graph.node if node.output[0] in other.input]
    alone = len(readers) == 1 and readers[0].op_type in ("Relu", "Clip")
    return str(readers[0].output[0] if alone else node.output[0])
