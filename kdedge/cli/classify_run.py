"""The work of ``kdedge classify``: images through the pipeline, films frame by frame, and what is said of both meanwhile."""

import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from kdedge.cli.classify_bar import LateBar
from kdedge.cli.classify_output import Writer, records, summary_lines
from kdedge.errors import DataError
from kdedge.runtime.pipeline import Answer, answers, in_order
from kdedge.runtime.sources import Film, Missing, Still

if TYPE_CHECKING:
    from kdedge.cli.classify_faces import FaceReader
    from kdedge.decode import Box
    from kdedge.runtime.classifier import Classifier
    from kdedge.runtime.pipeline import Crop

__all__ = ["Run"]


@dataclass
class Run:
    """What to do with images and films, and how far it is.

    Attributes:
        write: prints answers.
        top: labels of each answer.
        faces: finds faces in images; None classifies whole images.
        workers: threads that decode; 0 for none.
        batch: images in a run of the network, at most; None has the threads that decode run it, see
            :func:`kdedge.runtime.pipeline.answers`.
        annotate: folder for annotated copies, with ``base``, see :func:`kdedge.runtime.annotate.place_for`.
        every, rate, most: of films, see :class:`kdedge.runtime.video.Video`.
        progress: whether to say how far it is.
        read, bad: sources that were classified, and that could not be, so far.
    """

    classifier: "Classifier"
    write: Writer
    top: int
    faces: "FaceReader | None" = None
    workers: int = 0
    batch: int | None = None
    annotate: Path | None = None
    base: Path | None = None
    every: int = 1
    rate: float | None = None
    most: int | None = None
    progress: bool = True
    read: int = 0
    bad: int = 0
    _bar: LateBar | None = field(default=None, init=False)
    _boxes: "dict[int, list[Box]]" = field(default_factory=dict, init=False)
    """Of the faces in images whose answer is not printed yet, by the id of the source: a name may be given twice."""

    def all(self, sources: Iterable[Still | Film | Missing], count: Callable[[], int | None]) -> None:
        """Classify all sources in their order.

        Args:
            count: how many there are, or None; asked once, and only if it takes long.
        """
        left = iter(sources)
        while True:
            film: list[Film] = []
            bar = self._bar = LateBar("Classifying", count, self.progress)
            with bar, closing(self._answers(self._until_film(left, film))) as found:
                for answer in found:
                    self._tell(answer)
            if not film:
                return
            self._film(film[0])

    def _until_film(self, left: Iterator[Still | Film | Missing], film: list[Film]) -> Iterator[Still]:
        for one in left:
            if isinstance(one, Film):
                film.append(one)
                return
            if isinstance(one, Missing):
                self._refuse(one.why)
            else:
                yield one

    def _answers(self, stills: Iterator[Still]) -> Generator[Answer[Still], None, None]:
        found = answers(self.classifier, stills, self._load, top=self.top, workers=self.workers, batch=self.batch)
        if self.annotate is None:
            return found
        return self._annotated(found)

    def _annotated(self, found: Generator[Answer[Still], None, None]) -> Generator[Answer[Still], None, None]:
        """The same, once each copy is written; drawing and encoding take longer than all the rest and have their threads."""
        with closing(found), closing(in_order(found, self._copy, self.workers, 2 * self.workers)) as written:
            for group in written:
                yield from group

    def _load(self, still: Still) -> "list[Crop]":
        if self.faces is None:
            return [(still.name, self.classifier.load(still.source))]
        from kdedge.preprocess import decode

        crops, self._boxes[id(still)] = self.faces.crops(still.name, decode(still.source))
        return crops

    def _copy(self, answer: Answer[Still]) -> Answer[Still]:
        from kdedge.decode import decode_bgr
        from kdedge.runtime.annotate import annotated, place_for, write_image

        assert self.annotate is not None
        assert self.base is not None
        if answer.error is None:
            still = answer.item
            name = "stdin" if still.data is not None else still.name
            path = self.annotate / "stdin.jpg" if still.data is not None else place_for(name, self.annotate, self.base)
            boxes = self._boxes.get(id(still), [])
            drawn = annotated(decode_bgr(still.source), summary_lines(answer.predictions), boxes)
            write_image(path, drawn, "" if still.data is not None else still.name)
        return answer

    def _tell(self, answer: Answer[Still]) -> None:
        boxes = self._boxes.pop(id(answer.item), [])
        if answer.error is not None:
            self._refuse(answer.error)
        else:
            self.read += 1
            self.write(records(answer.predictions, boxes, answer.seconds))
        if self._bar:
            self._bar.show(self.read + self.bad)

    def _refuse(self, why: str) -> None:
        self.bad += 1
        print(f"unreadable: {why}", file=sys.stderr)

    def _film(self, film: Film) -> None:
        from kdedge.cli.classify_film import run_film

        try:
            run_film(self, film)
            self.read += 1
        except DataError as error:
            self._refuse(str(error))
