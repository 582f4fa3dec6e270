"""Measures what the time of a run consists of: files, engines, start-up, memory, objects; prints Markdown.

    python benchmarks/pipeline_speed.py [--part files start-up memory objects plain] [--size 480] [--rounds 5]
    git worktree add ../before TAG && python benchmarks/pipeline_speed.py --part versions --before ../before/src

files     `compact`, one object, from an mp4 on disk to PNGs on disk, with each engine (--engine eager int8 int8-all);
          engines are built before the measurement
start-up  `compact`: from the start of a new process to its first mask
memory    `compact`, one object: a frame with a full bank of N frames, `lfu-pinned`
objects   `compact`: a frame with 1 to 5 objects, `lfu-pinned` at two frames
plain     `stcn` with random weights, 1 and 3 objects, compared with the plain path (plain.py)
versions  the whole command `mnemask segment`, start-up included, of this source and of an earlier one (--before)

The time of a frame is a fifth of a cycle of five frames, one of which is written to memory. Times are medians of
interleaved rounds and, in brackets, quartiles. To try it out: --size 96 --rounds 1 --engine eager --frames 10.
`mnemask bench` measures the parts of a frame and the peaks of the machine.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

import torch
from PIL import Image
from plain import PlainSTCN, plain_cycle

import mnemask as mm
from mnemask.bench.machine import Timing, heading, interleaved
from mnemask.bench.parts import CYCLE, POLICY, cycle, start_up, whole_run, write_clip
from mnemask.bench.run import weights_of
from mnemask.engines import ENGINES
from mnemask.model.stcn import STCN

CPU = torch.device("cpu")
BANKS, OBJECTS, PLAIN_OBJECTS, PLAIN_ROUNDS = (2, 4, 8, 16, 32), (1, 2, 3, 4, 5), (1, 3), 3


def network(name: str = "compact", engine: str = "eager") -> STCN:
    with TemporaryDirectory() as folder:
        return mm.load_model(weights_of(name, Path(folder))[0], device=CPU, engine=engine)


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    print(f"\n## {title}\n\n| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    for row in rows:
        print(f"| {' | '.join(map(str, row))} |", flush=True)


def frames_per_second(timing: Timing) -> str:
    return f"{1 / timing.median:.1f} ({1 / timing.high:.1f}–{1 / timing.low:.1f})"


def files(args: argparse.Namespace, size: tuple[int, int]) -> None:
    video = mm.DrawnVideo(args.frames, size, 1)
    first = {1: video[0][1] == 1}
    with TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        write_clip(video, clip)
        networks = {engine: network(engine=engine) for engine in args.engine}

        def run(engine: str) -> Callable[[], float]:
            return lambda: whole_run(networks[engine], clip, first, args.size, Path(folder) / engine)

        times = interleaved({engine: run(engine) for engine in networks}, args.rounds, CPU)
    rows = [
        (engine, timing.per(args.frames).milliseconds, frames_per_second(timing.per(args.frames)))
        for engine, timing in times.items()
    ]
    show(f"mp4 to PNGs, {args.frames} frames, `compact`, one object", ("engine", "ms a frame", "frames/s"), rows)


def start(args: argparse.Namespace, size: tuple[int, int]) -> None:
    timing = start_up("compact", size, CPU, args.rounds)
    row = (f"{timing.median:.2f} ({timing.low:.2f}–{timing.high:.2f})", f"{timing.best:.2f}")
    show("Fresh process to first mask, `compact`", ("seconds", "best"), [row])


def full_bank(model: STCN, video: mm.DrawnVideo, num_frames: int, short_side: int) -> mm.Tracker:
    """Returns a tracker with a full bank: its first frame and, instead of others, that frame's keys with noise."""
    tracker = mm.Tracker(model, policy=POLICY, budget=mm.Budget(frames=num_frames), short_side=short_side)
    frame, labels = video[0]
    tracker.step(frame, {1: labels == 1})
    seen = tracker.memory.tokens
    assert seen is not None
    for number in range(1, num_frames):
        noisy = seen.key + 0.1 * seen.key.std() * torch.randn_like(seen.key)
        unpinned = torch.zeros_like(seen.pins)
        tracker.memory.write(noisy, seen.value, seen.mask_fraction, frame=number, step=0, pins=unpinned)
    return tracker


def memory(args: argparse.Namespace, size: tuple[int, int]) -> None:
    model, video = network(), mm.DrawnVideo(CYCLE + 1, size, 1)
    later = [video[t][0] for t in range(1, CYCLE + 1)]
    trackers = {count: full_bank(model, video, count, args.size) for count in BANKS}

    def follow(tracker: mm.Tracker) -> Callable[[], object]:
        return lambda: [tracker.step(frame) for frame in later]

    times = interleaved({count: follow(tracker) for count, tracker in trackers.items()}, args.rounds, CPU)
    base = times[BANKS[0]].median
    rows = []
    for count, timing in times.items():
        more = "" if count == BANKS[0] else f"{1000 * (timing.median - base) / CYCLE / (count - BANKS[0]):.2f}"
        rows.append((count, timing.per(CYCLE).milliseconds, more))
    show("Frames in memory, `compact`, one object", ("N", "ms a frame", "ms for each frame more than 2"), rows)


def objects(args: argparse.Namespace, size: tuple[int, int]) -> None:
    rows = []
    for engine in args.engine:
        model = network(engine=engine)
        actions = {n: cycle(model, mm.DrawnVideo(CYCLE + 1, size, n), args.size) for n in OBJECTS}
        times = interleaved(actions, args.rounds, CPU)
        one = times[OBJECTS[0]].median
        for n, timing in times.items():
            more = "" if n == 1 else f"{100 * (timing.median / one - 1) / (n - 1):.0f} %"
            rows.append((engine, n, timing.per(CYCLE).milliseconds, more))
    show("Objects, `compact`", ("engine", "objects", "ms a frame", "each object more, of the first's time"), rows)


def plainly(args: argparse.Namespace, size: tuple[int, int]) -> None:
    models, rows = {engine: network("stcn", engine) for engine in args.engine}, []
    plain = PlainSTCN(network("stcn"))
    for count in PLAIN_OBJECTS:
        video = mm.DrawnVideo(CYCLE + 1, size, count)
        actions = {engine: cycle(model, video, args.size) for engine, model in models.items()}
        actions["plain"] = plain_cycle(plain, video, args.size)
        times = interleaved(actions, min(args.rounds, PLAIN_ROUNDS), CPU)
        for way, timing in times.items():
            ratio = times["plain"].median / timing.median
            rows.append((count, way, timing.per(CYCLE).milliseconds, f"{ratio:.1f}"))
    show("`stcn`, random weights", ("objects", "way", "ms a frame", "times as fast as plain"), rows)


def versions(args: argparse.Namespace, size: tuple[int, int]) -> None:
    sources = {"before": args.before.resolve(), "now": Path(mm.__file__).parents[1]}
    rows = []
    with TemporaryDirectory() as folder:
        for count in OBJECTS[0], OBJECTS[2]:
            video = mm.DrawnVideo(args.frames, size, count)
            clip, mask = Path(folder) / f"{count}.mp4", Path(folder) / f"{count}.png"
            write_clip(video, clip)
            picture = Image.fromarray(video[0][1].numpy().astype("uint8"))
            picture.putpalette(bytes(range(256)) * 3)
            picture.save(mask)

            def run(source: Path, clip: Path = clip, mask: Path = mask) -> Callable[[], object]:
                out = Path(mkdtemp(dir=folder)) / "out"
                command = [sys.executable, "-m", "mnemask", "segment", clip, "--mask", mask, "-o", out, "--overwrite"]
                environment = os.environ | {"PYTHONPATH": str(source), "OMP_NUM_THREADS": str(args.threads)}
                return lambda: subprocess.run(command, check=True, capture_output=True, env=environment)

            times = interleaved({name: run(source) for name, source in sources.items()}, args.rounds, CPU)
            for name, timing in times.items():
                ratio = f"{timing.median / times['before'].median:.2f}"
                rows.append((count, name, f"{timing.median:.2f} ({timing.low:.2f}–{timing.high:.2f})", ratio))
    show(f"`mnemask segment`, {args.frames} frames", ("objects", "source", "seconds", "of before"), rows)


PARTS = {
    "files": files,
    "start-up": start,
    "memory": memory,
    "objects": objects,
    "plain": plainly,
    "versions": versions,
}


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--part", nargs="+", choices=list(PARTS), default=[name for name in PARTS if name != "versions"]
    )
    parser.add_argument("--before", type=Path, help="folder of an earlier version's package, for versions")
    parser.add_argument("--engine", nargs="+", choices=list(ENGINES), default=["eager", "int8", "int8-all"])
    parser.add_argument("--size", type=int, default=480, help="short side; frames are 16:9")
    parser.add_argument("--frames", type=int, default=25, help="frames of the mp4")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    if "versions" in args.part and not (args.before and (args.before / "mnemask").is_dir()):
        parser.error("versions needs --before FOLDER, where FOLDER/mnemask is an earlier version's package")
    torch.set_num_threads(args.threads)
    size = (args.size, round(args.size * 16 / 9 / 2) * 2)
    print(f"{heading(CPU)} Frames of {size[1]}×{size[0]}.")
    for name in args.part:
        PARTS[name](args, size)


if __name__ == "__main__":
    main()
