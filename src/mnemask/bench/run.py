"""The whole measurement: the machine first, then the parts, then whole frames, files and processes."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from mnemask.bench.machine import Ceiling, Timing, ceilings, describe_machine, interleaved
from mnemask.bench.parts import (
    CYCLE,
    Part,
    cycle,
    decode,
    network_parts,
    read_part,
    start_up,
    whole_run,
    write_clip,
    write_masks,
)
from mnemask.datasets.synthetic.drawn import DrawnVideo
from mnemask.errors import CheckpointError, InputError
from mnemask.model.checkpoints import SIZES, load_model, packaged_weights, save_model
from mnemask.model.stcn import STCN
from mnemask.tracker import Tracker

BANKS = (2, 20, 100)  # frames
CLIP = 25  # frames of the file


@dataclass(frozen=True, slots=True)
class Measured:
    """What a part of the work took.

    Attributes:
        name: of the part.
        num_objects: followed.
        fast: seconds.
        flops: floating-point operations.
        bytes: that it must move at least.
        share: of the machine's ceiling: the time that its operations or its bytes, whichever is longer, would take at
            the measured ceilings / the time it took. None where neither bounds it.
    """

    name: str
    num_objects: int
    fast: Timing
    flops: int = 0
    bytes: int = 0
    share: float | None = None


@dataclass(frozen=True, slots=True)
class BenchReport:
    """All that was measured; times in seconds.

    Attributes:
        machine: what it was measured on.
        settings: what was measured.
        ceilings: of the machine.
        parts: of a frame, for each number of objects.
        frames: whole frames, with the memory of two frames that is the default.
        files: one frame's share of reading an mp4, of writing PNGs, and of the run from one to the other.
        start_up: from the start of a process to its first computed mask.
    """

    machine: dict[str, str | int]
    settings: dict[str, Any]
    ceilings: tuple[Ceiling, ...]
    parts: tuple[Measured, ...]
    frames: tuple[Measured, ...]
    files: tuple[Measured, ...]
    start_up: Timing

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values that JSON can hold."""
        return asdict(self)


def measure_speed(
    model: str = "compact",
    *,
    num_objects: Sequence[int] = (1, 3),
    size: int = 480,
    rounds: int = 15,
    quick: bool = False,
    device: str | None = None,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> BenchReport:
    """Returns how fast mnemask is on this machine, part by part and as a whole.

    Args:
        model: "compact", "stcn", or a checkpoint. "stcn" has no weights in the package: random ones take the same
            time, but their masks say nothing.
        num_objects: how many to follow, one measurement for each number; 1 to 8.
        size: short side of the frames, which are 16:9; at least 48.
        rounds: how often each part is timed.
        quick: few rounds, and no bank of 100 frames, which takes gigabytes.
        device: to compute on, as for `load_model`.
        on_stage: called with the name of each stage as it begins.

    Raises:
        InputError: there is nothing to measure, or the model cannot be loaded.
    """
    if not num_objects or not all(1 <= number <= 8 for number in num_objects):
        raise InputError(f"objects are {list(num_objects)}", "give one or more numbers from 1 to 8, such as 1,3")
    if size < 48 or rounds < 1:
        raise InputError(f"size is {size} and rounds are {rounds}", "give a size from 48 and rounds from 1")
    rounds = min(rounds, 3) if quick else rounds
    with TemporaryDirectory(prefix="mnemask-bench-") as folder:
        weights, trained = weights_of(model, Path(folder))
        return _measure(
            load_model(weights, device=device),
            Path(folder),
            weights,
            {"model": model, "trained": trained, "size": size, "rounds": rounds, "quick": quick},
            num_objects,
            on_stage,
        )


def weights_of(model: str, folder: Path) -> tuple[str, bool]:
    """Returns a checkpoint of the model and whether it is trained: where there are no weights, random ones are made."""
    try:
        packaged_weights(model)
    except CheckpointError:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            save_model(STCN(SIZES[model]), folder / "random.safetensors")
        return str(folder / "random.safetensors"), False
    return model, True


@torch.no_grad()
def _measure(
    model: STCN,
    folder: Path,
    weights: str,
    settings: dict[str, Any],
    num_objects: Sequence[int],
    on_stage: Callable[[str], None],
) -> BenchReport:
    size, rounds, device = settings["size"], settings["rounds"], model.device
    banks = BANKS[:2] if settings["quick"] else BANKS
    frame_size = size, round(size * 16 / 9 / 2) * 2
    threads = torch.get_num_threads()
    on_stage("the machine's ceilings")
    best = ceilings(device, (torch.float32, model.dtype), (1, threads), rounds)
    parts, frames = [], []
    for number in num_objects:
        video = DrawnVideo(CLIP, frame_size, number)
        on_stage(f"parts, {number} objects")
        query = _query(model, video, size)
        todo = network_parts(model, video[1][0], size, number)
        parts += _timed(todo, rounds, model, best, threads)
        for count in banks:  # one bank at a time: the largest takes gigabytes
            parts += _timed([read_part(model, query, number, count)], rounds, model, best, threads)
        on_stage(f"whole frames, {number} objects")
        times = interleaved({"frame": cycle(model, video, size)}, rounds, device)
        frames.append(Measured("frame", number, times["frame"].per(CYCLE)))
    on_stage("files")
    files = _files(model, DrawnVideo(CLIP, frame_size, num_objects[0]), size, folder, rounds)
    on_stage("start-up")
    first = start_up(weights, frame_size, device, min(rounds, 5))
    described = settings | {"frame": list(frame_size), "dtype": str(model.dtype).removeprefix("torch.")}
    return BenchReport(describe_machine(device), described, best, tuple(parts), tuple(frames), files, first)


def _query(model: STCN, video: DrawnVideo, size: int) -> torch.Tensor:
    """Returns the keys of a frame, as rows."""
    tracker = Tracker(model, short_side=size)
    frame, truth = video[0]
    tracker.step(frame, {1: truth == 1})
    assert tracker.memory.tokens is not None
    return tracker.memory.tokens.key.clone()


def _timed(todo: list[Part], rounds: int, model: STCN, best: Sequence[Ceiling], threads: int) -> list[Measured]:
    times = interleaved({part.name: part.compute for part in todo}, rounds, model.device)
    reached = {
        kind: max(
            ceiling.per_second for ceiling in best if ceiling.threads == threads and (ceiling.kind == "copy") == copies
        )
        for kind, copies in (("flops", False), ("bytes", True))
    }
    measured = []
    for part in todo:
        fast = times[part.name]
        ideal = max(part.flops / reached["flops"], part.bytes / reached["bytes"])
        measured.append(Measured(part.name, part.num_objects, fast, part.flops, part.bytes, ideal / fast.median))
    return measured


def _files(model: STCN, video: DrawnVideo, size: int, folder: Path, rounds: int) -> tuple[Measured, ...]:
    clip, (frame, truth) = folder / "clip.mp4", video[0]
    write_clip(video, clip)
    first = {k: truth == k for k in range(1, video.num_objects + 1)}
    masks = Tracker(model, short_side=size).step(frame, first)
    times = interleaved(
        {
            "decode an mp4": lambda: decode(clip),
            "write PNGs": lambda: write_masks(masks, folder / "masks", CLIP),
            "mp4 to PNGs, whole": lambda: whole_run(model, clip, first, size, folder / "run"),
        },
        min(rounds, 5),
        model.device,
    )
    return tuple(Measured(name, video.num_objects, timing.per(CLIP)) for name, timing in times.items())
