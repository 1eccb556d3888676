"""Run directories for tests: small, with every part that a real one has."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from kdedge.card import ModelCard
from tests.conftest import COLORS, color_card, write_color_model

__all__ = ["FUSION", "GUARD", "int8_card", "write_images", "write_run"]

FUSION: dict[str, Any] = {
    "conv_total": 3,
    "conv_int8": 2,
    "linear_total": 1,
    "linear_int8": 1,
    "share": 2 / 3,
    "float_nodes": ["/stem/conv"],
    "reasons": {"/stem/conv": "its input is the network's, which is not quantised"},
    "islands": [{"ops": ["HardSwish"], "nodes": ["/a/act"]}, {"ops": ["HardSwish"], "nodes": ["/b/act"]}],
    "kernel_source": "onnxruntime CPU",
}
GUARD: dict[str, Any] = {
    "max_drop_points": 1.0,
    "drop_points": 0.25,
    "measured_by": "accuracy",
    "images": 400,
    "accuracy_fp32": 0.98,
    "accuracy_int8": 0.9775,
    "min_speedup": 1.0,
    "speedup": {"ratio": 1.84, "before_ms": 0.51, "after_ms": 0.277, "threads": 2},
}
PARITY = {"reference": "student.onnx", "images": 400, "cosine": 0.999, "top1_agreement": 0.98, "kl": 0.002}
CANDIDATES = {"minmax": {"kl": 0.004, "top1_agreement": 0.97}, "mse": {"kl": 0.002, "top1_agreement": 0.98}}


def int8_card(**changes: object) -> ModelCard:
    """The card of a quantised student, with all that export writes."""
    known = {
        "precision": "int8",
        "target": "x86",
        "teacher": "run:runs/teacher",
        "scores": {"heldout_r2": 0.7, "heldout_cosine": 0.8, "test_accuracy": 1.0, "teacher_test_accuracy": 1.0},
        "parity": PARITY,
        "quantization": {"method": "mse", "candidates": CANDIDATES, "images": 300, "int8_conv_share": 2 / 3},
        "fusion": FUSION,
        "guard": GUARD,
        "provenance": {
            "created": "2026-11-25T14:13:47+00:00",
            "verdict": "The student has learned well.",
            "steps": 3330,
            "seed": 0,
            "transfer_images": 49680,
            "labelled_images": 12,
            "heldout_images": 25,
            "versions": {"kdedge": "0.1.0"},
            "checkpoint_sha256": "c" * 64,
        },
        "licence": "MIT",
    }
    return color_card(**{**known, **changes})


def write_run(
    path: Path,
    card: ModelCard | None = None,
    *,
    settings: Mapping[str, Any] | None = None,
    section: str = "distill",
    exported: bool = True,
    history: list[dict[str, Any]] | None = None,
    trained: list[Path] | None = None,
) -> Path:
    """A finished run of the colour classifier.

    Args:
        card: of the int8 file and, with its scores, of the run.
        settings: more of config.toml.
        exported: whether there are an fp32 and an int8 file; the latter takes green for blue.
        trained: images that images.json names.
    """
    path.mkdir(parents=True, exist_ok=True)
    card = card or int8_card()
    lines = ['command = "kdedge distill --teacher run:runs/teacher --out runs/colors"', "", f"[{section}]"]
    known = {"out": str(path), "student": "test/colors", "teacher": card.teacher, **(settings or {})}
    lines += [f"{key} = {json.dumps(value)}" for key, value in known.items()]
    (path / "config.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (path / "card.json").write_text(card.to_json(), encoding="utf-8")
    if history is None:
        history = [{"step": 10 * i, "epoch": i / 2, "loss": 3.0 / i, "lr": 1e-3} for i in range(1, 9)]
        history += [{"step": 80, "epoch": 4.0, "r2": 0.7, "cosine": 0.8, "knn": 0.6}]
    (path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in history))
    images = {
        "trained": [str(image.resolve()) for image in trained or ()],
        "heldout": ["/gone/1.jpg"],
        "heldout_labels": [0],
    }
    (path / "images.json").write_text(json.dumps(images))
    if exported:
        whole = card.with_(
            precision="fp32", quantization={}, fusion={}, guard={}, parity={**PARITY, "reference": "torch"}
        )
        write_color_model(path / "student.onnx", whole)
        write_color_model(path / "student.int8.onnx", card)
        _confuse(path / "student.int8.onnx")
    return path


def _confuse(path: Path) -> None:
    """Let the network say blue for green."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(path)
    bias = next(tensor for tensor in model.graph.initializer if tensor.name == "bias")
    bias.CopyFrom(numpy_helper.from_array(np.asarray([9.0, 0.0, 0.0], np.float32), "bias"))
    onnx.save(model, path)


def write_images(root: Path, classes: Mapping[str, tuple[int, int, int]] | None = None, each: int = 4) -> Path:
    """Class folders with noisy 24x20 PNG images of one colour each."""
    rng = np.random.default_rng(0)
    for name, color in (classes or COLORS).items():
        (root / name).mkdir(parents=True)
        for number in range(each):
            rgb = np.clip(np.asarray(color) + rng.integers(-40, 40, (20, 24, 3)), 0, 255).astype(np.uint8)
            assert cv2.imwrite(str(root / name / f"{number}.png"), rgb[..., ::-1])
    return root
