"""From results to the JSON of an answer."""

import json
from collections.abc import Sequence
from time import perf_counter
from typing import Any

from kdedge.decode import Box
from kdedge.runtime.prediction import Prediction
from kdedge.runtime.server.errors import Problem
from kdedge.runtime.server.job import Faces, Job

__all__ = ["answer_of"]


def answer_of(model: str, jobs: Sequence[Job], began: float, read: float) -> bytes:
    """The answer to a request as JSON.

    Args:
        model: its name.
        jobs: the images, all finished.
        began, read: when the request began and when its body was there, on ``perf_counter``'s clock.

    Raises:
        Problem: none of the images has an answer.
    """
    problems = [
        (job, job.result or _stopped()) for job in jobs if job.result is None or isinstance(job.result, Problem)
    ]
    if len(problems) == len(jobs):
        raise _all_failed(problems)
    now = perf_counter()
    times = {
        "read": read - began,
        "queue": max(job.waited for job in jobs),
        "decode": max(job.decoding for job in jobs),
        "inference": max(job.inference for job in jobs),
        "total": now - began,
    }
    found = {
        "model": model,
        "results": [_result(job) for job in jobs],
        "ms": {name: round(1000 * seconds, 3) for name, seconds in times.items()},
    }
    return json.dumps(found, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")


def _result(job: Job) -> dict[str, Any]:
    found = job.result
    if found is None or isinstance(found, Problem):
        problem = found or _stopped()
        return {"source": job.source, "error": problem.detail, "code": problem.code}
    if isinstance(found, Faces):
        pairs = zip(found.boxes, found.predictions, strict=True)
        return {"source": job.source, "faces": [{"box": _pixels(box), **_seen(one, job)} for box, one in pairs]}
    return {"source": job.source, **_seen(found, job)}


def _seen(found: Prediction, job: Job) -> dict[str, Any]:
    pairs = zip(found.labels[: job.top], found.probabilities[: job.top], strict=True)
    answer: dict[str, Any] = {
        "label": found.label,
        "probability": found.probability,
        "unknown": found.unknown,
        "score": found.score,
        "top": [{"label": label, "probability": probability} for label, probability in pairs],
    }
    if job.embedding and found.embedding is not None:
        answer["embedding"] = [float(f"{value:.7g}") for value in found.embedding.tolist()]
    return answer


def _pixels(box: Box) -> list[float]:
    return [round(value, 1) for value in box]


def _all_failed(problems: Sequence[tuple[Job, Problem]]) -> Problem:
    first = problems[0][1]
    if len(problems) == 1:
        return first
    statuses = {problem.status for _, problem in problems}
    status = first.status if len(statuses) == 1 else max(statuses) if max(statuses) >= 500 else 422
    errors = [{"source": job.source, "error": problem.detail, "code": problem.code} for job, problem in problems]
    return Problem(status, "no_image", f"None of the {len(problems)} images can be classified.", first.headers, errors)


def _stopped() -> Problem:
    return Problem(503, "stopping", "The server is being stopped.", {"Retry-After": "5"})
