"""Image generators from files: TorchScript, torch.export and ONNX; latents in, images out.

The first input is the latent z. Inputs named like :data:`CLASS` get the class as one-hot rows, inputs named like
:data:`TRUNCATION` the truncation psi as a scalar; an input of another name is refused. A seed's latent is
``RandomState(seed).randn(...)``, as in StyleGAN2-ADA's own scripts, so their seed 7 and ours are the same picture.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from kdedge.data.generate import Generator
from kdedge.errors import DataError, ModelError

__all__ = ["BATCH", "CLASS", "RANGES", "TRUNCATION", "GeneratorInput", "load_generator"]

BATCH = 32
"""Latents a call: always so many, the last ones unused, since other batch sizes take other kernels, which round differently."""

CLASS = ("c", "class", "classes", "label", "labels", "one_hot", "onehot")
TRUNCATION = ("psi", "truncation", "truncation_psi")
RANGES: Mapping[str, tuple[float, float]] = {"-1:1": (-1.0, 1.0), "0:1": (0.0, 1.0), "0:255": (0.0, 255.0)}
SLACK = 2.0  # generators overshoot their range; beyond so many ranges from its middle it is another one
SAME = 2  # levels of 255 by which the same seed may differ between two batches

Run = Callable[[dict[str, NDArray[np.float32]]], NDArray[Any]]


@dataclass(frozen=True)
class GeneratorInput:
    """What the file does not say.

    Attributes:
        latent: shape of one latent, (512,) if neither this nor the file says; (100, 1, 1) for many DCGANs.
        values: the range of the pixels, one of :data:`RANGES`.
        truncation: psi; 1 for none. Refused by a generator without such an input.
        label: number of the class; refused by a generator without classes, needed by one with them.
        classes: how many there are, where the file does not say.
    """

    latent: tuple[int, ...] | None = None
    values: str = "-1:1"
    truncation: float | None = None
    label: int | None = None
    classes: int | None = None

    def __post_init__(self) -> None:
        if self.values not in RANGES:
            raise DataError(f"--values is {self.values!r}; choose one of {', '.join(RANGES)}.")
        if self.latent is not None and (not self.latent or min(self.latent) < 1):
            raise DataError("--latent wants positive sizes, 512 or 100,1,1 for example.")
        if self.label is not None and self.label < 0:
            raise DataError(f"--class is {self.label}; it must not be negative.")


@dataclass(frozen=True)
class _Network:
    """A loaded file; shapes are without the batch axis, None where the file does not say."""

    run: Run
    names: tuple[str, ...]
    shapes: Mapping[str, tuple[int, ...] | None]


def load_generator(path: str | Path, given: GeneratorInput | None = None) -> tuple[Generator, str]:
    """A generator, and a digest of the file and everything else that its images depend on.

    Raises:
        ModelError: the file cannot be loaded or wants inputs that are unknown; its output is no batch of images (shape, range,
            NaN); or the image of a seed changes from call to call or with the other seeds of a batch.
    """
    given, file = given or GeneratorInput(), Path(path)
    if not file.is_file():
        raise ModelError(f"{file}: no such generator file.")
    network = _load(file)
    latent, extra = _inputs(network, given, file)

    def images(seeds: Sequence[int]) -> NDArray[np.uint8]:
        parts = [_batch(seeds[start : start + BATCH]) for start in range(0, len(seeds), BATCH)]
        return np.concatenate(parts) if parts else np.empty((0, 1, 1, 3), np.uint8)

    def _batch(seeds: Sequence[int]) -> NDArray[np.uint8]:
        z = np.zeros((BATCH, *latent), np.float32)
        for row, seed in enumerate(seeds):
            if seed >= 2**32:
                raise DataError(f"seed {seed} is too large; seeds lie below 2**32.")
            z[row] = np.random.RandomState(seed).randn(prod(latent)).reshape(latent)
        try:
            found = network.run({network.names[0]: z, **extra})
        except Exception as error:  # torch and onnxruntime raise whatever they like
            reason = (str(error).strip().splitlines() or [type(error).__name__])[-1][:200].rstrip(".")
            raise ModelError(
                f"{file}: the generator fails on latents of shape {z.shape} ({reason}); --latent gives another shape."
            ) from error
        return _pixels(found, given.values, file)[: len(seeds)]

    _refuse_restless(images, file)
    digest = sha256(file.read_bytes())
    digest.update(repr((latent, given.values, given.truncation, given.label)).encode())
    return images, digest.hexdigest()


def _load(file: Path) -> _Network:
    try:
        if file.suffix == ".onnx":
            return _onnx(file)
        return _exported(file) if file.suffix == ".pt2" else _script(file)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(
            f"{file}: not a generator that can be loaded; expected TorchScript (.pt), torch.export (.pt2) or ONNX (.onnx)."
        ) from error


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _script(file: Path) -> _Network:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # TorchScript is on its way out; many generators are still in it
        module = torch.jit.load(str(file), map_location=_device()).eval()  # type: ignore[no-untyped-call]
    names = tuple(argument.name for argument in module.forward.schema.arguments[1:] if not argument.has_default_value())
    return _torch_network(module, names, dict.fromkeys(names))


def _exported(file: Path) -> _Network:
    program = torch.export.load(file)
    wanted = program.graph_signature.user_inputs
    values = {node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"}
    names = tuple(str(name) for name in wanted)
    shapes = {name: _known(tuple(values[name].shape)) if hasattr(values[name], "shape") else None for name in names}
    module = program.module().to(_device())
    return _torch_network(module, names, shapes)


def _torch_network(
    module: Callable[..., Any], names: tuple[str, ...], shapes: Mapping[str, tuple[int, ...] | None]
) -> _Network:
    def run(values: dict[str, NDArray[np.float32]]) -> NDArray[Any]:
        with torch.inference_mode():
            found = module(*(torch.from_numpy(values[name]).to(_device()) for name in names))
        found = found[0] if isinstance(found, tuple | list) else found
        array: NDArray[Any] = found.float().cpu().numpy() if found.is_floating_point() else found.cpu().numpy()
        return array

    return _Network(run, names, shapes)


def _onnx(file: Path) -> _Network:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()  # ORT ignores cgroup limits
    wanted = [p for p in ("CUDAExecutionProvider", "CPUExecutionProvider") if p in ort.get_available_providers()]
    session = ort.InferenceSession(str(file), options, providers=wanted)
    names = tuple(item.name for item in session.get_inputs())
    shapes = {item.name: _known(tuple(item.shape)) for item in session.get_inputs()}
    return _Network(lambda values: np.asarray(session.run(None, values)[0]), names, shapes)


def _known(shape: tuple[Any, ...]) -> tuple[int, ...] | None:
    """Without the batch axis; None if any other axis is free."""
    return tuple(shape[1:]) if all(isinstance(side, int) for side in shape[1:]) else None


def _inputs(
    network: _Network, given: GeneratorInput, file: Path
) -> tuple[tuple[int, ...], dict[str, NDArray[np.float32]]]:
    if not network.names:
        raise ModelError(f"{file}: takes no input; a generator takes latents.")
    first, *others = network.names
    latent = given.latent or network.shapes[first] or (512,)
    extra: dict[str, NDArray[np.float32]] = {}
    for name in others:
        if name.lower() in TRUNCATION:
            extra[name] = np.asarray(1.0 if given.truncation is None else given.truncation, np.float32)
        elif name.lower() in CLASS:
            extra[name] = _one_hot(network.shapes[name], given, file)
        else:
            known = ", ".join((*CLASS, *TRUNCATION))
            raise ModelError(f"{file}: wants an input {name!r}; besides the latent, one of {known} can be given.")
    if given.truncation is not None and not any(name.lower() in TRUNCATION for name in others):
        raise ModelError(f"{file}: has no input for --truncation (one of {', '.join(TRUNCATION)}).")
    if given.label is not None and not any(name.lower() in CLASS for name in others):
        raise ModelError(f"{file}: has no input for --class (one of {', '.join(CLASS)}).")
    return latent, extra


def _one_hot(shape: tuple[int, ...] | None, given: GeneratorInput, file: Path) -> NDArray[np.float32]:
    count = given.classes if given.classes is not None else (shape[0] if shape else None)
    if count is None:
        raise ModelError(f"{file}: makes images of a class and does not say how many there are; give --classes.")
    if count == 0:  # unconditional StyleGAN2-ADA networks keep an empty class input
        if given.label is not None:
            raise ModelError(f"{file}: knows no classes; leave out --class.")
    elif given.label is None or given.label >= count:
        told = "no class was given" if given.label is None else f"--class is {given.label}"
        raise ModelError(f"{file}: {told}; choose --class 0 to {count - 1}.")
    rows = np.zeros((BATCH, count), np.float32)
    if count:
        rows[:, given.label] = 1.0
    return rows


def _pixels(found: NDArray[Any], values: str, file: Path) -> NDArray[np.uint8]:
    """(BATCH, 1 or 3, H, W) to uint8 (BATCH, H, W, 3)."""
    if found.ndim != 4 or found.shape[0] != BATCH or found.shape[1] not in (1, 3):
        raise ModelError(f"{file}: returned {found.shape} where images ({BATCH}, 3, height, width) were expected.")
    low, high = RANGES[values]
    numbers = found.astype(np.float32)
    if not np.isfinite(numbers).all():
        raise ModelError(f"{file}: {int((~np.isfinite(numbers)).sum())} pixels of a batch are not finite.")
    least, most = float(numbers.min()), float(numbers.max())
    middle, half = (low + high) / 2, (high - low) / 2
    outside = max(abs(least - middle), abs(most - middle)) > SLACK * half
    unused = (values == "-1:1" and least >= 0.0 < most) or (values == "0:255" and most <= 1.0 and least != most)
    if outside or unused:
        raise ModelError(
            f"{file}: pixels lie between {least:.3g} and {most:.3g}, not in {values}; --values says which range it is "
            f"({', '.join(RANGES)})."
        )
    levels = ((numbers - low) * (255.0 / (high - low))).round().clip(0, 255).astype(np.uint8)
    colours = levels if levels.shape[1] == 3 else levels.repeat(3, axis=1)
    return np.ascontiguousarray(colours.transpose(0, 2, 3, 1))


def _refuse_restless(images: Generator, file: Path) -> None:
    """A seed must be one image: on every call, and whatever stands beside it in the batch."""
    first = images([0, 1])
    for other, what in (
        (images([0, 1]), "from call to call (StyleGAN: export it with noise_mode='const')"),
        (images([0, *range(2, BATCH + 1)]), "with the other seeds of a batch (export it in eval mode)"),
    ):
        if int(np.abs(first[0].astype(int) - other[0]).max()) > SAME:
            raise ModelError(f"{file}: the image of a seed changes {what}.")
