"""The model card: everything the device has to know about a network, carried inside its ONNX file.

A card is JSON under the metadata key :data:`METADATA_KEY`. Training starts it, export completes it, the runtime
reads it.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from kdedge.errors import CardError
from kdedge.preprocess import Preprocess

__all__ = ["METADATA_KEY", "ModelCard"]

METADATA_KEY = "kdedge.card"
FORMAT = 1
KINDS: dict[str, type] = {
    "name": str,
    "labels": list,
    "student": str,
    "teacher": str,
    "precision": str,
    "target": str,
    "parameters": int,
    "outputs": dict,
    "input": dict,
    "scores": dict,
    "parity": dict,
    "quantization": dict,
    "fusion": dict,
    "guard": dict,
    "rejection": dict,
    "provenance": dict,
    "expects": str,
    "licence": str,
    "notes": str,
}
"""What JSON must hold under these names, lest a garbled card fails later and elsewhere."""


@dataclass(frozen=True)
class ModelCard:
    """What an exported classifier says about itself.

    Attributes:
        name: short name, shown to people.
        labels: class names, in the order of the logits or probabilities.
        preprocess: the one preprocessing of this network.
        student: network, as ``family/name``.
        teacher: what it imitated, as given to ``--teacher``; empty for a network trained without one.
        precision: ``fp32``, ``int8`` or ``fp16``.
        target: device profile the file was written for (``x86``, ...); empty before export.
        parameters: number of weights; 0 if unknown.
        outputs: role to tensor name. The answer is ``logits``, or ``probabilities`` in a network that ends in a softmax;
            ``embedding`` holds the penultimate activations. Empty in cards of before: the first output holds logits.
        input: ``name``, ``dtype`` (``float32``), ``layout`` (``NCHW``) and ``batch`` (images a run; 0 for any number).
        scores: name to number, 0-1 where it is a share; each name says on which images (``test_accuracy``, ...).
        parity: how far the file is from the one before it (torch, fp32), measured on held-out images.
        quantization: calibration method, share of int8 convolutions and the like; empty for fp32.
        fusion: which layers run in int8, read from the graph onnxruntime executes; empty for fp32.
        guard: what the int8 file was allowed to lose against fp32, and what it lost; empty for fp32.
        rejection: the threshold below which an image is of no class, how it was found and what it lets pass, see
            :mod:`kdedge.runtime.calibration`; empty if it was not measured.
        provenance: versions, command, date, hashes.
        expects: what an image has to show, in words (``aligned face crops``); empty for any image.
        licence: licence of the weights, in words.
        notes: limits and intended use, in words.
    """

    name: str
    labels: tuple[str, ...]
    preprocess: Preprocess
    student: str = ""
    teacher: str = ""
    precision: str = "fp32"
    target: str = ""
    parameters: int = 0
    outputs: Mapping[str, str] = field(default_factory=dict)
    input: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)
    parity: Mapping[str, Any] = field(default_factory=dict)
    quantization: Mapping[str, Any] = field(default_factory=dict)
    fusion: Mapping[str, Any] = field(default_factory=dict)
    guard: Mapping[str, Any] = field(default_factory=dict)
    rejection: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    expects: str = ""
    licence: str = ""
    notes: str = ""

    def __post_init__(self) -> None:
        if len(set(self.labels)) != len(self.labels):
            raise CardError("a card's labels must differ from one another.")
        if not all(isinstance(name, str) and name for name in self.outputs.values()):
            raise CardError(f"a card's outputs are names of tensors, not {dict(self.outputs)!r}.")
        if not all(isinstance(self.input.get(key, ""), str) for key in ("name", "dtype", "layout")):
            raise CardError(f"name, dtype and layout of a card's input are words, not {dict(self.input)!r}.")
        images = self.input.get("batch", 0)
        if not isinstance(images, int) or isinstance(images, bool) or images < 0:
            raise CardError(f"a card's input takes a number of images, 0 for any, not {images!r}.")

    @property
    def answer(self) -> str:
        """Name of the output that classifies; empty in cards of before, where it is the first."""
        return self.outputs.get("logits") or self.outputs.get("probabilities", "")

    @property
    def probability_output(self) -> bool:
        """Whether :attr:`answer` holds probabilities already, not logits."""
        return "probabilities" in self.outputs and "logits" not in self.outputs

    @property
    def embedding_output(self) -> str:
        """Name of the output with the penultimate activations; empty if the file gives none."""
        return self.outputs.get("embedding", "")

    @property
    def batch(self) -> int:
        """Images a run; 0 for any number."""
        return int(self.input.get("batch", 0))

    def with_(self, **changes: Any) -> "ModelCard":
        """A copy with some fields changed."""
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "format": FORMAT,
            **asdict(self),
            "labels": list(self.labels),
            "preprocess": self.preprocess.to_dict(),
        }

    def to_json(self) -> str:
        """One JSON object; NaN and infinities are refused."""
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False, indent=1)

    @classmethod
    def from_json(cls, text: str, source: str = "card") -> "ModelCard":
        """Parse what :meth:`to_json` wrote.

        Raises:
            CardError: not JSON, another format version, or a field is missing or of the wrong kind.
        """
        try:
            value = json.loads(text)
        except json.JSONDecodeError as error:
            raise CardError(f"{source}: the card is not JSON ({error}).") from error
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            found = value.get("format") if isinstance(value, dict) else type(value).__name__
            raise CardError(f"{source}: a card of format {FORMAT} was expected, found {found!r}; update kdedge.")
        try:
            fields = {key: value[key] for key in cls.__dataclass_fields__ if key in value}
            for key, wanted in KINDS.items():
                if key in value and not isinstance(value[key], wanted):
                    raise TypeError(f"{key} is {value[key]!r}")
            fields["labels"] = tuple(str(label) for label in value["labels"])
            fields["preprocess"] = Preprocess.from_dict(value["preprocess"])
            return cls(**fields)
        except CardError as error:
            raise CardError(f"{source}: {error}") from error
        except (KeyError, TypeError) as error:
            raise CardError(f"{source}: the card lacks or garbles a field ({error}).") from error

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], source: str | Path) -> "ModelCard":
        """The card in an ONNX file's metadata; CardError, with the way out, if it has none."""
        text = metadata.get(METADATA_KEY)
        if text is None:
            raise CardError(
                f"{source}: this ONNX file has no kdedge card (labels and preprocessing); export it with 'kdedge export RUN', "
                f"or give it one with 'kdedge card attach {source} --card card.json' or with --labels, --mean and --std."
            )
        return cls.from_json(text, str(source))
