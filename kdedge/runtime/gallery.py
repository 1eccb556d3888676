"""Classes that a device learned by itself: a gallery, one small file beside the model.

It holds no image, only the sum of the embeddings of each class and a fingerprint of each image, so that none counts twice.
Its numbers mean something to one model file alone, whose SHA-256 it names.
"""

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdedge.errors import DataError, ModelError
from kdedge.files import write_json
from kdedge.preprocess import Image
from kdedge.runtime.prediction import UNKNOWN
from kdedge.runtime.prototypes import Classes, Prototypes, decoded, encoded

__all__ = ["Enrolled", "Gallery", "fingerprint"]

KIND, FORMAT = "kdedge gallery", 1
LONGEST_NAME = 100


def fingerprint(fitted: Image) -> str:
    """What tells one image from another: 32 hexadecimal digits of its pixels as the network gets them, (S, S, 3)."""
    from hashlib import sha256  # see kdedge.files.sha256_of

    return sha256(np.ascontiguousarray(fitted).tobytes()).hexdigest()[:32]


@dataclass(frozen=True)
class Enrolled:
    """A class.

    Attributes:
        total: float32 (D,), sum of the unit embeddings of its images.
        images: their fingerprints.
        added: when it was first enrolled, UTC.
    """

    total: NDArray[np.float32]
    images: tuple[str, ...]
    added: str

    @property
    def spread(self) -> float | None:
        """Mean cosine between two of its images, -1 to 1: how well they agree; None with one image."""
        count = len(self.images)
        if count < 2:
            return None
        # all pairs together are |sum|^2, of which each image with itself makes 1
        return float((np.dot(self.total.astype(np.float64), self.total) - count) / (count * (count - 1)))


@dataclass(frozen=True)
class Gallery:
    """What was enrolled for one model.

    Attributes:
        model: SHA-256 of the model file.
        name: of the model, for people.
        labels: the model's own classes, whose names cannot be enrolled.
        dim: length of an embedding.
        classes: name to class, in the order they were enrolled.
        rejection: a calibration made on the device, in the form of a card's ``rejection``; empty without one.
        base: prototypes of the model's own classes, where the model file has none.
    """

    model: str
    name: str
    labels: tuple[str, ...]
    dim: int
    classes: Mapping[str, Enrolled] = field(default_factory=dict)
    rejection: Mapping[str, Any] = field(default_factory=dict)
    base: Prototypes | None = None

    def enrolled(
        self, name: str, units: NDArray[np.float64], images: Sequence[str], *, replace_it: bool = False
    ) -> "Gallery":
        """A gallery with images added to the class ``name``, those it has left out.

        Args:
            units: (N, D), see :meth:`kdedge.runtime.prototypes.Prototypes.units`.
            images: (N,) fingerprints.
            replace_it: forget what the class had.

        Raises:
            DataError: a name that cannot be, or a picture that is enrolled under another name.
        """
        check_name(name, self.labels)
        if not len(images) or units.shape != (len(images), self.dim):
            raise DataError(f"expected {len(images)} embeddings of length {self.dim}, got {units.shape}.")
        for other, entry in self.classes.items():
            if other != name and (twice := set(entry.images) & set(images)):
                raise DataError(
                    f"{len(twice)} of the images of {name!r} {'is' if len(twice) == 1 else 'are'} enrolled as {other!r} "
                    "already; a picture shows one class alone."
                )
        before = None if replace_it else self.classes.get(name)
        known = list(before.images) if before else []
        total = before.total.astype(np.float64) if before else np.zeros(self.dim)
        for image, unit in zip(images, units, strict=True):
            if image not in known:
                known.append(image)
                total += unit
        entry = Enrolled(total.astype(np.float32), tuple(known), before.added if before else _now())
        return replace(self, classes={**self.classes, name: entry})

    def without(self, name: str) -> "Gallery":
        """A gallery without the class; DataError if it has none of that name."""
        if name not in self.classes:
            there = ", ".join(self.classes) or "nobody"
            raise DataError(f"{name!r} is not enrolled; the gallery knows {there}.")
        return replace(self, classes={key: entry for key, entry in self.classes.items() if key != name})

    def known(self) -> Classes:
        """What the classes are known by, in their order."""
        counts = np.asarray([len(entry.images) for entry in self.classes.values()], np.int64)
        if not len(counts):
            return Classes(np.empty((0, self.dim)), counts)
        totals = np.stack([entry.total for entry in self.classes.values()]).astype(np.float64)
        return Classes(totals / counts[:, None], counts)

    def check(self, model: str, path: str | Path) -> None:
        """Refuse a gallery of another model than that with the SHA-256 ``model``; ModelError says what to do."""
        if self.model != model:
            raise ModelError(
                f"{path}: this gallery was made with another file of {self.name!r} ({self.model[:12]}, not {model[:12]}); "
                "embeddings of one model mean nothing to another: enrol the images again."
            )

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "kind": KIND,
            "format": FORMAT,
            "model": {"sha256": self.model, "name": self.name, "labels": list(self.labels), "dim": self.dim},
            "changed": _now(),
            "rejection": dict(self.rejection),
            "base": json.loads(encoded(self.base)) if self.base else None,
            "classes": {
                name: {
                    "added": entry.added,
                    "images": list(entry.images),
                    "sum": base64.b64encode(entry.total.astype("<f4").tobytes()).decode(),
                }
                for name, entry in self.classes.items()
            },
        }

    def write(self, path: str | Path) -> None:
        """Write it, whole or not at all; ModelError if that cannot be."""
        try:
            write_json(path, self.to_dict())
        except OSError as error:
            raise ModelError(f"{path}: the gallery cannot be written ({error.strerror or error}).") from error

    @classmethod
    def read(cls, path: str | Path) -> "Gallery":
        """Read what :meth:`write` wrote.

        Raises:
            ModelError: no such file, no gallery, one of a later version, or a damaged one.
        """
        try:
            value = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise ModelError(f"{path}: the gallery cannot be read ({error.strerror or error}).") from error
        except ValueError as error:
            raise ModelError(f"{path}: not a gallery (no JSON).") from error
        if not isinstance(value, dict) or value.get("kind") != KIND:
            raise ModelError(f"{path}: not a gallery; 'kdedge enroll' makes one.")
        if value.get("format") != FORMAT:
            raise ModelError(
                f"{path}: a gallery of format {FORMAT} was expected, found {value.get('format')!r}; update kdedge."
            )
        try:
            model = value["model"]
            dim = int(model["dim"])
            base = value.get("base")
            return cls(
                str(model["sha256"]),
                str(model["name"]),
                tuple(str(label) for label in model["labels"]),
                dim,
                {name: _entry(item, dim) for name, item in value["classes"].items()},
                dict(value["rejection"]),
                decoded(json.dumps(base), str(path)) if base else None,
            )
        except (KeyError, TypeError, AttributeError, ValueError, binascii.Error) as error:
            raise ModelError(f"{path}: the gallery is damaged ({error}); remove it and enrol again.") from error


def _entry(item: Mapping[str, Any], dim: int) -> Enrolled:
    total = np.frombuffer(base64.b64decode(item["sum"], validate=True), "<f4").astype(np.float32)
    if total.shape != (dim,) or not np.isfinite(total).all() or not item["images"]:
        raise ValueError("a class of the wrong size")
    return Enrolled(total, tuple(str(image) for image in item["images"]), str(item["added"]))


def check_name(name: str, labels: Sequence[str]) -> None:
    """Refuse names that could not be told from others, or not be printed; DataError says why."""
    if not name.strip() or name != name.strip() or len(name) > LONGEST_NAME or not name.isprintable():
        raise DataError(
            f"{name!r} cannot be the name of a class; give up to {LONGEST_NAME} printable characters without spaces around."
        )
    if name == UNKNOWN:
        raise DataError(f"{name!r} is what images of no class are called; choose another name.")
    if name in labels:
        raise DataError(
            f"{name!r} is one of the model's own classes; choose another name, or train the model again to change that one."
        )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
