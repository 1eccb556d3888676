"""What runs on the emulated processor: a network over prepared images. NumPy and onnxruntime alone."""

import json
import platform
import sys
import time

import numpy as np
import onnxruntime


def main(model: str, images: str, logits: str, dump: str) -> None:
    """Write the logits of float32 images (N, 3, S, S), and the graph that onnxruntime made of the file."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 2
    options.optimized_model_filepath = dump
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    entry, result = session.get_inputs()[0].name, session.get_outputs()[0].name
    batch = np.load(images)
    began = time.perf_counter()
    np.save(logits, np.concatenate([session.run([result], {entry: batch[i : i + 1]})[0] for i in range(len(batch))]))
    seconds = time.perf_counter() - began
    found = {"machine": platform.machine(), "python": platform.python_version(), "seconds": seconds}
    print(json.dumps({**found, "onnxruntime": onnxruntime.__version__, "numpy": np.__version__}))


if __name__ == "__main__":
    main(*sys.argv[1:])
