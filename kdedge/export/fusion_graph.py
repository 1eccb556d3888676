"""Reading a graph that has been quantised: which tensors are integers, which layers compute with them, and why not."""

from collections import defaultdict
from collections.abc import Collection, Iterator

import onnx

__all__ = ["CONV_FLOAT", "CONV_INT8", "LINEAR_FLOAT", "LINEAR_INT8", "Running"]

CONV_INT8 = frozenset({"QLinearConv", "NhwcQLinearConv", "ConvInteger"})
CONV_FLOAT = frozenset({"Conv", "FusedConv", "NhwcConv", "NhwcFusedConv", "ConvTranspose"})
LINEAR_INT8 = frozenset({"QGemm", "QLinearMatMul", "MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul"})
LINEAR_FLOAT = frozenset({"Gemm", "MatMul", "FusedGemm", "FusedMatMul", "MatMulNBits"})
"""MatMulNBits multiplies floats by weights that are integers."""

_LAYERS = CONV_INT8 | CONV_FLOAT | LINEAR_INT8 | LINEAR_FLOAT
_LAYOUT = frozenset({"Flatten", "ReorderInput", "ReorderOutput", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
_CHANGES = frozenset({"QuantizeLinear", "DequantizeLinear"})
_FLOAT_RESULT = frozenset({"DequantizeLinear", "MatMulIntegerToFloat", "DynamicQuantizeMatMul"})
_Y_SCALE = 7
"""Input of QGemm; without it the result is float."""


class Running:
    """A graph, and for each tensor whether it is constant, integer or float.

    Args:
        model: the graph that runs.
        source: the file it was made from, whose names people know.
        signed: whether its runtime has kernels for signed activations.
        fused: whether quantised layers are nodes of their own; otherwise a layer counts as int8 if its data and weights
            come from DequantizeLinear.
    """

    def __init__(self, model: onnx.ModelProto, source: onnx.ModelProto, signed: bool, fused: bool = True) -> None:
        self.graph = model.graph
        self._signed, self._fused = signed, fused
        self._types = {item.name: item.data_type for item in self.graph.initializer}
        self._outputs = {value.name for value in self.graph.output}
        self._producer = {name: node for node in self.graph.node for name in node.output}
        self._readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        self._constant, self._integer = set(self._types), set[str]()
        for node in self.graph.node:
            for name in filter(None, node.input):
                self._readers[name].append(node)
            if all(name in self._constant for name in node.input if name):
                self._constant.update(node.output)
            elif self._gives_integers(node):
                self._integer.update(node.output)
        self._known = {node.name: node for node in source.graph.node}
        self._made = {name: node for node in source.graph.node for name in node.output}
        self._quantised = any(node.op_type in _CHANGES for node in source.graph.node)

    def kind(self, node: onnx.NodeProto) -> str:
        """The operator that does a layer's work; empty for a node that is no layer."""
        kind = str(node.op_type)
        if kind not in _LAYERS or self._fused or kind not in CONV_FLOAT | LINEAR_FLOAT:
            return kind if kind in _LAYERS else ""
        before = (self._producer.get(name) for name in node.input[:2])
        if all(item is not None and item.op_type == "DequantizeLinear" for item in before):
            return "QLinearConv" if kind in CONV_FLOAT else "QGemm"
        return kind

    def name(self, node: onnx.NodeProto) -> str:
        """A layer's name in the source file; onnxruntime renames some."""
        plain = node.name.split("_token_")[0]
        for name in (node.name, plain):
            if name in self._known:
                return str(name)
        tensor = plain.removesuffix("_nchwc")  # such a node is called after its output, which may be an activation's
        made = self._made.get(tensor)
        while made is not None and made.op_type not in _LAYERS:
            made = next((self._made[name] for name in made.input if name in self._made), None)
        return str((made.name or tensor) if made is not None else (node.name or node.output[0]))

    def reason(self, node: onnx.NodeProto, name: str, left_float: Collection[str]) -> str:
        """Why a layer stayed float, in words."""
        if name in left_float:
            return "left in float by the accuracy guard"
        if not self._quantised:
            return "the file is not quantised"
        data, weight = node.input[0], node.input[1]
        before = self._before(data)
        if before is None:
            return "its input is the network's, which is not quantised"
        if before.op_type != "DequantizeLinear":
            return f"its input is float: {before.op_type} before it gives no integers"
        if weight not in self._constant:
            return "its weights are computed by another node"
        if self._producer.get(weight) is None:
            return "its weights are not quantised"
        around = [before, *(item for item in self._after(node.output[0]) if item.op_type == "QuantizeLinear")]
        if not self._signed and any(self._types.get(item.input[2]) == _INT8 for item in around if len(item.input) > 2):
            return "signed activations: on x86 onnxruntime fuses unsigned ones only"
        if node.op_type == "ConvTranspose":
            return "onnxruntime has no int8 kernel for ConvTranspose"
        if node.output[0] in self._outputs:
            return "its output is the network's, which is not quantised"
        after = next((item for item in self._after(node.output[0]) if item.op_type != "QuantizeLinear"), None)
        if after is not None:
            return f"its output goes to {after.op_type}, which has no int8 kernel"
        return "onnxruntime has no int8 kernel for it in this form"

    def islands(self) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
        """Operator types and names of each group of float nodes with integers before and behind it, as they run.

        Of a graph whose quantised layers are not nodes of their own nothing is told: which operators its runtime has
        integer kernels for is not known.
        """
        if not self._fused:
            return []
        found = []
        for group in self._groups():
            inside = {name for node in group for name in self._floats(node.input)}
            made = {name for node in group for name in node.output}
            before = any(self._from_integers(name) for name in inside - made)
            behind = any(item.op_type == "QuantizeLinear" for name in made for item in self._readers[name])
            if before and behind:
                found.append((tuple(str(node.op_type) for node in group), tuple(map(self._label, group))))
        for node in self.graph.node:  # from one scale to another, with nothing in between
            back = self._producer.get(node.input[0]) if node.op_type == "QuantizeLinear" else None
            if back is not None and back.op_type == "DequantizeLinear" and back.input[0] not in self._constant:
                found.append((("DequantizeLinear", "QuantizeLinear"), (self._label(back), self._label(node))))
        return found

    def _groups(self) -> list[list[onnx.NodeProto]]:
        """Float nodes that hand floats to one another."""
        nodes = [node for node in self.graph.node if self._is_float(node)]
        group = {node.output[0]: index for index, node in enumerate(nodes)}
        for node in nodes:
            for name in self._floats(node.input):
                made = self._producer.get(name)
                if made is not None and made.output[0] in group:
                    old, new = group[made.output[0]], group[node.output[0]]
                    group = {key: new if value == old else value for key, value in group.items()}
        together: dict[int, list[onnx.NodeProto]] = defaultdict(list)
        for node in nodes:
            together[group[node.output[0]]].append(node)
        return list(together.values())

    def _is_float(self, node: onnx.NodeProto) -> bool:
        if node.op_type in _CHANGES or node.op_type in CONV_INT8 | LINEAR_INT8 or node.output[0] in self._constant:
            return False
        return any(True for _ in self._floats([*node.input, *node.output]))

    def _floats(self, names: Collection[str]) -> Iterator[str]:
        return (name for name in names if name and name not in self._constant and name not in self._integer)

    def _from_integers(self, name: str) -> bool:
        node = self._producer.get(name)
        return node is not None and (node.op_type == "DequantizeLinear" or node.op_type in LINEAR_INT8 | CONV_INT8)

    def _gives_integers(self, node: onnx.NodeProto) -> bool:
        kind = str(node.op_type)
        if kind == "QGemm":
            return len(node.input) > _Y_SCALE and bool(node.input[_Y_SCALE])
        if kind in ("QuantizeLinear", "DynamicQuantizeLinear", "Shape", "Size"):
            return True
        if kind in _FLOAT_RESULT or (kind == "Cast" and node.attribute[0].i == onnx.TensorProto.FLOAT):
            return False
        data = [name for name in node.input if name and name not in self._constant]
        return bool(data) and all(name in self._integer for name in data)

    def _before(self, name: str) -> onnx.NodeProto | None:
        """The node that made a tensor, whatever reshaped it since; None for a graph input."""
        node = self._producer.get(name)
        while node is not None and node.op_type in _LAYOUT:
            node = self._producer.get(node.input[0])
        return node

    def _after(self, name: str) -> Iterator[onnx.NodeProto]:
        for node in self._readers[name]:
            if node.op_type in _LAYOUT:
                yield from self._after(node.output[0])
            else:
                yield node

    @staticmethod
    def _label(node: onnx.NodeProto) -> str:
        return str(node.name or node.output[0])


_INT8 = onnx.TensorProto.INT8
