"""Changes to a named network that its name does not tell: a stem for small images, a connector."""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from kdedge.errors import ModelError
from kdedge.training.connector import WithConnector
from kdedge.training.students import Student

__all__ = ["PLAIN", "Variant"]


@dataclass(frozen=True)
class Variant:
    """How a network differs from the published one of its name.

    Attributes:
        small_images: a ResNet's first convolution is 3x3 with stride 1 and its max pool is gone, as is usual for images of
            32 to 64 pixels (He et al., arXiv 1512.03385, section 4.2).
        connector: number of concepts between trunk and head; 0 for none.
    """

    small_images: bool = False
    connector: int = 0

    def apply(self, student: Student) -> Student:
        """Change a freshly built student; its head is new where its embedding is."""
        if self.small_images:
            _small_stem(student.trunk)
        if self.connector:
            trunk = WithConnector(student.trunk, student.dim, self.connector)
            student = Student(trunk, self.connector, student.head.out_features, student.weights)
        return student

    def to_dict(self) -> dict[str, Any]:
        """Plain values; :meth:`from_dict` reads them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Variant":
        """ModelError if ``values`` holds anything else than the fields."""
        try:
            return cls(**values)
        except TypeError as error:
            raise ModelError(f"not the description of a network's variant: {values}.") from error


PLAIN = Variant()


def _small_stem(trunk: nn.Module) -> None:
    stem, pool = getattr(trunk, "conv1", None), getattr(trunk, "maxpool", None)
    if not isinstance(stem, nn.Conv2d) or not isinstance(pool, nn.Module):
        raise ModelError("--small-images changes the stem of ResNets (torchvision/resnet18, timm/resnet50, ...) only.")
    convolution = nn.Conv2d(stem.in_channels, stem.out_channels, 3, 1, 1, bias=stem.bias is not None)
    if stem.kernel_size == (7, 7):  # the middle of the published kernel is a better start than noise
        with torch.no_grad():
            convolution.weight.copy_(stem.weight[:, :, 2:5, 2:5])
    trunk.conv1, trunk.maxpool = convolution, nn.Identity()
