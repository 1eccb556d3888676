"""Python, kdedge and the wheels below it: versions, two of a kind that overwrite each other, imports that fail."""

import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path

import kdedge
from kdedge import __version__
from kdedge.runtime.doctor.attempt import Outcome, attempt, reason_of
from kdedge.runtime.doctor.check import Check, Machine, version_tuple
from kdedge.runtime.doctor.reasons import explain_import

__all__ = [
    "FLAVOURS",
    "LEAST",
    "check_extras",
    "check_import",
    "check_installed",
    "check_kdedge",
    "check_python",
    "check_wheels",
    "installed",
]

OLDEST_PYTHON = (3, 11)

LEAST = {"numpy": (1, 26), "cv2": (4, 9), "onnxruntime": (1, 20)}
"""Oldest versions that kdedge accepts; a test compares them with pyproject.toml."""

FLAVOURS = {
    "cv2": ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless"),
    "onnxruntime": (
        "onnxruntime",
        "onnxruntime-gpu",
        "onnxruntime-gpu-tensorrt",
        "onnxruntime-directml",
        "onnxruntime-openvino",
        "onnxruntime-rocm",
        "onnxruntime-migraphx",
        "onnxruntime-training",
        "onnxruntime-silicon",
    ),
}
"""Wheels that write the same files."""

TITLES = {"numpy": "NumPy", "cv2": "OpenCV", "onnxruntime": "onnxruntime"}

EXTRAS = {
    "train": ("torch", "torchvision", "timm", "onnx", "accelerate", "sklearn", "safetensors", "webdataset"),
    "serve": ("fastapi", "uvicorn", "multipart", "prometheus_client"),
}

PATIENCE = 120.0
"""Seconds for an import; the first one on a memory card is slow."""


def installed() -> dict[str, str]:
    """Version of every distribution that Python sees, by its normalised name."""
    found: dict[str, str] = {}
    for distribution in distributions():
        if name := distribution.metadata["Name"]:
            found.setdefault(name.lower().replace("_", "-"), distribution.version)
    return found


def check_python(machine: Machine) -> Check:
    """Version, place, number of bits."""
    version = sys.version_info
    text = f"{version.major}.{version.minor}.{version.micro}, {machine.bits} bits, {sys.executable}"
    virtual = sys.prefix != sys.base_prefix
    details = {"version": list(version[:3]), "bits": machine.bits, "executable": sys.executable, "virtual": virtual}
    if machine.bits < 64:
        advice = "onnxruntime has wheels for 64 bits only: install a 64-bit system (Raspberry Pi OS 64-bit) or Python"
        return Check("Python", "problem", text, advice, details)
    if version[:2] < OLDEST_PYTHON:
        advice = "kdedge needs Python 3.11 or newer; 'uv python install 3.11' gets one without touching the system's"
        return Check("Python", "problem", text, advice, details)
    return Check("Python", "ok", text + (", virtual environment" if virtual else ""), "", details)


def check_kdedge(found: Mapping[str, str]) -> Check:
    """Version, and from where it runs.

    Args:
        found: what :func:`installed` gives.
    """
    home = Path(kdedge.__file__).resolve().parent
    known = found.get("kdedge", "")
    details = {"version": __version__, "path": str(home), "installed": known or None}
    if known and known != __version__:
        return Check(
            "kdedge",
            "warn",
            f"{__version__} runs from {home}, but {known} is installed",
            "unset PYTHONPATH, or pip install the version you mean again",
            details,
        )
    return Check("kdedge", "ok", f"{__version__}, {home}" + ("" if known else " (not installed)"), "", details)


def check_wheels(module: str, found: Mapping[str, str]) -> Check | None:
    """A problem where several wheels of ``cv2`` or ``onnxruntime`` are installed; None where not.

    Args:
        module: a key of :data:`FLAVOURS`.
        found: what :func:`installed` gives.
    """
    several = [name for name in FLAVOURS[module] if name in found]
    if len(several) < 2:
        return None
    listed = " and ".join(f"{name} {found[name]}" for name in several)
    plain = f"'pip install {FLAVOURS[module][0]}'"
    other = (
        "'pip install onnxruntime-gpu' for an NVIDIA GPU"
        if module == "onnxruntime"
        else ("'pip install opencv-python-headless' without a screen")
    )
    return Check(
        f"{TITLES[module]} wheels",
        "problem",
        f"{listed} are both installed and overwrite each other",
        f"pip uninstall -y {' '.join(several)}; then {plain}, or {other}",
        {"wheels": {name: found[name] for name in several}},
    )


def check_import(module: str, found: Mapping[str, str], machine: Machine) -> tuple[Check, Outcome]:
    """Import ``numpy``, ``cv2`` or ``onnxruntime`` in another process and let it do something.

    Args:
        module: its name.
        found: what :func:`installed` gives.
        machine: where.

    Returns:
        The finding, and what the probe answered.
    """
    title = TITLES[module]
    outcome = attempt(module, timeout=PATIENCE, environ=machine.environ)
    if outcome.error:
        reason, advice = explain_import(module, reason_of(outcome), machine)
        return Check(title, "problem", reason, advice, {"error": outcome.error}), outcome
    value = dict(outcome.value)
    version = str(value["version"])
    wheels = [name for name in FLAVOURS.get(module, (module,)) if name in found]
    text = version + (f" ({', '.join(wheels)})" if wheels and wheels != [module] else "")
    details = {**value, "wheels": wheels}
    if not value["works"]:
        return Check(
            title, "problem", f"{text} loads but computes nonsense", f"pip install --force-reinstall {module}", details
        ), outcome
    if version_tuple(version) < LEAST[module]:
        least = ".".join(map(str, LEAST[module]))
        advice = f"pip install --upgrade '{(FLAVOURS.get(module) or (module,))[0]}>={least}'"
        return Check(title, "problem", f"{text}; kdedge needs {least} or newer", advice, details), outcome
    if module == "cv2":
        video = value["video"]
        have = [
            label for key, label in (("ffmpeg", "FFmpeg"), ("v4l2", "V4L2"), ("gstreamer", "GStreamer")) if video[key]
        ]
        text += f", video: {', '.join(have) or 'none'}"
        if not video["ffmpeg"]:
            return Check(title, "warn", text, "video files need FFmpeg: take PyPI's opencv-python", details), outcome
    return Check(title, "ok", text, "", details), outcome


def check_installed(module: str, found: Mapping[str, str]) -> Check:
    """Whether a wheel of ``numpy``, ``cv2`` or ``onnxruntime`` is installed; nothing is imported.

    Args:
        module: its name.
        found: what :func:`installed` gives.
    """
    names = FLAVOURS.get(module, (module,))
    wheels = {name: found[name] for name in names if name in found}
    if not wheels and not _there(module):
        return Check(TITLES[module], "problem", "not installed", f"pip install {names[0]}", {"wheels": {}})
    text = ", ".join(f"{name} {version}" for name, version in wheels.items()) or "there, but not as a wheel"
    return Check(TITLES[module], "info", f"{text} (not tried)", "", {"wheels": wheels})


def check_extras() -> Iterator[Check]:
    """Which optional parts are there; nothing of theirs is imported."""
    for extra, modules in EXTRAS.items():
        absent = [name for name in modules if not _there(name)]
        details = {"missing": absent}
        what = {"train": "distil, train, export", "serve": "kdedge serve"}[extra]
        if not absent:
            yield Check(f"extra '{extra}'", "info", f"installed ({what})", "", details)
        else:
            some = "" if len(absent) == len(modules) else f" in part, without {', '.join(absent)}"
            text = f"installed{some}" if some else "not installed"
            yield Check(
                f"extra '{extra}'", "info", f"{text}; {what} {'needs' if 'serve' in what else 'need'} it", "", details
            )
    from kdedge.runtime.web.ort_web import COMMAND, PACKAGE, VERSION, find_runtime

    runtime = find_runtime()
    where = {"version": VERSION, "path": str(runtime.folder) if runtime else None}
    if runtime:
        yield Check("browser", "info", f"{PACKAGE} {VERSION} is here, for the page of kdedge serve", "", where)
    else:
        text = f"{PACKAGE} is not here; the page of kdedge serve runs models in the browser with it"
        yield Check("browser", "info", text, COMMAND, where)


def _there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False
