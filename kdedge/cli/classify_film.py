"""``kdedge classify`` on videos, streams and cameras."""

import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdedge.cli.classify_bar import LateBar
from kdedge.cli.classify_output import records, summary_lines

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from kdedge.cli.classify_run import Run
    from kdedge.decode import Box
    from kdedge.runtime.pipeline import Crop
    from kdedge.runtime.sources import Film
    from kdedge.runtime.video import Frame, Video

__all__ = ["run_film"]

USUAL_RATE = 25.0
"""Frames a second of an annotated video whose source does not say."""

SAID_EVERY = 1.0, 10.0
"""Seconds between two lines about a camera: on a terminal, where they replace one another, and elsewhere."""


@dataclass(frozen=True)
class _Seen:
    """A frame, at the network's size and, for an annotated video, as it came."""

    image: "NDArray[np.uint8]"
    pixels: "NDArray[np.uint8] | None"


def run_film(run: "Run", film: "Film") -> None:
    """Classify the frames of a film and print the answers; Ctrl-C ends a live one, which is no error.

    Raises:
        DataError: see :class:`kdedge.runtime.video.Video`.
    """
    import cv2

    from kdedge.runtime.video import Video

    fit, faces = run.classifier.card.preprocess.fit, run.faces is not None

    def take(pixels: "NDArray[np.uint8]") -> _Seen:
        small = pixels if faces else fit(pixels)
        image = cv2.cvtColor(small, cv2.COLOR_BGR2RGB)
        return _Seen(image, pixels if run.annotate else None)  # type: ignore[arg-type]

    video: Video[_Seen] = Video(film, take, every=run.every, rate=run.rate, most=run.most)
    done, began = 0, time.monotonic()
    with ExitStack() as stack:
        stack.enter_context(video)
        told = stack.enter_context(_Told(video, run.progress))
        copy = stack.enter_context(_copy(run, video, film)) if run.annotate else None
        try:
            for frame in video:
                done += 1
                _one(run, film, frame, copy)
                told.show(done)
        except KeyboardInterrupt:
            if not video.live:
                raise
        finally:
            told.end()
            print(f"{film.name}: {_sum(video, done, time.monotonic() - began)}", file=sys.stderr)


def _one(run: "Run", film: "Film", frame: "Frame[_Seen]", copy: Any) -> None:
    name = f"{film.name}#{frame.number}"
    crops: list[Crop] = [(name, frame.taken.image)]
    boxes: list[Box] = []
    begun = time.perf_counter()
    if run.faces:
        crops, boxes = run.faces.crops(name, frame.taken.image)
    found = run.classifier.predict_fitted([image for _, image in crops], [name for name, _ in crops], run.top)
    spent = frame.work + time.perf_counter() - begun
    run.write(records(found, boxes, spent, frame.number, frame.seconds))
    if copy is not None and frame.taken.pixels is not None:
        from kdedge.runtime.annotate import annotated

        copy.add(annotated(frame.taken.pixels, summary_lines(found), boxes), frame.seconds)


def _copy(run: "Run", video: "Video[_Seen]", film: "Film") -> Any:
    from kdedge.runtime.annotate import FilmWriter, place_for

    assert run.annotate is not None
    assert run.base is not None
    if isinstance(film.opened, int) or film.live is not False:  # camera:0, rtsp://...
        path = run.annotate / "".join(sign if sign.isalnum() or sign in ".-" else "-" for sign in film.name)
    else:
        path = place_for(film.name, run.annotate, run.base)
    return FilmWriter(
        path.with_name(f"{path.name.removesuffix('.jpg').removesuffix('.mp4')}.mp4"), video.rate or USUAL_RATE
    )


def _sum(video: "Video[_Seen]", done: int, seconds: float) -> str:
    known = [f"the source has {video.rate:.1f}"] if video.rate else []
    known += [f"{video.dropped} were dropped to keep up"] if video.dropped else []
    more = f" ({', '.join(known)})" if known else ""
    return f"{done} frames in {seconds:.1f} s, {done / max(seconds, 1e-9):.1f} frames a second{more}"


class _Told:
    """A bar for a film whose length is known, a line now and then for one that goes on."""

    def __init__(self, video: "Video[_Seen]", wanted: bool) -> None:
        self._video = video
        self._bar = LateBar(
            f"Classifying {Path(video.name).name}", lambda: video.total, wanted and video.total is not None
        )
        self._tty = sys.stderr.isatty()
        self._wanted = wanted and video.total is None and not (self._tty and sys.stdout.isatty())
        self._began = self._last = time.monotonic()
        self._before = 0

    def show(self, done: int) -> None:
        now = time.monotonic()
        self._bar.show(done, f"{done / max(now - self._began, 1e-9):.1f} frames a second")
        every = SAID_EVERY[0] if self._tty else SAID_EVERY[1]
        if self._wanted and now - self._last >= every:
            rate = (done - self._before) / (now - self._last)
            text = f"{self._video.name}: {done} frames, {rate:.1f} a second, {self._video.dropped} dropped"
            print(f"\r\033[K{text}" if self._tty else text, end="" if self._tty else "\n", file=sys.stderr, flush=True)
            self._last, self._before = now, done

    def end(self) -> None:
        """Take the line away, before the last word."""
        self._bar.__exit__()
        if self._wanted and self._tty and self._before:
            print("\r\033[K", end="", file=sys.stderr, flush=True)

    def __enter__(self) -> "_Told":
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.__exit__(*error)
