"""Peak memory of a process that does nothing but run one model."""

from pathlib import Path

from kdedge.runtime.bench.start import start

__all__ = ["peak_rss_mb"]


def peak_rss_mb(path: str | Path, size: int, threads: int, batch: int = 1, provider: str = "cpu") -> float | None:
    """Highest resident memory, 10^6 bytes, of a fresh Python that loads kdedge's runtime and runs a model a few times.

    Memory of a GPU is not in it. None where the system does not say (Windows).

    Args:
        path: ONNX file with one input (B, 3, size, size).
        size: pixels.
        threads: of onnxruntime.
        batch: images a run; a file that fixes another number gets its own.
        provider: see :data:`kdedge.runtime.providers.PROVIDERS`.

    Raises:
        ModelError: the process failed; its last words are quoted.
    """
    return start(path, size, threads, batch, provider).peak_rss_mb
