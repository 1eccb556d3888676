"""The networks to quantise, each trained shortly on class folders by kdedge's own command."""

import subprocess
import sys
from pathlib import Path

from kdedge.data.folder import class_folders
from kdedge.data.split import split_per_class, write_split
from kdedge.errors import RunError

__all__ = ["NETWORKS", "SIZES", "short", "train"]

NETWORKS = (
    "torchvision/resnet18",
    "torchvision/resnet50",
    "timm/mobilenetv2_100",
    "torchvision/mobilenet_v3_small",
    "timm/mobilenetv4_conv_small",
    "timm/regnetx_002",
    "timm/efficientnet_lite0",
    "kdedge/convnet9",
)
SIZE = 64
"""Pixels the networks are trained at; the images have 32."""

SIZES = {"kdedge/convnet9": 224}
"""Networks that take no other size; at 224 pixels a step is dear, so they get a fifth of the epochs."""

_HELDOUT = 100
"""Training images of a class that are set aside: an export verifies and chooses on them."""


def short(network: str) -> str:
    """``resnet18`` of ``torchvision/resnet18``."""
    return network.split("/")[-1]


def train(network: str, out: Path, data: Path, epochs: float) -> Path:
    """Train on ``data``/train with all its labels; what is finished is left alone, what was interrupted goes on.

    Raises:
        RunError: the training failed.
        DataError: ``data`` has no class folders.
    """
    run = out / short(network)
    if (run / "result.json").is_file():
        return run
    if (run / "config.toml").is_file():
        command = ["teacher", "fit", "--resume", "--out", str(run), "--json"]
    else:
        split = _split(data, out / "split")
        command = ["teacher", "fit", "--network", network, "--weights", "auto", "--out", str(run), "--json"]
        size = SIZES.get(network, SIZE)
        command += ["--train", str(split / "train"), "--val", str(split / "test"), "--size", str(size)]
        command += ["--epochs", f"{epochs if size == SIZE else epochs / 5:g}", "--batch", "64", "--lr", "1e-3"]
        command += ["--precision", "fp32", "--augment", "light", "--evaluations", "3", "--seed", "0"]
    print(f"{network}: kdedge {' '.join(command)}", file=sys.stderr, flush=True)
    done = subprocess.run(
        [sys.executable, "-m", "kdedge", *command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        raise RunError(f"the training of {network} ended with status {done.returncode}; call this again to go on.")
    (run / "result.json").write_text(done.stdout.splitlines()[-1] + "\n", encoding="utf-8")  # downloads talk before
    return run


def _split(data: Path, out: Path) -> Path:
    """Training images as ``out/train``, those set aside as ``out/test``: links, or copies where there are none."""
    if not out.is_dir():
        images = class_folders(data / "train")
        aside, rest = split_per_class(images, _HELDOUT, seed=0)
        write_split(images, rest, aside, out, link=True)
    return out
