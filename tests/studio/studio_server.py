"""The studio as its user starts it: a process of its own, with a clip to open."""

import multiprocessing
import os
import signal
import sys
from contextlib import contextmanager
from functools import cache
from urllib.parse import parse_qs, unquote, urlsplit

import cv2
import httpx
import torch

import mnemask as mm

NUM_FRAMES, SIZE = 24, (96, 144)
# Forks a process that has imported PyTorch already, which takes most of the time that a start takes, and what the
# packages of the web server import late.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    [
        *("mnemask.cli.studio", "mnemask.studio.server", "mnemask.studio.workspace", "pydantic", "uvicorn.lifespan.on"),
        *("uvicorn.loops.auto", "uvicorn.protocols.http.auto", "uvicorn.protocols.websockets.auto"),
    ]
)


def command_line(arguments, stdout):
    """`mnemask` with these arguments, in a process of `PROCESSES`."""
    os.dup2(stdout.fileno(), 1)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    os.environ["COLUMNS"] = "300"
    torch.set_num_threads(1)
    sys.argv = ["mnemask", *arguments]
    from mnemask.__main__ import main

    main()


@cache
def drawn():
    """Frames and the masks of two animals that keep apart: [T 3 H W], bool [T 2 H W]."""
    video = mm.DrawnVideo(NUM_FRAMES, size=SIZE, num_objects=2, occlusion=False)
    moments = [video[index] for index in range(NUM_FRAMES)]
    masks = torch.stack([torch.stack([labels == 1, labels == 2]) for _, labels in moments])
    return [frame.image for frame, _ in moments], masks


@cache
def _pictures():
    encoded = [cv2.imencode(".png", frame.permute(1, 2, 0).numpy()[..., ::-1])[1] for frame in drawn()[0]]
    return [each.tobytes() for each in encoded]


def write_clip(folder):
    folder.mkdir(parents=True)
    for index, picture in enumerate(_pictures()):
        (folder / f"{index:05d}.png").write_bytes(picture)
    return folder


class Running:
    """A running studio."""

    def __init__(self, *videos, projects, more=()):
        line = ["studio", *map(str, videos), "--project", str(projects), "--size", str(min(SIZE)), "--no-browser"]
        stdout, of_process = PROCESSES.Pipe(duplex=False)
        self.process = PROCESSES.Process(target=command_line, args=([*line, *more], of_process))
        self.process.start()
        of_process.close()
        self._stdout = os.fdopen(os.dup(stdout.fileno()))
        stdout.close()
        self.address = next(text.split()[-1] for text in self._stdout if text.startswith("studio at"))
        parts = urlsplit(self.address)
        self.base, self.token = f"http://{parts.netloc}", parse_qs(parts.query)["token"][0]
        self.port, self.project = parts.port, unquote(parts.fragment)

    def client(self, **headers):
        """Returns a client that is let in, as the page is."""
        client = httpx.Client(base_url=self.base, headers={"origin": self.base, **headers}, timeout=120)
        client.cookies.set(f"mnemask-studio-{self.port}", self.token)
        return client

    def kill(self):
        """Ends it as a loss of power would."""
        self.end(signal.SIGKILL)

    def end(self, how=signal.SIGINT):
        """Ends it as its user does, and returns the exit code."""
        os.kill(self.process.pid, how)
        self.process.join(60)
        self._stdout.close()
        return self.process.exitcode


@contextmanager
def running(*videos, projects, more=()):
    studio = Running(*videos, projects=projects, more=more)
    try:
        yield studio
    finally:
        if studio.process.is_alive():
            studio.kill()
