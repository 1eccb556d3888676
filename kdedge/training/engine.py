"""Where and in which precision a step runs: device, memory layout, autocast, processes. Accelerate does the work."""

import contextlib
import functools
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, broadcast_object_list, gather_object
from numpy.typing import NDArray
from torch import Tensor, nn

__all__ = ["Engine", "set_threads", "usable_cores"]


def usable_cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_threads() -> None:
    """Use every core this process may use, unless OMP_NUM_THREADS says otherwise."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(usable_cores())


@functools.cache
def _accelerator() -> Accelerator:
    # precision is this project's own choice, measured at start, so Accelerate is told of none
    return Accelerator(
        cpu=not torch.cuda.is_available(),
        mixed_precision="no",
        kwargs_handlers=[DistributedDataParallelKwargs(gradient_as_bucket_view=True)],
    )


@dataclass(frozen=True)
class Engine:
    """A device, a precision (``fp32`` or ``bf16``) and a memory layout; one process or one of several.

    Under ``accelerate launch`` or ``torchrun`` every process runs the same program on a share of each batch, and gradients are
    averaged over them. What is written, only the main one writes.
    """

    device: torch.device
    precision: str = "fp32"
    channels_last: bool = True
    compiled: bool = False

    @classmethod
    def choose(cls, precision: str = "fp32") -> "Engine":
        """The GPU if there is one (that of this process), else the CPU."""
        return cls(_accelerator().device, precision)

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""
        return int(_accelerator().process_index)

    @property
    def world(self) -> int:
        """How many processes there are."""
        return int(_accelerator().num_processes)

    @property
    def main(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def wait(self) -> None:
        """Until all processes have come here."""
        if self.world > 1:
            _accelerator().wait_for_everyone()

    def agree(self, value: Any) -> Any:
        """The main process's value, on all of them."""
        if self.world == 1:
            return value
        shared = [value]
        broadcast_object_list(shared, from_process=0)
        return shared[0]

    def everyone(self, value: Any) -> list[Any]:
        """The values of all processes, in the order of their ranks."""
        return [value] if self.world == 1 else list(gather_object([value]))

    def mean(self, value: Tensor) -> Tensor:
        """The mean of a tensor over all processes."""
        if self.world == 1:
            return value
        reduced: Tensor = _accelerator().reduce(value, reduction="mean")
        return reduced

    def place(self, network: nn.Module) -> nn.Module:
        """Move to the device, in the chosen memory layout."""
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        placed: nn.Module = network.to(self.device, memory_format=layout)  # type: ignore[call-overload]
        return placed

    def shared(self, network: nn.Module) -> nn.Module:
        """What to call instead of ``network`` in a training step: compiled where chosen, gradients averaged over processes."""
        step = torch.compile(network) if self.compiled else network
        if self.world == 1:
            return step  # type: ignore[return-value]
        wrapped: nn.Module = _accelerator().prepare_model(step)
        return wrapped

    def backward(self, loss: Tensor) -> None:
        """Gradients of a loss."""
        _accelerator().backward(loss)

    def clip(self, parameters: Iterable[nn.Parameter], norm: float) -> None:
        """Scale the gradients down to a norm, if theirs is larger."""
        _accelerator().clip_grad_norm_(parameters, norm)

    def tensor(self, array: NDArray[np.generic]) -> Tensor:
        """An array on the device; images (B, C, H, W) in the chosen memory layout."""
        return self.laid_out(torch.from_numpy(np.ascontiguousarray(array)).to(self.device, non_blocking=True))

    def laid_out(self, tensor: Tensor) -> Tensor:
        """Images (B, C, H, W) in the chosen memory layout; any other tensor as it is."""
        if tensor.ndim != 4:
            return tensor
        return tensor.contiguous(memory_format=torch.channels_last if self.channels_last else torch.contiguous_format)

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """bf16 where chosen."""
        if self.precision == "bf16":
            return torch.autocast(self.device.type, torch.bfloat16)
        return contextlib.nullcontext()

    def finish(self) -> None:
        """Until the device has done what it was told."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def release(self) -> None:
        """Forget networks that were shared; their training is over."""
        if self.world > 1:
            _accelerator().free_memory()
