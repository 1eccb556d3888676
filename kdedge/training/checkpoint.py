"""Checkpoints: safetensors beside JSON, never a pickle; each pair replaces the last one atomically.

Two files cannot be renamed in one go. So the new JSON is first written as ``NAME.next.json``; whoever finds that beside
tensors of its sha256 gives it its name: the process that wrote it died between the two renames.
"""

import contextlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from kdedge.errors import RunError
from kdedge.files import atomic_path, sha256_of, write_json
from kdedge.training.loop import TrainingState

__all__ = ["below", "load_state", "load_weights", "read_about", "save_state", "save_tensors", "save_weights"]

T = TypeVar("T")


def save_weights(path: Path, network: nn.Module, about: dict[str, Any]) -> None:
    """Write ``path`` (.safetensors) and, beside it, ``about`` with the file's sha256 as JSON."""
    save_tensors(path, dict(network.state_dict()), about)


def load_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a checkpoint; RunError if it is missing or is not what its JSON says."""
    about = read_about(path)
    if about["sha256"] != sha256_of(path):
        raise RunError(f"{path}: the checkpoint is damaged (its sha256 is not the one in {path.stem}.json).")
    return load_file(path)


def save_state(path: Path, state: TrainingState, about: dict[str, Any]) -> None:
    """Everything needed to go on: model, averaged weights, AdamW moments, dropout's random state, step, seconds."""
    tensors = {"random": torch.get_rng_state()}
    tensors |= {f"model.{key}": value for key, value in state.model.state_dict().items()}
    tensors |= {f"averaged.{key}": value for key, value in state.averaged.state_dict().items()}
    for number, slots in state.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{key}": torch.as_tensor(value) for key, value in slots.items()}
    save_tensors(path, tensors, {**about, "step": state.step, "elapsed": state.elapsed})


def load_state(path: Path, state: TrainingState) -> None:
    """Put a checkpoint of :func:`save_state` back into a freshly started ``state`` of the same networks."""
    tensors = load_weights(path)
    about = read_about(path)
    try:
        state.model.load_state_dict(below(tensors, "model."))
        state.averaged.load_state_dict(below(tensors, "averaged."))
        slots: dict[int, dict[str, Tensor]] = {}
        for key, value in below(tensors, "optimizer.").items():
            number, _, name = key.partition(".")
            slots.setdefault(int(number), {})[name] = value
        torch.set_rng_state(tensors["random"])
        groups = state.optimizer.state_dict()["param_groups"]
        state.optimizer.load_state_dict({"state": slots, "param_groups": groups})
    except (RuntimeError, KeyError, ValueError) as error:
        raise RunError(f"{path}: the checkpoint belongs to other networks ({str(error).splitlines()[0]}).") from error
    state.step, state.elapsed = int(about["step"]), float(about["elapsed"])


def below(tensors: Mapping[str, T], prefix: str) -> dict[str, T]:
    """Entries whose names begin with ``prefix``, without it."""
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def save_tensors(path: Path, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
    """Write tensors as ``path`` (.safetensors) and, beside it, ``about`` with the file's sha256 as JSON.

    Raises:
        OSError: the disk is full or cannot be written; the checkpoint that was there is whole.
    """
    coming = path.with_suffix(".next.json")
    with atomic_path(path) as temporary:
        try:
            save_file({key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}, temporary)
        except SafetensorError as error:  # an OSError in its words alone
            if found := re.search(r"\(os error (\d+)\)", str(error)):
                raise OSError(int(found[1]), os.strerror(int(found[1])), str(path)) from error
            raise
        write_json(coming, {**about, "sha256": sha256_of(temporary)})
    coming.replace(path.with_suffix(".json"))


def read_about(path: Path) -> dict[str, Any]:
    """The JSON beside a checkpoint; RunError if either is missing or the JSON is damaged."""
    _end_a_write(path)
    if not path.is_file() or not path.with_suffix(".json").is_file():
        raise RunError(f"{path}: no such checkpoint (a .safetensors and a .json of that name).")
    try:
        about: dict[str, Any] = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        about["sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{path.with_suffix('.json')}: the checkpoint is damaged (not the JSON that was written)."
        ) from error
    return about


def _end_a_write(path: Path) -> None:
    coming = path.with_suffix(".next.json")
    with contextlib.suppress(FileNotFoundError, ValueError, KeyError):  # nearly always there is none
        if json.loads(coming.read_text(encoding="utf-8"))["sha256"] == sha256_of(path):
            coming.replace(path.with_suffix(".json"))
