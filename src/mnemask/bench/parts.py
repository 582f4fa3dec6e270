"""The actions that are timed: the parts of a frame, whole frames, files, and the start of a process."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from tempfile import mkdtemp

import av
import torch
from jaxtyping import Float
from torch import Tensor

from mnemask.bench.machine import Timing, timing_of
from mnemask.config import TrackerConfig
from mnemask.datasets.synthetic.drawn import DrawnVideo
from mnemask.io import MaskWriter, VideoReader
from mnemask.memory.bank import MemoryBank
from mnemask.model import preprocess
from mnemask.model.stcn import STCN, most_probable, soft_aggregate
from mnemask.pipeline import segment
from mnemask.tracker import Tracker
from mnemask.types import Frame, Masks

POLICY = "lfu-pinned"  # with a budget of two frames it keeps the first and the latest
TOP_K = 20  # tokens read per query
CYCLE = 5  # frames from one write to memory to the next


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the work on a frame.

    Attributes:
        name: the part's name.
        num_objects: the number of objects.
        compute: runs the part as the tracker does.
        flops: floating-point operations of convolutions and matrix products.
        bytes: the least number of bytes read and written: weights, inputs and outputs.
    """

    name: str
    num_objects: int
    compute: Callable[[], object]
    flops: int
    bytes: int


@torch.no_grad()
def network_parts(model: STCN, frame: Frame, short_side: int, num_objects: int) -> list[Part]:
    """Returns key encoder, value encoder, decoder, and the step from the objects' probabilities to labels."""
    working = preprocess.working_size(frame.size, short_side)
    pixels = preprocess.normalize(preprocess.resize(frame.image.to(model.device).float(), working))
    image = preprocess.pad(pixels)[None]
    image = image.to(model.dtype, memory_format=torch.channels_last)
    height, width = image.shape[2:]
    masks = torch.rand(num_objects, height, width, device=model.device) / num_objects
    batch = masks[None].to(model.dtype)
    features = model.encode_key(image)
    value = model.encode_value(image, features, batch)

    def answer() -> Tensor:
        inside = preprocess.resize(preprocess.unpad(soft_aggregate(masks), working), frame.size)
        return most_probable(inside, range(num_objects + 1))

    seen = list(features)
    encoder = [model.key_encoder, model.key_projection, model.key_compression]
    return [
        part(
            "key encoder",
            num_objects,
            lambda: model.encode_key(image),
            [image, *seen, *parameters_of(encoder)],
        ),
        part(
            "value encoder",
            num_objects,
            lambda: model.encode_value(image, features, batch),
            [image, batch, features.stride16, value, *parameters_of([model.value_encoder])],
        ),
        part(
            "decoder",
            num_objects,
            lambda: model.decode(value, features),
            [value, *seen, masks, *parameters_of([model.decoder])],
        ),
        part(
            "labels",
            num_objects,
            answer,
            [masks, frame.image, frame.image],
        ),
    ]


@torch.no_grad()
def read_part(model: STCN, query: Float[Tensor, "P Ck"], num_objects: int, num_frames: int) -> Part:
    """Returns the part that reads from a bank of this many frames with random content."""
    bank = MemoryBank(TrackerConfig(policy="keep-all", top_k=TOP_K))
    count, channels = num_frames * len(query), model.config.value_channels
    key = torch.randn(count, query.shape[1], device=query.device) * query.std()
    value = torch.randn(num_objects, count, channels, device=query.device)
    share = torch.full((num_objects, count), 0.5, device=query.device)
    bank.write(key, value.to(model.dtype), share, frame=0, step=0, pins=torch.zeros_like(share, dtype=torch.bool))
    gathered = [query[:, :1].expand(-1, TOP_K * channels * num_objects), value[:, : len(query)]]
    return part(
        f"read, {num_frames} frames",
        num_objects,
        lambda: bank.read(query, 1),
        [key, query, *gathered],
    )


def part(name: str, num_objects: int, compute: Callable[[], object], touched: Iterable[Tensor]) -> Part:
    """Returns a part; its operations are counted by running it once."""
    from torch.utils.flop_counter import FlopCounterMode  # slow to import, and only needed here

    with FlopCounterMode(display=False) as counter:
        compute()
    moved = sum(tensor.numel() * tensor.element_size() for tensor in touched)
    return Part(name, num_objects, compute, counter.get_total_flops(), moved)


def parameters_of(modules: Sequence[torch.nn.Module]) -> list[Tensor]:
    """Returns the parameters of several modules."""
    return [parameter for module in modules for parameter in module.parameters()]


FIRST_MASK = """
import sys, torch, mnemask as mm
video = mm.DrawnVideo(2, size=(int(sys.argv[2]), int(sys.argv[3])), num_objects=1)
tracker = mm.Tracker(mm.load_model(sys.argv[1], device=sys.argv[4]), short_side=min(int(sys.argv[2]), int(sys.argv[3])))
for frame, truth in video:
    masks = tracker.step(frame, {1: truth == 1} if frame.index == 0 else None)
masks.labels.cpu()
"""


def cycle(model: STCN, video: DrawnVideo, short_side: int) -> Callable[[], object]:
    """Returns an action that tracks the objects through five frames, including one write to memory.

    The memory holds two frames and is full: the first frame, and the latest of every fifth.
    """
    frames, (_, truth) = [video[t][0] for t in range(CYCLE + 1)], video[0]
    tracker = Tracker(model, policy=POLICY, kmn_sigma=0.0, short_side=short_side)
    tracker.step(frames[0], {k: truth == k for k in range(1, video.num_objects + 1)})

    def follow() -> None:
        for frame in frames[1:]:
            tracker.step(frame)

    return follow


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
    """Decodes all frames of a video and returns their number."""
    with VideoReader(str(path)) as reader:
        return sum(1 for _ in reader)


def write_masks(masks: Masks, folder: Path, count: int) -> None:
    """Writes masks as PNG, this many times, into a new folder, since a writer does not replace existing files."""
    folder.mkdir(exist_ok=True)
    with MaskWriter(mkdtemp(dir=folder)) as writer:
        for index in range(count):
            writer.write(Masks(masks.labels, masks.probs, masks.object_ids, index, f"{index:05d}"))


def whole_run(model: STCN, path: Path, first: dict[int, torch.Tensor], short_side: int, folder: Path) -> float:
    """Returns the seconds that a run takes from an mp4 on disk to masks on disk."""

    def prompts(frame: Frame) -> dict[int, torch.Tensor] | None:
        return first if frame.index == 0 else None

    begin = time.perf_counter()
    with VideoReader(str(path)) as reader:
        segment(reader, Tracker(model, short_side=short_side), folder, prompts, overwrite=True)
    return time.perf_counter() - begin


def start_up(weights: str, size: tuple[int, int], device: torch.device, rounds: int) -> Timing:
    """Returns the seconds that a new process takes from its start to the first mask that it computes."""
    command = [sys.executable, "-c", FIRST_MASK, weights, *map(str, size), str(device)]
    seconds = []
    for _ in range(rounds):
        begin = time.perf_counter()
        subprocess.run(command, check=True)
        seconds.append(time.perf_counter() - begin)
    return timing_of(seconds)
