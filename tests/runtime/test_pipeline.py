"""Decoding ahead: in order, few at a time, and no thread outlives its work."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from kdedge.errors import DataError
from kdedge.runtime.classifier import Classifier
from kdedge.runtime.pipeline import answers, in_order


def ours() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("kdedge-decode")]


@pytest.mark.parametrize("workers", [0, 1, 4])
@pytest.mark.parametrize("most", [1, 3])
def test_order_whatever_takes_longer(workers: int, most: int) -> None:
    def work(number: int) -> int:
        time.sleep(0.002 * (number % 4))
        return number * 10

    groups = list(in_order(range(40), work, workers, 8, most))
    assert [one for group in groups for one in group] == [number * 10 for number in range(40)]
    assert max(map(len, groups)) <= most
    assert not ours()


def test_no_more_ahead_than_allowed() -> None:
    begun, taken, worst = 0, 0, 0
    lock = threading.Lock()

    def source():
        nonlocal begun, worst
        for number in range(200):
            with lock:
                begun += 1
                worst = max(worst, begun - taken)
            yield number

    for group in in_order(source(), lambda number: number, 3, 7, 1):
        with lock:
            taken += len(group)
    assert taken == 200
    assert 3 <= worst <= 8


def test_threads_work_side_by_side() -> None:
    meet = threading.Barrier(3, timeout=20)
    assert len(list(in_order(range(3), lambda number: meet.wait(), 3, 3))) == 3


def test_whatever_happens_no_thread_is_left() -> None:
    def work(number: int) -> int:
        if number == 5:
            raise RuntimeError("broken")
        return number

    seen: list[int] = []
    with pytest.raises(RuntimeError, match="broken"):
        seen.extend(one for group in in_order(range(100), work, 4, 8) for one in group)
    assert seen == [0, 1, 2, 3, 4]
    assert not ours()
    left = in_order(range(100), lambda number: number, 4, 8)
    next(left)
    assert ours()
    left.close()
    assert not ours()


@pytest.mark.parametrize("batch", [None, 2])
@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_is_an_answer_like_others(
    color_model: Path, color_images: Path, workers: int, batch: int | None
) -> None:
    paths = sorted(color_images.rglob("*.png"))
    with Classifier(color_model) as classifier:

        def load(path: Path):
            if path.stem == "1":
                raise DataError(f"{path}: bad")
            return [(f"{path}#{place}", classifier.load(path)) for place in range(int(path.stem))]

        found = list(answers(classifier, paths, load, top=1, workers=workers, batch=batch))
    assert [answer.item for answer in found] == paths
    for answer in found:
        assert (answer.error is not None) == (answer.item.stem == "1")
        assert len(answer.predictions) == (0 if answer.error else int(answer.item.stem))
        assert {one.label for one in answer.predictions} <= {answer.item.parent.name}
        assert answer.seconds > 0


@pytest.mark.parametrize("batch", [None, 1, 3])
def test_what_is_no_data_error_ends_the_run(color_model: Path, batch: int | None) -> None:
    def load(item: int):
        if item:
            raise ZeroDivisionError
        return [("a", np.zeros((16, 16, 3), np.uint8))]

    with Classifier(color_model) as classifier, pytest.raises(ZeroDivisionError):
        list(answers(classifier, range(9), load, workers=2, batch=batch))
    assert not ours()
