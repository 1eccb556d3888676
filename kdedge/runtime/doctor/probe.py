"""What ``kdedge doctor`` tries in a process of its own, since it may crash, hang or lack what it needs.

The answer is one line of JSON on stdout, behind :data:`MARK`. Nothing but the standard library is imported on top.
"""

import json
import os
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["MARK", "main", "tiny_model"]

MARK = "kdedge-doctor:"

CHANNELS = 4
RUNS = 20
FRAMES = 5


def main(arguments: list[str]) -> None:
    """Do ``arguments[0]`` with the others and print what came of it; what it raises is ``{"error": ...}``."""
    try:
        answer = KINDS[arguments[0]](*arguments[1:])
    except Exception as error:  # whatever it is, doctor wants to say it
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(f"\n{MARK}{json.dumps(answer)}", flush=True)


def _numpy() -> dict[str, Any]:
    import numpy

    square = numpy.ones((8, 8), numpy.float32)
    return _module(numpy) | {"works": bool((square @ square == 8).all())}


def _cv2() -> dict[str, Any]:
    import cv2
    import numpy

    done, data = cv2.imencode(".jpg", numpy.full((16, 16, 3), 128, numpy.uint8))
    back = cv2.imdecode(data, cv2.IMREAD_COLOR) if done else None
    told = cv2.getBuildInformation()
    words = {"ffmpeg": "FFMPEG:", "v4l2": "v4l/v4l2:", "gstreamer": "GStreamer:"}
    video = {key: any(word in line and "YES" in line for line in told.splitlines()) for key, word in words.items()}
    works = back is not None and back.shape == (16, 16, 3)
    return _module(cv2) | {"works": works, "video": video}


def _onnxruntime() -> dict[str, Any]:
    import onnxruntime

    return _module(onnxruntime) | {"works": True, "providers": list(onnxruntime.get_available_providers())}


def _module(module: Any) -> dict[str, Any]:
    return {"version": str(module.__version__), "file": str(module.__file__)}


def _provider(name: str) -> dict[str, Any]:
    """Make a session for one convolution, as the runtime would, run it, and look at the answer."""
    import numpy

    from kdedge.runtime.providers import provider_of
    from kdedge.runtime.session import open_session

    with tempfile.TemporaryDirectory() as folder:
        os.environ["KDEDGE_CACHE"] = folder  # no engine of the toy shall stay
        path = Path(folder) / "tiny.onnx"
        path.write_bytes(tiny_model())
        start = time.perf_counter()
        session = open_session(path, 1, provider=name)
        found = session.run(None, {"x": numpy.ones((1, 3, 8, 8), numpy.float32)})[0]
        seconds = time.perf_counter() - start
    expected = numpy.arange(1, CHANNELS + 1, dtype=numpy.float32).reshape(1, CHANNELS, 1, 1)
    right = found.shape == (1, CHANNELS, 6, 6) and bool(numpy.allclose(found, expected, atol=1e-2))
    return {"provider": provider_of(session), "right": right, "seconds": round(seconds, 3)}


def _model(path: str) -> dict[str, Any]:
    """Load a model, classify a made-up image once, and then some more times with a watch."""
    import numpy

    from kdedge.runtime.classifier import Classifier
    from kdedge.runtime.session import default_threads

    start = time.perf_counter()
    classifier = Classifier(path)
    load = time.perf_counter() - start
    card = classifier.card
    size = card.preprocess.size
    image = numpy.random.default_rng(0).integers(0, 256, (size, size, 3), numpy.uint8)
    answer = classifier.predict(image)[0]
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        classifier.predict(image)
        times.append(time.perf_counter() - start)
    return {
        "name": card.name,
        "precision": card.precision,
        "target": card.target,
        "reduced_range": bool(card.quantization.get("reduce_range", False)),
        "classes": len(card.labels),
        "size": size,
        "provider": classifier.provider,
        "threads": default_threads(),
        "label": answer.label,
        "load_s": round(load, 3),
        "p50_ms": round(1000 * sorted(times)[RUNS // 2], 3),
        "runs": RUNS,
    }


def _camera(source: str) -> dict[str, Any]:
    """Grab a few frames of a camera (its number) or a video file."""
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    import cv2

    capture = cv2.VideoCapture(int(source) if source.isdigit() else source)
    if not capture.isOpened():
        return {"opened": False, "frames": 0}
    frame, frames, start = None, 0, time.perf_counter()
    for _ in range(FRAMES):
        done, image = capture.read()
        if not done:
            break
        frame, frames = image, frames + 1
    seconds = time.perf_counter() - start
    backend = capture.getBackendName()
    capture.release()
    if frame is None:
        return {"opened": True, "frames": 0, "backend": backend}
    return {
        "opened": True,
        "frames": frames,
        "backend": backend,
        "width": int(frame.shape[1]),
        "height": int(frame.shape[0]),
        "mean": round(float(frame.mean()), 1),
        "seconds": round(seconds, 3),
    }


KINDS: dict[str, Callable[..., dict[str, Any]]] = {
    "numpy": _numpy,
    "cv2": _cv2,
    "onnxruntime": _onnxruntime,
    "provider": _provider,
    "model": _model,
    "camera": _camera,
}


def tiny_model() -> bytes:
    """An ONNX file (IR 8, opset 17) of one convolution, written without the onnx package.

    ``x`` (1, 3, 8, 8) to ``y`` (1, 4, 6, 6), float32. The weights of channel c (from 1) are c / 27: an input of ones gives c.
    """
    weights = struct.pack(f"<{CHANNELS * 27}f", *((c + 1) / 27 for c in range(CHANNELS) for _ in range(27)))
    tensor = (
        b"".join(_number(1, size) for size in (CHANNELS, 3, 3, 3))
        + _number(2, 1)
        + _bytes(8, b"w")
        + _bytes(9, weights)
    )
    node = _bytes(1, b"x") + _bytes(1, b"w") + _bytes(2, b"y") + _bytes(4, b"Conv")
    graph = _bytes(1, node) + _bytes(2, b"tiny") + _bytes(5, tensor)
    graph += _bytes(11, _value(b"x", (1, 3, 8, 8))) + _bytes(12, _value(b"y", (1, CHANNELS, 6, 6)))
    return _number(1, 8) + _bytes(7, graph) + _bytes(8, _number(2, 17))


def _value(name: bytes, shape: tuple[int, ...]) -> bytes:
    dimensions = b"".join(_bytes(1, _number(1, size)) for size in shape)
    return _bytes(1, name) + _bytes(2, _bytes(1, _number(1, 1) + _bytes(2, dimensions)))


def _number(field: int, value: int) -> bytes:
    """A protobuf field of wire type 0, a varint."""
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    """A protobuf field of wire type 2: text, bytes or another message."""
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


if __name__ == "__main__":
    main(sys.argv[1:])
