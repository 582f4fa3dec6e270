"""Repeats a session of the studio that was recorded in the browser and scores its masks; prints a Markdown table.

    python benchmarks/studio_session.py DAVIS [--session benchmarks/sessions/camel] [--keep FOLDER]
    python benchmarks/studio_session.py DAVIS --latency    # time of a click, from the page's request to its masks

Each click and each pass of tracking is made again, with the weights and the click head of the package.

DAVIS is a folder in its published layout. The video is made from the sequence with the session's name, as H.264 at
CRF 16 and 24 frames/s. The person who recorded the session saw only the picture, and clicked where it was wrong.
"""

import argparse
import hashlib
import tempfile
import time
from contextlib import closing
from functools import cache
from importlib import resources
from pathlib import Path
from queue import SimpleQueue
from statistics import median
from threading import Thread

import av
import httpx
import numpy as np
import torch
from PIL import Image

import mnemask as mm
from mnemask.bench.machine import processor_name
from mnemask.io.atomic import make_folder
from mnemask.metrics import region_similarity
from mnemask.project import PassReport, replay
from mnemask.project.journal import Line
from mnemask.studio.clicks import Mask
from mnemask.studio.desk import Desk
from mnemask.studio.server import serve
from mnemask.studio.workspace import Workspace


def write_video(frames: Path, target: Path) -> None:
    """Makes an mp4 from a folder of pictures."""
    with av.open(str(target), "w") as container:
        stream = container.add_stream("libx264", rate=24, options={"crf": "16"})
        paths = sorted(frames.glob("*.jpg"))
        (stream.width, stream.height), stream.pix_fmt = Image.open(paths[0]).size, "yuv420p"
        for path in paths:
            picture = np.array(Image.open(path))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def overlaps(project: mm.Project, masks: Path) -> list[float]:
    """Returns J of each frame: the intersection of the mask and the true mask over their union."""
    values = []
    for index, path in enumerate(sorted(masks.glob("*.png"))):
        mask, truth = project.labels(index).numpy() == 1, np.array(Image.open(path)) > 0
        values.append(region_similarity(mask, truth))
    return values


def clicks_of(project: mm.Project) -> tuple[int, int]:
    """Returns the number of clicks, and the number of frames with clicks."""
    marks = [line for line in project.actions if line["do"] == "set_key"]
    return len(marks), len({line["frame"] for line in marks})


def latency(video: Path, scratch: Path) -> None:
    """Prints how long the page waits for a click, until the mask is made, saved, and sent with the frame's masks."""
    looking, clicking = [], []
    addresses: SimpleQueue[str] = SimpleQueue()
    with closing(Workspace(scratch / "projects", [video.parent])) as workspace, httpx.Client(timeout=60) as page:
        Thread(target=serve, args=(workspace,), kwargs={"ready": addresses.put}, daemon=True).start()
        page.get(address := addresses.get())  # sets the cookie
        page.base_url = address.partition("/?")[0]
        page.headers["origin"] = str(page.base_url).rstrip("/")
        base = f"/api/projects/{workspace.open_source(str(video))}"

        def seconds(path: str, **asked: object) -> float:
            begin = time.perf_counter()
            page.post(base + path, json=asked).raise_for_status()
            return time.perf_counter() - begin

        seconds("/actions", do="add_object")
        for frame in range(0, 60, 10):
            looking.append(seconds("/prepare", frame=frame))
            for number in range(8):
                points = [[430, 230, 1], *([10 + 20 * i, 10, 0] for i in range(number))]
                clicking.append(seconds("/clicks", frame=frame, object=1, points=points))
    looks, median_click, fastest, slowest = (
        round(1000 * each) for each in (median(looking[1:]), median(clicking), min(clicking), max(clicking))
    )
    print(f"{processor_name()}, {torch.get_num_threads()} threads: looking at a frame {looks} ms")
    print(f"a click {median_click} ms (fastest {fastest}, slowest {slowest})")


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("davis", type=Path)
    parser.add_argument("--session", type=Path, default=Path(__file__).parent / "sessions/camel")
    parser.add_argument("--keep", type=Path, help="a new folder for the video and the project")
    parser.add_argument("--latency", action="store_true", help="time clicks instead")
    asked = parser.parse_args()
    name = asked.session.name
    for file in sorted(resources.files("mnemask.model").joinpath("weights").iterdir(), key=lambda file: file.name):
        if file.name.endswith(".safetensors"):
            print(f"{file.name}: SHA-256 {hashlib.sha256(file.read_bytes()).hexdigest()[:12]}")
    if asked.latency:
        with tempfile.TemporaryDirectory() as scratch:
            write_video(asked.davis / "JPEGImages/480p" / name, Path(scratch) / f"{name}.mp4")
            latency(Path(scratch) / f"{name}.mp4", Path(scratch))
        return
    print("| after | clicks | frames with a mark | J | lowest | without first and last frame |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        folder = make_folder(asked.keep or Path(scratch))
        video, masks = folder / f"{name}.mp4", asked.davis / "Annotations/480p" / name
        write_video(asked.davis / "JPEGImages/480p" / name, video)
        passes: list[int] = []
        desk = cache(lambda project: Desk(name, project))

        def tell(project: mm.Project) -> None:
            values = overlaps(project, masks)
            clicks, frames = clicks_of(project)
            mean, inner = float(np.mean(values)), float(np.mean(values[1:-1]))
            print(f"| {passes[0]} passes | {clicks} | {frames} | {mean:.3f} | {min(values):.3f} | {inner:.3f} |")

        def clicked(project: mm.Project, line: Line) -> Mask | None:
            if passes:  # this is a correction
                tell(project)
            return desk(project).clicked_again(line)

        def note(report: PassReport, frame: mm.Frame) -> None:
            passes[:] = [report.number]

        with replay(asked.session, folder / name, source=video, mask_of=clicked, on_frame=note) as project:
            tell(project)


if __name__ == "__main__":
    main()
