"""One network: its files by all sides, their accuracy on the same images, and their times in turns."""

import json
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.int8.arithmetic import optimised_layers
from benchmarks.int8.ours import Delivered, adopt, calibration_images, deliver, size_of, training_of
from benchmarks.int8.page import difference
from benchmarks.int8.peers import Run, openvino_int8, openvino_run, ort_int8, ort_run, prepared
from kdedge.data.folder import LabelledImages
from kdedge.errors import DataError, KdedgeError
from kdedge.export.graph import read_card
from kdedge.export.verify import parity
from kdedge.files import write_json
from kdedge.runtime.latency import measure

__all__ = ["FILES", "compare", "make_files"]

FILES = {"ort": "ort.int8.onnx", "openvino": "openvino.int8.xml"}


def make_files(run: Path, sides: Sequence[str], again: bool = False, for_time_alone: bool = False) -> dict[str, Any]:
    """Export a run and quantise its fp32 file by each peer, into the run; what is there stays unless ``again``.

    Returns:
        ``paths``, ``seconds`` and ``bytes`` by side, ``precision`` and ``how`` of kdedge's file.
    """
    record = run / "int8.json"
    made: dict[str, Any] = json.loads(record.read_text(encoding="utf-8")) if record.is_file() and not again else {}
    if not made:
        told(f"{run.name}: kdedge")
        delivered = deliver(run, for_time_alone)
        made = _begun(delivered)
        write_json(record, made)
    fp32 = run / made["paths"]["fp32"]
    preprocess = read_card(fp32).preprocess
    for side in [side for side in sides if side in FILES and side not in made["paths"]]:
        told(f"{run.name}: {side}")
        began, path = time.monotonic(), run / FILES[side]
        {"ort": ort_int8, "openvino": openvino_int8}[side](fp32, path, calibration_images(run), preprocess)
        weights = path.with_suffix(".bin")
        made["paths"][side] = path.name
        made["seconds"][side] = time.monotonic() - began
        made["bytes"][side] = path.stat().st_size + (weights.stat().st_size if weights.is_file() else 0)
        write_json(record, made)
    return made


def _begun(delivered: Delivered) -> dict[str, Any]:
    return {
        "paths": {"fp32": delivered.fp32.name, "kdedge": delivered.path.name},
        "seconds": {"kdedge": delivered.seconds},
        "bytes": {"fp32": delivered.fp32.stat().st_size, "kdedge": delivered.path.stat().st_size},
        "precision": delivered.precision,
        "how": delivered.how,
    }


def compare(
    network: str,
    run: Path,
    others: Sequence[int],
    sides: Sequence[str],
    images: LabelledImages,
    threads: int,
    repeats: int,
    again: bool = False,
) -> dict[str, Any]:
    """Measure one network.

    Args:
        others: sizes in pixels to time beside the run's own.
        sides: of :data:`benchmarks.int8.page.SIDES`.
        images: test images.
        again: quantise again what was quantised before.

    Raises:
        DataError: the classes of the test images are not the run's.
    """
    size = size_of(run)
    row: dict[str, Any] = {"network": network, "size": size, "latency_ms": {}, "percentiles_ms": {}, "delivered": {}}
    row["training"] = training_of(run)
    for pixels in dict.fromkeys((size, *others)):
        place = run if pixels == size else run.with_name(f"{run.name}-{pixels}")
        try:
            made = make_files(adopt(run, place, pixels), sides, again, for_time_alone=pixels != size)
        except KdedgeError as problem:
            if pixels == size:
                raise
            told(f"{place.name}: left out, {problem}")
            continue
        runs, floats = _open(place, made, sides, threads)
        if pixels == size:
            row |= _accuracy(runs, place / made["paths"]["fp32"], images)
        told(f"{place.name}: timing")
        noise = np.random.default_rng(0).standard_normal((1, 3, pixels, pixels)).astype(np.float32)
        times = measure({side: partial(run, noise) for side, run in runs.items()}, repeats)
        row["latency_ms"][str(pixels)] = {side: found.p50_ms for side, found in times.items()}
        row["percentiles_ms"][str(pixels)] = {
            side: {"p10": found.percentile(10), "p50": found.p50_ms, "p90": found.p90_ms, "p99": found.p99_ms}
            for side, found in times.items()
        }
        layers = {side: optimised_layers(place / made["paths"][side]) for side in runs if side != "openvino"}
        row["delivered"][str(pixels)] = {**made, "layers": layers, "openvino_float": floats}
    return row


def _open(run: Path, made: dict[str, Any], sides: Sequence[str], threads: int) -> tuple[dict[str, Run], str]:
    runs: dict[str, Run] = {}
    floats = ""
    for side in sides:
        path = run / made["paths"][side]
        if side == "openvino":
            runs[side], floats = openvino_run(path, threads)
        else:
            runs[side] = ort_run(path, threads)
    return runs, floats


def _accuracy(runs: dict[str, Run], fp32: Path, images: LabelledImages) -> dict[str, dict[str, Any]]:
    """By side, accuracy (0-1) and closeness to fp32; by peer, kdedge's lead in points with its interval."""
    card, labels = read_card(fp32), np.array(images.labels)
    if card.labels != images.classes:
        raise DataError(
            f"{fp32.parent}: the run's classes are {card.labels}, those of the test images {images.classes}."
        )
    told(f"{fp32.parent.name}: {len(images)} test images")
    said: dict[str, list[NDArray[np.float32]]] = {side: [] for side in runs}
    for image in prepared(images.paths, card.preprocess):
        for side, run in runs.items():
            said[side].append(run(image))
    logits = {side: np.concatenate(found) for side, found in said.items()}
    right = {side: found.argmax(1) == labels for side, found in logits.items()}
    close = {side: parity(logits["fp32"], found) for side, found in logits.items()}
    return {
        "accuracy": {side: float(found.mean()) for side, found in right.items()},
        "agreement": {side: found.top1_agreement for side, found in close.items()},
        "kl": {side: found.kl for side, found in close.items()},
        "points": {side: difference(right["kdedge"], right[side]) for side in runs if side in FILES},
        "points_to_fp32": {side: difference(right[side], right["fp32"]) for side in runs if side != "fp32"},
    }


def told(line: str) -> None:
    """Say what is going on."""
    print(line, file=sys.stderr, flush=True)
