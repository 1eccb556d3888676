"""Commands that train need more than the device install."""

from importlib.util import find_spec

from kdedge.errors import ModelError

__all__ = ["need_train_extra"]


def need_train_extra() -> None:
    """Raise ModelError, naming the install command, if torch and what goes with it are not there."""
    for package in ("torch", "torchvision", "timm", "onnx", "sklearn", "safetensors"):
        if find_spec(package) is None:
            raise ModelError(
                f"this command needs {package}: install kdedge with pip install 'kdedge[train]' (in a checkout -e '.[train]')."
            )
