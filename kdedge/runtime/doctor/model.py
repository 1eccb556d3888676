"""The model: whether the one that would be taken loads and classifies here."""

import platform

from kdedge.errors import KdedgeError
from kdedge.runtime.doctor.attempt import attempt
from kdedge.runtime.doctor.check import Check, Machine
from kdedge.runtime.models import default_model

__all__ = ["check_model"]

PATIENCE = {True: 1200.0, False: 120.0}
"""Seconds on a Jetson, where TensorRT may have to build an engine, and elsewhere."""


def check_model(given: str | None, machine: Machine, vnni: bool | None = None) -> Check:
    """Load a model, classify a made-up image, measure a little.

    Args:
        given: what ``--model`` was; None takes the default one.
        machine: where.
        vnni: whether the processor has VNNI; None if nobody knows.
    """
    try:
        path, why = default_model(given)
    except KdedgeError as error:
        return Check("model", "problem", str(error), "name one with --model")
    outcome = attempt("model", str(path.resolve()), timeout=PATIENCE[machine.jetson], environ=machine.environ)
    details = {"path": str(path), "why": why, **outcome.value}
    if outcome.error:
        text = f"{path} does not run: {outcome.error.removeprefix('ModelError: ').removeprefix('CardError: ')}"
        return Check("model", "problem", text, "see the findings above; another one: --model cifar10", details)
    value = outcome.value
    text = (
        f"{value['name']} ({value['precision']}, {why}) takes {value['p50_ms']:.2f} ms on {value['provider']}, loads in "
        f"{value['load_s']:.2f} s"
    )
    target = str(value["target"])
    here = "arm64" if platform.machine().lower() in ("aarch64", "arm64") else "x86"
    int8 = value["precision"] == "int8"
    if int8 and target in ("x86", "arm64") and target != here:
        advice = f"kdedge export RUN --target {here} makes one for this processor"
        return Check("model", "info", f"{text}; it was made for {target}", advice, details)
    if int8 and target == "jetson" and value["provider"] == "cpu":
        advice = "run it with --provider tensorrt, or export for the CPU: kdedge export RUN --target arm64"
        return Check("model", "warn", f"{text}; it was made for TensorRT and is slow on a CPU", advice, details)
    if int8 and target == "x86" and vnni is False and not value["reduced_range"]:
        advice = "export it with 7-bit weights: kdedge export RUN --no-vnni"
        text += "; its 8-bit weights can saturate on this processor, which has no VNNI"
        return Check("model", "warn", text, advice, details)
    return Check("model", "ok", text, "", details)
