"""Rewrites of an fp32 graph that let more of it run in int8. None changes what the network computes.

Each works in place and returns how often it did something. What cannot be proved from the graph (a tensor of unknown
rank, a parameter that is computed, a tensor somebody else reads as well) is left alone.
"""

from collections.abc import Callable

import onnx

from kdedge.export.rewrite_activations import (
    drop_identity,
    drop_redundant_relu,
    leaky_prelu,
    merge_pad_into_max_pool,
    relu_before_pool,
)
from kdedge.export.rewrite_layers import (
    batchnorm_to_conv,
    convolution_to_gemm,
    fold_batchnorm,
    fold_hardsigmoid,
    matmul_to_gemm,
)
from kdedge.export.rewrite_pools import max_pool_globally, pool_globally
from kdedge.export.wiring import constants_to_initializers, drop_unused_initializers

__all__ = ["REWRITES", "rewrite"]

Rewrite = Callable[[onnx.ModelProto], int]

REWRITES: dict[str, Rewrite] = {
    # first what stands in the way of the others
    "constants_to_initializers": constants_to_initializers,
    "drop_identity": drop_identity,
    "pool_globally": pool_globally,
    "max_pool_globally": max_pool_globally,
    "matmul_to_gemm": matmul_to_gemm,
    "fold_batchnorm": fold_batchnorm,
    "leaky_prelu": leaky_prelu,
    "drop_redundant_relu": drop_redundant_relu,
    "relu_before_pool": relu_before_pool,
    "merge_pad_into_max_pool": merge_pad_into_max_pool,
    "fold_hardsigmoid": fold_hardsigmoid,
    "convolution_to_gemm": convolution_to_gemm,
    # last, when every BatchNormalization that fits into a layer is in it
    "batchnorm_to_conv": batchnorm_to_conv,
}
"""By name, in the order they run."""


def rewrite(model: onnx.ModelProto) -> dict[str, int]:
    """Run all rewrites, in place, until none finds anything to do.

    Returns:
        Name of a rewrite to how often it did something; those that did nothing are left out.
    """
    counts: dict[str, int] = {}
    done = True
    while done:
        done = False
        for name, function in REWRITES.items():
            if number := function(model):
                counts[name] = counts.get(name, 0) + number
                done = True
    drop_unused_initializers(model)
    return counts
