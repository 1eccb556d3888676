"""ONNX classifiers that kdedge did not make, brought into the form of its own exported files.

A file from another tool may take its images in another order or one at a time, end in a Softmax, keep weights as graph
inputs, constants or integers, or be written in an operator set that cannot be quantised. All of that is changed here, and the
result is run against the file it came from.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto

import kdedge
from kdedge.errors import ExportError
from kdedge.export.foreign_check import cause, load_checked, refuse_quantised, standard, version_of
from kdedge.export.foreign_graph import fold, in_opset, producers, prune, rename, set_values, without_branches
from kdedge.export.foreign_head import Head, Values, append_vector, find_head, vector_length
from kdedge.export.foreign_layout import Entry, entry_of, free_batch, to_nchw
from kdedge.export.foreign_run import Images, batch_of, check_same, open_network, probe, softmax
from kdedge.export.graph import clean
from kdedge.export.outputs import EMBEDDING, INPUT
from kdedge.export.quiet import quiet
from kdedge.export.rewrites import rewrite

__all__ = ["Foreign", "read_foreign"]

Role = Literal["logits", "probabilities"]


@dataclass(frozen=True)
class Foreign:
    """A network from elsewhere in kdedge's form.

    Attributes:
        model: input ``input`` float32 (batch, 3, size, size); outputs ``logits`` or ``probabilities`` (batch, classes) and,
            if one was found, ``embedding`` (batch, dim).
        size: height and width of the input, pixels.
        classes: numbers in an answer.
        role: name of the first output.
        embedding: the tensor of the file that the embedding was made of; '' if there is none.
        dim: of the embedding; None if there is none.
        changes: what was changed on the way, in words.
        producer: the tool that wrote the file and its version, as the file says.
        opset: operator set of the file as it was found.
        batch: images a run; 0 for any number.
    """

    model: onnx.ModelProto
    size: int
    classes: int
    role: Role
    embedding: str
    dim: int | None
    changes: tuple[str, ...]
    producer: str
    opset: int
    batch: int = 0


def read_foreign(
    path: Path,
    *,
    size: int | None = None,
    embedding: str | None = None,
    output: str | None = None,
    opset: int | None = None,
) -> Foreign:
    """Read the ONNX classifier at ``path`` and bring it into kdedge's form.

    It computes what the file computes: both run on the same random images and differ by at most 1e-4 of the largest value of
    an image's output. Where a Softmax was cut off that holds for what it read as well as for what it gave. How pixels have
    to be scaled is not guessed.

    Args:
        size: height and width of the input, pixels; needed where the file leaves them free.
        embedding: the tensor to give as embedding; None takes what the last weighted layer reads.
        output: the tensor with a number a class; None takes the only output that can be it.
        opset: operator set to write; None keeps the file's if it can be quantised.

    Raises:
        ExportError: the file is no ONNX classifier of square RGB images that onnxruntime can run, is quantised already,
            points at other files, needs operators of others, or cannot be brought into the form.
    """
    file, changes = load_checked(path)
    plain, inlining = standard(file, path)
    entry = entry_of(plain, path, size)
    resolved, resolving = without_branches(plain, path, entry.shape)
    folded, folding = fold(resolved, path)
    refuse_quantised(folded, path, "DequantizeLinear")  # those of weights are gone
    images = probe(entry.size, (entry.batch or 1) + 2)
    head, reference = find_head(file, folded, entry, images, output, embedding, path)

    model = folded
    prune(model, dict.fromkeys(name for name in (head.inner, embedding) if name))
    for value in model.graph.output:  # the opset converter wants types
        rank = reference[value.name].ndim
        value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, TensorProto.FLOAT, [None] * rank))
    model, converting = in_opset(model, path, opset)
    model, _ = fold(model, path)
    turning = to_nchw(model, entry)
    shaping, dim = _give_outputs(model, entry, head, reference)
    freeing = free_batch(model, entry.size, path)
    rewritten = ", ".join(f"{key.replace('_', ' ')} {count}" for key, count in rewrite(model).items() if count)
    rewriting = (f"rewritten for int8: {rewritten}",) if rewritten else ()
    _describe(model, head, dim, path)
    _compare(model, images, head, reference, dim, path)
    return Foreign(
        model=model,
        size=entry.size,
        classes=head.classes,
        role=head.role,
        embedding=head.source if dim else "",
        dim=dim,
        changes=(*changes, *inlining, *resolving, *folding, *converting, *turning, *shaping, *freeing, *rewriting),
        producer=f"{file.producer_name} {file.producer_version}".strip(),
        opset=version_of(file),
        batch=batch_of(model),
    )


def _give_outputs(
    model: onnx.ModelProto, entry: Entry, head: Head, reference: Values
) -> tuple[tuple[str, ...], int | None]:
    """Make the answer and the embedding the outputs, in place; what was changed, in words, and the embedding's dimension."""
    graph = model.graph
    count = len(reference[head.answer])
    taken = graph.input[0].name
    changes = [f"the {head.cut} at the end was cut off: the file gives logits"] if head.cut else []
    first = append_vector(graph, head.inner, reference[head.inner].shape, head.role)
    if first != head.inner:
        changes.append(f"the output {head.inner} was flattened to (batch, classes)")
    names = {taken: INPUT, first: head.role}
    dim = None
    shape = reference[head.source].shape if head.source in reference else ()
    if head.source not in (head.inner, taken) and head.source in producers(graph) and head.gives_vector(shape, count):
        dim = vector_length(shape, count) or shape[1]
        second = append_vector(graph, head.source, shape, EMBEDDING)
        how = ", flattened," if vector_length(shape, count) else ", averaged over positions,"
        how = how if second != head.source else ""
        changes.append(f"the tensor {head.source}{how} is given as embedding")
        names[second] = EMBEDDING
    outputs = list(names)[1:]
    set_values(
        graph.output, [onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, None]) for name in outputs]
    )
    rename(graph, names)
    renamed = [f"{old} to {new}" for old, new in ((entry.name, INPUT), (head.inner, head.role)) if old != new]
    if renamed:
        changes.append(f"renamed: {', '.join(renamed)}")
    return tuple(changes), dim


def _describe(model: onnx.ModelProto, head: Head, dim: int | None, path: Path) -> None:
    """Declare the outputs' shapes, in place, clean the file and check that it is valid ONNX."""
    batch = batch_of(model) or "batch"
    outputs = {head.role: head.classes, **({EMBEDDING: dim} if dim else {})}
    set_values(
        model.graph.output,
        [onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, n]) for name, n in outputs.items()],
    )
    clean(model, kdedge.__version__)
    try:
        with quiet():
            onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # ValidationError and InferenceError have no common base
        raise ExportError(f"{path}: no valid ONNX once it is in kdedge's form ({cause(error)}).") from error


def _compare(
    model: onnx.ModelProto, images: Images, head: Head, reference: Values, dim: int | None, path: Path
) -> None:
    """Raise ExportError unless ``model`` gives what the file gave."""
    try:
        made = open_network(model, [value.name for value in model.graph.output], batch=batch_of(model))(images)
    except Exception as error:  # onnxruntime's errors have no common base
        raise ExportError(f"{path}: does not run once it is in kdedge's form ({cause(error)}).") from error
    rows = made[head.role]
    check_same(reference[head.inner], rows, head.role, path)
    if head.cut:
        given = softmax(rows)
        check_same(reference[head.answer], np.log(given) if head.cut == "LogSoftmax" else given, "probabilities", path)
    if dim:
        source = reference[head.source]
        whole = source if vector_length(source.shape, len(images)) else source.mean((2, 3))
        check_same(whole, made[EMBEDDING], "embeddings", path)
