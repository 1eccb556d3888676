"""kdedge's int8 files beside those of onnxruntime's quantiser and of OpenVINO, with their defaults, on trained networks.

DATA holds train/CLASS/image and test/CLASS/image. Training, quantising and measuring are stages: what an earlier call
finished in --out is kept, so that the measurement can be made again by itself, on a quiet machine. Test images are only
reported on.
"""

import argparse
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import RESULTS, all_conditions, slug, write_results
from benchmarks.int8.compare import compare, make_files
from benchmarks.int8.ours import CALIBRATION, adopt
from benchmarks.int8.page import SIDES, markdown
from benchmarks.int8.peers import need_openvino
from benchmarks.int8.train import NETWORKS, short, train
from kdedge.data.folder import LabelledImages, class_folders
from kdedge.errors import KdedgeError, RunError
from kdedge.runtime.session import default_threads

STAGES = ("train", "quantise", "measure")
PEERS = {"ort": ("ort",), "openvino": ("openvino",), "both": ("ort", "openvino")}


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=Path, required=True, help="class folders, such as those of CIFAR-10")
    options.add_argument("--out", type=Path, default=Path("runs/int8"), help="folder of the runs and their files")
    options.add_argument("--networks", nargs="+", default=list(NETWORKS), help="family/name")
    options.add_argument("--run", nargs="+", default=[], metavar="NETWORK=DIR", help="runs that are trained already")
    options.add_argument("--epochs", type=float, default=1.0, help="training of each network that has no run")
    options.add_argument("--peers", choices=list(PEERS), default="both", help="whom to compare with")
    options.add_argument("--sizes", type=int, nargs="*", default=[224], help="more sizes to time at, pixels")
    options.add_argument("--images", type=int, default=2000, help="test images, evenly spaced over them")
    options.add_argument("--threads", type=int, default=default_threads(), help="of each runtime")
    options.add_argument("--repeats", type=int, default=200, help="timed runs of each file")
    options.add_argument("--until", choices=STAGES, default=STAGES[-1], help="last stage")
    options.add_argument("--again", action="store_true", help="quantise again what was quantised before")
    options.add_argument("--results", type=Path, default=RESULTS, help="folder to write to")
    return options


def main(arguments: list[str] | None = None) -> Path | None:
    """Make what is missing, measure, write JSON and Markdown, return the path of the latter."""
    given = parser().parse_args(arguments)
    for name in ("images", "threads", "repeats"):
        if getattr(given, name) < 1:
            raise RunError(f"--{name} is {getattr(given, name)}; it must be at least 1.")
    sides = ["fp32", "kdedge", *PEERS[given.peers]]
    if "openvino" in sides:
        need_openvino()
    trained = given_runs(given.run, given.networks)
    runs = {}
    for network in given.networks:
        place = given.out / short(network)
        runs[network] = adopt(trained[network], place) if network in trained else place
        if network not in trained:
            train(network, given.out, given.data, given.epochs)
    if given.until == "train":
        return None
    if given.until == "quantise":
        for run in runs.values():
            make_files(run, sides, given.again)
        return None
    return report(given, runs, sides)


def report(given: argparse.Namespace, runs: dict[str, Path], sides: list[str]) -> Path:
    """Measure all networks and write the result."""
    load = os.getloadavg()
    images = some_of(class_folders(given.data / "test"), given.images)
    rows = [
        compare(network, run, given.sizes, sides, images, given.threads, given.repeats, given.again)
        for network, run in runs.items()
    ]
    known = {**all_conditions(), "threads": given.threads}
    floats = {of["openvino_float"] for row in rows for of in row["delivered"].values() if of["openvino_float"]}
    if "openvino" in sides:
        known["versions"] |= {name: version(name) for name in ("openvino", "nncf")}
    data: dict[str, Any] = {
        "sides": {side: SIDES[side] for side in sides},
        "rows": rows,
        "images": len(images),
        "calibration": CALIBRATION,
        "repeats": given.repeats,
        "openvino": known["versions"].get("openvino", ""),
        "openvino_float": " and ".join(sorted(floats)),
        "load_average": load,
        "conditions": known,
    }
    return write_results(given.results, f"int8-export-{slug(known)}", data, markdown(data))


def given_runs(words: list[str], networks: list[str]) -> dict[str, Path]:
    """``NETWORK=DIR`` as a mapping; RunError for one that is not so or not among the networks."""
    found = {}
    for word in words:
        network, _, folder = word.partition("=")
        if not folder or network not in networks:
            raise RunError(f"--run {word}: NETWORK=DIR was expected, with a network of {', '.join(networks)}.")
        found[network] = Path(folder)
    return found


def some_of(images: LabelledImages, most: int) -> LabelledImages:
    """At most ``most`` of them, evenly spaced."""
    chosen = np.unique(np.linspace(0, len(images) - 1, min(most, len(images)), dtype=int))
    paths, labels = (tuple(values[i] for i in chosen) for values in (images.paths, images.labels))
    return LabelledImages(paths, labels, images.classes)


if __name__ == "__main__":
    try:
        print(main() or "done so far; without --until the measurement follows")
    except KdedgeError as problem:
        sys.exit(f"error: {problem}")
