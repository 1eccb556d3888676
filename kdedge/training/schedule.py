"""Learning rate as a function of how much of the training is done, or of the epoch."""

import math

from kdedge.errors import RunError

__all__ = ["SCHEDULES", "cosine_with_warmup", "inverse_sqrt", "rate"]

SCHEDULES = ("cosine", "inverse-sqrt", "constant")


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


def inverse_sqrt(epoch: float) -> float:
    """Factor ``1 / sqrt(1 + t)``, t the number of finished epochs (the paper's rule, S13)."""
    if epoch < 0:
        raise RunError(f"the epoch is {epoch}; it must not be negative.")
    return 1.0 / math.sqrt(1.0 + epoch)


def rate(schedule: str, done: float, epoch: int, warmup: float) -> float:
    """Factor on the learning rate by the name of a schedule.

    Args:
        done: share of the training that is done, 0-1 (``cosine`` asks for it).
        epoch: number of finished epochs (``inverse-sqrt`` asks for it).

    Raises:
        RunError: no such schedule.
    """
    if schedule == "cosine":
        return cosine_with_warmup(done, warmup)
    if schedule == "inverse-sqrt":
        return inverse_sqrt(epoch)
    if schedule == "constant":
        return 1.0
    raise RunError(f"unknown schedule {schedule!r}; choose one of {', '.join(SCHEDULES)}.")
