"""What two other tools make of an fp32 file with their defaults, and how their files are run.

Both get the images that calibrate kdedge's file, through the same preprocessing, and run with as many threads.
"""

import contextlib
import io
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdedge.errors import ModelError
from kdedge.preprocess import Preprocess, decode
from kdedge.runtime.session import open_session

__all__ = ["Run", "need_openvino", "openvino_int8", "openvino_run", "ort_int8", "ort_run", "prepared"]

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Logits (1, C) of one prepared image (1, 3, S, S)."""

INSTALL = (
    "pip install --no-deps --target peers -r benchmarks/int8_export-requirements.txt, then put the folder peers on PYTHONPATH "
    "(or leave OpenVINO out with --peers ort)"
)


def need_openvino() -> None:
    """Load OpenVINO and NNCF, which takes seconds; raises ModelError, with the way out, where one is missing."""
    missing = [name for name in ("openvino", "nncf") if find_spec(name) is None]
    if missing:
        raise ModelError(f"{' and '.join(missing)} cannot be found; run {INSTALL}.")
    os.environ.setdefault("NNCF_CI", "1")  # no reports of its use
    with quiet():
        import nncf  # noqa: F401
        import openvino  # noqa: F401


def prepared(paths: Sequence[Path], preprocess: Preprocess) -> Iterator[NDArray[np.float32]]:
    """Images as a network wants them, (1, 3, S, S), one after the other."""
    for path in paths:
        yield preprocess.normalize(preprocess.fit(decode(path))[None])


def ort_int8(fp32: Path, out: Path, paths: Sequence[Path], preprocess: Preprocess) -> None:
    """onnxruntime's documented way: its preparation of the graph, then ``quantize_static`` without a single option."""
    from onnxruntime.quantization import CalibrationDataReader, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.images = prepared(paths, preprocess)

        def get_next(self) -> dict[str, Any] | None:
            image = next(self.images, None)
            return None if image is None else {"input": image}

    with TemporaryDirectory(prefix="kdedge-") as folder, quiet():
        ready = Path(folder) / "prepared.onnx"
        quant_pre_process(str(fp32), str(ready), skip_symbolic_shape=True)
        quantize_static(str(ready), str(out), Reader())


def openvino_int8(fp32: Path, out: Path, paths: Sequence[Path], preprocess: Preprocess) -> None:
    """NNCF's post-training quantisation without an option; writes ``out`` (.xml) and its weights (.bin)."""
    with quiet():
        import nncf
        import openvino

        logging.getLogger("nncf").setLevel(logging.ERROR)
        model = openvino.Core().read_model(str(fp32))
        images = nncf.Dataset(list(prepared(paths, preprocess)))
        openvino.save_model(nncf.quantize(model, images), str(out), compress_to_fp16=False)


def ort_run(path: Path, threads: int) -> Run:
    """onnxruntime as ``kdedge classify`` opens it, asked for the logits alone."""
    session = open_session(path, threads)
    entry, result = session.get_inputs()[0].name, session.get_outputs()[0].name

    def run(image: NDArray[np.float32]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = session.run([result], {entry: image})[0]
        return found

    return run


def openvino_run(path: Path, threads: int) -> tuple[Run, str]:
    """OpenVINO on the CPU, for one image at a time and low latency; and the precision of what is not int8."""
    import openvino

    core = openvino.Core()
    model = core.read_model(str(path))
    shape = model.input(0).get_partial_shape()
    shape[0] = 1
    model.reshape(shape)
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    compiled = core.compile_model(model, "CPU", settings)
    request = compiled.create_infer_request()

    def run(image: NDArray[np.float32]) -> NDArray[np.float32]:
        request.infer({0: image}, share_inputs=True)
        return np.array(request.get_output_tensor(0).data)

    return run, compiled.get_property("INFERENCE_PRECISION_HINT").to_string()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Neither bars nor advice."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        before = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(before)
