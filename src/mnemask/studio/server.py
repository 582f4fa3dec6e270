"""The studio's server: one process, one user, one address.

Only requests with the token, from the studio's own page and to the studio's own host name, are answered.

* Other web pages cannot read answers (same-origin policy), nor send requests that change anything: `Origin` must be the
  studio's own, and the cookie is SameSite=Strict.
* A page that points its own host name to 127.0.0.1 (DNS rebinding) is refused by its `Host`.
* Another user of the machine does not have the token.
"""

import asyncio
import hmac
import ipaddress
import logging
import os
import secrets
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

import uvicorn
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from mnemask.choices import LOOPBACK
from mnemask.studio.api import Api
from mnemask.studio.workspace import Workspace

PORT = 8765
MAX_BODY = 32 * 2**20
GRACE = 2  # seconds that requests have to end after Ctrl-C
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


def serve(
    workspace: Workspace,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    ready: Callable[[str], None] = lambda address: None,
) -> None:
    """Serves the studio until it is stopped with Ctrl-C or SIGTERM, which is handled in the same way.

    Args:
        workspace: the workspace with the projects.
        host: the address to listen on; other than on the loopback address, anyone on the network with the token is let
            in.
        port: 0 for any free one; by default `PORT`, under which the browser keeps the page's settings, or any free one
            if that is taken.
        ready: called with the address to open, including the token, when the server listens.

    Raises:
        OSError: the port is taken, or this machine does not have the address.
    """
    token = secrets.token_urlsafe(24)
    with _listening(host, port) as listening:  # listens before `ready` passes the address on
        port = listening.getsockname()[1]
        names = frozenset(LOOPBACK) if host in LOOPBACK else frozenset({*LOOPBACK, "*", host, socket.gethostname()})
        with closing(Api(workspace)) as api, _ended_as_by_ctrl_c():
            config = uvicorn.Config(
                Guard(api.app(), token, port, names),
                log_level="warning",
                access_log=False,
                ws="websockets-sansio",
                ws_max_size=2**16,
                server_header=False,
                timeout_graceful_shutdown=GRACE,
                lifespan="off",
            )
            logging.getLogger("uvicorn.error").addFilter(_is_no_cancelled_request)  # after Ctrl-C, where it is no error
            shown = host if host not in ("0.0.0.0", "::") else socket.gethostname()
            ready(f"http://{f'[{shown}]' if ':' in shown else shown}:{port}/?token={token}")
            uvicorn.Server(config).run(sockets=[listening])


def _listening(host: str, port: int | None) -> socket.socket:
    """Returns a socket that listens on a port; None stands for `PORT`, or any free one if that is taken."""
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        if os.name != "nt":  # on Windows it would let two studios share a port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, PORT if port is None else port))
        listening.listen()
    except OSError:
        listening.close()
        if port is not None:
            raise
        return _listening(host, 0)
    return listening


def _is_no_cancelled_request(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


@contextmanager
def _ended_as_by_ctrl_c() -> Iterator[None]:
    """Within it, SIGTERM closes everything as SIGINT does: uvicorn raises either again when it has ended."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Guard:
    """Middleware that passes only requests from the studio's own page to `app`.

    Args:
        app: the application.
        token: the token that requests must have.
        port: the studio's port.
        hosts: host names under which it is reached; "*" adds all IP addresses, but no other names.
    """

    def __init__(self, app: ASGIApp, token: str, port: int, hosts: frozenset[str]) -> None:
        self._app, self._token, self._port = app, token, port
        self._hosts = frozenset(map(str.lower, hosts))  # as browsers send them
        self._cookie = f"mnemask-studio-{port}"  # all ports of a host share its cookies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuses a request, or passes it on."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        answer = self._answer(scope)
        if answer is None:
            limited = _Limited(receive) if scope["type"] == "http" else receive
            await self._app(scope, limited, _with_headers(send))
        elif scope["type"] == "websocket":
            await WebSocketClose(1008)(scope, receive, send)
        else:
            await answer(scope, receive, _with_headers(send))

    def _answer(self, scope: Scope) -> Response | None:
        """Returns a refusal, or the redirect that sets the cookie; None if the request may pass."""
        headers = Headers(scope=scope)
        if not self._is_own_host(headers.get("host", "")):
            return PlainTextResponse("This is not the address of the studio.", 421)
        changes = scope["type"] == "websocket" or scope["method"] not in ("GET", "HEAD")
        origin = headers.get("origin")
        if (changes or origin is not None) and origin != f"http://{headers.get('host')}":
            return PlainTextResponse("Only the studio's own page may request this.", 403)
        if int(headers.get("content-length") or 0) > MAX_BODY:
            return PlainTextResponse("Too large.", 413)
        if self._is_known(_cookie_of(headers, self._cookie)):
            return None
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if scope["type"] == "http" and scope["path"] == "/" and self._is_known(given):
            into = RedirectResponse("/", 303)
            into.set_cookie(self._cookie, self._token, httponly=True, samesite="strict", path="/")
            return into
        return PlainTextResponse("Open the address that `mnemask studio` printed: it contains the token.", 403)

    def _is_known(self, token: str) -> bool:
        return hmac.compare_digest(token.encode(), self._token.encode())

    def _is_own_host(self, host: str) -> bool:
        try:
            parts = urlsplit(f"//{host}")
            name, port = parts.hostname or "", parts.port or 80
        except ValueError:
            return False
        if port != self._port:
            return False
        return name in self._hosts or ("*" in self._hosts and _is_address(name))


class _Limited:
    """The body of a request, cut off above `MAX_BODY` bytes, whatever its header says."""

    def __init__(self, receive: Receive) -> None:
        self._receive, self._left = receive, MAX_BODY

    async def __call__(self) -> Message:
        """Returns the next part of the body."""
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            return {"type": "http.disconnect"}
        return message


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("cache-control", "no-store")
        await send(message)

    return sending


def _cookie_of(headers: Headers, name: str) -> str:
    try:
        cookies: SimpleCookie = SimpleCookie(headers.get("cookie", ""))
    except CookieError:
        return ""
    found: Any = cookies.get(name)
    return "" if found is None else str(found.value)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
