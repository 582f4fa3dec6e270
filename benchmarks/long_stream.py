"""Measures whether memory and time per frame stay constant over a long generated stream.

    python benchmarks/long_stream.py --frames 3000 [--size 240 432] [--objects 2] [--policy lfu-pinned]

Prints, every 100 frames, milliseconds per frame (medians of wall time and processor time), resident memory, tokens held
and J against the exact masks of the objects in view; then the slope of a line fitted to each except J, as a share of
its mean per 1,000 frames.
"""

import argparse
import json
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch

import mnemask as mm
from mnemask.datasets.composite.photographs import StaticImages
from mnemask.datasets.synthetic.video import SyntheticVideo
from mnemask.memory.policies import DEFAULT_POLICY
from mnemask.metrics import region_similarity


def resident_mib() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def slope_per_thousand(frames: list[int], values: list[float]) -> float:
    """Returns the change per 1,000 frames, as a share of the mean."""
    return 1000 * float(np.polyfit(frames, values, 1)[0]) / float(np.mean(values))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=3000)
    parser.add_argument("--size", type=int, nargs=2, default=(240, 432))
    parser.add_argument("--objects", type=int, default=2)
    parser.add_argument("--photographs", type=Path, help="folder with NAME/{images,masks} to make the scene from")
    parser.add_argument("--policy", default=DEFAULT_POLICY)
    parser.add_argument("--model", default="compact")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    photographs = StaticImages(args.photographs) if args.photographs else None
    video = SyntheticVideo(args.frames, tuple(args.size), args.objects, photographs=photographs)
    tracker = mm.Tracker(mm.load_model(args.model), policy=args.policy, short_side=min(args.size))
    first = video[0][1]
    prompts = {k: first == k for k in range(1, args.objects + 1)}
    rows, times, busy, scores = [], [], [], []
    print("| frame | ms | CPU ms | RSS MiB | tokens | J |\n|---|---|---|---|---|---|")
    for index, (frame, labels, truth) in enumerate(video):
        begin, begin_busy = time.perf_counter(), time.process_time()
        masks = tracker.step(frame, prompts if index == 0 else None)
        times.append(1000 * (time.perf_counter() - begin))
        busy.append(1000 * (time.process_time() - begin_busy))
        present = [k for k in prompts if truth[k].visible > 0]
        scores += [region_similarity((masks.labels == k).numpy(), (labels == k).numpy()) for k in present]
        if (index + 1) % 100 == 0:
            stats = tracker.memory.stats()
            rows.append((index + 1, median(times), median(busy), resident_mib(), stats.tokens, float(np.mean(scores))))
            print("| {} | {:.1f} | {:.1f} | {:.1f} | {} | {:.3f} |".format(*rows[-1]), flush=True)
            times, busy, scores = [], [], []
    # Caches and allocators warm up during the first hundred frames.
    frames = [row[0] for row in rows[1:]]
    slopes = {
        name: slope_per_thousand(frames, [row[column] for row in rows[1:]])
        for name, column in (("ms", 1), ("CPU ms", 2), ("RSS", 3), ("tokens", 4))
    }
    for name, value in slopes.items():
        print(f"slope of {name}: {100 * value:+.3f} % per 1,000 frames")
    if args.json:
        args.json.write_text(
            json.dumps(
                {
                    "settings": vars(args) | {"json": None, "photographs": str(args.photographs)},
                    "rows": rows,
                    "slopes": slopes,
                }
            )
        )


if __name__ == "__main__":
    main()
