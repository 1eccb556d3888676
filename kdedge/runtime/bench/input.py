"""What a file is timed on: noise of the shape and type that it takes, as many images as it fixes or as were asked for."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdedge.errors import ModelError

__all__ = ["Feed", "feed_of", "runner"]

TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}


@dataclass(frozen=True)
class Feed:
    """An input.

    Attributes:
        name: of the input.
        values: (batch, 3, size, size).
        fixed: whether the file itself fixes the number of images.
    """

    name: str
    values: NDArray[Any]
    fixed: bool

    @property
    def batch(self) -> int:
        """Images a run."""
        return len(self.values)


def feed_of(session: Any, size: int, batch: int, path: str | Path) -> Feed:
    """Noise for a session, the same for all that take the same shape: pixels do not change the time of a convolution.

    Args:
        size: pixels.
        batch: images a run; a file that fixes another number gets its own.

    Raises:
        ModelError: the file takes another kind of input.
    """
    given = session.get_inputs()[0]
    kind = TYPES.get(given.type)
    if kind is None or len(given.shape) != 4:
        raise ModelError(f"{path}: it takes {given.type} {given.shape}; images of shape (B, 3, H, W) were expected.")
    fixed = isinstance(given.shape[0], int)
    shape = (given.shape[0] if fixed else batch, 3, size, size)
    noise = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    return Feed(given.name, (128 + 32 * noise if kind is np.uint8 else noise).astype(kind), fixed)


def runner(session: Any, feed: Feed, path: str | Path) -> Callable[[], object]:
    """A function that runs the network once; it has run once already.

    The input lies in ordinary memory, so a run on a GPU holds the copies there and back, as it does in ``classify``.

    Raises:
        ModelError: the network does not take this input.
    """
    inputs, outputs = {feed.name: feed.values}, [session.get_outputs()[0].name]

    def run() -> object:
        return session.run(outputs, inputs)

    try:
        run()
    except Exception as error:  # onnxruntime's errors have no common base but this one
        first = str(error).splitlines()[0]
        raise ModelError(f"{path}: it cannot run on an input of {feed.values.shape} ({first}).") from error
    return run
