"""Which files are timed beside each other: a model, the same network in other precisions, and its teacher."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kdedge.card import METADATA_KEY, ModelCard
from kdedge.errors import ModelError
from kdedge.runtime.compare import Candidate
from kdedge.runtime.models import default_model, export_name
from kdedge.runtime.providers import provider_of
from kdedge.runtime.session import open_session

__all__ = ["Chosen", "choose_files", "precisions", "resolve_provider", "teacher_files"]

Precision = Literal["fp32", "int8", "fp16"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "int8", "fp16")
GPUS = ("cuda", "tensorrt")


@dataclass(frozen=True)
class Chosen:
    """A model and its siblings.

    Attributes:
        path: the model that was meant; its stages and its overhead are measured.
        why: how it was found, in words.
        card: what it says about itself.
        provider: what all files run on: ``cpu``, ``cuda``, ``tensorrt`` or ``xnnpack``.
        candidates: it and its siblings, fp32 first.
    """

    path: Path
    why: str
    card: ModelCard
    provider: str
    candidates: tuple[Candidate, ...]


def precisions(provider: str) -> tuple[Precision, ...]:
    """What is timed on a provider: fp32 and int8, on a GPU fp16 too."""
    return PRECISIONS if provider in GPUS else PRECISIONS[:2]


def choose_files(
    model: str | None, provider: str = "auto", threads: int | None = None, say: Callable[[str], None] | None = None
) -> Chosen:
    """Find a model as ``kdedge classify`` does, and the same network in other precisions beside it.

    Args:
        model: an ``.onnx`` file, a run directory or a name of the zoo; None as in
            :func:`kdedge.runtime.models.default_model`. With ``tensorrt`` a directory's ``jetson`` files come first.
        provider: one of :data:`kdedge.runtime.providers.PROVIDERS`; ``auto`` is settled by the model.
        threads: of onnxruntime.
        say: told what takes long.

    Raises:
        ModelError, CardError: there is no such model, or it has no card; or the provider cannot be had.
    """
    path, why = _for_tensorrt(model) if provider == "tensorrt" else (None, "")
    if path is None:
        path, why = default_model(model)
    card = _card(path)
    if card is None:
        card = ModelCard.from_metadata({}, path)  # says what is missing, and what to do
    provider = resolve_provider(path, provider, threads, say)
    stem = path.name.removesuffix(".onnx").removesuffix(".int8").removesuffix(".fp16")
    names = {f"{stem}.onnx": "fp32", f"{stem}.int8.onnx": "int8", f"{stem}.fp16.onnx": "fp16"}
    if stem.endswith(".jetson") and not path.with_name(f"{stem}.onnx").is_file():
        names = {f"{stem.removesuffix('.jetson')}.onnx": "fp32", **names}  # the same network
    found: dict[Path, str] = {}
    for name in names:
        file = path.with_name(name)
        its = card if file == path else _card(file) if file.is_file() else None
        if its and its.preprocess.size == card.preprocess.size and its.precision in precisions(provider):
            found[file] = its.precision
    found.setdefault(path, card.precision)
    candidates = tuple(Candidate(card.name, precision, file) for file, precision in found.items())
    return Chosen(path, why, card, provider, candidates)


def resolve_provider(
    path: Path, provider: str, threads: int | None = None, say: Callable[[str], None] | None = None
) -> str:
    """``provider``, or what ``auto`` stands for with this file: all others are then timed on it."""
    if provider != "auto":
        return provider
    return provider_of(open_session(path, threads, provider=provider, say=say))


def teacher_files(name: str, files: Mapping[str, Path | None]) -> list[Candidate]:
    """Candidates of a teacher made elsewhere.

    Args:
        name: what to call it.
        files: precision to its file; None where there is none.

    Raises:
        ModelError: a file is missing.
    """
    for file in files.values():
        if file and not file.is_file():
            raise ModelError(f"{file}: no such model file.")
    return [Candidate(name, precision, file, role="teacher") for precision, file in files.items() if file]


def _for_tensorrt(model: str | None) -> tuple[Path | None, str]:
    folder = Path(model) if model else None
    if folder and folder.is_dir():
        for precision in ("int8", "fp16", "fp32"):
            file = folder / export_name("jetson", precision)
            if file.is_file():
                return file, "the run's file for TensorRT"
    return None, ""


def _card(path: Path) -> ModelCard | None:
    """The card of a file, None if it has none."""
    metadata = open_session(path, 1).get_modelmeta().custom_metadata_map
    return ModelCard.from_metadata(metadata, path) if METADATA_KEY in metadata else None
