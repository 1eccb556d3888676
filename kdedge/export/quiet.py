"""Silence around libraries that print, log and warn while they work."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

import onnxruntime

__all__ = ["quiet"]

_ORT_WARNING, _ORT_ERROR = 2, 3


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what the block prints, logs and warns from the user; exceptions pass.

    The logging handlers of the process are left as they were found: ``logging.warning`` installs one as a side effect.
    """
    root = logging.getLogger()
    handlers, disabled = list(root.handlers), root.manager.disable
    logging.disable(logging.CRITICAL)
    onnxruntime.set_default_logger_severity(_ORT_ERROR)
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        onnxruntime.set_default_logger_severity(_ORT_WARNING)
        logging.disable(disabled)
        root.handlers[:] = handlers
