"""Checks of this installation: its versions, and the network on a video from the package."""

import platform
import re
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from importlib.resources import as_file, files
from pathlib import Path

import av
import torch

from mnemask.doctor.video import Finding
from mnemask.engines import load_model
from mnemask.errors import MnemaskError, counted, install_command
from mnemask.io import VideoReader
from mnemask.metrics import region_similarity
from mnemask.model.devices import choose_device, preferred_dtype
from mnemask.prompts import read_mask
from mnemask.tracker import Tracker
from mnemask.types import Frame
from mnemask.version import __version__

SAMPLE_FRAMES, SAMPLE_SIZE = 8, (96, 160)
LEAST_OVERLAP = 0.8  # with the true masks of the last frame; 0.96 in float32
FOR_DEVELOPERS = {"dev", "docs"}
REINSTALL = "install mnemask again into a fresh environment, and report it if that does not help"


def diagnose_installation() -> list[Finding]:
    """Returns findings on the versions, and on decoding and segmenting a video with them; never raises."""
    with as_file(files("mnemask.doctor") / "sample") as sample:
        frames: list[Frame] = []
        return [
            *_checked("versions", _versions),
            *_checked("extras", _extras),
            *_checked("torch", _torch),
            *_checked("decoding", lambda: _decoding(sample / "clip.mp4", frames)),
            *_checked("the network", lambda: _network(sample, frames)),
        ]


def _checked(part: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """Yields the findings of a part; any error from a broken library becomes a problem of that part."""
    try:
        yield from look()
    except MnemaskError as error:
        yield Finding("problem", f"{part}: {error}", REINSTALL)
    except Exception as error:
        yield Finding("problem", f"{part}: {type(error).__name__}: {error}", REINSTALL)


def _versions() -> Iterator[Finding]:
    yield Finding("ok", f"mnemask {__version__}, Python {platform.python_version()}, {platform.platform()}")
    found = ", ".join(f"{name} {_version(name)}" for name in dict.fromkeys(_required(None)))
    yield Finding("ok", f"{found}, FFmpeg {av.ffmpeg_version_info}")


def _extras() -> Iterator[Finding]:
    for extra in sorted({*(metadata("mnemask").get_all("Provides-Extra") or ())} - FOR_DEVELOPERS):
        missing = [name for name in _required(extra) if _version(name) is None]
        if missing:
            yield Finding("ok", f"extra {extra}: {', '.join(missing)} not installed", install_command(extra))
        else:
            yield Finding("ok", f"extra {extra}: installed")


def _required(extra: str | None) -> Iterator[str]:
    """Yields the names of the packages that mnemask or one of its extras requires."""
    for text in requires("mnemask") or []:
        of = re.search(r"""extra *== *["']([\w-]+)["']""", text)
        name = re.match(r"[\w.-]+", text)
        if name is not None and (of[1] if of else None) == extra:
            yield name[0]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _torch() -> Iterator[Finding]:
    device = choose_device()
    precision = str(preferred_dtype(device)).removeprefix("torch.")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    yield Finding(
        "ok", f"computes on {device} ({name}) in {precision}, with {counted(torch.get_num_threads(), 'thread')}"
    )


def _decoding(clip: Path, frames: list[Frame]) -> Iterator[Finding]:
    with VideoReader(clip) as reader:
        frames.extend(reader)
    sizes = {frame.size for frame in frames}
    if len(frames) != SAMPLE_FRAMES or sizes != {SAMPLE_SIZE}:
        yield Finding(
            "problem", f"the sample video decodes to {len(frames)} frames of {sizes}, not {SAMPLE_FRAMES}", REINSTALL
        )
    else:
        height, width = SAMPLE_SIZE
        yield Finding("ok", f"decoded a video of {len(frames)} frames of {width}x{height} pixels")


def _network(sample: Path, frames: list[Frame]) -> Iterator[Finding]:
    if not frames:
        return
    first, last = read_mask(sample / "first.png"), read_mask(sample / "last.png")
    tracker = Tracker(load_model("compact"), short_side=SAMPLE_SIZE[0] * 2)
    for frame in frames:
        labels = tracker.step(frame, first if frame.index == 0 else None).labels.cpu()
    overlaps = [region_similarity((labels == i).numpy(), mask.numpy()) for i, mask in last.items()]
    said = f"tracked {len(last)} objects through it; their masks overlap the true ones by at least {min(overlaps):.2f}"
    if min(overlaps) < LEAST_OVERLAP:
        yield Finding("problem", f"{said}, but at least {LEAST_OVERLAP} is expected", REINSTALL)
    else:
        yield Finding("ok", said)
