"""What a step of pre-training is fed with: views, and the teacher's activations of them, cached or computed there and then."""

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdedge.preprocess import Preprocess
from kdedge.training.activations import ViewBank, Views, fit_to
from kdedge.training.clock import Clock
from kdedge.training.engine import Engine
from kdedge.training.inference import as_input
from kdedge.training.joined import RowArray
from kdedge.training.order import Order
from kdedge.training.targets import Targets
from kdedge.training.teachers import Teacher

__all__ = ["Feed", "Live", "mix", "pixels_of"]

RESIDENT = 0.4
"""Share of a GPU's free memory that the images may take; elsewhere they come from the host, batch by batch."""

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Live:
    """The teacher looks at every batch itself: other views in every epoch, at the cost of its forward pass in every step.

    Attributes:
        mixup: parameter of the Beta distribution of the mixing weight (Zhang et al., arXiv 1710.09412); 0 mixes nothing. A
            teacher that sees the same mixed images is matched as a function, far from the data too (Beyer et al., arXiv
            2106.05237).
    """

    teacher: Teacher
    mixup: float = 0.0


class Feed:
    """Batches by the number of the step; on a GPU the next one is prepared while this one is used.

    Args:
        rows: rows of ``bank`` to train on; ``draw`` of them an epoch, drawn at random, where that is above 0.
        targets: what is made of activations (B, D).
        clock: told how long a step waits.
    """

    def __init__(
        self,
        bank: ViewBank,
        rows: NDArray[np.int64],
        order: Order,
        targets: Targets,
        preprocess: Preprocess,
        engine: Engine,
        clock: Clock,
        *,
        draw: int = 0,
        live: Live | None = None,
    ) -> None:
        self._views, self._activations, self._rows, self._order = bank.views, bank.activations, rows, order
        self._targets, self._preprocess, self._engine, self._clock = targets, preprocess, engine, clock
        self._draw, self._live = draw, live
        if engine.device.type == "cuda" and isinstance(self._views, Views):
            self._views = self._views.resident(engine.device, RESIDENT * torch.cuda.mem_get_info(engine.device)[0])
        self._drawn: tuple[int, NDArray[np.int64]] = (-1, rows)
        self._ahead = ThreadPoolExecutor(1) if engine.device.type == "cuda" else None
        self._next: tuple[int, Future[Pair]] | None = None

    def take(self, step: int) -> Pair:
        """The student's input (B, 3, S, S) and targets (B, D), on the device."""
        with self._clock.waiting():
            if self._next is not None and self._next[0] == step:
                pair = self._next[1].result()
            else:
                pair = self._make(step)
            if self._ahead:
                self._next = (step + 1, self._ahead.submit(self._make, step + 1))
        return pair

    def close(self) -> None:
        """Stop preparing."""
        if self._ahead:
            self._ahead.shutdown(wait=True, cancel_futures=True)

    def _make(self, step: int) -> Pair:
        epoch = step // self._order.an_epoch
        chosen = self._of(epoch)[self._order.at(step)]
        if self._live is None:
            pixels, activations = pixels_of(self._views, chosen, self._engine.device), self._activations[chosen]
        else:
            assert isinstance(self._views, Views)
            pixels = self._views.fresh(epoch).tensor(chosen, self._engine.device)
            if self._live.mixup:
                pixels = mix(pixels, self._live.mixup, (self._order.seed, 3, step, self._order.rank))
            activations = _look(self._live.teacher, pixels)
        target = torch.from_numpy(self._targets(activations))
        if self._engine.device.type == "cuda":
            target = target.pin_memory()
        target = target.to(self._engine.device, non_blocking=True)
        return as_input(pixels, self._preprocess, self._engine), target

    def _of(self, epoch: int) -> NDArray[np.int64]:
        if not self._draw or self._draw >= len(self._rows):
            return self._rows
        if self._drawn[0] != epoch:
            rng = np.random.default_rng((self._order.seed, 2, epoch))
            self._drawn = epoch, np.sort(rng.choice(self._rows, self._draw, replace=False))
        return self._drawn[1]


def pixels_of(views: RowArray, rows: NDArray[np.int64], device: torch.device) -> Tensor:
    """Views by their rows (B,) as uint8, (B, 3, S, S), on ``device``."""
    if isinstance(views, Views):
        return views.tensor(rows, device)
    return torch.from_numpy(np.ascontiguousarray(views[rows])).to(device, non_blocking=True).permute(0, 3, 1, 2)


def mix(pixels: Tensor, alpha: float, key: tuple[int, ...]) -> Tensor:
    """Mix each image with another one of the batch: ``w x + (1 - w) y``, w of Beta(alpha, alpha) (arXiv 1710.09412).

    Args:
        pixels: uint8, (B, 3, S, S); so is what comes back, for student and teacher must see the same.
        key: what the random numbers depend on.
    """
    rng = np.random.default_rng(key)
    weight = torch.from_numpy(rng.beta(alpha, alpha, (len(pixels), 1, 1, 1)).astype(np.float32)).to(pixels.device)
    other = torch.from_numpy(rng.permutation(len(pixels))).to(pixels.device)
    first, second = pixels.float(), pixels[other].float()
    return (weight * first + (1.0 - weight) * second).round_().to(torch.uint8)


def _look(teacher: Teacher, pixels: Tensor) -> NDArray[np.float32]:
    return teacher.embed(fit_to(pixels.permute(0, 2, 3, 1).cpu().numpy(), teacher.preprocess))
