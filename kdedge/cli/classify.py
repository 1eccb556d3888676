"""``kdedge classify``: what a model says about images, videos and what a camera sees."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kdedge.cli.classify_run import Run
    from kdedge.runtime.classifier import Classifier
    from kdedge.runtime.sources import Film, Missing, Still

__all__ = ["classify"]

LOOKED_AT = 256
"""Names that are looked at before the first is printed, to know how wide their column is."""


BATCH = {"cpu": 4, "xnnpack": 4}
"""Images in a run where ``--batch`` does not say; the others are GPUs."""


def classify(
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE|DIR|GLOB|VIDEO|camera:N|URL|-...", help="Images; folders at any depth; see above."
        ),
    ],
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="An .onnx file, a run directory or a model of the zoo.")
    ] = None,
    top: Annotated[int, typer.Option("--top", "-k", min=1, help="Labels to give for each image.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV with a header.")] = False,
    annotate: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also write copies with the answer on them.")
    ] = None,
    faces: Annotated[
        bool, typer.Option("--faces", help="Find and align the faces of each photograph and classify these.")
    ] = False,
    detector: Annotated[
        Path | None, typer.Option(help="A YuNet .onnx file for --faces, instead of the one fetched on first use.")
    ] = None,
    gallery: Annotated[
        Path | None, typer.Option(help="Enrolled classes.  [default: $KDEDGE_GALLERY, else those of the model, if any]")
    ] = None,
    unknown_threshold: Annotated[
        float | None, typer.Option(help="Score below which an image is unknown.  [default: of the gallery or model]")
    ] = None,
    no_unknown: Annotated[bool, typer.Option("--no-unknown", help="Call nothing unknown.")] = False,
    every: Annotated[int, typer.Option(min=1, metavar="N", help="Of a video or camera take one frame of N.")] = 1,
    fps: Annotated[
        float | None, typer.Option(min=0.001, help="Of a video or camera take at most so many frames a second.")
    ] = None,
    max_frames: Annotated[int | None, typer.Option(min=1, help="End a video or camera after so many frames.")] = None,
    provider: Annotated[str, typer.Option(help="auto, cpu, cuda, tensorrt or xnnpack.")] = "auto",
    allow_fallback: Annotated[
        bool, typer.Option("--allow-fallback", help="Let the CPU take over where the provider cannot be had.")
    ] = False,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Threads of the network.  [default: the cores there are, at most 4; 1 for each of several images]",
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Threads that decode, 0 for none.  [default: the cores there are]")
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(min=1, help="Images in one run of the network, at most.  [default: 1 a thread; 16 on a GPU]"),
    ] = None,
    no_progress: Annotated[bool, typer.Option("--no-progress", help="Say nothing of how far it is.")] = False,
) -> None:
    """Classify images with an exported student.

    Takes image files, folders, patterns, videos, camera:0, addresses of streams (rtsp://..., http://...), and - for stdin: one
    image, or names of files, one a line.

    Without --model: $KDEDGE_MODEL, else the newest export under runs/, else the default model of the zoo. What cannot be
    read is named and left out; the exit code is then 2. Ctrl-C ends a camera and is no error.

    \b
    Examples:
      kdedge classify photo.jpg
      kdedge classify photos/ 'more/*.png' --top 1
      kdedge classify photos/ --model runs/first --json > answers.jsonl
      kdedge classify photos/ --csv --annotate seen/ > answers.csv
      find /media -name '*.jpg' -print0 | kdedge classify - --json
      kdedge classify clip.mp4 --every 10
      kdedge classify camera:0 --fps 5 --json
      kdedge classify --faces holiday.jpg
      kdedge classify photos/ --provider cuda --batch 32
    """
    import os

    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # what cannot be decoded is said by us, once
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    from itertools import chain, islice

    from kdedge.cli.classify_output import writer_for
    from kdedge.cli.classify_run import Run
    from kdedge.runtime.sources import Film, Still, common_folder, expand

    _check(as_json, as_csv, unknown_threshold, no_unknown, images)
    base = _base(images, annotate, common_folder) if annotate else None
    stdin = getattr(sys.stdin, "buffer", None) if "-" in images else None
    sources = expand(images, stdin, annotate)
    seen = [] if stdin else list(islice(sources, LOOKED_AT))  # those of a pipe may come slowly
    stills, films = sum(isinstance(one, Still) for one in seen), sum(isinstance(one, Film) for one in seen)
    several = bool(stdin) or stills > 1
    readers = _workers(workers, several)
    # where every thread takes an image through all of it, more threads inside the network would only wait for one another
    alone = readers > 1 and not films and threads is None and batch is None and provider in ("auto", "cpu")
    _settle_in(several)
    classifier = _open(model, 1 if alone else threads, provider, allow_fallback, gallery, unknown_threshold, no_unknown)
    finder = None
    if faces or detector:
        from kdedge.cli.classify_faces import FaceReader

        finder = FaceReader(classifier, detector)
    if finder or classifier.card.expects:
        from kdedge.cli.classify_faces import face_notes

        face_notes(classifier.card, finder is not None)
    labels = classifier.labels
    width = max((len(one.name) + (6 if isinstance(one, Film) else 0) for one in seen), default=0) + 2 * bool(finder)
    places = min(top, len(labels))
    writer = writer_for(as_json, as_csv, width, max(map(len, labels)), places, boxes=finder is not None)
    run = Run(
        classifier,
        writer,
        top,
        faces=finder,
        workers=readers,
        batch=None if alone and classifier.provider == "cpu" else batch or BATCH.get(classifier.provider, 16),
        annotate=annotate,
        base=base,
        every=every,
        rate=fps,
        most=max_frames,
        progress=not no_progress,
    )
    _go(run, chain(seen, sources), lambda: None if stdin or films else sum(1 for _ in expand(images, None, annotate)))
    if run.bad:
        print(f"error: {run.bad} of {run.bad + run.read} could not be read.", file=sys.stderr)
        raise typer.Exit(2)


def _go(run: "Run", sources: "Iterable[Still | Film | Missing]", count: "Callable[[], int | None]") -> None:
    """Run, and end quietly if whoever reads the answers has seen enough (``| head``)."""
    import os

    try:
        run.all(sources, count)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it ends
        raise typer.Exit(0) from None


def _settle_in(several: bool) -> None:
    """Settings of the whole process, which only a command may choose; together they save a quarter of the time an image takes.

    OpenCV's own threads share out one image and wait for one another, where ours take an image each. And glibc gives memory
    back to the system and fetches it again for every image until it has once seen a large block freed.
    """
    import cv2
    import numpy as np

    cv2.setNumThreads(1)
    if several:
        np.empty(24 << 20, np.uint8)  # freed at once and never touched; mallopt(3): M_MMAP_THRESHOLD is dynamic


def _check(as_json: bool, as_csv: bool, threshold: float | None, no_unknown: bool, images: list[str]) -> None:
    from kdedge.errors import RunError

    if as_json and as_csv:
        raise RunError("--json and --csv are two forms of the same; give one of them.")
    if threshold is not None and no_unknown:
        raise RunError("--unknown-threshold and --no-unknown contradict each other; give one of them.")
    if "-" in images and sys.stdin is None:
        raise RunError("- stands for stdin, and there is none.")


def _base(images: list[str], annotate: Path, common_folder: "Callable[[list[str]], Path]") -> Path:
    """What the copies keep their place below; a folder that would be overwritten is refused before anything is read."""
    from kdedge.errors import RunError

    base = common_folder(images)
    if annotate.exists() and not annotate.is_dir():
        raise RunError(f"--annotate {annotate}: a folder was expected, this is a file.")
    if annotate.resolve() == base.resolve():
        raise RunError(f"--annotate {annotate}: the copies would take the place of the images; give another folder.")
    return base


def _open(
    model: str | None,
    threads: int | None,
    provider: str,
    allow_fallback: bool,
    gallery: Path | None,
    threshold: float | None,
    no_unknown: bool,
) -> "Classifier":
    """The classifier, and on stderr what it is and what runs it."""
    from kdedge.runtime.classifier import Classifier
    from kdedge.runtime.gallery_file import find_gallery
    from kdedge.runtime.models import default_model

    path, why = default_model(model)
    found = find_gallery(path, gallery)
    classifier = Classifier(
        path,
        threads,
        provider=provider,
        allow_fallback=allow_fallback,
        gallery=found[0] if found else None,
        unknown="never" if no_unknown else "auto" if threshold is None else threshold,
        say=lambda line: print(f"note: {line}", file=sys.stderr),
    )
    card = classifier.card
    size = f"{path.stat().st_size / 1e6:.1f} MB"
    print(f"model: {card.name} ({card.precision}, {size}, on {classifier.provider}), {why}: {path}", file=sys.stderr)
    if found:
        count = len(found[0].classes)
        print(f"gallery: {count} enrolled class{'' if count == 1 else 'es'}: {found[1]}", file=sys.stderr)
    return classifier


def _workers(given: int | None, several: bool) -> int:
    """Threads that decode: none for one image."""
    if not several:
        return 0
    if given is not None:
        return given
    from kdedge.runtime.pipeline import MOST_WORKERS
    from kdedge.runtime.session import usable_cores

    return min(usable_cores(), MOST_WORKERS)
