"""What each engine gains over torch as it is, part by part and as a whole, and what its masks lose, as Markdown.

    python benchmarks/engines.py [--davis ROOT] [--engine NAME ...] [--threads N] [--model PATH] [--json FILE]

Everything runs in rounds, one engine after the other. Of a part, the time is the least of all rounds, of a whole frame
the median; ratios are to "eager" in float32. Masks are compared
with those of "eager" on generated clips or, where DAVIS is given, its sequences: mean and least mask IoU of all frames
but the first. To try it out: --size 96x160 --rounds 2 --frames 4 --clips 1.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch

import mnemask as mm
from mnemask.datasets.heldout import HELD_OUT
from mnemask.model.geometry import cells
from mnemask.model.stcn import STCN, STRIDE

PARTS = ("encode_key", "encode_value", "decode")


def part_calls(network: STCN, size: tuple[int, int], num_objects: int) -> dict[str, Callable[[], object]]:
    """Returns what runs each part on noise of the right shapes."""
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


def seconds_of(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def time_parts(networks: dict[str, STCN], args: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """Returns the seconds of each round, by part and engine."""
    calls = {name: part_calls(network, args.size, args.objects) for name, network in networks.items()}
    found: dict[str, dict[str, list[float]]] = {part: {name: [] for name in networks} for part in PARTS}
    for _ in range(args.rounds):
        for part in PARTS:
            for name in networks:
                found[part][name].append(seconds_of(calls[name][part]))
    return found


def clips(args: argparse.Namespace) -> Iterator[tuple[str, list[mm.Frame], dict[int, torch.Tensor]]]:
    """Yields name, frames and first masks."""
    if args.davis is None:
        for clip in HELD_OUT[: args.clips]:
            moments = list(islice(clip.open(size=args.size), args.frames))
            _, labels, truth = moments[0]
            yield clip.name, [frame for frame, _, _ in moments], {k: labels == k for k in truth}
        return
    for sequence in islice(mm.DavisSequences(args.davis, 2016), args.clips):
        with mm.VideoReader(sequence.frames[0].parent) as reader:
            frames = list(islice(reader, args.frames))
        yield sequence.name, frames, {1: torch.from_numpy(sequence.read_labels(0) == 1)}


def time_clips(
    networks: dict[str, STCN], args: argparse.Namespace
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Returns seconds a frame, and mask IoU to "eager" of each frame and object, by engine."""
    seconds: dict[str, list[float]] = {name: [] for name in networks}
    alike: dict[str, list[float]] = {name: [] for name in networks}
    for clip, frames, first in clips(args):
        trackers = {name: mm.Tracker(network, short_side=min(args.size)) for name, network in networks.items()}
        for position, frame in enumerate(frames):
            masks = {}
            for name, tracker in trackers.items():
                begin = time.perf_counter()
                masks[name] = tracker.step(frame, first if position == 0 else None)
                seconds[name].append(time.perf_counter() - begin)
            for name, ours in masks.items() if position else ():
                alike[name] += [overlap(ours.of(k), masks["eager"].of(k)) for k in first]
        print(f"<!-- {clip}: {len(frames)} frames -->", flush=True)
    return seconds, alike


def overlap(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    union = int((ours | theirs).sum())
    return int((ours & theirs).sum()) / union if union else 1.0


def show(
    parts: dict[str, dict[str, list[float]]], seconds: dict[str, list[float]], alike: dict[str, list[float]]
) -> None:
    print("| engine | " + " | ".join(f"{part}, ms (ratio)" for part in PARTS) + " | frame, ms (ratio) | IoU, least |")
    print("|---" * (len(PARTS) + 3) + "|")
    for name in seconds:
        row = []
        for times in (*parts.values(), {key: [float(np.median(value))] for key, value in seconds.items()}):
            best = min(times[name])
            row.append(f"{1000 * best:.1f} ({min(times['eager']) / best:.2f})")
        print(f"| {name} | {' | '.join(row)} | {np.mean(alike[name]):.4f}, {min(alike[name]):.4f} |")


def parse_size(text: str) -> tuple[int, int]:
    height, width = text.split("x")
    return int(height), int(width)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--davis", type=Path, help="root of DAVIS 2016")
    parser.add_argument("--engine", action="append", choices=list(mm.ENGINES), help="besides eager; by default all")
    parser.add_argument("--model", default="compact")
    parser.add_argument("--size", type=parse_size, default=(480, 854), metavar="HEIGHTxWIDTH")
    parser.add_argument("--objects", type=int, default=1, help="of the parts; clips have their own")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--frames", type=int, default=30, help="of each clip, the first so many")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    chosen = dict.fromkeys(("eager", *(args.engine or mm.ENGINES)))
    networks = {name: mm.load_model(args.model, device="cpu", dtype=torch.float32, engine=name) for name in chosen}
    with torch.no_grad():
        parts = time_parts(networks, args)
        seconds, alike = time_clips(networks, args)
    show(parts, seconds, alike)
    if args.json:
        args.json.write_text(json.dumps({"parts": parts, "seconds": seconds, "iou": alike}, indent=2))


if __name__ == "__main__":
    main()
