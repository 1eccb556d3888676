"""What each layer's quantisation costs at the output of the network.

A layer's own error (:mod:`kdedge.export.sensitivity`) says little about that: much of it averages out on the way, and the last
layers' does not. So each layer in turn gets its float input and weights back, all others staying as they are, and
the divergence from fp32 is measured again.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from numpy.typing import NDArray

from kdedge.export.float_layers import read_float
from kdedge.export.inference import onnx_outputs
from kdedge.export.verify import parity
from kdedge.preprocess import Preprocess

__all__ = ["gains"]


def gains(
    prepared: Path,
    int8: Path,
    layers: Sequence[str],
    images: NDArray[np.uint8],
    preprocess: Preprocess,
    in_time: Callable[[], bool] = lambda: True,
) -> dict[str, float]:
    """How much nearer to fp32 the network comes when a layer is left in float: mean KL divergence, nats, less than before.

    Args:
        prepared, int8: the fp32 network and what became of it.
        layers: names, in the order in which they are tried.
        images: fitted RGB, uint8, (N, size, size, 3).
        in_time: asked before each layer; those that are not reached are missing from the answer.
    """
    plain = onnx.load(prepared)
    reference = onnx_outputs(prepared, images, preprocess).logits
    whole = parity(reference, onnx_outputs(int8, images, preprocess).logits).kl
    found: dict[str, float] = {}
    with TemporaryDirectory(prefix="kdedge-") as folder:
        path = Path(folder) / "one.onnx"
        for name in layers:
            if not in_time():
                break
            model = onnx.load(int8)
            if not read_float(model, [name], plain):
                continue
            onnx.save(model, path)
            found[name] = whole - parity(reference, onnx_outputs(path, images, preprocess).logits).kl
    return found
