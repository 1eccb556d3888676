"""What is loaded when: the device side never sees torch, and the command line loads nothing before it must."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import environment

TRAINING = {"torch", "torchvision", "timm", "onnx", "onnxscript", "sklearn", "matplotlib"}
HEAVY = TRAINING | {"cv2", "onnxruntime", "numpy", "rich"}


def loaded_after(code: str, folder: Path) -> set[str]:
    """Top-level packages in ``sys.modules`` of a fresh Python after ``code``."""
    code += "\nimport json, sys\nprint(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, env=environment(), check=True
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("module", ["kdedge", "kdedge.cli.app", "kdedge.errors", "kdedge.files"])
def test_light(module: str, tmp_path: Path) -> None:
    assert not loaded_after(f"import {module}", tmp_path) & HEAVY


@pytest.mark.parametrize(
    "module",
    [
        "bench",
        "classifier",
        "compare",
        "doctor",
        "evaluate",
        "gallery_file",
        "latency",
        "memory",
        "models",
        "pipeline",
        "power",
        "sensors",
        "session",
    ],
)
def test_runtime_needs_no_torch(module: str, tmp_path: Path) -> None:
    assert not loaded_after(f"import kdedge.runtime.{module}", tmp_path) & TRAINING


def test_commands_of_the_device_need_no_torch(tmp_path: Path, color_model: Path, color_images: Path) -> None:
    main = (
        "import sys\nfrom kdedge.cli import main\nsys.argv = {!r}\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code"
    )
    classify = ["kdedge", "classify", str(color_images), "--model", str(color_model)]
    found = loaded_after(main.format(classify), tmp_path)
    assert {"cv2", "onnxruntime"} <= found
    assert not found & (TRAINING | {"rich"})
    for command in (
        ["evaluate", str(color_model), str(color_images)],
        ["bench", str(color_model), "--teacher", "none"],
    ):
        assert not loaded_after(main.format(["kdedge", *command]), tmp_path) & TRAINING
