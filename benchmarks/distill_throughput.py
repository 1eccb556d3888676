"""Images a second of a distillation as a whole: kdedge beside the paper's way in plain PyTorch, on the same images.

The sides take turns, each in a process of its own; see ``throughput/papers_way.py`` for the peer. kdedge begins with an empty
cache, so its teacher's pass is part of what is measured.
"""

import argparse
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS, all_conditions, slug, write_results
from benchmarks.throughput.job import SIDES, Job, run
from benchmarks.throughput.page import markdown, summarize
from kdedge.data.folder import find_images
from kdedge.errors import DataError, KdedgeError, RunError
from kdedge.runtime.session import usable_cores

__all__ = ["main", "make_photographs", "parser"]

PROFILED = 40
"""Steps of a training that is profiled: those before, 20 that are looked at, some after."""


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--teacher", default="torchvision/resnet50", help="family/name")
    options.add_argument("--student", default="torchvision/resnet18", help="family/name, with random weights")
    options.add_argument("--weights", choices=("random", "pretrained"), default="random", help="of the teacher")
    options.add_argument("--transfer", type=Path, help="folder of images; by default JPEGs are made")
    options.add_argument("--images", type=int, default=256, help="how many to make, each side 256-500 pixels long")
    options.add_argument("--size", type=int, default=224, help="input of both networks, pixels")
    options.add_argument("--epochs", type=int, default=10, help="passes over the images")
    options.add_argument("--paper-epochs", type=int, default=1, help="how many of them are measured of the paper's way")
    options.add_argument("--batch", type=int, default=32, help="images a step")
    options.add_argument("--views", type=int, default=2, help="of an image that kdedge's teacher sees")
    options.add_argument("--workers", type=int, default=2, help="processes that load images in the paper's way")
    options.add_argument("--augment", choices=("default", "light", "paper"), default="default", help="in both")
    options.add_argument(
        "--teacher-precision",
        choices=("auto", "fp32", "bf16"),
        default="auto",
        help="of kdedge's teacher; auto refuses bf16 to a random network, whose activations hardly vary",
    )
    options.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto", help="of kdedge's student")
    options.add_argument("--threads", type=int, default=usable_cores(), help="of torch, in both")
    options.add_argument("--repeats", type=int, default=1, help="trainings of each")
    options.add_argument("--profile", action="store_true", help="with CUDA: the share of GPU time in matrix kernels")
    options.add_argument("--json", action="store_true", help="print the result as JSON, not its path")
    options.add_argument("--results", type=Path, default=RESULTS, help="folder to write to")
    return options


def main(arguments: list[str] | None = None) -> Path:
    """Measure, write JSON and Markdown, print the path of the latter (or the former) and return it."""
    given = parser().parse_args(arguments)
    check(given)
    with tempfile.TemporaryDirectory() as home:
        folder = given.transfer.resolve() if given.transfer else make_photographs(Path(home) / "images", given.images)
        job = job_of(given, folder)
        epochs = {"paper": given.paper_epochs, "kdedge": given.epochs}
        turns = [replace(job, side=side, epochs=epochs[side]) for _ in range(given.repeats) for side in SIDES]
        samples = [run(turn, given.threads) for turn in turns]
        profiles = {}
        if given.profile:
            enough = -(-PROFILED // (job.images // job.batch))
            for side in SIDES:
                found = run(replace(job, side=side, epochs=enough, profile=True), given.threads)
                profiles[side] = found["profile"]
    known = {**all_conditions(), "threads": given.threads, "device": samples[-1]["device"]}
    settings = {key: value for key, value in asdict(job).items() if key not in ("side", "transfer", "profile")}
    settings |= {"synthetic": given.transfer is None, "paper_epochs": given.paper_epochs, "repeats": given.repeats}
    data = summarize(samples, settings) | {"profiles": profiles, "conditions": known}
    page = write_results(given.results, f"distill-throughput-{_device(known)}", data, markdown(data))
    print(page.with_suffix(".json").read_text(encoding="utf-8") if given.json else page)
    return page


def check(given: argparse.Namespace) -> None:
    """Refuse what cannot be measured, before anything slow begins; raises RunError."""
    for name in ("epochs", "paper_epochs", "repeats", "threads", "images"):
        if getattr(given, name) < 1:
            raise RunError(f"--{name.replace('_', '-')} is {getattr(given, name)}; it must be at least 1.")
    if given.paper_epochs > given.epochs:
        raise RunError(f"--paper-epochs {given.paper_epochs} is above --epochs {given.epochs}; measure at most all.")
    if given.profile:
        import torch

        if not torch.cuda.is_available():
            raise RunError("--profile looks at GPU kernels and there is no CUDA device here; leave it out.")


def job_of(given: argparse.Namespace, folder: Path) -> Job:
    """The settings that both sides share; DataError if the images do not fill a batch."""
    count = len(find_images(folder))
    if count < given.batch:
        raise DataError(
            f"{folder}: {count} images do not fill a batch of {given.batch}; give more or a smaller --batch."
        )
    names = (
        "teacher",
        "student",
        "weights",
        "size",
        "batch",
        "views",
        "workers",
        "augment",
        "precision",
        "teacher_precision",
        "epochs",
    )
    return Job("", str(folder), count, **{name: getattr(given, name) for name in names})


def make_photographs(folder: Path, count: int, seed: int = 0) -> Path:
    """Smooth random pictures with a little noise, as JPEG files of 256 to 500 pixels a side."""
    import cv2
    import numpy as np

    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for number in range(count):
        height, width = rng.integers(256, 501, 2).tolist()
        coarse = rng.integers(0, 256, (12, 12, 3)).astype(np.float32)
        picture = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        picture = picture + rng.normal(0, 6, picture.shape)
        cv2.imwrite(str(folder / f"{number:05d}.jpg"), np.clip(picture, 0, 255).astype(np.uint8))
    return folder


def _device(known: dict[str, Any]) -> str:
    gpu = "" if known["device"] == "cpu" else f"{known['device']} "
    return slug({**known, "cpu": gpu + known["cpu"]})


if __name__ == "__main__":
    try:
        main()
    except KdedgeError as problem:
        sys.exit(f"error: {problem}")
