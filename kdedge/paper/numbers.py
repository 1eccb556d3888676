"""The paper's own numbers (Jagtap, Patil, Shinde, Deshpande: "Learning Relevant Information through Knowledge Distillation
for Small Dataset"), percent on Pins Face Recognition with 32 labelled images a class, one run each."""

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["METRICS", "PRETRAINING_R2", "PUBLISHED", "TITLES", "Published", "published"]

METRICS = ("f1", "precision", "recall", "accuracy")

TITLES: Mapping[int, str] = {
    1: "One-shot learning (share of triplets told apart)",
    2: "Training from scratch",
    3: "Transfer learning (trunk frozen, new head)",
    4: "Label distillation",
    5: "Feature distillation as regression",
    6: "Feature distillation as multi-label classification (binary cross entropy on concepts)",
}


@dataclass(frozen=True)
class Published:
    """One number of the paper; ``train`` and ``test`` in percent, None where the paper gives none."""

    table: int
    row: str
    metric: str
    train: float | None
    test: float | None


Pair = tuple[float | None, float]


def _row(table: int, row: str, **pairs: Pair) -> list[Published]:
    return [Published(table, row, metric, train, test) for metric, (train, test) in pairs.items()]


# fmt: off
PUBLISHED: tuple[Published, ...] = (
    *_row(1, "ConvNet-9", accuracy=(None, 83.10)),
    *_row(1, "ResNet-50", accuracy=(None, 91.16)),
    *_row(2, "ResNet-50", f1=(95.17, 40.34), precision=(95.24, 42.75), recall=(95.18, 41.37), accuracy=(95.18, 40.09)),
    *_row(2, "ResNet-18", f1=(99.85, 52.38), precision=(99.85, 53.33), recall=(99.85, 53.58), accuracy=(99.85, 52.14)),
    *_row(2, "ConvNet-9", f1=(97.26, 20.25), precision=(97.34, 20.30), recall=(97.26, 21.05), accuracy=(97.26, 19.78)),
    *_row(2, "Inception-V3", f1=(99.89, 70.49), precision=(99.89, 74.91), recall=(99.89, 66.67), accuracy=(99.3, 68.77)),
    *_row(2, "MobileNet", f1=(100.0, 69.75), precision=(100.0, 74.41), recall=(100.0, 65.73), accuracy=(100.0, 68.15)),
    *_row(3, "ResNet-50", f1=(99.40, 97.71), precision=(99.42, 97.70), recall=(99.40, 97.79), accuracy=(99.40, 97.71)),
    *_row(3, "Inception-V3", f1=(100.0, 26.12), accuracy=(100.0, 26.09)),
    *_row(3, "MobileNet", f1=(100.0, 37.16), accuracy=(100.0, 36.57)),
    *_row(4, "ConvNet-9", accuracy=(81.41, 2.561)),
    *_row(5, "ConvNet-9", f1=(0.92, 0.79), accuracy=(2.58, 2.29)),
    *_row(6, "ResNet-18", f1=(81.96, 79.83), precision=(82.49, 80.03), recall=(81.66, 80.62), accuracy=(81.93, 79.83)),
    *_row(6, "ConvNet-9", f1=(52.72, 45.24), precision=(52.99, 46.92), recall=(53.06, 46.50), accuracy=(53.06, 44.80)),
)
# fmt: on

PRETRAINING_R2: Mapping[str, float] = {"ConvNet-9": -4062.0, "ResNet-18": -20.6}
"""R2 of the students that regress raw activations, plain average over 2048 dimensions (ResNet-18: -14.4 at a lower rate)."""


def published(table: int, row: str, metric: str) -> Published | None:
    """The paper's number, None where it gives none."""
    found = [p for p in PUBLISHED if (p.table, p.row, p.metric) == (table, row, metric)]
    return found[0] if found else None
