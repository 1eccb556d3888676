"""Which rows of a view bank show what: trained on, held out, labelled."""

import numpy as np
from numpy.typing import NDArray

from kdedge.training.activations import ViewBank
from kdedge.training.config import DistillConfig
from kdedge.training.datasets import Material
from kdedge.training.joined import Joined, RowArray

__all__ = ["HEAD_VIEWS", "first_views", "split_rows", "to_view", "views_of_labelled"]

Rows = NDArray[np.int64]

HEAD_VIEWS = 8
"""Views of each labelled image that a head is fitted on."""


def to_view(material: Material, config: DistillConfig) -> tuple[RowArray, list[int]]:
    """Transfer, labelled and validation images, and how many views of each the teacher sees."""
    parts: list[RowArray] = [material.transfer]  # none yet, where they come from tar shards
    views = [1 if config.teacher_mode == "live" else config.views] * len(material.transfer)
    if material.train:
        parts.append(material.train.images)
        most = HEAD_VIEWS if config.teacher_mode == "live" else config.train_views
        views += [max(1, min(config.train_views, most))] * len(material.train.images)
    if material.val:
        parts.append(material.val.images)
        views += [1] * len(material.val.images)
    return Joined(parts), views


def split_rows(bank: ViewBank, material: Material, config: DistillConfig) -> tuple[Rows, Rows]:
    """Rows of the bank to pre-train on, and rows to measure on; views of one image never stand on both sides."""
    transfer, labelled = len(material.transfer), len(material.train.labels) if material.train else 0
    held = np.zeros(len(bank), bool)
    held[np.isin(bank.image, material.held_transfer)] = True
    held[np.isin(bank.image, transfer + material.held_train)] = True
    held[bank.image >= transfer + labelled] = True
    left_out = (bank.image >= transfer) & (bank.image < transfer + labelled) & (config.train_views == 0)
    return np.flatnonzero(~held & ~left_out), np.flatnonzero(held & ~left_out)


def views_of_labelled(bank: ViewBank, material: Material) -> tuple[Rows, Rows]:
    """Rows of the bank that show labelled training images, and the class of each."""
    if material.train is None:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    number = bank.image - len(material.transfer)
    rows = np.flatnonzero((number >= 0) & (number < len(material.train.labels)))
    return rows, material.train.labels[number[rows]]


def first_views(image: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Positions of the first ``count`` views of each image (views of an image stand together)."""
    starts = np.flatnonzero(np.r_[True, image[1:] != image[:-1]])
    position = np.arange(len(image)) - np.repeat(starts, np.diff(np.r_[starts, len(image)]))
    return np.flatnonzero(position < count)
