"""The paper's numbers, checked one by one against the published tables."""

import pytest

from kdedge.paper.numbers import METRICS, PRETRAINING_R2, PUBLISHED, TITLES, published
from kdedge.paper.plan import METHODS


@pytest.mark.parametrize(
    ("table", "row", "metric", "train", "test"),
    [
        (1, "ConvNet-9", "accuracy", None, 83.10),
        (1, "ResNet-50", "accuracy", None, 91.16),
        (2, "ResNet-50", "accuracy", 95.18, 40.09),
        (2, "ConvNet-9", "f1", 97.26, 20.25),
        (2, "Inception-V3", "accuracy", 99.3, 68.77),
        (2, "MobileNet", "precision", 100.0, 74.41),
        (3, "ResNet-50", "recall", 99.40, 97.79),
        (3, "MobileNet", "accuracy", 100.0, 36.57),
        (4, "ConvNet-9", "accuracy", 81.41, 2.561),
        (5, "ConvNet-9", "f1", 0.92, 0.79),
        (6, "ResNet-18", "accuracy", 81.93, 79.83),
        (6, "ConvNet-9", "accuracy", 53.06, 44.80),
    ],
)
def test_numbers_are_those_of_the_paper(table: int, row: str, metric: str, train: float | None, test: float) -> None:
    found = published(table, row, metric)
    assert found is not None
    assert (found.train, found.test) == (train, test)


def test_no_number_is_doubled_and_all_belong_to_a_method() -> None:
    keys = [(p.table, p.row, p.metric) for p in PUBLISHED]
    assert len(keys) == len(set(keys)) == 2 + 5 * 4 + 4 + 2 + 2 + 1 + 2 + 2 * 4
    rows = {(m.table, m.row) for m in METHODS if m.paper and m.table}
    assert rows == {(table, row) for table, row, _ in keys}
    assert set(TITLES) == {table for table, _, _ in keys}
    assert {metric for _, _, metric in keys} == set(METRICS)
    assert published(2, "ConvNet-10", "f1") is None
    assert published(4, "ConvNet-9", "f1") is None


def test_r2_of_the_regression() -> None:
    assert PRETRAINING_R2 == {"ConvNet-9": -4062.0, "ResNet-18": -20.6}
