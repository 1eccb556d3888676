"""What is likely wrong with a training that fails or stands still, read from its losses, scores and learning rate."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = [
    "MEANINGFUL",
    "Moment",
    "cause_of_failure",
    "cause_of_standstill",
    "diverged",
    "failed",
    "number",
    "read_moments",
]

MEANINGFUL = {"r2": 0.01, "cosine": 0.005, "knn": 0.01, "probe": 0.02}
"""The smallest gain of a held-out score that counts; for R2 below -1, this share of its size."""

FALL = 0.05
"""The smallest relative change of the training loss that counts."""

NO_COSINE = 0.05
"""A cosine that unrelated activations reach by chance."""

FEW_STEPS = 100


@dataclass(frozen=True)
class Moment:
    """An evaluation, with the training loss and learning rate of that moment; NaN where unknown."""

    epoch: float
    step: float
    share: float
    loss: float
    lr: float
    scores: Mapping[str, float]


def read_moments(history: Sequence[Mapping[str, float]]) -> tuple[list[Moment], float]:
    """The evaluations, and the training loss at the very beginning."""
    moments: list[Moment] = []
    first = lr = math.nan
    losses: list[float] = []
    for record in history:
        lr = record.get("lr", lr)
        if "loss" in record:
            losses.append(math.inf if math.isnan(record["loss"]) else record["loss"])
            first = losses[0] if math.isnan(first) else first
        if "r2" not in record or "cosine" not in record:
            continue
        recent = losses[-5:] if "loss" not in record else losses[-1:]  # steps between evaluations: a mean, less noisy
        loss = sum(recent) / len(recent) if recent else math.nan
        step, share = record.get("step", math.nan), record.get("share", math.nan)
        moments.append(Moment(record.get("epoch", math.nan), step, share, loss, lr, record))
        losses = []
    return moments, first


def failed(scores: Mapping[str, float]) -> bool:
    """Whether a student of such ``r2`` and ``cosine`` knows nothing of its teacher but the mean activation."""
    return not scores["r2"] > 0.0 or not scores["cosine"] > NO_COSINE  # NaN included


def number(value: float) -> str:
    """A score in words: two decimals, or an exponent where it is huge."""
    return f"{value:.1e}" if abs(value) >= 1e6 else f"{round(value, 2) + 0.0:.2f}"  # never -0.00


def diverged(moments: Sequence[Moment], first: float) -> bool:
    """Whether the last loss or R2 is no number, or the loss has risen well above where it was."""
    losses = [value for value in (first, *(m.loss for m in moments)) if not math.isnan(value)]
    if any(math.isinf(value) for value in losses) or math.isnan(moments[-1].scores["r2"]):
        return True
    return len(losses) > 1 and losses[-1] > 0 and losses[-1] > 1.5 * min(losses) + 1e-6


def cause_of_standstill(still: Sequence[Moment]) -> str:
    """The likely cause of a standstill, and what to do."""
    then, now = still[0], still[-1]
    change = _change(then.loss, now.loss)
    worse = [name for name in ("r2", "cosine") if now.scores[name] < then.scores[name] - 2 * MEANINGFUL[name]]
    if change < -FALL and worse:
        return (
            f"overfitting: the training loss still falls ({then.loss:.3g} to {now.loss:.3g}) while held-out scores get worse; "
            "add transfer images or views"
        )
    if change < -FALL:
        return (
            f"the training loss still falls ({then.loss:.3g} to {now.loss:.3g}) but held-out scores do not follow; "
            "add transfer images or views"
        )
    losses = [m.loss for m in still if math.isfinite(m.loss)]
    if change > FALL or (len(losses) > 3 and min(losses) < (1 - 4 * FALL) * max(losses)):
        low, high = min(losses), max(losses)
        return f"the training loss rises or jumps ({low:.3g} to {high:.3g}); lower the learning rate{_rate(then.lr)}"
    if math.isnan(change):
        return "add transfer images or views, or try another learning rate or a larger student"
    if then.lr < 1e-5:
        return f"the training loss no longer falls either; raise the learning rate{_rate(then.lr)}"
    return (
        f"the training loss no longer falls either ({now.loss:.3g}); a student too small for this teacher, or a learning rate"
        f"{_rate(then.lr)} too high to settle or too low to move"
    )


def cause_of_failure(
    moments: Sequence[Moment], first: float, scores: Mapping[str, float], broken: bool, over: bool
) -> str:
    """The likely cause of a student that learns nothing, and what to do."""
    now = moments[-1]
    peak = max((m.lr for m in moments if m.lr > 0), default=math.nan)
    begin = moments[0].loss if math.isnan(first) else first
    change = _change(begin, now.loss)
    better = max((m for m in moments if not failed(m.scores)), key=lambda m: m.scores["r2"], default=None)
    if peak < 1e-6 or peak >= 0.1:  # of Adam and AdamW
        return f"the learning rate is far too {'low' if peak < 1e-6 else 'high'}{_rate(peak)}"
    if broken:
        lowest = min((m.loss for m in moments if not math.isnan(m.loss)), default=math.nan)
        told = f" (loss {min(lowest, begin):.3g}, then {now.loss:.3g})" if math.isfinite(now.loss) else ""
        return f"the training diverges{told}: lower the learning rate{_rate(peak)}"
    if scores["r2"] == 0.0:  # to the last digit: what R2 is where nothing varies
        return "the targets are constant: the teacher answers all images alike; check its weights and its preprocessing"
    if over and now.epoch < 1.0 and now.step < FEW_STEPS * 10:
        return f"too short a training: {now.step:.0f} steps, {now.epoch:.0%} of the views; train longer"
    if better and change < -FALL:
        once = f"R2 was {number(better.scores['r2'])} at epoch {better.epoch:.1f}"
        return f"overfitting: the training loss falls ({begin:.3g} to {now.loss:.3g}) but {once}; add transfer images or views"
    if scores["cosine"] > 0.3 and not (scores["r2"] > -1.0 and change < -FALL):
        return "directions are right but outputs explode: BatchNorm statistics or a learning rate that is too high"
    if scores["r2"] < -2.0:
        return f"outputs explode: a learning rate that is too high{_rate(peak)}, or BatchNorm statistics"
    if over and _steep(moments):
        return "too short a training: scores were still rising at the end; train longer"
    if over and now.step < FEW_STEPS:
        return f"too short a training: only {now.step:.0f} steps; train longer"
    if change < -FALL:
        return (
            f"the training loss falls ({begin:.3g} to {now.loss:.3g}) but held-out scores do not follow: held-out images of "
            "another kind, or too few training images"
        )
    if not math.isnan(change):
        return (
            f"the training loss does not fall ({begin:.3g} to {now.loss:.3g}): the learning rate{_rate(peak)}, or targets that "
            "do not depend on the images"
        )
    return "nothing of the teacher was picked up: too short a training, or images the teacher does not know"


def _steep(moments: Sequence[Moment]) -> bool:
    """Whether R2 was rising so fast at the end that twice the training would have brought it above 0."""
    if len(moments) < 2:
        return False
    before, now = (moment.scores["r2"] for moment in moments[-2:])
    return now - before >= MEANINGFUL["r2"] and now + (now - before) * len(moments) > 0.0


def _change(before: float, after: float) -> float:
    """Relative change of a loss; NaN where unknown."""
    if not (math.isfinite(before) and math.isfinite(after)):
        return math.nan
    return (after - before) / max(abs(before), 1e-12)


def _rate(lr: float) -> str:
    return "" if math.isnan(lr) else f" ({lr:.2g})"
