"""A list of class names in a file: one a line, or JSON."""

import json
from pathlib import Path

from kdedge.errors import DataError

__all__ = ["read_labels"]


def read_labels(path: str | Path) -> tuple[str, ...]:
    """Class names in the order of a network's outputs.

    The file is UTF-8 text with one name a line, or a JSON list of names. Blanks around a name and empty lines at the end
    are dropped.

    Raises:
        DataError: not such a file, no name, an empty one (which would shift all after it) or the same one twice.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise DataError(f"{path}: cannot be read as a list of labels ({reason}).") from error
    labels = _from_json(text, path) if text.lstrip()[:1] in ("[", "{") else text.rstrip().split("\n")
    labels = [label.strip() for label in labels]
    if not any(labels):
        raise DataError(f"{path}: no labels in it; one a line or a JSON list was expected.")
    first: dict[str, int] = {}
    for number, label in enumerate(labels, 1):
        if not label:
            raise DataError(f"{path}: label {number} of {len(labels)} is empty; every output needs a name.")
        if label in first:
            raise DataError(
                f"{path}: labels {first[label]} and {number} are both {label!r}; labels must differ from one another."
            )
        first[label] = number
    return tuple(labels)


def _from_json(text: str, path: str | Path) -> list[str]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: looks like JSON and is none ({error}).") from error
    if not isinstance(value, list) or not all(isinstance(label, str) for label in value):
        raise DataError(f"{path}: a JSON list of strings was expected, in the order of the network's outputs.")
    return value
