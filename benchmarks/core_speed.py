"""Measures the time of each part of a frame for one and more objects, and of the plain path; prints Markdown.

    python benchmarks/core_speed.py [--model compact] [--objects 1 3 5] [--size 480 854] [--threads 2] [--rounds 7]

Times are medians and, in brackets, quartiles of rounds in which both ways take turns. "extra" is the cost of a further
object as a share of the first one's, for each way. `stcn` has random weights. `mnemask bench` measures more parts and
whole frames; this script is for work on the arithmetic. To try it out: --size 96 160 --rounds 1 --objects 1 2.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from plain import PlainSTCN, plain_parts

import mnemask as mm
from mnemask.bench.machine import heading, interleaved
from mnemask.bench.parts import network_parts
from mnemask.bench.run import weights_of
from mnemask.types import Frame


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="compact")
    parser.add_argument("--objects", type=int, nargs="+", default=(1, 3, 5))
    parser.add_argument("--size", type=int, nargs=2, default=(480, 854))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with TemporaryDirectory() as folder:
        model = mm.load_model(weights_of(args.model, Path(folder))[0])
    plain = PlainSTCN(model)
    frame = Frame(torch.randint(0, 256, (3, *args.size), dtype=torch.uint8), 0)
    first: dict[str, tuple[float, float]] = {}
    print(f"{heading(model.device)} {args.model} in {model.dtype}, {args.size[1]}×{args.size[0]}.\n")
    print("| part | objects | plain ms | mnemask ms | ratio | extra, plain | extra, mnemask |")
    print("|---|---|---|---|---|---|---|")
    for num_objects in args.objects:
        plainly = plain_parts(plain, frame, min(args.size), num_objects)
        for part in network_parts(model, frame, min(args.size), num_objects):
            times = interleaved({"plain": plainly[part.name], "fast": part.compute}, args.rounds, model.device)
            now = times["plain"].median, times["fast"].median
            alone = first.setdefault(part.name, now)
            more = max(num_objects - args.objects[0], 1)
            extra = [f"{100 * (each - one) / one / more:.0f} %" for each, one in zip(now, alone, strict=True)]
            print(
                f"| {part.name} | {num_objects} | {times['plain'].milliseconds} | {times['fast'].milliseconds} | "
                f"{now[0] / now[1]:.2f} | "
                f"{' | '.join(extra if num_objects != args.objects[0] else ('', ''))} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
