"""An HTTP service: a session a video, frames in, masks out, with limits, health and metrics.

    pip install ".[studio]"                                            # Starlette and uvicorn
    python examples/service/app.py --port 8000 --sessions 8

It has no authentication and no TLS: put it behind a proxy that has both.
"""

import argparse
import asyncio
import io
import logging
import secrets
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import cv2
import numpy as np
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

import mnemask as mm

logger = logging.getLogger("mnemask.service")
PNG, PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"


@dataclass(frozen=True)
class Limits:
    """What one caller, and all together, may use.

    Attributes:
        sessions: at once.
        objects: in one session.
        pixels: of one frame.
        upload: bytes of one request.
        idle: seconds without a request after which a session is dropped.
        waiting: frames that wait for the network before further ones are refused.
        workers: frames that are computed at the same time.
    """

    sessions: int = 8
    objects: int = 16
    pixels: int = 1920 * 1088
    upload: int = 8 * 2**20
    idle: float = 300.0
    waiting: int = 16
    workers: int = 1


class RefusedError(mm.MnemaskError):
    """What a caller asked for is not done; the answer says why, and what to do."""

    def __init__(self, status: int, problem: str, remedy: str) -> None:
        super().__init__(problem, remedy)
        self.status = status


@dataclass
class Session:
    """One video: its tracker, the masks given for its next frame, and whose turn it is."""

    tracker: mm.Tracker
    given: np.ndarray | None = None
    turn: threading.Lock = field(default_factory=threading.Lock)
    used: float = field(default_factory=time.monotonic)


class Service:
    """The sessions and what is counted.

    Args:
        model: shared by all sessions.
        limits: that are kept.
        config: of each session's tracker.
    """

    def __init__(self, model, limits: Limits | None = None, config: mm.TrackerConfig | None = None) -> None:
        self.model, self.limits, self.config = model, limits or Limits(), config or mm.TrackerConfig()
        self.sessions: dict[str, Session] = {}
        self.counts: Counter[str] = Counter()
        self.seconds = 0.0  # of computing
        self.waiting = 0
        self.workers = ThreadPoolExecutor(self.limits.workers, thread_name_prefix="mnemask")

    def app(self) -> Starlette:
        """Returns the application."""
        one = "/sessions/{name}"
        routes = [
            Route("/health", self.health),
            Route("/metrics", self.metrics),
            Route("/sessions", self.open, methods=["POST"]),
            Route(one, self.state, methods=["GET"]),
            Route(one, self.close, methods=["DELETE"]),
            Route(f"{one}/masks", self.masks, methods=["PUT"]),
            Route(f"{one}/masks", self.withdraw, methods=["DELETE"]),
            Route(f"{one}/frames", self.frame, methods=["POST"]),
            Route(f"{one}/objects/{{number:int}}", self.remove, methods=["DELETE"]),
        ]
        handlers = {mm.MnemaskError: self.refused, 404: self.unknown, 405: self.unknown}
        return Starlette(routes=routes, exception_handlers=handlers, lifespan=self.lifespan)

    async def health(self, request: Request) -> Response:
        """Answers while the process can take requests; 503 while more frames wait than it takes."""
        busy = self.waiting >= self.limits.waiting
        status = {"status": "busy" if busy else "ok", "version": mm.__version__, "sessions": len(self.sessions)}
        return JSONResponse(status, 503 if busy else 200)

    async def metrics(self, request: Request) -> Response:
        """Answers with counters and gauges in Prometheus's text format."""
        gauges = {"sessions": len(self.sessions), "waiting_frames": self.waiting}
        lines = [f"# TYPE mnemask_{name} gauge\nmnemask_{name} {value}" for name, value in gauges.items()]
        totals = {
            "compute_seconds": self.seconds,
            **dict.fromkeys(("frames", "refused", "dropped_idle"), 0),
            **self.counts,
        }
        lines += [
            f"# TYPE mnemask_{name}_total counter\nmnemask_{name}_total {value}" for name, value in totals.items()
        ]
        return PlainTextResponse("\n".join(lines) + "\n", media_type="text/plain; version=0.0.4")

    async def open(self, request: Request) -> Response:
        """Opens a session."""
        self.drop_idle()
        if len(self.sessions) >= self.limits.sessions:
            raise RefusedError(429, f"all {self.limits.sessions} sessions are in use", "close one, or try again later")
        name = secrets.token_urlsafe(16)  # whoever knows it may use it
        self.sessions[name] = Session(mm.Tracker(self.model, self.config))
        return JSONResponse({"session": name, "idle_seconds": self.limits.idle}, 201)

    async def state(self, request: Request) -> Response:
        """Answers with how far a session is."""
        tracker = self.session(request).tracker
        return JSONResponse({"frames": tracker.steps, "objects": list(tracker.object_ids), "size": tracker.size})

    async def close(self, request: Request) -> Response:
        """Closes a session; what it remembers is freed."""
        self.session(request)
        del self.sessions[request.path_params["name"]]
        return Response(status_code=204)

    async def masks(self, request: Request) -> Response:
        """Takes the masks of the next frame: an indexed PNG, or one of 8 or 16 bits whose grey levels are ids."""
        session = self.session(request)
        data = await self.upload(request)
        if data[:8] != PNG:  # a JPEG's noise would be ids
            raise RefusedError(422, "the mask is no PNG", "send a PNG whose grey levels are ids")
        given = self.decoded(data, cv2.IMREAD_UNCHANGED)
        bits, kind = data[24:26]
        if kind == 3:  # a palette
            try:
                given = np.asarray(Image.open(io.BytesIO(data)))
            except (OSError, SyntaxError, ValueError) as error:
                raise RefusedError(422, f"the mask is damaged ({error})", "send a whole PNG") from error
        elif bits < 8:  # would be scaled to 8
            raise RefusedError(422, f"the mask has {bits} bits a pixel", "send a PNG of 8 or 16 bits")
        if given.ndim != 2:
            raise RefusedError(422, f"the mask has shape {given.shape}", "send a PNG of grey levels that are ids")
        if not given.any():
            raise RefusedError(422, "the mask marks no object", "send a PNG whose grey levels are ids")
        size = session.tracker.size
        if size is not None and given.shape != size:
            height, width = given.shape
            raise RefusedError(
                422, f"the mask has {width}×{height} pixels, frames {size[1]}×{size[0]}", "send one of that size"
            )
        session.given = given.astype(np.int32)
        return Response(status_code=204)

    async def withdraw(self, request: Request) -> Response:
        """Discards the masks of the next frame."""
        self.session(request).given = None
        return Response(status_code=204)

    async def frame(self, request: Request) -> Response:
        """Takes the next frame, a JPEG or PNG, and answers with its masks, a PNG of 16 bits that are ids of objects."""
        session, data = self.session(request), await self.upload(request)
        if self.waiting >= self.limits.waiting:
            raise RefusedError(429, f"{self.waiting} frames are waiting already", "send it again in a second")

        def step() -> bytes:
            picture, given = self.decoded(data, cv2.IMREAD_COLOR_RGB), session.given
            ids = {*session.tracker.object_ids, *(() if given is None else np.unique(given).tolist())} - {0}
            if len(ids) > self.limits.objects:
                raise RefusedError(422, f"a session has {self.limits.objects} objects at most", "give fewer masks")
            begin = time.perf_counter()
            masks = session.tracker.step(picture, given)
            self.seconds += time.perf_counter() - begin
            self.counts["frames"] += 1
            if session.given is given:  # else others were put meanwhile, for the frame after this one
                session.given = None
            return cv2.imencode(".png", masks.labels.numpy(force=True).astype(np.uint16))[1].tobytes()

        if not session.turn.acquire(blocking=False):
            raise RefusedError(409, "another frame of this session is being computed", "wait for its masks first")
        self.waiting += 1
        try:
            png = await asyncio.get_running_loop().run_in_executor(self.workers, step)
        except mm.MnemaskError:
            raise
        except Exception as error:
            logger.exception("a frame failed")
            remedy = "the session is as it was; the service's log says more"
            raise RefusedError(500, "the service failed on this frame", remedy) from error
        finally:
            self.waiting -= 1
            session.used = time.monotonic()
            session.turn.release()
        return Response(png, media_type="image/png", headers={"x-frame": str(session.tracker.steps - 1)})

    async def remove(self, request: Request) -> Response:
        """Forgets an object."""
        session = self.session(request)
        if not session.turn.acquire(blocking=False):
            raise RefusedError(409, "a frame of this session is being computed", "wait for its masks first")
        try:
            session.tracker.remove(request.path_params["number"])
        finally:
            session.turn.release()
        return Response(status_code=204)

    def session(self, request: Request) -> Session:
        """Returns the session of a request, and notes that it is in use."""
        session = self.sessions.get(request.path_params["name"])
        if session is None:
            raise RefusedError(404, "there is no such session", "open one with POST /sessions; idle ones are dropped")
        session.used = time.monotonic()
        return session

    async def upload(self, request: Request) -> bytes:
        """Returns the body of a request; raises RefusedError while reading one that is too large."""
        body = bytearray()
        try:
            async for chunk in request.stream():
                body += chunk
                if len(body) > self.limits.upload:
                    raise RefusedError(
                        413, f"a request has {self.limits.upload} bytes at most", "send a smaller frame, or a JPEG"
                    )
        except ClientDisconnect:
            raise RefusedError(400, "the request was broken off", "send it again") from None
        return bytes(body)

    def decoded(self, data: bytes, flags: int) -> np.ndarray:
        """Returns an image; raises RefusedError for what is none, or too large, before it is unpacked."""
        height, width = size_of(data)
        if not height * width:
            raise RefusedError(422, "this is neither a JPEG nor a PNG", "send one whole image in a request")
        if height * width > self.limits.pixels:
            raise RefusedError(
                413, f"{width}×{height} pixels are more than {self.limits.pixels}", "send a smaller frame"
            )
        whole = data[:8] != PNG or PNG_END in data  # of a PNG that is cut off, the rest would be black
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION) if whole else None
        if image is None:
            raise RefusedError(422, "this is no complete JPEG or PNG", "send one whole image in a request")
        return image

    def drop_idle(self) -> None:
        """Drops the sessions that nobody has used for a while."""
        now = time.monotonic()
        for name, session in list(self.sessions.items()):
            if now - session.used > self.limits.idle and not session.turn.locked():
                del self.sessions[name]
                self.counts["dropped_idle"] += 1

    def refused(self, request: Request, error: Exception) -> Response:
        """Answers with the problem and the remedy."""
        self.counts["refused"] += 1
        status = getattr(error, "status", 422)
        headers = {"retry-after": "1"} if status == 429 else None
        return JSONResponse({"problem": error.problem, "remedy": error.remedy}, status, headers)

    def unknown(self, request: Request, error: Exception) -> Response:
        """Answers what the addresses are."""
        what = f"there is no {request.method} {request.url.path}"
        return JSONResponse({"problem": what, "remedy": "see docs/deployment.md"}, error.status_code)

    @asynccontextmanager
    async def lifespan(self, app: Starlette):
        """Drops idle sessions while the service runs, and finishes what is computed when it ends."""

        async def sweep():
            while True:
                await asyncio.sleep(min(30.0, self.limits.idle / 2))
                self.drop_idle()

        sweeping = asyncio.create_task(sweep())
        yield
        sweeping.cancel()
        self.workers.shutdown()


def size_of(data: bytes) -> tuple[int, int]:
    """Returns height and width of a PNG or JPEG from its header; (0, 0) of anything else."""
    if data[:8] == PNG and len(data) >= 26:
        return int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big")
    at = 2
    while data[:2] == b"\xff\xd8" and at + 9 < len(data) and data[at] == 0xFF:
        kind, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):  # a frame header
            return int.from_bytes(data[at + 5 : at + 7], "big"), int.from_bytes(data[at + 7 : at + 9], "big")
        at += 2 + length
    return 0, 0


def main() -> None:
    """Serves until it is stopped."""
    import uvicorn

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--model", default="compact")
    parser.add_argument("--sessions", type=int, default=Limits.sessions)
    parser.add_argument("--workers", type=int, default=Limits.workers)
    parser.add_argument("--idle", type=float, default=Limits.idle, help="seconds")
    parser.add_argument("--size", type=int, default=480, help="short side at which frames are processed, pixels")
    given = parser.parse_args()
    limits = Limits(sessions=given.sessions, workers=given.workers, idle=given.idle)
    service = Service(mm.load_model(given.model), limits, mm.TrackerConfig(short_side=given.size))
    uvicorn.run(
        service.app(),
        host=given.host,
        port=given.port,
        log_level="warning",
        limit_concurrency=4 * limits.sessions,  # uploads that are slow hold memory
        timeout_graceful_shutdown=10,
    )


if __name__ == "__main__":
    main()
