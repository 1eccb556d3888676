"""Learning rate as a function of how much of the training is done."""

import math

__all__ = ["cosine_with_warmup"]


def cosine_with_warmup(done: float, warmup: float = 0.05, floor: float = 0.001) -> float:
    """Factor on the learning rate: linear rise over the first ``warmup`` share, then half a cosine down to ``floor``.

    Args:
        done: share of the training that is done, 0-1.
    """
    done = min(max(done, 0.0), 1.0)
    if done < warmup:
        return max(floor, done / warmup)
    along = (done - warmup) / (1.0 - warmup)
    return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * along))
