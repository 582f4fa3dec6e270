"""Compares each engine with plain PyTorch, in speed by part and by frame, and in masks; prints Markdown.

    python benchmarks/engines.py [--davis ROOT] [--engine NAME ...] [--threads N] [--model PATH] [--json FILE]
    python benchmarks/engines.py --overlap --davis ROOT --engine int8 --engine int8-all   # masks only, clip by clip

Engines take turns, part by part and frame by frame. Times are medians and, in brackets, quartiles; those of a whole
frame are over the frames of all clips. Ratios are to "eager" in float32. Builds are made before the measurement. Masks
are compared with those of "eager" on generated clips or, if DAVIS is given, its sequences: mean and lowest mask IoU of
all frames except the first. To try it out: --size 96x160 --rounds 2 --frames 4 --clips 1 --engine int8.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import chain, islice
from pathlib import Path

import numpy as np
import torch
from clips import HELD_OUT

import mnemask as mm
from mnemask.bench.machine import Timing, heading, interleaved, timing_of
from mnemask.datasets.published import DavisSequences
from mnemask.engines import ENGINES
from mnemask.metrics import region_similarity
from mnemask.model.preprocess import cells
from mnemask.model.stcn import STCN, STRIDE

PARTS = ("encode_key", "encode_value", "decode")
CPU = torch.device("cpu")
Overlaps = dict[str, dict[str, list[float]]]
"""Mask IoU of each frame except the first and of each object, by engine and clip."""


def part_calls(network: STCN, size: tuple[int, int], num_objects: int) -> dict[str, Callable[[], object]]:
    """Returns a call for each part that runs it on noise of the right shapes."""
    height, width = (-(-side // STRIDE) * STRIDE for side in size)
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, 3, height, width, generator=generator).to(network.dtype, memory_format=torch.channels_last)
    masks = torch.rand(1, num_objects, height, width, generator=generator).to(network.dtype)
    features = network.encode_key(image)
    value = network.encode_value(image, features, masks)
    assert cells(value[0]).shape[:2] == (num_objects, height * width // STRIDE**2)
    return {
        "encode_key": lambda: network.encode_key(image),
        "encode_value": lambda: network.encode_value(image, features, masks),
        "decode": lambda: network.decode(value, features),
    }


def time_parts(networks: dict[str, STCN], args: argparse.Namespace) -> dict[tuple[str, str], Timing]:
    """Returns the times of each part with each engine."""
    calls = {name: part_calls(network, args.size, args.objects) for name, network in networks.items()}
    return interleaved({(part, name): calls[name][part] for part in PARTS for name in networks}, args.rounds, CPU)


def clips(args: argparse.Namespace) -> Iterator[tuple[str, list[mm.Frame], dict[int, torch.Tensor]]]:
    """Yields name, frames and first masks."""
    if args.davis is None:
        for clip in HELD_OUT[: args.clips]:
            moments = list(islice(clip.open(size=args.size), args.frames))
            _, labels, truth = moments[0]
            yield clip.name, [frame for frame, _, _ in moments], {k: labels == k for k in truth}
        return
    for sequence in islice(DavisSequences(args.davis, 2016), args.clips):
        with mm.VideoReader(sequence.frames[0].parent) as reader:
            frames = list(islice(reader, args.frames))
        yield sequence.name, frames, {1: torch.from_numpy(sequence.read_labels(0) == 1)}


def time_clips(networks: dict[str, STCN], args: argparse.Namespace) -> tuple[dict[str, Timing], Overlaps]:
    """Returns the times of a frame after the first, by engine, and the overlap of masks with those of "eager"."""
    seconds: dict[str, list[float]] = {name: [] for name in networks}
    overlaps: Overlaps = {name: {} for name in networks}
    for clip, frames, first in clips(args):
        trackers = {
            name: mm.Tracker(network, write_every=5, short_side=min(args.size)) for name, network in networks.items()
        }
        for tracker in trackers.values():
            tracker.step(frames[0], first)
            tracker.fork().step(frames[1])  # so that builds are not timed
        for frame in frames[1:]:
            masks = {}
            for name, tracker in trackers.items():
                begin = time.perf_counter()
                masks[name] = tracker.step(frame)
                seconds[name].append(time.perf_counter() - begin)
            for name, ours in masks.items():
                each = [region_similarity(ours.mask(k).numpy(), masks["eager"].mask(k).numpy()) for k in first]
                overlaps[name].setdefault(clip, []).extend(each)
        print(f"<!-- {clip}: {len(frames)} frames -->", flush=True)
    return {name: timing_of(values) for name, values in seconds.items()}, overlaps


def show(parts: dict[tuple[str, str], Timing], frames: dict[str, Timing], overlaps: Overlaps) -> None:
    print("| engine | " + " | ".join(f"{part}, ms | ratio" for part in (*PARTS, "frame")) + " | IoU, least |")
    print("|---" * (2 * len(PARTS) + 4) + "|")
    for name, frame in frames.items():
        pairs = [*((parts[part, name], parts[part, "eager"]) for part in PARTS), (frame, frames["eager"])]
        row = [f"{ours.milliseconds} | {eager.median / ours.median:.2f}" for ours, eager in pairs]
        values = list(chain(*overlaps[name].values()))
        print(f"| {name} | {' | '.join(row)} | {np.mean(values):.4f}, {min(values):.4f} |")


def show_overlaps(overlaps: Overlaps) -> None:
    """Prints the mean and, in brackets, the lowest mask IoU to "eager" of each clip."""
    others = [name for name in overlaps if name != "eager"]
    print("| clip | " + " | ".join(f"`{name}`" for name in others) + " |\n" + "|---" * (len(others) + 1) + "|")
    rows = {clip: [overlaps[name][clip] for name in others] for clip in overlaps["eager"]}
    rows["all"] = [list(chain(*overlaps[name].values())) for name in others]
    for clip, of_engines in rows.items():
        shown = [f"{np.mean(values):.3f} ({min(values):.3f})" for values in of_engines]
        print(f"| {clip} | {' | '.join(shown)} |")


def parse_size(text: str) -> tuple[int, int]:
    height, width = text.split("x")
    return int(height), int(width)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--davis", type=Path, help="root of DAVIS 2016")
    parser.add_argument("--engine", action="append", choices=list(ENGINES), help="in addition to eager; by default all")
    parser.add_argument("--model", default="compact")
    parser.add_argument("--size", type=parse_size, default=(480, 854), metavar="HEIGHTxWIDTH")
    parser.add_argument("--objects", type=int, default=1, help="number of objects for the parts; clips have their own")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--frames", type=int, default=12, help="use only the first FRAMES frames of each clip")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--overlap", action="store_true", help="only print the overlap of masks, clip by clip")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    chosen = dict.fromkeys(("eager", *(args.engine or ENGINES)))
    networks = {name: mm.load_model(args.model, device="cpu", dtype=torch.float32, engine=name) for name in chosen}
    with torch.no_grad():
        parts = {} if args.overlap else time_parts(networks, args)
        frames, overlaps = time_clips(networks, args)
    print(f"{heading(CPU)} {args.model}, {args.size[1]}×{args.size[0]}; parts with {args.objects} object(s).\n")
    if args.overlap:
        show_overlaps(overlaps)
    else:
        show(parts, frames, overlaps)
    if args.json:
        times = {f"{part} {name}": asdict(timing) for (part, name), timing in parts.items()}
        times |= {f"frame {name}": asdict(timing) for name, timing in frames.items()}
        args.json.write_text(json.dumps({"seconds": times, "iou": overlaps}, indent=2))


if __name__ == "__main__":
    main()
