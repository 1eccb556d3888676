"""Distillation as the paper describes it (S2, S9, S13), in plain PyTorch: the peer of ``distill_throughput``.

In every epoch every image is decoded, transformed and shown to the teacher again. It is what somebody who knows PyTorch
writes without further ado: a ``Dataset`` that opens files with Pillow, ``torchvision.transforms.v2``, a ``DataLoader``
with workers, float32 in the default memory format, Adam, mean squared error; nothing is cached.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import InterpolationMode, v2

from kdedge.preprocess import Preprocess
from kdedge.training.augment import Augment
from kdedge.training.students import build_trunk, default_preprocess, pretrained_trunk

__all__ = ["PapersRun", "Photographs", "papers_transform", "train_papers_way"]

OnStep = Callable[[int], None]


@dataclass(frozen=True)
class PapersRun:
    """What a training took.

    Attributes:
        images: that the student was trained on in an epoch.
        prepare: seconds until the first epoch began: networks and loader.
        epochs: seconds of each epoch.
        waited: seconds, of those of the epochs, in which no batch was ready.
        losses: mean loss of each epoch.
    """

    images: int
    prepare: float
    epochs: tuple[float, ...]
    waited: float
    losses: tuple[float, ...]


class Photographs(Dataset[Tensor]):
    """Image files, decoded and transformed whenever they are asked for."""

    def __init__(self, paths: Sequence[Path], transform: v2.Transform) -> None:
        self.paths, self.transform = paths, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        """A view (3, S, S), float32, normalised."""
        with Image.open(self.paths[index]) as image:
            view: Tensor = self.transform(image.convert("RGB"))
        return view


def papers_transform(augment: Augment, preprocess: Preprocess) -> v2.Compose:
    """From a picture (PIL, RGB) to a network's input (3, S, S): the random transforms of ``augment`` one after another.

    They work on Pillow's image, which takes 4 to 17 % less time than on a uint8 tensor (one thread, 224 pixels). Rotation and
    zoom are one resampling where both always happen.
    """
    size, shift, mode = preprocess.size, (augment.shift, augment.shift), InterpolationMode.BILINEAR
    if augment.rotate_p == augment.zoom_p == 1.0:
        moves = [v2.RandomAffine(augment.rotate, shift, augment.zoom, interpolation=mode)]
    else:
        turn = v2.RandomAffine(augment.rotate, interpolation=mode)
        zoom = v2.RandomAffine(0, shift if augment.shift else None, augment.zoom, interpolation=mode)
        moves = [*_sometimes(turn, augment.rotate_p), *_sometimes(zoom, augment.zoom_p)]
    return v2.Compose(
        [
            v2.Resize(size, antialias=True),
            v2.CenterCrop(size),
            v2.RandomHorizontalFlip(augment.flip),
            *moves,
            *_sometimes(v2.ColorJitter(*augment.jitter), augment.jitter_p),
            *_sometimes(v2.GaussianBlur(list(augment.blur_kernel), augment.blur_sigma), augment.blur),
            v2.ToImage(),
            *([v2.RandomErasing(augment.erase, augment.erase_area)] if augment.erase else []),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([x / 255 for x in preprocess.mean], [x / 255 for x in preprocess.std]),
            v2.ToPureTensor(),
        ]
    )


def _sometimes(transform: v2.Transform, probability: float) -> list[v2.Transform]:
    if probability == 0.0:
        return []
    return [transform] if probability == 1.0 else [v2.RandomApply([transform], probability)]


def train_papers_way(
    paths: Sequence[Path],
    *,
    teacher: str,
    student: str,
    weights: str = "random",
    size: int = 224,
    batch: int = 32,
    epochs: int = 1,
    augment: Augment | None = None,
    workers: int = 2,
    seed: int = 0,
    on_step: OnStep = lambda _: None,
) -> PapersRun:
    """Train a student on the teacher's activations.

    Args:
        paths: images; the last, incomplete batch of an epoch is dropped.
        weights: of the teacher, ``random`` or ``pretrained``.
        on_step: told the number of each step, from 1, when it is over.

    Raises:
        ModelError: a network that is not known, or weights that cannot be had.
    """
    begun = time.perf_counter()
    torch.manual_seed(seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, dim = build_trunk(student, size)
    guide, wide = _teacher(teacher, weights, size)
    model = nn.Sequential(model, nn.Linear(dim, wide)).to(device).train()
    guide = guide.to(device).eval()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    photographs = Photographs(paths, papers_transform(augment or Augment(), default_preprocess(teacher, size)))
    loader = DataLoader(
        photographs,
        batch,
        shuffle=True,
        num_workers=workers,
        pin_memory=device.type == "cuda",
        drop_last=True,
        persistent_workers=workers > 0,
    )
    prepared = time.perf_counter()
    seconds: list[float] = []
    losses: list[float] = []
    waited, step = 0.0, 0
    for _ in range(epochs):
        total = torch.zeros((), device=device)
        started = asked = time.perf_counter()
        for views in loader:
            waited += time.perf_counter() - asked
            pixels = views.to(device, non_blocking=True)
            with torch.no_grad():
                target = guide(pixels)
            loss: Tensor = nn.functional.mse_loss(model(pixels), target)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += loss.detach()
            step += 1
            on_step(step)
            asked = time.perf_counter()
        losses.append(float(total) / len(loader))  # on a GPU this waits for the epoch's work
        seconds.append(time.perf_counter() - started)
    return PapersRun(len(loader) * batch, prepared - begun, tuple(seconds), waited, tuple(losses))


def _teacher(name: str, weights: str, size: int) -> tuple[nn.Module, int]:
    if weights == "random":
        return build_trunk(name, size)
    trunk, dim, _ = pretrained_trunk(name, size, lambda _: None)
    return trunk, dim
