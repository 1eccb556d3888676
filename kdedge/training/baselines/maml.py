"""Model-agnostic meta-learning (the paper's S5; Finn et al., arXiv 1703.03400): weights from which a few steps adapt."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

from kdedge.errors import DataError, RunError

__all__ = ["Adaptation", "Task", "adapt", "draw_task", "maml_loss"]

Parameters = dict[str, Tensor]
LossFunction = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Adaptation:
    """The inner loop.

    Attributes:
        rate: alpha, the step size.
        steps: gradient steps on the support set.
        first_order: leave out the second derivatives (FOMAML).
    """

    rate: float = 0.01
    steps: int = 1
    first_order: bool = False

    def __post_init__(self) -> None:
        if self.rate <= 0 or self.steps < 1:
            raise RunError(f"the inner loop has rate {self.rate} and {self.steps} steps; expected above 0, at least 1.")


@dataclass(frozen=True)
class Task:
    """Items and their classes within the task (0 to ways - 1): to adapt on, and to be judged on."""

    support: NDArray[np.int64]
    support_labels: NDArray[np.int64]
    query: NDArray[np.int64]
    query_labels: NDArray[np.int64]


def draw_task(labels: NDArray[np.integer], ways: int, shots: int, queries: int, key: tuple[int, ...]) -> Task:
    """Draw ``ways`` classes and ``shots`` + ``queries`` images of each; the draw depends on ``key`` alone.

    Raises:
        DataError: fewer classes than ``ways``, or too few images in enough of them.
    """
    numbers = np.asarray(labels)
    found, counts = np.unique(numbers, return_counts=True)
    enough = found[counts >= shots + queries]
    if len(enough) < ways:
        raise DataError(
            f"{len(enough)} of {len(found)} classes have {shots} + {queries} images; {ways} such classes make a task. "
            "Ask for fewer ways, shots or queries."
        )
    rng = np.random.default_rng(key)
    chosen = rng.permutation(enough)[:ways]
    picked = [rng.permutation(np.flatnonzero(numbers == label))[: shots + queries] for label in chosen]
    support = np.concatenate([items[:shots] for items in picked])
    query = np.concatenate([items[shots:] for items in picked])
    own = np.arange(ways)
    return Task(support, np.repeat(own, shots), query, np.repeat(own, queries))


def adapt(
    model: nn.Module,
    parameters: Mapping[str, Tensor],
    x: Tensor,
    y: Tensor,
    loss: LossFunction,
    inner: Adaptation,
) -> Parameters:
    """``theta' = theta - alpha * grad L(theta; support)``, ``inner.steps`` times.

    The result depends on ``parameters`` through the inner gradients too, unless ``inner.first_order``. Buffers are copied for
    the call: BatchNorm in train mode uses the batch's statistics and leaves the running ones alone.
    """
    fast = dict(parameters)
    for _ in range(inner.steps):
        value = loss(_call(model, fast, x), y)
        gradients = torch.autograd.grad(value, list(fast.values()), create_graph=not inner.first_order)
        fast = {name: weight - inner.rate * g for (name, weight), g in zip(fast.items(), gradients, strict=True)}
    return fast


def maml_loss(
    model: nn.Module,
    support: tuple[Tensor, Tensor],
    query: tuple[Tensor, Tensor],
    loss: LossFunction,
    inner: Adaptation,
) -> Tensor:
    """The query loss after adaptation; its gradient by the model's parameters is the outer loop's (equation 1 of MAML)."""
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    adapted = adapt(model, parameters, *support, loss, inner)
    return loss(_call(model, adapted, query[0]), query[1])


def _call(model: nn.Module, parameters: Mapping[str, Tensor], x: Tensor) -> Tensor:
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    found: Tensor = functional_call(model, {**parameters, **buffers}, (x,))
    return found
