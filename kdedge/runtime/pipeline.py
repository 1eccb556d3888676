"""Images decoded on worker threads while the network runs: in order, few at a time, and an error is an answer like others.

OpenCV and onnxruntime let other threads run while they work, so threads do what processes would, without copies.
"""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

from kdedge.errors import DataError
from kdedge.preprocess import Image
from kdedge.runtime.prediction import Prediction

if TYPE_CHECKING:
    from kdedge.runtime.classifier import Classifier

__all__ = ["MOST_WORKERS", "Answer", "Crop", "answers", "in_order"]

MOST_WORKERS = 16
"""More threads would wait for one another: Python itself runs one at a time."""

Item = TypeVar("Item")
Done = TypeVar("Done")

Crop = tuple[str, Image]
"""A name and what the network gets: uint8 (size, size, 3), RGB."""


@dataclass(frozen=True)
class Answer(Generic[Item]):
    """What became of one image.

    Attributes:
        item: what was given.
        predictions: one a crop: one of a plain image, any number of its faces.
        seconds: on the clock, of reading, decoding and fitting it and of the run of the network that it was part of; not of
            waiting for its turn.
        error: why it could not be read; then there is no prediction.
    """

    item: Item
    predictions: tuple[Prediction, ...]
    seconds: float
    error: str | None = None


@dataclass(frozen=True)
class _Loaded(Generic[Item]):
    item: Item
    crops: Sequence[Crop]
    seconds: float
    error: str | None


def answers(
    classifier: "Classifier",
    items: Iterable[Item],
    load: Callable[[Item], Sequence[Crop]],
    *,
    top: int = 5,
    workers: int = 0,
    batch: int | None = None,
) -> Generator[Answer[Item], None, None]:
    """Classify what ``load`` makes of each item, in the order of the items.

    With a ``batch`` the calling thread runs the network while the others decode. A run takes the images that are ready when
    it begins, ``batch`` at most, and waits for no more: it is one image as long as decoding takes longer than the network.
    Without one every thread decodes an image and runs the network on it, which leaves no core idle if the classifier was
    made with one thread; on a GPU a batch is better. 2 * ``workers`` + ``batch`` items are in work at a time, at most.

    Args:
        load: from an item to its crops; called on worker threads, several at a time; a DataError is that item's answer.
        workers: threads; 0 does all on the calling one.

    Raises:
        ModelError: the network fails; and whatever else ``load`` and ``items`` raise. The threads have ended then, as they
            have when the generator is closed.
    """
    if batch is None:

        def whole(item: Item) -> Answer[Item]:
            loaded = _load(load, item)
            begun = time.perf_counter()
            found = _predict(classifier, loaded.crops, top, 1)
            return Answer(item, tuple(found), loaded.seconds + time.perf_counter() - begun, loaded.error)

        with closing(in_order(items, whole, workers, 2 * workers + 1, 2 * workers + 1)) as done:
            for some in done:
                yield from some
        return
    with closing(in_order(items, partial(_load, load), workers, 2 * workers + batch, batch)) as groups:
        for group in groups:
            begun = time.perf_counter()
            found = _predict(classifier, [crop for loaded in group for crop in loaded.crops], top, batch)
            spent = time.perf_counter() - begun
            taken = 0
            for loaded in group:
                own = tuple(found[taken : taken + len(loaded.crops)])
                taken += len(own)
                yield Answer(loaded.item, own, loaded.seconds + (spent if own else 0.0), loaded.error)


def _load(load: Callable[[Item], Sequence[Crop]], item: Item) -> _Loaded[Item]:
    begun = time.perf_counter()
    crops: Sequence[Crop] = ()
    error = None
    try:
        crops = load(item)
    except DataError as problem:
        error = str(problem)
    return _Loaded(item, crops, time.perf_counter() - begun, error)


def _predict(classifier: "Classifier", crops: Sequence[Crop], top: int, batch: int) -> list[Prediction]:
    found: list[Prediction] = []
    for start in range(0, len(crops), batch):  # a photograph may have many faces
        few = crops[start : start + batch]
        found += classifier.predict_fitted([image for _, image in few], [name for name, _ in few], top)
    return found


def in_order(
    items: Iterable[Item], work: Callable[[Item], Done], workers: int, ahead: int, most: int = 1
) -> Generator[list[Done], None, None]:
    """What ``work`` makes of each item, in the order of the items, in lists of those that are done, ``most`` at most.

    Args:
        workers: threads; 0 works on the calling one.
        ahead: items that are in work or wait to be taken, at most.

    Raises:
        Exception: what ``work`` or ``items`` raise, in its turn. However it ends, no thread is left.
    """
    if workers < 1:
        for item in items:
            yield [work(item)]
        return
    from concurrent.futures import Future, ThreadPoolExecutor

    waiting: deque[Future[Done]] = deque()
    left = iter(items)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="kdedge-decode")

    def fill() -> None:
        while len(waiting) < max(ahead, 1):
            try:
                waiting.append(pool.submit(work, next(left)))
            except StopIteration:
                return

    try:
        fill()
        while waiting:
            group = [waiting.popleft().result()]
            while waiting and len(group) < most and waiting[0].done():
                group.append(waiting.popleft().result())
            fill()  # the threads go on while the group is used
            yield group
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
