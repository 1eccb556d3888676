"""The bounded queue and the threads behind it: decoding, then the network for all images that wait at that moment."""

import asyncio
import math
import queue
import sys
import threading
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from time import perf_counter

import numpy as np

from kdedge.errors import DataError
from kdedge.preprocess import Image, decode
from kdedge.runtime.classifier import Classifier
from kdedge.runtime.prediction import Prediction
from kdedge.runtime.server.errors import Problem
from kdedge.runtime.server.images import check_image
from kdedge.runtime.server.job import Batch, Faces, Finder, Job
from kdedge.runtime.server.metrics import Metrics
from kdedge.runtime.server.settings import Settings
from kdedge.runtime.server.upload import Upload

__all__ = ["MOST_FACES", "Engine", "warm_up"]

FORGET = 0.05
"""Weight of the last run in the running mean of seconds an image."""

LONGEST_RETRY = 60

MOST_FACES = 32
"""Of an image; of more the widest are classified."""

STUCK = 2
"""Time limits of a request after which a server that finished no image counts as stuck."""


_Part = tuple[Job, int, Image]
"""A face, or the whole image, at the network's size."""
_Said = tuple[Job, int | None, Prediction | Problem | Faces | None]
"""What is known of a part of an image, or (where the place is None) of all of it."""


class Engine:
    """Takes images on the event loop, works on them in threads.

    Args:
        classifier: used by several threads.
        settings: sizes of the queue, the batches and the pools.
        finder: finds the faces that are classified in place of the whole image.

    Attributes:
        waiting: images that were taken in and have no result yet, those nobody waits for any more included.
        metrics: set by who makes the server.
    """

    def __init__(self, classifier: Classifier, settings: Settings, finder: Finder | None = None) -> None:
        self.classifier = classifier
        self.finder = finder
        self.settings = settings
        self.waiting = 0
        self.metrics: Metrics | None = None
        self._seconds = 0.0
        self._moved = 0.0
        self._large = threading.Lock()  # together, images of the greatest size would need too much memory
        self._ready: queue.SimpleQueue[_Part | None] = queue.SimpleQueue()
        self._runners: list[threading.Thread] = []
        self._decoders: ThreadPoolExecutor | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Start the threads; called on the event loop."""
        self._loop = asyncio.get_running_loop()
        self._decoders = ThreadPoolExecutor(self.settings.decoders, "decode")
        for number in range(self.settings.runners):
            thread = threading.Thread(target=self._run, name=f"network-{number}", daemon=True)
            thread.start()
            self._runners.append(thread)

    def stop(self, seconds: float = 5.0) -> None:
        """End the threads; images that still wait are dropped."""
        if self._decoders:
            self._decoders.shutdown(wait=False, cancel_futures=True)
        for _ in self._runners:
            self._ready.put(None)
        for thread in self._runners:
            thread.join(seconds)
        self._runners = []

    @property
    def ready(self) -> bool:
        """Whether all threads of the network live, and finish what waits."""
        stuck = self.waiting and perf_counter() - self._moved > STUCK * self.settings.timeout
        return bool(self._runners) and all(thread.is_alive() for thread in self._runners) and not stuck

    def refuse_if_full(self, images: int = 1) -> None:
        """Problem 503, with the seconds after which there should be room, if ``images`` more do not fit."""
        if self.waiting + images > self.settings.queue:
            seconds = min(max(1, math.ceil(self.waiting * self._seconds)), LONGEST_RETRY)
            raise Problem(503, "busy", f"{self.waiting} images wait already; try again.", {"Retry-After": str(seconds)})

    def submit(self, uploads: Sequence[Upload], top: int, embedding: bool) -> tuple[list[Job], "asyncio.Future[None]"]:
        """Take images in; the future is set when all of them have a result.

        Raises:
            Problem: 503 if they do not fit.
        """
        self.refuse_if_full(len(uploads))
        assert self._loop is not None
        assert self._decoders is not None
        batch = Batch(len(uploads), self._loop.create_future())
        now = perf_counter()
        batch.jobs = [Job(one.source, one.data, top, embedding, batch, now) for one in uploads]
        if not self.waiting:
            self._moved = now
        self.waiting += len(uploads)
        for job in batch.jobs:
            self._decoders.submit(self._decode, job)
        return batch.jobs, batch.done

    def _decode(self, job: Job) -> None:
        """In a thread of the pool: from bytes to images of the network's size."""
        began = perf_counter()
        job.waited = began - job.since
        fitted: list[Image] = []
        result: Problem | Faces | None = None
        try:
            if not job.dropped:
                pixels = check_image(job.data, self.settings.max_pixels)
                with self._large if pixels * self.settings.decoders > self.settings.max_pixels else nullcontext():
                    fitted = self._crops(job)
                result = None if fitted else Faces((), ())
        except Problem as problem:
            result = problem
        except DataError as error:
            result = Problem(422, "undecodable", _sentence(str(error)))
        except MemoryError:
            result = Problem(
                503, "no_memory", "There is no memory for this image now; try again.", {"Retry-After": "5"}
            )
        except Exception:  # whatever a decoder makes of what a client sent is no fault of the server; told on stderr
            traceback.print_exc(file=sys.stderr)
            result = Problem(422, "undecodable", "The image cannot be decoded.")
        job.data = b""
        job.since = perf_counter()
        job.decoding = job.since - began
        for place, image in enumerate(fitted):
            self._ready.put((job, place, image))
        if not fitted:
            self._tell([(job, None, result)], 0.0)

    def _crops(self, job: Job) -> list[Image]:
        """The image, or its faces."""
        if self.finder is None:
            return [self.classifier.load(job.data)]
        found = self.finder(decode(job.data))
        if len(found) > MOST_FACES:
            narrowest = sorted(box[2] for _, box in found)[-MOST_FACES]
            found = [one for one in found if one[1][2] >= narrowest][:MOST_FACES]
        job.boxes = tuple(box for _, box in found)
        return [image for image, _ in found]

    def _run(self) -> None:
        """In a thread of its own: whatever waits goes through the network together."""
        while (first := self._ready.get()) is not None:
            taken, ends = self._more(first)
            now = perf_counter()
            jobs = {id(job): job for job, _, _ in taken}.values()
            for job in jobs:
                job.waited += max(0.0, now - job.since)
            wanted = [part for part in taken if not part[0].dropped]
            found = self._predict(wanted) if wanted else []
            ended = perf_counter()
            for job in jobs:
                job.inference += ended - now
                job.since = ended
            # a job may be dropped at any moment: each part is told of once, by what was asked of the network
            said = {(id(job), place): one for (job, place, _), one in zip(wanted, found, strict=True)}
            self._tell([(job, place, said.get((id(job), place))) for job, place, _ in taken], ended - now)
            if ends:
                return

    def _more(self, first: _Part) -> tuple[list[_Part], bool]:
        """The first image and those that wait beside it; and whether the thread was told to end meanwhile."""
        taken = [first]
        until = perf_counter() + self.settings.window / 1000
        while len(taken) < self.settings.batch:
            try:
                rest = until - perf_counter()
                one = self._ready.get(timeout=rest) if rest > 0 else self._ready.get_nowait()
            except queue.Empty:
                break
            if one is None:
                return taken, True
            taken.append(one)
        return taken, False

    def _predict(self, wanted: list[_Part]) -> Sequence[Prediction | Problem]:
        try:
            return self.classifier.predict_fitted(
                [image for _, _, image in wanted],
                [job.source for job, _, _ in wanted],
                max(job.top for job, _, _ in wanted),
                embedding=any(job.embedding for job, _, _ in wanted),
            )
        except Exception:
            return [_fault()] * len(wanted)

    def _tell(self, found: list[_Said], seconds: float) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(self._finish, found, seconds)
        except RuntimeError:  # the loop is closed: nobody waits
            return

    def _finish(self, found: list[_Said], seconds: float) -> None:
        """On the event loop: count, and wake the requests that have all they need."""
        self._moved = perf_counter()
        ended = []
        for job, place, said in found:
            if place is None:
                job.result = said
            else:
                assert not isinstance(said, Faces)
                job.parts[place] = said
                if not job.complete:
                    continue
                job.conclude()
            ended.append(job)
        for job in ended:
            self.waiting -= 1
            job.batch.left -= 1
            if not job.batch.left and not job.batch.done.done():
                job.batch.done.set_result(None)
            if self.metrics:
                self.metrics.images.labels(_outcome(job.result)).inc()
                if job.decoding and not job.dropped:
                    self.metrics.decode.observe(job.decoding)
        run = sum(isinstance(said, Prediction) for _, _, said in found)
        if run and ended:
            own = seconds / len(ended) / self.settings.runners
            own += sum(job.decoding for job in ended) / len(ended) / self.settings.decoders
            self._seconds += FORGET * (own - self._seconds) if self._seconds else own
        if run and self.metrics:
            self.metrics.inference.observe(seconds)
            self.metrics.batch.observe(run)


def warm_up(classifier: Classifier, batch: int) -> None:
    """Run the network once with one image and once with a full batch: the first runs plan and allocate."""
    size = classifier.card.preprocess.size
    for images in (1, batch):
        classifier.predict_fitted(np.zeros((images, size, size, 3), np.uint8), top=1)


def _outcome(result: Prediction | Faces | Problem | None) -> str:
    if result is None:
        return "dropped"
    if isinstance(result, Problem):
        return "failed" if result.status >= 500 else "refused"
    return "classified"


def _sentence(message: str) -> str:
    """What a decoder said, without the name it gives to bytes."""
    text = message.removeprefix("image: ").removeprefix("the ")
    return text[:1].upper() + text[1:]


def _fault() -> Problem:
    """What nobody could foresee: told in full on stderr, not to the client."""
    traceback.print_exc(file=sys.stderr)
    return Problem(500, "fault", "The server failed on this image.")
