"""BatchNorm statistics that belong to the weights they are used with.

Running averages lag behind weights that move fast and behind averaged ones; in eval mode a few outputs then explode
(held-out R2 of -27,202 at a cosine of 0.51 was seen). Measuring them again before every evaluation cures it.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["reestimate"]


def reestimate(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set every BatchNorm's running mean and variance to the plain average over ``batches``; leaves eval mode on.

    Args:
        network: changed in place.
        batches: inputs (B, 3, S, S), on the network's device; none at all leaves the statistics as they are.
    """
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    network.eval()
    if not norms:
        return
    started = False
    with torch.no_grad():
        for batch in batches:
            if not started:
                for norm in norms:
                    norm.reset_running_stats()
                    norm.momentum = None  # cumulative average
                    norm.train()
                started = True
            network(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()
