"""The judgement on each network, and the tables for people."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import conditions_line, markdown_table

__all__ = ["SIDES", "difference", "judge", "markdown"]

SIDES = {"fp32": "fp32", "kdedge": "kdedge int8", "ort": "onnxruntime default int8", "openvino": "OpenVINO/NNCF int8"}

SLOWER = 1.03
"""Ratio of medians up to which two latencies count as the same: below it, repeats of a measurement differ by as much."""

POINTS = 0.3
"""Points of accuracy that kdedge may be below OpenVINO."""


def difference(mine: NDArray[np.bool_], other: NDArray[np.bool_]) -> tuple[float, float]:
    """Points of accuracy by which ``mine`` is better, and half the width of its 95 % interval.

    Args:
        mine, other: (images,) whether each is right, on the same images. The interval is that of paired shares: only
            images on which one of the two is right count.
    """
    n = len(mine)
    plus, minus = int((mine & ~other).sum()), int((~mine & other).sum())
    spread = math.sqrt(max(plus + minus - (plus - minus) ** 2 / n, 0.0)) / n
    return 100 * (plus - minus) / n, 100 * 1.96 * spread


def judge(row: dict[str, Any]) -> dict[str, str]:
    """Whether kdedge keeps its three promises for a network: ``yes``, ``no``, or ``chance``.

    ``chance`` is an accuracy below what was promised by less than its interval: these images cannot tell the two apart.
    What was not measured is left out.

    Args:
        row: ``points`` maps a peer to the difference in accuracy and its interval, ``latency_ms`` a size to the medians by
            side.
    """
    found = {}
    if "ort" in row["points"]:
        found["as accurate as onnxruntime"] = _reaches(row["points"]["ort"], 0.0)
        times = [of for of in row["latency_ms"].values() if {"kdedge", "ort"} <= of.keys()]
        if times:
            fast = all(of["kdedge"] <= SLOWER * of["ort"] for of in times)
            found["as fast as onnxruntime"] = "yes" if fast else "no"
    if "openvino" in row["points"]:
        found[f"within {POINTS} of OpenVINO"] = _reaches(row["points"]["openvino"], -POINTS)
    return found


def _reaches(points: Sequence[float], least: float) -> str:
    difference, half = points
    if difference >= least - 1e-9:
        return "yes"
    return "chance" if difference + half >= least else "no"


def markdown(data: dict[str, Any]) -> str:
    """The result for people."""
    rows, sides = data["rows"], data["sides"]
    return (
        f"# Int8 files beside those of other tools\n\n{_verdict(rows)}\n{_explain(data)}\n\n## Accuracy on the test images\n\n"
        f"{_accuracy(rows, sides)}\n## Closeness to fp32\n\n{_closeness(rows, sides)}\n## Latency of one image, ms (p50)\n\n"
        f"{_latency(rows, sides)}\n## What was delivered\n\n{_files(rows, sides)}\n"
        f"{conditions_line(data['conditions'])} Load average at the start: {data['load_average'][0]:.2f}.\n"
    )


def _verdict(rows: Sequence[dict[str, Any]]) -> str:
    judged = [judge(row) for row in rows]
    head = list(dict.fromkeys(name for found in judged for name in found))
    words = {"yes": "yes", "no": "**no**", "chance": "no, within chance"}
    cells = [
        [row["network"], *(words.get(found.get(name, ""), "") for name in head)]
        for row, found in zip(rows, judged, strict=True)
    ]
    return markdown_table(["network", *(f"kdedge {name}" for name in head)], cells)


def _accuracy(rows: Sequence[dict[str, Any]], sides: Sequence[str]) -> str:
    peers = [side for side in sides if side not in ("fp32", "kdedge")]
    head = ["network", "px", *(f"{SIDES[side]}, %" for side in sides)]
    head += [f"kdedge less {SIDES[peer].split()[0]}, points" for peer in peers]
    cells = []
    for row in rows:
        line = [row["network"], row["size"], *(f"{100 * row['accuracy'][side]:.2f}" for side in sides)]
        cells.append([*line, *("{:+.2f} ± {:.2f}".format(*row["points"][peer]) for peer in peers)])
    return markdown_table(head, cells)


def _closeness(rows: Sequence[dict[str, Any]], sides: Sequence[str]) -> str:
    files = [side for side in sides if side != "fp32"]
    head = ["network", *(f"same class: {SIDES[side].split()[0]}, %" for side in files)]
    head += [f"divergence: {SIDES[side].split()[0]}, nats" for side in files]
    cells = []
    for row in rows:
        line = [row["network"], *(f"{100 * row['agreement'][side]:.2f}" for side in files)]
        cells.append([*line, *(f"{row['kl'][side]:.4f}" for side in files)])
    return markdown_table(head, cells)


def _latency(rows: Sequence[dict[str, Any]], sides: Sequence[str]) -> str:
    cells = []
    for row in rows:
        for size, of in row["latency_ms"].items():
            gain = of["fp32"] / of["kdedge"]
            note = row["delivered"][size]["precision"]
            cells.append([row["network"], size, *(f"{of[side]:.2f}" for side in sides), f"{gain:.2f}", note])
    return markdown_table(["network", "px", *(SIDES[side] for side in sides), "fp32 / kdedge", "kdedge's file"], cells)


def _files(rows: Sequence[dict[str, Any]], sides: Sequence[str]) -> str:
    head = ["network", "px", "kdedge delivered", *(f"{SIDES[side].split()[0]} MB" for side in sides)]
    head += [f"{SIDES[side].split()[0]} seconds" for side in sides if side != "fp32"]
    head += [f"{SIDES[side].split()[0]}: int8 convolutions" for side in ("kdedge", "ort") if side in sides]
    cells = []
    for row in rows:
        for size, of in row["delivered"].items():
            line = [row["network"], size, of["how"], *(f"{of['bytes'][side] / 1e6:.2f}" for side in sides)]
            line += [f"{of['seconds'][side]:.0f}" for side in sides if side != "fp32"]
            for side in ("kdedge", "ort"):
                if side in sides:
                    count = of["layers"][side]
                    line.append(f"{count['conv_int8']} of {count['conv_int8'] + count['conv_float']}")
            cells.append(line)
    return markdown_table(head, cells)


def _explain(data: dict[str, Any]) -> str:
    text = (
        f"{data['images']:,} test images, which nothing was chosen by; calibration with {data['calibration']} training images, "
        "the same for all. ±: 95 % interval of the difference on the same images; 'within chance': the interval reaches what "
        "was promised. Divergence: mean Kullback-Leibler divergence from fp32's probabilities. Where an int8 file missed "
        "kdedge's limits (a point of accuracy on held-out training images, no slower than fp32) it delivers fp32, and that "
        "file is judged here. onnxruntime: quant_pre_process, then quantize_static without options. As fast: within "
        f"{SLOWER - 1:.0%}, at every size. Other sizes than the training's: the same weights, calibrated at "
        "that size; only their time means anything, so kdedge's limit on speed is the only one there."
    )
    if "openvino" in data["sides"]:
        text += f" OpenVINO {data['openvino']}: nncf.quantize without options, latency hint, fixed batch of 1"
        text += f"; layers that are not int8 run in {data['openvino_float']}, as OpenVINO decides here."
    return text
