"""``kdedge serve``: a model behind HTTP, with a web page."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kdedge.runtime.server.settings import MAX_PIXELS

if TYPE_CHECKING:
    from socket import socket

    from kdedge.runtime.classifier import Classifier
    from kdedge.runtime.server.gate import Seen
    from kdedge.runtime.server.job import Finder
    from kdedge.runtime.server.settings import Settings

__all__ = ["serve"]


def serve(
    model: Annotated[
        str | None, typer.Argument(help="An .onnx file, a run directory or a model of the zoo; chosen as by classify.")
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 is reached from other machines.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    api_key_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="API keys, one a line; otherwise that of $KDEDGE_API_KEY, if set."),
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Another name this server is called by; may be repeated.")
    ] = None,
    cors: Annotated[
        list[str] | None,
        typer.Option(metavar="ORIGIN", help="Pages that may call the API (https://example.org, or *)."),
    ] = None,
    page: Annotated[bool, typer.Option("--page/--no-page", help="Serve the web page at /.")] = True,
    download: Annotated[
        bool,
        typer.Option("--download/--no-download", help="Give the model file away; the page runs it in the browser."),
    ] = True,
    provider: Annotated[str, typer.Option(help="auto, cpu, cuda, tensorrt or xnnpack.")] = "auto",
    allow_fallback: Annotated[
        bool, typer.Option("--allow-fallback", help="Let the CPU take the provider's place.")
    ] = False,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads inside a run of the network; by default the cores, at most 4.")
    ] = None,
    workers_decode: Annotated[
        int | None, typer.Option(min=1, help="Threads that decode images; by default the cores, at most 4.")
    ] = None,
    gallery: Annotated[Path | None, typer.Option(metavar="FILE", help="Enrolled classes; see kdedge enroll.")] = None,
    unknown_threshold: Annotated[
        float | None,
        typer.Option(metavar="SCORE", help="Score below which an image is unknown, in place of the card's."),
    ] = None,
    faces: Annotated[
        bool, typer.Option("--faces", help="Find and align the faces of each image and classify these.")
    ] = False,
    detector: Annotated[
        Path | None, typer.Option(help="A YuNet .onnx file for --faces, instead of the one fetched on first use.")
    ] = None,
    max_bytes: Annotated[int, typer.Option(min=1, help="Bytes of a request.")] = 32 << 20,
    max_pixels: Annotated[int, typer.Option(min=1, help="Pixels of an image.")] = MAX_PIXELS,
    max_files: Annotated[int, typer.Option(min=1, help="Images of a request.")] = 32,
    queue: Annotated[int, typer.Option(min=1, help="Images that may wait; more are answered with 503.")] = 128,
    batch: Annotated[int, typer.Option(min=1, help="Waiting images that go through the network together.")] = 8,
    timeout: Annotated[float, typer.Option(help="Seconds for a request to arrive, and for its answer.")] = 30.0,
    export_static: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Write the page, with the model running in the browser, to a folder; no server."
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Let --export-static write into a folder that is not empty.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Write a line for each request to stderr.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write lines as JSON objects.")] = False,
) -> None:
    """Serve a model over HTTP: POST /v1/classify, a web page at /, its description at /docs.

    Only this machine reaches it unless --host says otherwise. It runs until Ctrl-C or SIGTERM, then answers what is running
    and leaves with exit code 0. /healthz and /metrics are for orchestrators and Prometheus.

    \b
    Examples:
      kdedge serve
      kdedge serve runs/first --port 0 --verbose
      kdedge serve faces-openpeople --faces
      kdedge serve cifar10 --host 0.0.0.0 --api-key-file keys.txt --allow-host camera.local
      kdedge serve runs/first --export-static site/
      curl -F files=@one.jpg -F files=@two.jpg 'http://127.0.0.1:8000/v1/classify?top=3'
    """
    import os

    from kdedge.cli.classify_faces import face_notes
    from kdedge.errors import RunError
    from kdedge.runtime.server.auth import read_keys
    from kdedge.runtime.server.settings import Settings
    from kdedge.runtime.session import default_threads

    faces = faces or detector is not None
    if export_static is not None:
        if faces:
            raise RunError(
                "--export-static: in the browser no faces are found; export without --faces, and show it faces."
            )
        _export(model, export_static, overwrite)
        return
    _need_extra()
    settings = Settings(
        host=host,
        port=port,
        keys=read_keys(api_key_file, os.environ.get("KDEDGE_API_KEY")),
        allow_hosts=tuple(allow_host or ()),
        cors=tuple(cors or ()),
        page=page,
        download=download,
        max_bytes=max_bytes,
        max_pixels=max_pixels,
        max_files=max_files,
        queue=queue,
        batch=batch,
        decoders=workers_decode or default_threads(),
        timeout=timeout,
    )
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    os.environ["KDEDGE_MAX_PIXELS"] = str(max_pixels)
    os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(max_pixels))  # where a header lied
    from kdedge.runtime.server.process import quiet_decoders, tame_malloc
    from kdedge.runtime.server.run import listen

    tame_malloc()
    if not verbose:
        quiet_decoders()
    listening = listen(host, port)
    classifier = _open(model, gallery, unknown_threshold, threads, provider, allow_fallback)
    finder = _face_cutter(classifier, detector) if faces else None
    face_notes(classifier.card, faces)
    _serve(classifier, settings, listening, verbose, as_json, finder)


def _export(model: str | None, folder: Path, overwrite: bool) -> None:
    from kdedge.runtime.models import default_model
    from kdedge.runtime.web.static import export_static

    written = export_static(model or default_model()[0], folder, overwrite=overwrite)
    size = sum(path.stat().st_size for path in written)
    print(f"{folder}: {len(written)} files, {size / 1e6:.1f} MB; any web server can show it, such as")
    print(f"  python -m http.server --directory {folder}")


def _need_extra() -> None:
    """Say which packages are missing, before anything is loaded."""
    from importlib.util import find_spec

    from kdedge.errors import RunError

    wanted = {
        "fastapi": "fastapi",
        "uvicorn": "uvicorn",
        "python_multipart": "python-multipart",
        "prometheus_client": "prometheus-client",
    }
    if missing := [name for module, name in wanted.items() if find_spec(module) is None]:
        raise RunError(
            f"kdedge serve needs {', '.join(missing)}; run pip install 'kdedge[serve]' (in a checkout -e '.[serve]')."
        )


def _open(
    model: str | None,
    gallery: Path | None,
    unknown: float | None,
    threads: int | None,
    provider: str,
    allow_fallback: bool,
) -> "Classifier":
    from kdedge.runtime.classifier import Classifier
    from kdedge.runtime.gallery_file import find_gallery
    from kdedge.runtime.models import default_model

    path, _ = default_model(model)
    found = find_gallery(path, gallery)
    return Classifier(
        path,
        threads,
        provider=provider,
        allow_fallback=allow_fallback,
        gallery=found[0] if found else None,
        unknown="auto" if unknown is None else unknown,
        say=_told,
    )


def _face_cutter(classifier: "Classifier", detector: Path | None) -> "Finder":
    from functools import partial

    from kdedge.cli.classify_faces import face_finder

    return partial(face_finder(detector).cut, size=classifier.card.preprocess.size)


def _told(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _serve(
    classifier: "Classifier",
    settings: "Settings",
    listening: "socket",
    verbose: bool,
    as_json: bool,
    finder: "Finder | None",
) -> None:
    import json

    from kdedge.runtime.server.app import create_app
    from kdedge.runtime.server.run import address, serve_until_stopped

    def request_line(seen: "Seen") -> None:
        found = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "client": seen.client,
            "method": seen.method,
            "path": seen.path,
            "status": seen.status,
            "ms": round(1000 * seen.seconds, 1),
            "images": seen.images,
        }
        if as_json:
            _told(json.dumps({"event": "request", **found}))
        else:
            path = seen.path if seen.path.isprintable() else repr(seen.path)
            _told(
                f"{found['time']} {seen.client} {seen.method} {path} {seen.status} {found['ms']} ms {seen.images} images"
            )

    def ready() -> None:
        url = address(listening)
        card = classifier.card
        about = {
            "url": url,
            "model": card.name,
            "precision": card.precision,
            "provider": classifier.provider,
            "max_bytes": settings.max_bytes,
            "max_pixels": settings.max_pixels,
            "max_files": settings.max_files,
            "queue": settings.queue,
            "api_key": bool(settings.keys),
            "faces": finder is not None,
        }
        if as_json:
            print(json.dumps({"event": "listening", **about}), flush=True)
        else:
            print(
                f"{url}  {card.name} ({card.precision}, {classifier.provider}); a request: {settings.max_bytes / 1e6:.0f} MB, "
                f"{settings.max_files} images of {settings.max_pixels / 1e6:.0f} megapixels; {settings.queue} images may wait; "
                f"{'an API key is needed' if settings.keys else 'no API key'}",
                flush=True,
            )
        if not settings.loopback and not settings.keys:
            _told(f"warning: whoever reaches {url} can use this server; give it keys with --api-key-file.")

    with classifier:
        serve_until_stopped(
            create_app(classifier, settings, request_line if verbose else None, finder), settings, listening, ready
        )
