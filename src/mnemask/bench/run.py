"""The whole measurement: the machine's ceilings, then the parts, whole frames, files and the start of a process."""

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
CLIP = 25  # frames in the video file


@dataclass(frozen=True, slots=True)
class Measured:
    """The measurement of a part of the work.

    Attributes:
        name: the part's name.
        num_objects: the number of objects tracked.
        fast: the times, in seconds.
        flops: floating-point operations.
        bytes: the least number of bytes read and written.
        share: the share of the machine's ceiling: the time that the operations or the bytes, whichever takes longer,
            would take at the measured ceilings / the median time. None where these were not counted.
    """

    name: str
    num_objects: int
    fast: Timing
    flops: int = 0
    bytes: int = 0
    share: float | None = None


@dataclass(frozen=True, slots=True)
class BenchReport:
    """All measurements; times in seconds.

    Attributes:
        machine: facts about the machine.
        settings: what was measured.
        ceilings: the machine's ceilings.
        parts: the parts of a frame, for each number of objects.
        frames: whole frames, with a memory of two frames, the default.
        files: the time per frame of reading an mp4, of writing PNGs, and of a whole run from one to the other.
        start_up: the time from the start of a process to its first computed mask.
    """

    machine: dict[str, str | int]
    settings: dict[str, Any]
    ceilings: tuple[Ceiling, ...]
    parts: tuple[Measured, ...]
    frames: tuple[Measured, ...]
    files: tuple[Measured, ...]
    start_up: Timing

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as values that JSON can hold."""
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
        model: "compact", "stcn", or a checkpoint. The package has no weights for "stcn": random ones take the same
            time, but their masks are meaningless.
        num_objects: numbers of objects, each 1 to 8, with one measurement for each.
        size: the short side of the frames, which are 16:9; at least 48.
        rounds: the number of times that each part is measured, 1 or more.
        quick: whether to limit rounds to 3 and leave out the bank of 100 frames, which takes gigabytes.
        device: the device to compute on, as for `load_model`.
        on_stage: called with the name of each stage as it begins.

    Raises:
        InputError: a number is out of range, or there is no such device.
        CheckpointError: the model cannot be loaded.
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
    """Returns a checkpoint of the model and whether it is trained; writes random weights if the package has none."""
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
    """Returns the keys of a frame, one per row."""
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
