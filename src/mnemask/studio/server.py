"""The studio's server: one process, one user, one address."""

import os
import secrets
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import uvicorn

from mnemask.choices import LOOPBACK
from mnemask.studio.api import Api
from mnemask.studio.guard import Guard
from mnemask.studio.workspace import Workspace

PORT = 8765


def serve(
    workspace: Workspace,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    token: str | None = None,
    ready: Callable[[str], None] = lambda address: None,
) -> None:
    """Serves the studio until it is stopped (Ctrl-C, or SIGTERM, which is raised as Ctrl-C is).

    Args:
        workspace: of the projects.
        host: the address to listen on; anything but the loopback address lets others on the network in who have the
            token.
        port: 0 for any that is free; by default `PORT`, under which the browser knows the page's settings again, or
            any where that is taken.
        token: what the browser must know; by default a new one.
        ready: is called with the address to open, the token in it, when the server listens.

    Raises:
        OSError: the port is taken, or the address is not this machine's.
    """
    token = token or secrets.token_urlsafe(24)
    with _listening(host, port) as listening:  # so that whoever is told the address may come at once
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
                timeout_graceful_shutdown=2,
                lifespan="off",
            )
            shown = host if host not in ("0.0.0.0", "::") else socket.gethostname()
            ready(f"http://{f'[{shown}]' if ':' in shown else shown}:{port}/?token={token}")
            uvicorn.Server(config).run(sockets=[listening])


def _listening(host: str, port: int | None) -> socket.socket:
    """Returns a socket that listens on a port; None is for `PORT`, or any if that is taken."""
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        if os.name != "nt":  # where it would let two studios have one port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, PORT if port is None else port))
        listening.listen()
    except OSError:
        listening.close()
        if port is not None:
            raise
        return _listening(host, 0)
    return listening


@contextmanager
def _ended_as_by_ctrl_c() -> Iterator[None]:
    """Within it, SIGTERM lets everything be closed, as SIGINT does: uvicorn raises either again when it has ended."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
