"""Whole frames, whole files, and a whole process: what adds up, and whether the masks are the plain path's."""

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from tempfile import mkdtemp

import av
import torch

from mnemask.bench.machine import Timing, timing_of
from mnemask.bench.plain import PlainSTCN, PlainTracker
from mnemask.datasets.synthetic.drawn import DrawnVideo
from mnemask.io import MaskWriter, VideoReader
from mnemask.metrics import region_similarity
from mnemask.model.stcn import STCN
from mnemask.pipeline import segment
from mnemask.tracker import Tracker
from mnemask.types import Frame, Masks

POLICY = "lfu-pinned"  # which at two frames keeps the first and the latest, as the plain path does
CYCLE = 5  # frames from one write of the memory to the next
FIRST_MASK = """
import sys, torch, mnemask as mm
video = mm.DrawnVideo(2, size=(int(sys.argv[2]), int(sys.argv[3])), num_objects=1)
tracker = mm.Tracker(mm.load_model(sys.argv[1], device=sys.argv[4]), short_side=min(int(sys.argv[2]), int(sys.argv[3])))
for frame, truth in video:
    masks = tracker.step(frame, {1: truth == 1} if frame.index == 0 else None)
masks.labels.cpu()
"""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How alike the masks of the fast and the plain path are, on a drawn clip.

    Attributes:
        num_objects: followed.
        num_frames: compared; the first, with the given masks, is not.
        iou: the mean overlap of their masks, over objects and frames.
        largest_difference: of any probability of any pixel.
    """

    num_objects: int
    num_frames: int
    iou: float
    largest_difference: float


def agreement(model: STCN, plain: PlainSTCN, video: DrawnVideo, short_side: int) -> Agreement:
    """Returns how alike the masks of both paths are."""
    fast = Tracker(model, policy=POLICY, kmn_sigma=0.0, short_side=short_side)  # the plain path reads as STCN does
    slow = PlainTracker(plain, short_side=short_side)
    overlaps, largest = [], 0.0
    for frame, truth in video:
        given = None if frame.index else torch.stack([truth == k for k in range(1, video.num_objects + 1)])
        masks = fast.step(frame, None if given is None else dict(enumerate(given, 1)))
        probs, rows = slow.step(frame.image.to(model.device), None if given is None else given.to(model.device))
        if given is None:
            largest = max(largest, float((masks.probs - probs).abs().max()))
            overlaps += [
                region_similarity((rows == k).cpu().numpy(), (masks.labels == k).cpu().numpy())
                for k in range(1, video.num_objects + 1)
            ]
    return Agreement(video.num_objects, len(video) - 1, sum(overlaps) / len(overlaps), largest)


def cycles(
    model: STCN, plain: PlainSTCN, video: DrawnVideo, short_side: int
) -> tuple[Callable[[], object], Callable[[], object]]:
    """Returns two actions, fast and plain, that follow the objects through five frames, one write of memory included.

    Both have a full memory of two frames: the first, and the latest fifth.
    """
    frames, (_, truth) = [video[t][0] for t in range(CYCLE + 1)], video[0]
    given = torch.stack([truth == k for k in range(1, video.num_objects + 1)])
    fast = Tracker(model, policy=POLICY, kmn_sigma=0.0, short_side=short_side)  # the plain path reads as STCN does
    slow = PlainTracker(plain, short_side=short_side)
    pictures = [frame.image.to(model.device) for frame in frames]
    fast.step(frames[0], dict(enumerate(given, 1)))
    slow.step(pictures[0], given.to(model.device))

    def follow() -> None:
        for frame in frames[1:]:
            fast.step(frame)

    def follow_plainly() -> None:
        for picture in pictures[1:]:
            slow.step(picture)

    return follow, follow_plainly


def write_clip(video: DrawnVideo, path: Path) -> None:
    """Writes the video as H.264."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "20", "preset": "veryfast"})
        stream.height, stream.width = video.size
        stream.pix_fmt = "yuv420p" if video.size[0] % 2 == video.size[1] % 2 == 0 else "yuv444p"
        for index, (frame, _) in enumerate(video):
            picture = av.VideoFrame.from_ndarray(frame.image.movedim(0, -1).numpy())
            picture.pts, picture.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


def decode(path: Path) -> int:
    """Returns how many frames a video has, all of them decoded."""
    with VideoReader(str(path)) as reader:
        return sum(1 for _ in reader)


def write_masks(masks: Masks, folder: Path, count: int) -> None:
    """Writes masks as PNG, this many times, into a new folder: a writer replaces no file of an earlier round."""
    folder.mkdir(exist_ok=True)
    with MaskWriter(mkdtemp(dir=folder)) as writer:
        for index in range(count):
            writer.write(Masks(masks.labels, masks.probs, masks.object_ids, index, f"{index:05d}"))


def whole_run(model: STCN, path: Path, first: dict[int, torch.Tensor], short_side: int, folder: Path) -> float:
    """Returns the seconds from an mp4 on disk to masks on disk."""

    def prompts(frame: Frame) -> dict[int, torch.Tensor] | None:
        return first if frame.index == 0 else None

    begin = time.perf_counter()
    with VideoReader(str(path)) as reader:
        segment(reader, Tracker(model, short_side=short_side), folder, prompts, overwrite=True)
    return time.perf_counter() - begin


def start_up(weights: str, size: tuple[int, int], device: torch.device, rounds: int) -> Timing:
    """Returns the seconds that a fresh process takes from its start to the first mask that it computes."""
    command = [sys.executable, "-c", FIRST_MASK, weights, *map(str, size), str(device)]
    seconds = []
    for _ in range(rounds):
        begin = time.perf_counter()
        subprocess.run(command, check=True)
        seconds.append(time.perf_counter() - begin)
    return timing_of(seconds)
