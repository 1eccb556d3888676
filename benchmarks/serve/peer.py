"""What the server is measured against: a bare loop in one process that decodes, scales and runs one image after the other.

Run as ``python -m benchmarks.serve.peer MODEL THREADS SECONDS FOLDER``; prints images a second.
"""

import sys
import time
from pathlib import Path

import cv2
import numpy as np
import onnxruntime


def main(model: str, threads: int, seconds: float, folder: str) -> float:
    """Images a second."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    size = (given.shape[3], given.shape[2])
    files = [np.frombuffer(path.read_bytes(), np.uint8) for path in sorted(Path(folder).iterdir())]

    def classify(data: np.ndarray) -> int:
        image = cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        batch = ((image.astype(np.float32) - 127) / 128).transpose(2, 0, 1)[None]
        return int(session.run(None, {given.name: np.ascontiguousarray(batch)})[0][0].argmax())

    for data in files:
        classify(data)
    began = time.perf_counter()
    done = 0
    while (passed := time.perf_counter() - began) < seconds:
        classify(files[done % len(files)])
        done += 1
    return done / passed


if __name__ == "__main__":
    print(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]))
