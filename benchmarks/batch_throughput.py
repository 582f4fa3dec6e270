"""Compares `mnemask batch` with `mnemask segment` on the same clips one after the other; prints Markdown.

    python benchmarks/batch_throughput.py [--clips 4] [--frames 48] [--size 240] [--rounds 3] [--workers 2]

Each round runs every case, so that other load on the machine affects all alike. Times are of whole commands, including
start-up and loading of weights. "Side by side" runs as many single runs at a time as there are workers, with one thread
each: the most that single runs can do on these cores. "Tracking alone" is the sum of the times in the clips' reports:
the time of runs one after the other without any start-up.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

import mnemask as mm
from mnemask.bench.parts import write_clip


def draw(folder: Path, clips: int, frames: int) -> Path:
    """Writes videos, first masks and a manifest; returns the path of the manifest."""
    lines = ["video,mask"]
    for number in range(clips):
        video = mm.DrawnVideo(frames, (480, 854), 2, number)
        write_clip(video, folder / f"clip{number}.mp4")
        Image.fromarray(np.asarray(video[0][1]).astype(np.uint8)).save(folder / f"clip{number}.png")
        lines.append(f"clip{number}.mp4,clip{number}.png")
    (folder / "clips.csv").write_text("\n".join(lines) + "\n")
    return folder / "clips.csv"


def timed(*arguments: str) -> float:
    """Returns the seconds that a command takes."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-m", "mnemask", *arguments, "--quiet"], check=True)
    return time.perf_counter() - begin


def tracking(folder: Path) -> float:
    """Returns the sum of the seconds in the reports of all clips in a folder."""
    return sum(json.loads(path.read_text())["seconds"] for path in folder.glob("*/report.json"))


def in_words(times: Sequence[float], frames: int) -> str:
    middle = statistics.median(times)
    return f"{middle:.1f} ({min(times):.1f}–{max(times):.1f}) | {frames / middle:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("clips", 4), ("frames", 48), ("size", 240), ("rounds", 3), ("workers", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    singles, beside, batches, alone = [], [], [], []
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        manifest = draw(folder, args.clips, args.frames)
        for number in range(args.rounds):
            one, both, many = (folder / f"{name}{number}" for name in ("one", "both", "many"))

            def segment(clip: int, out: Path) -> float:
                video = f"{folder}/clip{clip}"
                line = (f"{video}.mp4", "--mask", f"{video}.png", "-o", f"{out}/clip{clip}")
                return timed("segment", *line, "--size", str(args.size))

            singles.append(sum(segment(clip, one) for clip in range(args.clips)))
            alone.append(tracking(one))
            begin = time.perf_counter()
            with ThreadPoolExecutor(args.workers) as pool:
                list(pool.map(partial(segment, out=both), range(args.clips)))
            beside.append(time.perf_counter() - begin)
            workers = ("--workers", str(args.workers), "--size", str(args.size))
            batches.append(timed("batch", str(manifest), "-o", str(many), *workers))
    frames = args.clips * args.frames
    print(f"{args.clips} clips of {args.frames} frames, short side {args.size}, {args.workers} workers\n")
    print("| | seconds (range) | frames/s |\n|---|---|---|")
    print(f"| one `segment` after the other | {in_words(singles, frames)} |")
    print(f"| tracking alone, one after the other | {in_words(alone, frames)} |")
    print(f"| `segment`, {args.workers} side by side | {in_words(beside, frames)} |")
    print(f"| `batch` | {in_words(batches, frames)} |")
    for name, others in (("one after the other", singles), ("side by side", beside)):
        ratio = statistics.median(many / one for many, one in zip(batches, others, strict=True))
        print(f"\n`batch` takes {100 * ratio:.0f} % of the time of single runs {name} (median of the rounds).")


if __name__ == "__main__":
    main()
