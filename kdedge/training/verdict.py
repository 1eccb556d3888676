"""Did the student learn, and does it at this moment? In words, from the evaluations so far."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from kdedge.training.diagnosis import (
    MEANINGFUL,
    Moment,
    cause_of_failure,
    cause_of_standstill,
    diverged,
    failed,
    number,
    read_moments,
)

__all__ = ["Verdict", "judge", "short", "verdict"]

RATE_LEFT = 0.1
"""A standstill says something while the learning rate is above this share of its peak; below, training ends by design."""

EARLY, PATIENT = 0.2, 0.2
"""Shares of the training before which a failure, and for which a standstill, says nothing."""


@dataclass(frozen=True)
class Verdict:
    """How a training stands.

    Attributes:
        state: ``starting`` (too early to say), ``learning``, ``stalled`` (held-out scores stand still though the learning
            rate would still allow more), ``not learning`` (no better than the teacher's mean activation), ``learned`` (over;
            or standing still at nearly all of the teacher) and ``barely learned`` (over, R2 below 0.1).
        words: one or two sentences with the scores and, where something is wrong, the likely cause and what to do.
        since: epoch of the last evaluation that brought a gain, where scores have stood still since; else None.
    """

    state: Literal["starting", "learning", "stalled", "not learning", "barely learned", "learned"]
    words: str
    since: float | None = None


def judge(history: Sequence[Mapping[str, float]], kept: Mapping[str, float] | None = None) -> Verdict:
    """Judge a training by its records so far.

    A student with a held-out R2 of 0 or less, or a cosine near 0, predicts no better than the teacher's mean
    activation; it has not learned, whatever the other score says. Better last scores never make a verdict worse in that
    respect.

    Args:
        history: records with ``r2``, ``cosine`` and ``knn`` are evaluations; they may hold ``probe``, ``epoch``, ``step``,
            ``loss`` (of the training at that moment), ``lr`` and ``share`` (of the training that is done, 0-1). Records
            without scores may stand between them and give loss and learning rate. If the last evaluation has no
            ``share``, it is taken for the end.
        kept: scores of the network that is kept at the end; by default those of the last evaluation.
    """
    moments, first = read_moments(history)
    if not moments:
        return Verdict("starting", "Nothing has been evaluated yet.")
    now = moments[-1]
    still = moments[_last_gain(moments) :]  # the last gain and what came after it
    over = not now.share < 1.0
    scores = kept if over and kept is not None else now.scores
    if failed(scores):
        broken = diverged(moments, first)
        if not over and not broken and _rises(moments):
            return Verdict("learning", f"Learning: {_figures(scores)}; rising, though still no better than a constant.")
        if not over and not broken and (len(moments) == 1 or now.share < EARLY):
            return Verdict("starting", f"Too early to say ({_figures(scores)}).")
        cause = cause_of_failure(moments, first, scores, broken, over)
        return Verdict("not learning", f"The student is NOT learning ({_figures(scores)}); {cause}.")
    stands = _stands_still(moments, still)
    since = still[0].epoch if stands else None
    if over:
        state: Literal["barely learned", "learned"] = "barely learned" if scores["r2"] < 0.1 else "learned"
        return Verdict(state, verdict(scores) + _afterthought(moments, still, stands, scores), since)
    if stands and scores["r2"] > 0.9:
        return Verdict("learned", f"{verdict(scores)} Nothing is gained since epoch {still[0].epoch:g}.", since)
    if stands:
        return Verdict(
            "stalled",
            f"Stalled since epoch {still[0].epoch:g} ({_figures(scores)}): {cause_of_standstill(still)}.",
            since,
        )
    return Verdict("learning", f"Learning: {_figures(scores)}.")


def verdict(scores: Mapping[str, float]) -> str:
    """One sentence from the held-out ``r2`` (variance-weighted), ``cosine`` and ``knn`` of a finished training."""
    figures, r2 = _figures(scores), scores["r2"]
    if failed(scores):
        cause = (
            "directions are right but outputs explode: BatchNorm statistics or a learning rate that is too high"
            if scores["cosine"] > 0.3
            else "nothing of the teacher was picked up: too short a training, or images the teacher does not know"
        )
        return f"The student is NOT learning ({figures}); {cause}."
    if r2 < 0.1:
        return f"The student has barely learned ({figures}); train longer or add transfer images."
    if r2 < 0.4:
        return f"The student has learned part of its teacher ({figures})."
    return f"The student has learned well ({figures})."


def short(verdict: Verdict) -> str:
    """The verdict in at most 24 characters, for a progress line."""
    if verdict.state == "not learning":
        return "NOT learning"
    if verdict.state == "stalled" and verdict.since is not None:
        return f"stalled since {verdict.since:.1f}" if abs(verdict.since) < 1e6 else "stalled"
    return verdict.state


def _figures(scores: Mapping[str, float]) -> str:
    told = [f"held-out R2 {number(scores['r2'])}", f"cosine {number(scores['cosine'])}"]
    more = (("knn", "k-NN agreement"), ("probe", "few-shot probe"))
    told += [f"{name} {number(scores[key])}" for key, name in more if not math.isnan(scores.get(key, math.nan))]
    return ", ".join(told)


def _last_gain(moments: Sequence[Moment]) -> int:
    """Index of the last evaluation with a meaningful gain over the ones before; small gains add up."""
    last, best = 0, dict(moments[0].scores)
    for index, moment in enumerate(moments[1:], 1):
        for key, least in MEANINGFUL.items():
            value, known = moment.scores.get(key, math.nan), best.get(key, math.nan)
            if value >= known + least * max(1.0, abs(known)) or (math.isnan(known) and not math.isnan(value)):
                last, best[key] = index, value
    return last


def _stands_still(moments: Sequence[Moment], still: Sequence[Moment]) -> bool:
    """Whether at least two evaluations and a good part of the training, at a rate worth the name, brought no gain."""
    peak = max((m.lr for m in moments if m.lr > 0), default=math.nan)
    idle = [m for m in still if not m.lr < RATE_LEFT * peak]
    if math.isnan(peak):  # a cosine schedule has as little left there
        idle = [m for m in still if not m.share > 0.8]
    if len(idle) < 3:
        return False
    passed = idle[-1].share - idle[0].share
    return passed >= PATIENT - 1e-9 if not math.isnan(passed) else len(idle) > 3


def _rises(moments: Sequence[Moment]) -> bool:
    """Whether R2 or cosine of a failing student is clearly better than ever, by more than chance moves them."""
    now = moments[-1].scores
    for key in ("r2", "cosine"):
        best = max((m.scores[key] for m in moments[:-1] if not math.isnan(m.scores[key])), default=math.inf)
        if now[key] >= best + 0.02 * max(1.0, abs(best)):
            return True
    return False


def _afterthought(moments: Sequence[Moment], still: Sequence[Moment], stands: bool, scores: Mapping[str, float]) -> str:
    if stands and scores["r2"] <= 0.9:
        return f" Nothing was gained after epoch {still[0].epoch:g}: {cause_of_standstill(still)}."
    if len(still) == 1 and len(moments) > 1 and 0.1 <= scores["r2"] < 0.4:
        return " It was still improving at the end; a longer training should help."
    return ""
