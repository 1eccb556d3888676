"""Sessions of onnxruntime for looking at files."""

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import onnxruntime

__all__ = ["cpu_session"]


def cpu_session(
    path: Path, dump: Path | None = None, config: Mapping[str, str] = MappingProxyType({})
) -> onnxruntime.InferenceSession:
    """A quiet session on the CPU, with as many threads as this process may use.

    Args:
        dump: where onnxruntime writes the graph it really runs, after its optimisations.
        config: more entries of the session's configuration (``session.qdqisint8allowed`` and the like).
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads would starve other work
    for key, value in config.items():
        options.add_session_config_entry(key, value)
    if dump is not None:
        options.optimized_model_filepath = str(dump)
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
