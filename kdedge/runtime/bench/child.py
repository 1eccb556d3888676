"""What a fresh process does for :mod:`kdedge.runtime.bench.start`: load everything, run a model, and tell how long it took.

Only the standard library is imported on top: the imports are part of what is timed.
"""

import json
import sys
import time
from typing import Any

__all__ = ["MARK", "main"]

MARK = "kdedge-bench:"


def main(called: int, begun: int, arguments: list[str]) -> None:
    """Time each step and print the answer as one line of JSON behind :data:`MARK`.

    Args:
        called: when the process was asked for, on the monotonic clock, nanoseconds.
        begun: when its first line of Python ran.
        arguments: path, size, threads, batch, provider and number of runs.
    """
    path, size, threads, batch, provider, runs = arguments
    steps = {"interpreter": begun - called}
    last = begun

    def done(step: str) -> None:
        nonlocal last
        now = time.monotonic_ns()
        steps[step] = now - last
        last = now

    import numpy  # noqa: F401

    done("numpy")
    import cv2  # noqa: F401

    done("cv2")
    import onnxruntime  # noqa: F401

    done("onnxruntime")
    from kdedge.errors import KdedgeError
    from kdedge.runtime import classifier  # noqa: F401  what a program loads that classifies
    from kdedge.runtime.bench.input import feed_of, runner
    from kdedge.runtime.providers import provider_of
    from kdedge.runtime.session import open_session

    done("kdedge")
    answer: dict[str, Any] = {}
    try:
        session = open_session(path, int(threads), provider=provider)
        done("session")
        feed = feed_of(session, int(size), int(batch), path)
        last = time.monotonic_ns()  # noise takes longer than an image that is already there
        run = runner(session, feed, path)
        done("first run")
        for _ in range(int(runs) - 1):
            run()
        answer = {"provider": provider_of(session), "batch": feed.batch}
    except KdedgeError as error:
        answer = {"error": str(error)}
    milliseconds = {step: value / 1e6 for step, value in steps.items()}
    print(f"\n{MARK}{json.dumps({**answer, 'ms': milliseconds, 'peak_bytes': _peak()})}", flush=True)


def _peak() -> int | None:
    """Highest resident memory of this process, bytes.

    Linux's ru_maxrss starts at the peak of the process that forked; VmHWM belongs to the new program alone.
    """
    try:
        with open("/proc/self/status", encoding="utf-8") as file:  # noqa: PTH123  pathlib would be loaded
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        pass
    if sys.platform == "win32":
        return None
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
