"""kdedge: distil a large image model into a small int8 ONNX classifier for the device.

``import kdedge`` loads nothing heavy; the names below are fetched when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = ["Classifier", "KdedgeError", "ModelCard", "Prediction", "Preprocess", "__version__"]

_HOME = {
    "Classifier": "kdedge.runtime.classifier",
    "Prediction": "kdedge.runtime.prediction",
    "KdedgeError": "kdedge.errors",
    "ModelCard": "kdedge.card",
    "Preprocess": "kdedge.preprocess",
}

if TYPE_CHECKING:
    from kdedge.card import ModelCard
    from kdedge.errors import KdedgeError
    from kdedge.preprocess import Preprocess
    from kdedge.runtime.classifier import Classifier, Prediction


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'kdedge' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
