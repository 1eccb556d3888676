"""Prototypes of the trained classes and a threshold for the unknown, measured on each file that is written."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from kdedge.card import ModelCard
from kdedge.export.inference import onnx_outputs
from kdedge.export.pictures import Pictures
from kdedge.runtime.calibration import Embedded, calibrate
from kdedge.runtime.prototypes import PROTOTYPES_KEY, encoded

__all__ = ["Known", "with_prototypes"]

_LEAST_HELD = 20
"""Labelled held-out images below which a threshold is measured on the training images."""

_BATCH = 64


@dataclass(frozen=True)
class Known:
    """Labelled training images: what prototypes are made of.

    Attributes:
        labels: (N,) index of the class of each picture.
    """

    pictures: Pictures
    labels: NDArray[np.int64]


def with_prototypes(
    path: Path, card: ModelCard, known: Known | None, heldout: NDArray[np.uint8], labels: NDArray[np.int64]
) -> ModelCard:
    """Put prototypes into the metadata of the ONNX file, as this file computes embeddings.

    Args:
        known: None makes them of the labelled held-out images.
        heldout, labels: see :func:`kdedge.export.recipe.export_network`.

    Returns:
        ``card`` with its ``rejection``; that is empty, and the file as it was, where the file gives no embedding or a class
        has no labelled image.
    """
    mine = labels >= 0
    held = heldout[mine], labels[mine]
    classes = len(card.labels)
    card = card.with_(rejection={})
    all_labels = known.labels if known is not None and len(known.labels) else held[1]
    if not card.embedding_output or len(np.unique(all_labels)) < classes:
        return card
    asked = Embedded(_embeddings(path, card, held[0]), held[1]) if len(held[1]) else None
    if known is not None and len(known.labels):
        parts = [_embeddings(path, card, batch) for batch in known.pictures.batches(_BATCH)]
        base = Embedded(np.concatenate(parts), known.labels)
        found = calibrate(base, asked if asked and len(asked.labels) >= _LEAST_HELD else None, classes)
    else:
        assert asked is not None
        found = calibrate(asked, None, classes, seen=False)
    _write(path, encoded(found.prototypes))
    return card.with_(rejection=found.rejection)


def _embeddings(path: Path, card: ModelCard, images: NDArray[np.uint8]) -> NDArray[Any]:
    embedding = onnx_outputs(path, images, card.preprocess).embedding
    assert embedding is not None
    return embedding.reshape(len(images), -1)


def _write(path: Path, text: str) -> None:
    model = onnx.load(path)
    kept = [entry for entry in model.metadata_props if entry.key != PROTOTYPES_KEY]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    model.metadata_props.add(key=PROTOTYPES_KEY, value=text)
    onnx.save(model, path)
