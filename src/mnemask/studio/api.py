"""The HTTP API of the studio. Masks and pictures are sent as bytes, everything else as JSON."""

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable
from importlib.resources import files
from typing import Any
from urllib.parse import quote

import numpy as np
import torch
from jaxtyping import Bool, Int32
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket, WebSocketDisconnect
from torch import Tensor

import mnemask as mm
from mnemask.io.atomic import safe_name
from mnemask.io.shapes import mask_from_run_lengths
from mnemask.io.visualize import encode_image
from mnemask.studio.desk import Desk
from mnemask.studio.exports import exported, offered, zipped
from mnemask.studio.workspace import Workspace

STATIC = str(files("mnemask.studio") / "static")
MAX_JSON = 2**20


class Api:
    """Handlers for the requests of the page.

    Args:
        workspace: the workspace with all projects.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._desks: dict[str, Desk] = {}
        self._lock = threading.Lock()
        workspace.before_closing = self._stop

    def app(self) -> Starlette:
        """Returns the application, without `Guard`."""
        get, post = ["GET"], ["POST"]
        one = "/api/projects/{name}"
        routes = [
            Route("/", self.page, methods=get),
            Mount("/static", StaticFiles(directory=STATIC)),
            Route("/api/workspace", self.workspace, methods=get),
            Route("/api/browse", self.browse, methods=get),
            Route("/api/projects", self.open, methods=post),
            Route(one, self.state, methods=get),
            Route(f"{one}/frames/{{index:int}}", self.frame, methods=get),
            Route(f"{one}/labels/{{index:int}}", self.labels, methods=get),
            Route(f"{one}/timeline", self.timeline, methods=get),
            Route(f"{one}/memory", self.memory, methods=get),
            Route(f"{one}/exports/{{path:path}}", self.exported, methods=get),
            Route(f"{one}/zip/{{export}}", self.zipped, methods=get),
            Route(f"{one}/prepare", self.prepare, methods=post),
            Route(f"{one}/clicks", self.clicks, methods=post),
            Route(f"{one}/masks", self.masks, methods=post),
            Route(f"{one}/actions", self.actions, methods=post),
            Route(f"{one}/track", self.track, methods=post),
            Route(f"{one}/stop", self.stop, methods=post),
            Route(f"{one}/export", self.export, methods=post),
            WebSocketRoute(f"{one}/events", self.events),
        ]
        # For any other error, Starlette answers with 500 without details, and logs it.
        return Starlette(routes=routes, exception_handlers={mm.MnemaskError: refused})

    def desk(self, name: str) -> Desk:
        """Returns a project with its pages, opened on first use."""
        project = self._workspace.project(name)
        notes = filter(None, [self._workspace.notes.get(name)])
        with self._lock:
            desk = self._desks.get(name)
            if desk is not None and desk.project is not project:  # the workspace closed that one
                desk.listeners.tell({})
                desk = None
            if desk is None:
                desk = self._desks[name] = Desk(name, project, [*notes])
            return desk

    def close(self) -> None:
        """Stops all jobs and closes all projects."""
        for desk in self._desks.values():
            desk.stop()
        self._workspace.close()

    def page(self, request: Request) -> Response:
        return FileResponse(f"{STATIC}/index.html", headers={"cache-control": "no-cache"})

    def workspace(self, request: Request) -> Response:
        return JSONResponse(
            {
                "version": mm.__version__,
                "folder": str(self._workspace.folder),
                "projects": self._workspace.names(),
                "policies": list(mm.POLICIES),
                "formats": offered(),
            }
        )

    def browse(self, request: Request) -> Response:
        return JSONResponse(self._workspace.browse(request.query_params.get("path", "")))

    async def open(self, request: Request) -> Response:
        path = str((await _json(request)).get("path", ""))
        return JSONResponse({"name": await run_in_threadpool(self._workspace.open_source, path)})

    def state(self, request: Request) -> Response:
        return JSONResponse(self._desk(request).state())

    def frame(self, request: Request) -> Response:
        height = max(16, min(_number(request, "h", 720), 4320))
        data = self._desk(request).picture(request.path_params["index"], height)
        return Response(data, media_type="image/jpeg")

    def labels(self, request: Request) -> Response:
        return _labels(self._desk(request), request.path_params["index"])

    def timeline(self, request: Request) -> Response:
        return JSONResponse(self._desk(request).timeline(_number(request, "bins", 1000)))

    def memory(self, request: Request) -> Response:
        spot = (_number(request, "x", 0), _number(request, "y", 0)) if "x" in request.query_params else None
        picture = self._desk(request).look(_number(request, "frame", 0), spot)
        return Response(encode_image(picture, ".png"), media_type="image/png")

    def exported(self, request: Request) -> Response:
        path = exported(self._desk(request).exports, request.path_params["path"])
        if not path.is_file():
            raise mm.InputError(f"{path.name!r} is a folder", "download it as a zip")
        return FileResponse(path, filename=path.name)

    def zipped(self, request: Request) -> Response:
        """Returns an export as one zip file, created while it is sent."""
        desk = self._desk(request)
        folder = exported(desk.exports, request.path_params["export"])
        if not folder.is_dir():
            raise mm.InputError(f"{folder.name!r} is a single file", "download it as it is")
        name = quote(f"{safe_name(desk.name)}-{folder.name}.zip")
        headers = {"content-disposition": f"attachment; filename*=utf-8''{name}"}
        return StreamingResponse(zipped(folder), media_type="application/zip", headers=headers)

    async def prepare(self, request: Request) -> Response:
        asked = await _json(request)
        await run_in_threadpool(self._desk(request).prepare, _whole(asked, "frame"))
        return JSONResponse({})

    async def clicks(self, request: Request) -> Response:
        asked, desk = await _json(request), self._desk(request)
        frame, object_id = _whole(asked, "frame"), _whole(asked, "object")
        await run_in_threadpool(desk.click, frame, object_id, asked.get("points", []), asked.get("box"))
        return await run_in_threadpool(_labels, desk, frame)

    async def masks(self, request: Request) -> Response:
        desk = self._desk(request)
        mask = mask_from_bytes(await _body(request), desk.project.frames.size)
        frame, object_id = _number(request, "frame", -1), _number(request, "object", -1)
        tool, change = (request.query_params.get(name, other) for name, other in (("tool", "brush"), ("change", "set")))
        return JSONResponse(await run_in_threadpool(desk.paint, frame, object_id, mask, tool, change))

    async def actions(self, request: Request) -> Response:
        return await _answer(self._desk(request).act, await _json(request))

    async def track(self, request: Request) -> Response:
        asked = await _json(request)
        to, objects = asked.get("to"), asked.get("objects")
        if not (to is None or to in ("end", "key") or type(to) is int):
            raise mm.InputError(f"to is {str(to)[:20]!r}", "give a frame, end or key")
        if not (objects is None or (isinstance(objects, list) and all(type(i) is int for i in objects))):
            raise mm.InputError("objects is not a list of ids", "reload the page")
        desk = self._desk(request)
        return await _answer(desk.track, _whole(asked, "start"), str(asked.get("direction", "forward")), to, objects)

    async def stop(self, request: Request) -> Response:
        return await _answer(self._desk(request).stop)

    async def export(self, request: Request) -> Response:
        asked = await _json(request)
        options = asked.get("options", {})
        if not isinstance(options, dict):
            raise mm.InputError("options are not a JSON object", "reload the page")
        return await _answer(self._desk(request).export, str(asked.get("format", "png")), options)

    async def events(self, socket: WebSocket) -> None:
        desk = await run_in_threadpool(self.desk, socket.path_params["name"])
        await socket.accept()
        queue = desk.listeners.join()
        closed = asyncio.create_task(_until_closed(socket))
        try:
            await socket.send_json(desk.state())
            while not closed.done():
                event = asyncio.create_task(queue.get())
                done, _ = await asyncio.wait({event, closed}, return_when=asyncio.FIRST_COMPLETED)
                if event in done and not event.result():
                    await socket.close()  # the page connects again, to the project that took the place of this one
                    break
                if event in done:
                    await socket.send_json(event.result())
                else:
                    event.cancel()
        except (WebSocketDisconnect, RuntimeError):
            pass
        finally:
            desk.listeners.leave(queue)
            closed.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await closed
            await run_in_threadpool(desk.rest)

    def _stop(self, name: str) -> None:
        """Stops what runs for a project that is about to be closed."""
        if (desk := self._desks.get(name)) is not None:
            desk.stop()

    def _desk(self, request: Request) -> Desk:
        return self.desk(request.path_params["name"])


def refused(request: Request, error: Exception) -> Response:
    """Returns the answer with the error that the page shows."""
    return JSONResponse({"error": str(error)}, 400)


async def _until_closed(socket: WebSocket) -> None:
    with contextlib.suppress(WebSocketDisconnect, RuntimeError):
        while True:
            await socket.receive_text()


def _labels(desk: Desk, index: int) -> Response:
    """Returns the labels of a frame, with the other facts about it in a header."""
    data = labels_to_bytes(desk.labels(index))
    return Response(data, headers={"x-frame": json.dumps(desk.facts(index))}, media_type="application/octet-stream")


# Masks are sent as runs: exact, small, and read by a few lines of any language.
# Labels of a frame: little-endian uint32 width, height, then a pair of id and length for each run, row by row.
# A mask from the page: width, height, then lengths that alternate between outside and inside, outside first.


def labels_to_bytes(labels: Int32[Tensor, "H W"]) -> bytes:
    """Returns the runs of a frame's labels."""
    height, width = labels.shape
    flat = labels.cpu().numpy().ravel()
    starts = np.concatenate([[0], np.flatnonzero(np.diff(flat)) + 1])
    lengths = np.diff(np.concatenate([starts, [flat.size]]))
    runs = np.stack([flat[starts], lengths], axis=1).astype("<u4")
    return np.array([width, height], "<u4").tobytes() + runs.tobytes()


def mask_from_bytes(data: bytes, size: tuple[int, int]) -> Bool[Tensor, "H W"]:
    """Returns the mask that the page sent; raises InputError for data that is not a mask of this height and width."""
    height, width = size
    try:
        values = np.frombuffer(data, "<u4").tolist()
        if values[:2] != [width, height]:
            raise ValueError("another size")  # noqa: TRY301
        return torch.from_numpy(mask_from_run_lengths(values[2:], height, width))
    except ValueError as error:
        raise mm.InputError(f"the data is not a mask of {width}x{height} pixels", "reload the page") from error


async def _answer(function: Callable[..., Any], *values: Any) -> Response:
    return JSONResponse(await run_in_threadpool(function, *values) or {})


async def _body(request: Request) -> bytes:
    try:
        return await request.body()
    except ClientDisconnect:  # the guard cuts off bodies that are too long
        raise mm.InputError("the request is too large, or was aborted", "reload the page") from None


async def _json(request: Request) -> dict[str, Any]:
    body = await _body(request)
    try:
        asked = json.loads(body) if len(body) <= MAX_JSON else None
    except (ValueError, RecursionError):
        asked = None
    if not isinstance(asked, dict):
        raise mm.InputError("the request is not a JSON object", "reload the page")
    return asked


def _whole(asked: dict[str, Any], name: str) -> int:
    value = asked.get(name)
    if type(value) is not int or not 0 <= value < 2**31:
        raise mm.InputError(f"{name} is {str(value)[:20]!r}, not a whole number", "reload the page")
    return value


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, str(default))
    if not text.removeprefix("-").isdecimal() or not text.isascii() or len(text) > 10:
        raise mm.InputError(f"{name} is {text[:20]!r}, not a whole number", "reload the page")
    return int(text)
