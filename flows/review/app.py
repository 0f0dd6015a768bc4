"""The application behind the page: what it shows, and the steps that it sends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from data.dataset import DatasetError
from data.store import ArtifactError
from data.store.corrections import Overtaken
from flows.review.gate import Gate
from flows.review.messages import Asked, Restore, Scribbles, Step
from tasks.config import fault_of
from tasks.review.session import Session, Unknown

PAGE = Path(__file__).parent / "page"
MOST_BYTES = 32 << 20
MOST_LISTED, MOST_THUMBNAIL_PX = 200, 512
STATUS = {Unknown: 404, Overtaken: 409, ValueError: 422, DatasetError: 422, ArtifactError: 500}
"""What can go wrong -> status of the answer, which says what."""
Message = TypeVar("Message", bound=Asked)


def make_app(session: Session, token: str, port: int) -> Gate:
    """Return the application of a review, for a server on the loopback interface.

    Args:
        token: The first part of every path.
        port: Of the server.
    """
    routes = [
        Route("/queue", _queue),
        Route("/state", _state),
        Route("/before", _before),
        Route("/photo", _photo),
        Route("/boundary", _boundary),
        Route("/cam", _cam),
        Route("/correct", _correct, methods=["POST"]),
        Route("/restore", _restore, methods=["POST"]),
        Route("/scribble", _scribble, methods=["POST"]),
        Mount("/", StaticFiles(directory=PAGE, html=True)),
    ]
    packing = Middleware(GZipMiddleware, minimum_size=2000, compresslevel=1)
    app = Starlette(routes=routes, middleware=[packing], exception_handlers=dict.fromkeys(STATUS, _explain))
    app.state.session = session
    return Gate(app, token, port)


def _queue(request: Request) -> Response:
    start, count = (_number(request, name, default) for name, default in (("start", 0), ("count", MOST_LISTED)))
    return JSONResponse(_session(request).queue(start, min(count, MOST_LISTED)))


def _state(request: Request) -> Response:
    return JSONResponse(_session(request).state(_image(request)))


def _before(request: Request) -> Response:
    return JSONResponse(_session(request).before(_image(request)))


def _photo(request: Request) -> Response:
    side = _number(request, "side", 0)
    most = min(side, MOST_THUMBNAIL_PX) if side else None
    return Response(_session(request).photo(_image(request), most), media_type="image/jpeg")


def _boundary(request: Request) -> Response:
    return Response(_session(request).boundary(_image(request)), media_type="image/png")


def _cam(request: Request) -> Response:
    name = request.query_params.get("class", "")
    return Response(_session(request).cam(_image(request), name), media_type="image/png")


async def _correct(request: Request) -> Response:
    asked, session = await _read(request, Step), _session(request)

    def work() -> dict[str, Any]:
        masks = asked.masks(session.size(asked.image))
        return session.correct(asked.image, asked.after, masks, verdict=asked.verdict, tags=asked.tags)

    return await _answer(session, asked, work)


async def _restore(request: Request) -> Response:
    asked, session = await _read(request, Restore), _session(request)
    return await _answer(session, asked, lambda: session.restore(asked.image, asked.after, asked.step))


async def _scribble(request: Request) -> Response:
    asked, session = await _read(request, Scribbles), _session(request)

    def work() -> dict[str, Any]:
        masks = asked.masks(session.size(asked.image))
        return session.scribble(asked.image, asked.after, asked.step, masks)

    return await _answer(session, asked, work)


async def _answer(session: Session, asked: Asked, work: Callable[[], dict[str, Any]]) -> Response:
    """Do a step; where somebody else was first, say so and send what there is now."""
    try:
        return JSONResponse(await run_in_threadpool(work))
    except Overtaken as error:
        state = await run_in_threadpool(session.state, asked.image)
        return JSONResponse({"error": str(error), "state": state}, STATUS[Overtaken])


async def _read(request: Request, kind: type[Message]) -> Message:
    """Return what the page asked for; it is refused by its length before it is read."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise HTTPException(415, "expected JSON")
    declared = request.headers.get("content-length", "0")
    if not declared.isdecimal() or int(declared) > MOST_BYTES:
        raise HTTPException(413, f"expected {MOST_BYTES >> 20} MiB at most")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MOST_BYTES:
            raise HTTPException(413, f"expected {MOST_BYTES >> 20} MiB at most")
    return await run_in_threadpool(kind.model_validate_json, bytes(body))


def _session(request: Request) -> Session:
    return request.app.state.session


def _image(request: Request) -> str:
    return request.query_params.get("image", "")


def _number(request: Request, name: str, default: int) -> int:
    value = request.query_params.get(name, str(default))
    if not value.isdecimal() or len(value) > 9:
        raise ValueError(f"{name}: expected a number, found {value!r:.80}")
    return int(value)


def _explain(request: Request, error: Exception) -> Response:
    status = next(status for kind, status in STATUS.items() if isinstance(error, kind))
    return JSONResponse({"error": fault_of(error) if isinstance(error, ValidationError) else str(error)}, status)
