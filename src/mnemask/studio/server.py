"""The studio's server: one process, one user, one address."""

import secrets
import socket
from collections.abc import Callable
from contextlib import closing

import uvicorn

from mnemask.choices import LOOPBACK
from mnemask.studio.api import Api
from mnemask.studio.guard import Guard
from mnemask.studio.workspace import Workspace


def serve(
    workspace: Workspace,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    token: str | None = None,
    ready: Callable[[str], None] = lambda address: None,
) -> None:
    """Serves the studio until it is stopped (Ctrl-C).

    Args:
        workspace: of the projects.
        host: the address to listen on; anything but the loopback address lets others on the network in who have the
            token.
        port: 0 for any that is free.
        token: what the browser must know; by default a new one.
        ready: is called with the address to open, the token in it, when the server listens.

    Raises:
        OSError: the port is taken, or the address is not this machine's.
    """
    token = token or secrets.token_urlsafe(24)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen()  # so that whoever is told the address may come at once
        port = listening.getsockname()[1]
        names = frozenset(LOOPBACK) if host in LOOPBACK else frozenset({*LOOPBACK, "*", host, socket.gethostname()})
        with closing(Api(workspace)) as api:
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
