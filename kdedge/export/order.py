"""The order of the nodes of a graph."""

import onnx

from kdedge.errors import ExportError

__all__ = ["sort_nodes"]


def sort_nodes(graph: onnx.GraphProto) -> None:
    """Put the nodes, in place, into an order in which each reads what is there; those that may stay keep theirs.

    Raises:
        ExportError: a node reads what nobody makes, or itself.
    """
    ready = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer} | {""}
    waiting, ordered = list(graph.node), []
    while waiting:
        left = []
        for node in waiting:
            if all(name in ready for name in node.input):
                ordered.append(node)
                ready.update(node.output)
            else:
                left.append(node)
        if len(left) == len(waiting):
            missing = sorted({name for node in left for name in node.input if name not in ready})
            raise ExportError(f"the network reads tensors that nobody makes: {', '.join(missing[:3])}.")
        waiting = left
    del graph.node[:]
    graph.node.extend(ordered)
