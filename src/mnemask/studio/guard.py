"""Who may talk to the studio: whoever holds the token, from the studio's own page, under the studio's own name.

* A web page elsewhere cannot read answers (same-origin policy) nor send anything that changes something: `Origin` must
  be the studio's own, and the cookie is SameSite=Strict.
* A page whose name is made to point to 127.0.0.1 (DNS rebinding) is refused by its `Host`.
* Another user of the machine is refused for lack of the token.
"""

import hmac
import ipaddress
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

MAX_BODY = 32 * 2**20
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


class Guard:
    """Lets requests through to `app` that come from the studio's own page.

    Args:
        app: what answers them.
        token: what must be known.
        port: the studio's.
        hosts: names under which it is reached; with "*" any address, but still no other name.
    """

    def __init__(self, app: ASGIApp, token: str, port: int, hosts: frozenset[str]) -> None:
        self._app, self._token, self._port, self._hosts = app, token, port, hosts
        self._cookie = f"mnemask-studio-{port}"  # cookies of one host are shared by its ports

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or lets it through."""
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
        """Returns the refusal, or the way in with a token; None where the request may go on."""
        headers = Headers(scope=scope)
        if not self._is_own_host(headers.get("host", "")):
            return PlainTextResponse("This is not the address of the studio.", 421)
        changes = scope["type"] == "websocket" or scope["method"] not in ("GET", "HEAD")
        origin = headers.get("origin")
        if (changes or origin is not None) and origin != f"http://{headers.get('host')}":
            return PlainTextResponse("Only the studio's own page may ask for this.", 403)
        if int(headers.get("content-length") or 0) > MAX_BODY:
            return PlainTextResponse("Too large.", 413)
        if self._is_known(_cookie_of(headers, self._cookie)):
            return None
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if scope["type"] == "http" and scope["path"] == "/" and self._is_known(given):
            into = RedirectResponse("/", 303)
            into.set_cookie(self._cookie, self._token, httponly=True, samesite="strict", path="/")
            return into
        return PlainTextResponse("Open the address that `mnemask studio` printed: it holds the token.", 403)

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
    """A request's body, refused when it is longer than it may be, whatever its header says."""

    def __init__(self, receive: Receive) -> None:
        self._receive, self._left = receive, MAX_BODY

    async def __call__(self) -> Message:
        """Returns the next part."""
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
