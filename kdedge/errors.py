"""The errors a user can cause or mend.

Every one is a :class:`KdedgeError`; the command line prints its message as one sentence and exits with code 2.
A message says what was given, what was expected and what to do.
"""

__all__ = ["CardError", "DataError", "ExportError", "KdedgeError", "ModelError", "RunError"]


class KdedgeError(Exception):
    """Base of all errors that kdedge raises on purpose."""


class DataError(KdedgeError):
    """An image, a folder of images or a split cannot be used."""


class ModelError(KdedgeError):
    """A teacher, student or model file is unknown, unreadable or does not fit."""


class CardError(ModelError):
    """An ONNX file carries no kdedge card, or one that cannot be read."""


class RunError(KdedgeError):
    """A run directory or a setting of a run cannot be used."""


class ExportError(KdedgeError):
    """An export missed its parity or could not be written."""
