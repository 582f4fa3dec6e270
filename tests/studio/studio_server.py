"""The studio as its user starts it: a process of its own, with a clip to open."""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import cv2
import httpx
import torch

import mnemask as mm

NUM_FRAMES, SIZE = 24, (96, 144)


def drawn():
    """Frames and the masks of two animals that keep apart: [T 3 H W], bool [T 2 H W]."""
    video = mm.DrawnVideo(NUM_FRAMES, size=SIZE, num_objects=2, occlusion=False)
    moments = [video[index] for index in range(NUM_FRAMES)]
    masks = torch.stack([torch.stack([labels == 1, labels == 2]) for _, labels in moments])
    return [frame.image for frame, _ in moments], masks


def write_clip(folder):
    folder.mkdir(parents=True)
    for index, frame in enumerate(drawn()[0]):
        cv2.imwrite(str(folder / f"{index:05d}.png"), frame.permute(1, 2, 0).numpy()[..., ::-1])
    return folder


class Running:
    """A running studio."""

    def __init__(self, *videos, projects, more=()):
        line = [sys.executable, "-m", "mnemask", "studio", *map(str, videos), "--project", str(projects)]
        line += ["--size", str(min(SIZE)), "--no-browser", *more]
        path = os.pathsep.join([str(Path(mm.__file__).parents[1]), *sys.path])
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, "COLUMNS": "300"}
        self.process = subprocess.Popen(line, stdout=subprocess.PIPE, text=True, env=environment)
        self.address = next(text.split()[-1] for text in self.process.stdout if text.startswith("studio at"))
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
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()

    def end(self, how=signal.SIGINT):
        """Ends it as its user does, and returns the exit code."""
        self.process.send_signal(how)
        code = self.process.wait(60)
        self.process.stdout.close()
        return code


@contextmanager
def running(*videos, projects, more=()):
    studio = Running(*videos, projects=projects, more=more)
    try:
        yield studio
    finally:
        if studio.process.poll() is None:
            studio.kill()
