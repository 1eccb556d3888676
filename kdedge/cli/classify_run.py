"""One run of ``kdedge classify``: images, videos and cameras one after the other, and how far it is."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdedge.cli.classify_output import Record, Writer, summary_lines
from kdedge.errors import DataError
from kdedge.runtime.sources import Film, Missing, Still

if TYPE_CHECKING:
    from kdedge.cli.classify_faces import FaceReader
    from kdedge.progress import Progress
    from kdedge.runtime.classifier import Classifier
    from kdedge.runtime.pipeline import Crop
    from kdedge.runtime.prediction import Prediction
    from kdedge.runtime.video import Frame, Video

__all__ = ["Run"]

PATIENCE = 2.0
"""Seconds before images are counted, which lists every folder once more."""

SAY_EVERY = 5.0
"""Seconds between two lines about a source that has no end."""

RATE = 25.0
"""Frames a second of an annotated video whose source does not say."""


class Run:
    """Classifies sources and writes the answers as they come.

    Attributes:
        read: images and films that could be read, so far.
        bad: those that could not.
    """

    def __init__(
        self,
        classifier: "Classifier",
        writer: Writer,
        top: int,
        *,
        faces: "FaceReader | None",
        workers: int,
        batch: int,
        annotate: Path | None,
        base: Path | None,
        every: int,
        rate: float | None,
        most: int | None,
        progress: bool,
    ) -> None:
        self.read = self.bad = 0
        self._classifier, self._writer, self._top, self._faces = classifier, writer, top, faces
        self._workers, self._batch, self._annotate, self._base = workers, batch, annotate, base
        self._every, self._rate, self._most = every, rate, most
        # answers that scroll by tell how far it is; a bar between them would be torn
        self._progress = progress and not sys.stdout.isatty()

    def all(self, sources: "Iterable[Still | Film | Missing]", count: Callable[[], int | None]) -> None:
        """Classify all.

        Args:
            sources: what :func:`kdedge.runtime.sources.expand` gives.
            count: how many images there are in all; asked once, if it takes long. None where nobody knows.
        """
        for film, group in groupby(sources, lambda one: isinstance(one, Film)):
            if film:
                for one in group:
                    assert isinstance(one, Film)
                    self._film(one)
            else:
                self._stills((one for one in group if not isinstance(one, Film)), count)

    def _stills(self, sources: "Iterator[Still | Missing]", count: Callable[[], int | None]) -> None:
        from kdedge.cli.progress import progress_bar
        from kdedge.runtime.pipeline import answers

        found = answers(self._classifier, sources, self._load, top=self._top, workers=self._workers, batch=self._batch)
        began, total = time.monotonic(), 0
        with progress_bar("classify") as advance:
            try:
                for answer in found:
                    if answer.error is not None:
                        self._bad(answer.error)
                    else:
                        self.read += 1
                        self._writer([Record(one, answer.seconds) for one in answer.predictions])
                        if self._annotate and isinstance(answer.item, Still):
                            self._copy(answer.item, answer.predictions)
                    if self._progress and time.monotonic() - began > PATIENCE:
                        total = total or count() or -1
                        if total > 0:
                            advance(min(self.read + self.bad, total), total)
            finally:
                found.close()

    def _load(self, source: "Still | Missing") -> "list[Crop]":
        """What the network gets of an image, on a worker thread."""
        if isinstance(source, Missing):
            raise DataError(source.why)
        if self._faces is None:
            return [(source.name, self._classifier.load(source.source))]
        from kdedge.preprocess import decode

        return self._faces.crops(source.name, decode(source.source), keep_boxes=bool(self._annotate))

    def _copy(self, still: Still, predictions: "tuple[Prediction, ...]") -> None:
        from kdedge.preprocess import decode
        from kdedge.runtime.annotate import annotated, place_for, write_image

        assert self._annotate
        assert self._base
        pixels = decode(still.source)[..., ::-1].copy()
        self._draw_boxes(still.name, pixels)
        name = "stdin.jpg" if still.data is not None else still.name
        base = Path.cwd() if still.data is not None else self._base
        write_image(
            place_for(name, self._annotate, base),
            annotated(pixels, summary_lines(predictions)),
            "" if still.data is not None else still.name,
        )

    def _draw_boxes(self, name: str, pixels: Any) -> None:
        if self._faces is None:
            return
        import cv2

        thick = max(1, round(min(pixels.shape[:2]) / 250))
        for number, box in enumerate(self._faces.boxes.pop(name, []), 1):
            x, y, width, height = (round(value) for value in box)
            cv2.rectangle(pixels, (x, y), (x + width, y + height), (255, 255, 255), thick)
            corner, font = (x + 2 * thick, y + 14 * thick), cv2.FONT_HERSHEY_SIMPLEX
            cv2.putText(pixels, str(number), corner, font, 0.5 * thick, (255, 255, 255), thick)

    def _bad(self, why: str) -> None:
        self.bad += 1
        print(f"unreadable: {why}", file=sys.stderr)

    def _film(self, film: Film) -> None:
        """Frames of a video or camera; Ctrl-C ends a camera and goes on with what follows."""
        from kdedge.runtime.video import Video

        keep = self._annotate is not None

        def take(pixels: Any) -> "tuple[list[Crop], Any]":
            rgb = pixels[..., ::-1].copy()
            if self._faces is None:
                return [(film.name, self._classifier.load(rgb))], pixels if keep else None
            return self._faces.crops(film.name, rgb, keep_boxes=keep), pixels if keep else None

        done, began, live = 0, time.monotonic(), bool(film.live)
        try:
            with Video(film, take, every=self._every, rate=self._rate, most=self._most) as video:
                live, began = video.live, time.monotonic()
                try:
                    for done in self._frames(film, video):  # noqa: B007  how many there were
                        pass
                except KeyboardInterrupt:
                    if not live:
                        raise
                self.read += 1
                self._end(film, video, done, time.monotonic() - began)
        except DataError as error:
            self._bad(str(error))

    def _frames(self, film: Film, video: "Video[tuple[list[Crop], Any]]") -> Iterator[int]:
        """Answers to each frame; yields how many there were."""
        from contextlib import ExitStack

        from kdedge.cli.progress import progress_bar
        from kdedge.runtime.annotate import FilmWriter, annotated, place_for

        began = said = time.monotonic()
        with ExitStack() as stack:
            advance = stack.enter_context(progress_bar(f"classify {film.name}"))
            writer: FilmWriter | None = None
            if self._annotate:
                assert self._base
                name = film.name if isinstance(film.opened, str) and not video.live else _plain(film.name)
                place = place_for(name, self._annotate, self._base if name == film.name else Path.cwd())
                writer = stack.enter_context(FilmWriter(place.with_name(f"{Path(name).stem}.mp4"), video.rate or RATE))
            for done, frame in enumerate(video, 1):
                crops, pixels = frame.taken
                start = time.perf_counter()
                found = self._classifier.predict_fitted(
                    [image for _, image in crops], [_named(film, frame, name) for name, _ in crops], self._top
                )
                seconds = frame.work + time.perf_counter() - start
                self._writer([Record(one, seconds, frame.number, frame.seconds) for one in found])
                if writer:
                    self._draw_boxes(film.name, pixels)
                    writer.add(annotated(pixels, summary_lines(tuple(found))), frame.seconds)
                now = time.monotonic()
                if self._progress:
                    said = self._say(film, video, done, now, began, said, advance)
                yield done

    def _say(
        self, film: Film, video: "Video[Any]", done: int, now: float, began: float, said: float, advance: "Progress"
    ) -> float:
        rate = f"{done / max(now - began, 1e-9):.1f} frames/s"
        if video.total:
            advance(min(done, video.total), video.total, rate)
        elif now - said > SAY_EVERY:
            print(f"  {film.name}: {done} frames, {rate}", file=sys.stderr, flush=True)
            return now
        return said

    def _end(self, film: Film, video: "Video[Any]", done: int, seconds: float) -> None:
        own = f", the source has {video.rate:.1f}" if video.rate else ""
        lost = f", {video.dropped} dropped" if video.dropped else ""
        rate = f" in {seconds:.1f} s ({done / seconds:.1f} frames/s{own})" if done and seconds > 0 else ""
        print(f"{film.name}: {done} frames{rate}{lost}", file=sys.stderr)


def _named(film: Film, frame: "Frame[Any]", name: str) -> str:
    """``clip.mp4#120``, and ``clip.mp4#120#2`` for the second face of that frame."""
    return f"{film.name}#{frame.number}{name.removeprefix(film.name)}"


def _plain(name: str) -> str:
    """The name of a camera or the address of a stream as the name of a file."""
    return "".join(sign if sign.isalnum() or sign in "-_." else "_" for sign in name)
