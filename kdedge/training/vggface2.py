"""The ResNet-50 of VGGFace2 (Cao et al., arXiv 1710.08092) in its Caffe layout, the paper's teacher of faces."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import resnet50

from kdedge.errors import ModelError
from kdedge.preprocess import Preprocess
from kdedge.training.unpickle import read_array_pickle

__all__ = ["CLASSES", "vggface2_preprocess", "vggface2_resnet50", "vggface2_state"]

CLASSES = 8631
MEAN_BGR = (91.4953, 103.8827, 131.0912)


def vggface2_preprocess(size: int = 224) -> Preprocess:
    """BGR, 0-255, minus the mean of each channel (blue, green, red), without a division."""
    return Preprocess(size, MEAN_BGR, (1.0, 1.0, 1.0), "bgr")


def vggface2_resnet50() -> nn.Module:
    """The trunk: (B, 3, 224, 224) to (B, 2048).

    It differs from torchvision's network in Caffe's ways: the stride of a stage stands in its first 1x1 convolution, and the
    max pool has no padding and rounds its size up.
    """
    network: nn.Module = resnet50(weights=None)
    network.maxpool = nn.MaxPool2d(3, 2, padding=0, ceil_mode=True)
    for stage in ("layer2", "layer3", "layer4"):
        first: Any = network.get_submodule(f"{stage}.0")
        first.conv1.stride, first.conv2.stride = (2, 2), (1, 1)
    network.fc = nn.Identity()
    return network


def vggface2_state(path: str | Path) -> dict[str, Tensor]:
    """Tensors of the trunk from the published pickle (``resnet50_ft_weight.pkl``), its classifier left out.

    Raises:
        ModelError: as :func:`read_array_pickle`; or a tensor of the trunk is missing or has another shape.
    """
    arrays = read_array_pickle(path)
    wanted = vggface2_resnet50().state_dict()
    state: dict[str, Tensor] = {}
    for name, tensor in wanted.items():
        if name.endswith("num_batches_tracked"):
            state[name] = tensor  # younger than the published file
            continue
        if name not in arrays:
            raise ModelError(f"{path}: lacks {name!r} of the VGGFace2 ResNet-50.")
        if tuple(arrays[name].shape) != tuple(tensor.shape):
            raise ModelError(f"{path}: {name!r} has shape {arrays[name].shape}, expected {tuple(tensor.shape)}.")
        state[name] = torch.from_numpy(arrays[name].astype("float32"))
    return state
