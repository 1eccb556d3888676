"""Peak memory of a process that does nothing but run one model."""

import subprocess
import sys
from pathlib import Path

from kdedge.errors import ModelError

__all__ = ["peak_rss_mb"]

# Linux's ru_maxrss starts at the peak of the process that forked; VmHWM belongs to the new program alone.
CODE = """
import resource, sys
import numpy
import kdedge.runtime.classifier
from kdedge.runtime.session import open_session
session = open_session(sys.argv[1], int(sys.argv[2]))
name = session.get_inputs()[0].name
batch = numpy.zeros((int(sys.argv[3]), 3, int(sys.argv[4]), int(sys.argv[4])), numpy.float32)
for _ in range(int(sys.argv[5])):
    session.run(None, {name: batch})
try:
    lines = open("/proc/self/status").read().splitlines()
    print(next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")))
except (OSError, StopIteration):
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024))
"""


def peak_rss_mb(path: str | Path, size: int, threads: int, batch: int = 1, runs: int = 5) -> float:
    """Highest resident memory, 10^6 bytes, of a fresh Python that loads kdedge's runtime and runs a model a few times.

    Args:
        path: ONNX file with one input (B, 3, size, size).
        size: pixels.
        threads: of onnxruntime.
        batch: images a run.
        runs: how many runs.

    Raises:
        ModelError: the process failed; its last words are quoted.
    """
    arguments = [str(path), str(threads), str(batch), str(size), str(runs)]
    done = subprocess.run([sys.executable, "-c", CODE, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise ModelError(f"{path}: measuring its memory failed ({last[0]}).")
    return int(done.stdout) / 1e6
