"""What an exported file says about itself: its card, and what onnxruntime sees of it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kdedge.card import ModelCard
from kdedge.files import sha256_of
from kdedge.preprocess import Preprocess
from kdedge.runtime.session import open_session

__all__ = ["ModelInfo", "Section", "Tensor", "read_info", "sections"]

FEW = 12
"""Labels and names of layers that are shown of a long list."""

_DTYPES = {"float": "float32", "double": "float64"}
_CAPITALS = frozenset({"kl", "ir", "r2"})
_PERCENT = frozenset({"accuracy", "agreement", "share"})


@dataclass(frozen=True)
class Tensor:
    """An input or output of a file; a free axis of ``shape`` has a name."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class ModelInfo:
    """A file and its card.

    Attributes:
        bytes: size of the file.
        inputs, outputs: as the file declares them.
    """

    path: Path
    bytes: int
    sha256: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    card: ModelCard

    def to_dict(self) -> dict[str, Any]:
        """The card's fields as plain JSON values and, as ``file``, all else."""
        return {
            **self.card.to_dict(),
            "file": {
                "path": str(self.path),
                "bytes": self.bytes,
                "sha256": self.sha256,
                "inputs": [{**asdict(value), "shape": list(value.shape)} for value in self.inputs],
                "outputs": [{**asdict(value), "shape": list(value.shape)} for value in self.outputs],
            },
        }


@dataclass(frozen=True)
class Section:
    """A title and lines of a key and its text, to be shown one below the other."""

    title: str
    lines: tuple[tuple[str, str], ...]


def read_info(path: str | Path) -> ModelInfo:
    """Read a file's card and shapes; nothing is computed.

    Raises:
        ModelError: the file cannot be loaded.
        CardError: it has no card, or a garbled one.
    """
    session = open_session(path, 1)
    path = Path(path)
    card = ModelCard.from_metadata(session.get_modelmeta().custom_metadata_map, path)
    return ModelInfo(
        path,
        path.stat().st_size,
        sha256_of(path),
        tuple(_tensor(value) for value in session.get_inputs()),
        tuple(_tensor(value) for value in session.get_outputs()),
        card,
    )


def _tensor(value: Any) -> Tensor:
    kind = str(value.type).removeprefix("tensor(").removesuffix(")")
    return Tensor(value.name, _DTYPES.get(kind, kind), tuple(axis if axis is not None else "?" for axis in value.shape))


def sections(info: ModelInfo) -> list[Section]:
    """All there is to say, in words; sections and lines without content are left out."""
    card = info.card
    found = (
        Section("file", _file(info)),
        Section("network", _network(card)),
        Section("input and outputs", _tensors(info)),
        Section("scores", _rows(card.scores)),
        Section(
            f"compared with {card.parity.get('reference', 'the form before it')}", _rows(card.parity, {"reference"})
        ),
        Section("int8 against fp32", _rows(card.guard)),
        Section("calibration", _rows(card.quantization, {"int8_conv_share"} if card.fusion else set())),
        Section("what runs in int8", _fusion(card.fusion)),
        Section("the unknown", _rejection(card.rejection)),
        Section("made", _rows(card.provenance)),
        Section("use", _filled((("licence", card.licence), ("notes", card.notes)))),
    )
    return [section for section in found if section.lines]


def _filled(lines: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple((key, text) for key, text in lines if text)


def _file(info: ModelInfo) -> tuple[tuple[str, str], ...]:
    size = f"{info.bytes / 1e6:.2f} MB ({info.bytes:,} bytes)"
    return (("path", str(info.path)), ("size", size), ("sha256", info.sha256))


def _network(card: ModelCard) -> tuple[tuple[str, str], ...]:
    return _filled(
        (
            ("name", card.name),
            ("labels", f"{len(card.labels)}: {_few(card.labels)}" if card.labels else ""),
            ("expects", card.expects),
            ("preprocessing", _preprocessing(card.preprocess)),
            ("student", card.student),
            ("teacher", card.teacher),
            ("precision", card.precision),
            ("target", card.target),
            ("parameters", f"{card.parameters:,}" if card.parameters else ""),
        )
    )


def _preprocessing(pre: Preprocess) -> str:
    fit = "cut out the central square, scale it" if pre.resize == "crop" else "scale it, whatever its ratio,"
    mean, std = (", ".join(f"{value:g}" for value in values) for values in (pre.mean, pre.std))
    return f"{fit} to {pre.size} x {pre.size} pixels; {pre.color.upper()}, 0-255; subtract ({mean}), divide by ({std})"


def _tensors(info: ModelInfo) -> tuple[tuple[str, str], ...]:
    card = info.card
    lines = []
    for number, value in enumerate(info.inputs):
        layout = f" {card.input['layout']}" if number == 0 and "layout" in card.input else ""
        batch = value.shape[0] if value.shape and isinstance(value.shape[0], int) else card.batch
        images = f"{batch} image{'s' * (batch != 1)} a run" if batch else "any number of images a run"
        lines.append(("input", f"{value.name}: {value.dtype} {_shape(value)}{layout}, {images}"))
    roles = {name: role for role, name in card.outputs.items()}
    answer = card.answer or (info.outputs[0].name if info.outputs else "")
    for value in info.outputs:
        role = roles.get(value.name, "logits" if value.name == answer else "")
        plain = role in ("", value.name)
        lines.append(("output", f"{value.name}: {value.dtype} {_shape(value)}{'' if plain else f', {role}'}"))
    return tuple(lines)


def _shape(value: Tensor) -> str:
    return f"({', '.join(str(axis) for axis in value.shape)})"


def _fusion(fusion: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """The layers by arithmetic in words, then whatever else was recorded."""
    lines = []
    told = set()
    for key, name in (("conv", "convolutions"), ("linear", "linear layers")):
        total, int8 = fusion.get(f"{key}_total"), fusion.get(f"{key}_int8")
        if isinstance(total, int) and isinstance(int8, int):
            told |= {f"{key}_total", f"{key}_int8"}
            if total:
                lines.append((name, f"{int8} of {total}"))
    floats, reasons = fusion.get("float_nodes"), fusion.get("reasons")
    if isinstance(floats, list) and isinstance(reasons, Mapping):
        told |= {"float_nodes", "reasons"}
        lines.append(("in float", _few([f"{name} ({reasons.get(name, 'unknown why')})" for name in floats])))
    islands = fusion.get("islands")
    if isinstance(islands, list) and all(isinstance(each, Mapping) for each in islands):
        told.add("islands")
        kinds = [" and ".join(map(str, each.get("ops", ()))) for each in islands]
        lines.append(("float islands", f"{len(islands)}: {_few(sorted(set(kinds)))}" if islands else "none"))
    return _filled((*lines, *_rows(fusion, told)))


def _rejection(found: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    if not found:
        return ()
    lines = [
        ("threshold", f"{found['threshold']:.3f}, {'applied' if found['applied'] else 'only applied if asked for'}"),
        ("lets pass", f"{found['known_accept']:.1%} of known images, {found['false_accept']:.1%} of strangers"),
    ]
    for choice in found.get("choices", ()):
        words = f"{choice['known_accept']:.1%} of known images, {choice['false_accept']:.1%} of strangers at most"
        lines.append((f"at {choice['threshold']:.3f}", words))
    return _filled((*lines, ("measured on", found.get("how", ""))))


def _rows(values: Mapping[str, Any], without: Iterable[str] = ()) -> tuple[tuple[str, str], ...]:
    """A line a field, whatever fields there are."""
    left_out = set(without)
    return _filled((_words(key), _text(key, value)) for key, value in values.items() if key not in left_out)


def _words(key: str) -> str:
    return " ".join(word.upper() if word in _CAPITALS else word for word in str(key).split("_"))


def _text(key: str, value: Any) -> str:
    """One JSON value in words; empty if it says nothing."""
    if value is None or value in ("", [], {}):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return f"{value:.2%}" if 0 <= value <= 1 and not _PERCENT.isdisjoint(key.split("_")) else f"{value:.4g}"
    if isinstance(value, Mapping):
        inner = ((_words(name), _text(name, part)) for name, part in value.items())
        return "; ".join(f"{name} {text}" for name, text in inner if text)
    if isinstance(value, list | tuple):
        return _few([_text(key, part) for part in value])
    return str(value)


def _few(values: Sequence[str]) -> str:
    more = f" and {len(values) - FEW} more" if len(values) > FEW else ""
    return ", ".join(values[:FEW]) + more
