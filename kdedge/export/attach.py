"""A card for an ONNX file that has none: it then says by itself what its outputs mean and how its input is prepared."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto

import kdedge
from kdedge.card import METADATA_KEY, ModelCard
from kdedge.errors import CardError, DataError, ExportError, ModelError
from kdedge.export.graph import write_card
from kdedge.export.outputs import EMBEDDING
from kdedge.files import atomic_path, sha256_of
from kdedge.preprocess import Preprocess
from kdedge.runtime.classifier import Classifier

__all__ = ["Given", "attach", "image_input", "output_roles", "read_card_file"]

_PROBABILITIES = frozenset({"Softmax", "Sigmoid"})  # a softmax after either would flatten what it says
_SAME_VALUES = frozenset(
    {"Cast", "DequantizeLinear", "Dropout", "Flatten", "Identity", "QuantizeLinear", "Reshape", "Squeeze", "Unsqueeze"}
)
_FLOATS = frozenset({TensorProto.UNDEFINED, TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE})

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Given:
    """What is known of a file; whatever is None comes from ``card``, or from the card the file has.

    Attributes:
        card: a whole card.
        labels: class names, in the order of the outputs.
        mean, std, color, resize, size: see :class:`kdedge.preprocess.Preprocess`.
        name: shown to people.
    """

    card: ModelCard | None = None
    labels: tuple[str, ...] | None = None
    mean: Triple | None = None
    std: Triple | None = None
    color: str | None = None
    resize: str | None = None
    size: int | None = None
    name: str | None = None


def read_card_file(path: Path) -> ModelCard:
    """The card in a JSON file; raises CardError if it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise CardError(f"{path}: cannot be read as a card ({reason}).") from error
    return ModelCard.from_json(text, str(path))


def attach(path: Path, given: Given, out: Path | None = None, overwrite: bool = False) -> ModelCard:
    """Write the ONNX file at ``path`` with a card inside to ``out``, atomically; None writes it in its place.

    Input and outputs that the card does not name are found in the graph. The file is run once before it takes its name.

    Raises:
        ExportError: ``out`` exists, or the file has a card already, and ``overwrite`` is false; or it cannot be written.
        ModelError: no file that can be read or run, or labels and preprocessing are missing or do not fit.
    """
    target = out or path
    if target.suffix.lower() != ".onnx":
        raise ModelError(f"{target}: a model is an .onnx file; this is none.")
    model = _load(path)
    own = next((entry.value for entry in model.metadata_props if entry.key == METADATA_KEY), None)
    if out is None and own is not None and not overwrite:
        raise ExportError(f"{path}: has a card already; replace it with --overwrite, or write another file with --out.")
    if out is not None and out.exists() and not overwrite:
        raise ExportError(f"{out} exists already; give --overwrite to replace it.")
    card = _complete(model, path, given, given.card or _readable(own))
    try:
        card.to_json()
    except ValueError as error:
        raise CardError(
            f"{path}: its card would hold a number that is not finite; check --mean, --std and --card."
        ) from error
    try:
        with atomic_path(target) as temporary:
            onnx.save(model, temporary)
            write_card(temporary, card)
            _try(temporary, path)
    except OSError as error:
        raise ExportError(f"{target}: cannot be written ({error.strerror or error}).") from error
    return card


def _load(path: Path) -> onnx.ModelProto:
    if not path.is_file():
        raise ModelError(f"{path}: no such model file.")
    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf's errors and a missing file of weights have no common base
        raise ModelError(f"{path}: not an ONNX file that can be read ({type(error).__name__}).") from error
    if not model.graph.node:
        raise ModelError(f"{path}: not an ONNX file that can be read (it has no nodes).")
    return model


def _readable(text: str | None) -> ModelCard | None:
    """The card that is replaced, if anything can be learned from it."""
    try:
        return ModelCard.from_json(text) if text else None
    except CardError:
        return None


def _complete(model: onnx.ModelProto, path: Path, given: Given, base: ModelCard | None) -> ModelCard:
    labels = given.labels or (base.labels if base else ())
    if not labels:
        raise ModelError(f"{path}: nobody says what its outputs mean; give --labels FILE or --card card.json.")
    name, batch, side = image_input(model, path)
    preprocess = _preprocess(path, given, base.preprocess if base else None, side)
    if base is None:
        base = ModelCard(
            given.name or path.stem, labels, preprocess, precision=_precision(model), provenance=_made(model, path)
        )
    unlike = base.precision != _precision(model) or (base.input and base.input.get("batch", 0) != batch)
    if given.card and unlike:
        base = _of_another_file(base, model, path)
    roles = output_roles(model, len(labels), path)  # refuses a file without such an output
    return base.with_(
        name=given.name or base.name,
        labels=labels,
        preprocess=preprocess,
        outputs=base.outputs or roles,
        input=base.input or {"name": name, "dtype": "float32", "layout": "NCHW", "batch": batch},
    )


def _of_another_file(card: ModelCard, model: onnx.ModelProto, path: Path) -> ModelCard:
    """What still holds of the card of another export of the same network: not what was measured of that file."""
    return card.with_(
        precision=_precision(model),
        target="",
        parity={},
        quantization={},
        fusion={},
        guard={},
        rejection={},
        outputs={},
        input={},
        provenance={**card.provenance, **_made(model, path)},
    )


def _preprocess(path: Path, given: Given, base: Preprocess | None, side: int) -> Preprocess:
    mean, std = given.mean or (base and base.mean), given.std or (base and base.std)
    if mean is None or std is None:
        raise ModelError(
            f"{path}: does not say how its input is prepared; give --mean and --std (in units of 0-255, e.g. 0,0,0 and "
            "255,255,255) and, if it wants BGR, --color bgr."
        )
    size = given.size or (base.size if base else side)
    if not size:
        raise ModelError(f"{path}: the input size is free; give --size.")
    if side and size != side:
        raise ModelError(f"{path}: its input is {side} x {side} pixels, not {size} x {size}.")
    color, resize = given.color or (base.color if base else "rgb"), given.resize or (base.resize if base else "crop")
    return Preprocess(size, mean, std, color, resize)  # type: ignore[arg-type]


def _made(model: onnx.ModelProto, path: Path) -> dict[str, object]:
    """Where a file that kdedge did not export comes from."""
    return {
        "attached": datetime.now(UTC).isoformat(timespec="seconds"),
        "source_sha256": sha256_of(path),
        "producer": f"{model.producer_name} {model.producer_version}".strip(),
        "versions": {"kdedge": kdedge.__version__},
        "opset": next((item.version for item in model.opset_import if item.domain in ("", "ai.onnx")), 0),
        "ir_version": model.ir_version,
    }


def _precision(model: onnx.ModelProto) -> str:
    if any(node.op_type.startswith("QLinear") or node.op_type == "DequantizeLinear" for node in model.graph.node):
        return "int8"
    half = any(tensor.data_type == TensorProto.FLOAT16 for tensor in model.graph.initializer)
    return "fp16" if half else "fp32"


def image_input(model: onnx.ModelProto, path: Path) -> tuple[str, int, int]:
    """Name, images a run and side in pixels of the input; 0 where an axis is free.

    Raises:
        ModelError: not one float32 input (batch, 3, side, side).
    """
    constants = {tensor.name for tensor in model.graph.initializer}  # old files list them as inputs
    inputs = [value for value in model.graph.input if value.name not in constants]
    kind = inputs[0].type.tensor_type if inputs else None
    shape = [dim.dim_value for dim in kind.shape.dim] if kind else []
    wanted = f"{path}: one float32 input (batch, 3, size, size) was expected, "
    if kind is None or len(inputs) != 1 or len(shape) != 4:
        raise ModelError(f"{wanted}found {', '.join(_declared(value) for value in inputs) or 'none'}.")
    if kind.elem_type != TensorProto.FLOAT:
        raise ModelError(f"{wanted}found {_declared(inputs[0])}; export it again with a float32 input.")
    batch, channels, height, width = shape
    if channels not in (0, 3) or height != width:
        hint = "; it wants the channels last, export it as NCHW" if width == 3 else ""
        raise ModelError(f"{wanted}found {_declared(inputs[0])}{hint}.")
    return inputs[0].name, batch, height


def output_roles(model: onnx.ModelProto, classes: int, path: Path) -> dict[str, str]:
    """Role to name of the outputs: ``logits`` or, behind a softmax, ``probabilities``; ``embedding`` if there is one.

    Raises:
        ModelError: no output is float and (batch, classes).
    """
    values = list(_inferred(model).graph.output)
    fits = [value for value in values if value.name != EMBEDDING and _holds(value, classes)]
    if not fits:
        found = ", ".join(_declared(value) for value in values)
        raise ModelError(f"{path}: none of its outputs has a number for each of {classes} labels; found {found}.")
    answer = min(fits, key=lambda value: _axes(value)[-1:] != [classes])  # the first of those that say so
    roles = {"probabilities" if _is_probability(model, answer.name) else "logits": answer.name}
    if any(value.name == EMBEDDING and len(_axes(value)) == 2 for value in values):
        roles["embedding"] = EMBEDDING
    return roles


def _inferred(model: onnx.ModelProto) -> onnx.ModelProto:
    try:
        return onnx.shape_inference.infer_shapes(model)
    except Exception:  # operators that onnx does not know; what is declared must do
        return model


def _axes(value: onnx.ValueInfoProto) -> list[int]:
    """Lengths of the axes, 0 for a free one; empty where nothing is known."""
    return [dim.dim_value for dim in value.type.tensor_type.shape.dim]


def _holds(value: onnx.ValueInfoProto, classes: int) -> bool:
    axes = _axes(value)
    return value.type.tensor_type.elem_type in _FLOATS and (not axes or (len(axes) == 2 and axes[1] in (0, classes)))


def _declared(value: onnx.ValueInfoProto) -> str:
    kind = value.type.tensor_type
    dims: Sequence[object] = [dim.dim_param or dim.dim_value or "?" for dim in kind.shape.dim]
    return f"{value.name} {TensorProto.DataType.Name(kind.elem_type).lower()} ({', '.join(map(str, dims))})"


def _is_probability(model: onnx.ModelProto, name: str) -> bool:
    producer = {made: node for node in model.graph.node for made in node.output}
    node = producer.get(name)
    while node is not None and node.op_type in _SAME_VALUES:
        node = producer.get(node.input[0])
    return node is not None and node.op_type in _PROBABILITIES


def _try(temporary: Path, path: Path) -> None:
    """Classify a black image with the new file."""
    try:
        classifier = Classifier(temporary, 1)
        black = np.zeros((classifier.card.preprocess.size,) * 2 + (3,), np.uint8)
        classifier.predict(black)
        if classifier.card.embedding_output:
            classifier.embeddings(black)
    except (ModelError, DataError) as error:
        raise ModelError(str(error).replace(str(temporary), str(path))) from error
    except Exception as error:  # onnxruntime's errors have no common base but this one
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ModelError(f"{path}: onnxruntime cannot run it on such an image ({reason}).") from error
