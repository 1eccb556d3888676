"""The server as an ASGI application."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from time import perf_counter
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, Response
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from kdedge import __version__
from kdedge.runtime.classifier import Classifier
from kdedge.runtime.server import schema
from kdedge.runtime.server.answer import answer_of
from kdedge.runtime.server.auth import Keys
from kdedge.runtime.server.docs import DOCS_POLICY, docs_page
from kdedge.runtime.server.engine import Engine, warm_up
from kdedge.runtime.server.errors import PROBLEM, Problem
from kdedge.runtime.server.gate import Door, Gate, Seen
from kdedge.runtime.server.job import Finder, Job
from kdedge.runtime.server.limits import Disconnected, Room, body_chunks
from kdedge.runtime.server.metrics import Metrics
from kdedge.runtime.server.model import ServedModel
from kdedge.runtime.server.page import Page, answer_file
from kdedge.runtime.server.settings import Settings
from kdedge.runtime.server.upload import read_uploads

__all__ = ["create_app"]

WORDS = {
    400: "The body is not what its Content-Type says, or holds no image.",
    401: "An API key is needed.",
    403: "The request comes from a page of another origin.",
    408: "The body came too slowly.",
    413: "The body, an image or the number of files is too large.",
    415: "The Content-Type is not supported.",
    421: "The request is addressed to another host.",
    422: "None of the images can be decoded, or the query is wrong.",
    503: "Too much is waiting, or it took too long; Retry-After says when to try again.",
}


def create_app(
    classifier: Classifier,
    settings: Settings,
    say: Callable[[Seen], None] | None = None,
    finder: Finder | None = None,
) -> FastAPI:
    """Put a classifier behind HTTP.

    Args:
        classifier: used by several threads, warmed up here; whoever made it closes it.
        settings: limits and whom to let in.
        say: told of each request once it is answered.
        finder: finds the faces that are classified in place of each image.
    """
    warm_up(classifier, settings.batch)
    served = ServedModel(classifier, settings, faces=finder is not None)
    engine = Engine(classifier, settings, finder)
    room = Room(settings.held_bytes)
    page = Page()
    info = {"name": served.name, "precision": classifier.card.precision, "provider": classifier.provider}
    metrics = Metrics({**info, "sha256": served.sha256}, lambda: engine.waiting, lambda: room.used)
    engine.metrics = metrics

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        engine.start()
        yield
        await asyncio.to_thread(engine.stop)

    app = FastAPI(
        title="kdedge",
        version=__version__,
        description="An image classifier. Problems are answered as application/problem+json (RFC 9457).",
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
    )
    problems: dict[int | str, dict[str, Any]] = {
        status: {"description": words, "content": {PROBLEM: {"schema": schema.ProblemDetails.model_json_schema()}}}
        for status, words in WORDS.items()
    }

    @app.post(
        "/v1/classify",
        response_model=schema.Answer,
        response_description="An answer for each image, in the order sent; an image without one has an error instead.",
        responses=problems,
        openapi_extra={"requestBody": schema.BODY},
        tags=["model"],
    )
    async def classify(request: Request, asked: Annotated[schema.Asked, Query()]) -> Response:
        """Classify one image or several: a form of files, or one image as the body.

        A server that looks for faces (``faces`` of ``GET /v1/model``) answers with those of each image, in reading order.

        As long as one image of several can be read, the status is 200 and each of the others has an error. If none can, it is
        that of the first if all failed for the same kind of reason, else 422, and the problem lists the errors.
        """
        began = perf_counter()
        if asked.embedding and not classifier.card.embedding_output:
            raise Problem(422, "no_embedding", "This model gives no embedding; ask without it.")
        engine.refuse_if_full()
        taken = 0

        async def counted() -> AsyncGenerator[bytes, None]:
            nonlocal taken
            length = request.headers.get("content-length")
            async with aclosing(body_chunks(request.receive, length, settings.max_bytes, settings.timeout)) as chunks:
                async for chunk in chunks:
                    room.take(len(chunk))
                    taken += len(chunk)
                    yield chunk

        try:
            if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
                raise Problem(
                    415, "unsupported_encoding", "A compressed body is not supported.", {"Accept-Encoding": "identity"}
                )
            async with aclosing(counted()) as chunks:
                uploads = await read_uploads(request.headers.get("content-type", ""), chunks, settings.max_files)
            read = perf_counter()
            request.state.images = len(uploads)
            jobs, done = engine.submit(uploads, asked.top, asked.embedding)
            del uploads
            await _wait(request, jobs, done, settings.timeout)
        finally:
            room.give_back(taken)
        return Response(answer_of(served.name, jobs, began, read), media_type="application/json")

    @app.get("/v1/model", tags=["model"])
    async def model() -> dict[str, Any]:
        """The card of the model (labels, preprocessing, scores), what it runs on, and the limits of this server."""
        return served.told

    @app.head("/v1/model.onnx", include_in_schema=False)
    @app.get("/v1/model.onnx", tags=["model"], response_class=FileResponse)
    async def model_file(request: Request) -> Response:
        """The model file itself, for instance to run it in the browser."""
        if not settings.download:
            raise Problem(403, "no_download", "This server does not give its model away.")
        path = served.file()
        headers = {"ETag": f'"{served.sha256}"', "Cache-Control": "no-cache"}
        if headers["ETag"] in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return FileResponse(path, media_type="application/octet-stream", headers=headers, filename=path.name)

    @app.head("/healthz", include_in_schema=False)
    @app.get("/healthz", response_model=schema.Health, tags=["operation"])
    async def health() -> Response:
        """200 if images get answers, 503 if they do not and the server should be started anew. Needs no key."""
        status = "ok" if engine.ready else "stuck"
        body = schema.Health(status=status).model_dump_json()
        return Response(body, 200 if status == "ok" else 503, media_type="application/json")

    @app.get("/metrics", tags=["operation"], response_class=Response)
    async def numbers(request: Request) -> Response:
        """Counters for Prometheus."""
        text, kind = metrics.page(request.headers.get("accept", ""))
        return Response(text, headers={"Content-Type": kind})

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi() -> dict[str, Any]:
        return app.openapi()

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> Response:
        text = docs_page(app.openapi(), str(request.base_url).rstrip("/"))
        return HTMLResponse(text, headers={"Content-Security-Policy": DOCS_POLICY})

    if settings.page:

        @app.api_route("/{path:path}", methods=["GET", "HEAD"], include_in_schema=False)
        async def page_file(request: Request, path: str) -> Response:
            if path == "v1/classify":
                raise HTTPException(405, headers={"Allow": "POST"})
            return answer_file(request, await asyncio.to_thread(page.find, path))

    _handle_problems(app)
    app.add_middleware(Door, hosts=settings.hosts(), origins=settings.cors, keys=Keys(settings.keys))
    if settings.cors:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors,
            allow_methods=("GET", "POST"),
            allow_headers=("Authorization", "X-API-Key", "Content-Type"),
            expose_headers=("Retry-After",),
        )
    app.add_middleware(Gate, metrics=metrics, say=say)
    return app


async def _wait(request: Request, jobs: Sequence[Job], done: "asyncio.Future[None]", seconds: float) -> None:
    """Wait until all images have a result; Problem 503 after some seconds, Disconnected if the client leaves."""
    leaving: asyncio.Future[Any] = asyncio.ensure_future(
        request.receive()
    )  # nothing comes after a body but the end of the connection
    try:
        waited: set[asyncio.Future[Any]] = {done, leaving}
        await asyncio.wait(waited, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if done.done():
            return
        if leaving.done():
            raise Disconnected
        raise Problem(
            503, "too_slow", f"There was no answer within {seconds:g} seconds; try again.", {"Retry-After": "5"}
        )
    finally:
        leaving.cancel()
        if not done.done():
            done.cancel()
            for job in jobs:
                job.dropped = True


def _handle_problems(app: FastAPI) -> None:
    """Answer everything that goes wrong in one form."""

    def told(problem: Problem) -> Response:
        return Response(problem.body(), problem.status, problem.headers, PROBLEM)

    @app.exception_handler(Problem)
    async def known(_: Request, problem: Problem) -> Response:
        return told(problem)

    @app.exception_handler(HTTPException)
    async def routing(_: Request, error: HTTPException) -> Response:
        code, words = {
            404: ("not_found", "There is nothing at this address."),
            405: ("wrong_method", "This address does not take that method."),
        }.get(error.status_code, ("refused", "The request was refused."))
        return told(Problem(error.status_code, code, words, error.headers))

    @app.exception_handler(RequestValidationError)
    async def query(_: Request, error: RequestValidationError) -> Response:
        wrong = "; ".join(f"{'.'.join(map(str, one['loc'][1:]))[:50]}: {one['msg']}" for one in error.errors()[:3])
        return told(Problem(422, "bad_query", f"The query is wrong ({wrong})."))
