"""Measures whether time or memory grow over a generated stream of 10,000 frames or more, under a memory cap.

    python benchmarks/soak.py [--frames 10000] [--size 160 288] [--cap-mib 3072] [--folder soak]

The system enforces the cap. Objects cross, hide each other, leave the picture and return. In addition, each is tracked
for 450 frames, removed, and given again 150 frames later under the same id with its exact mask. Frames and masks are
computed from their number; none is stored. The tracker is saved every 500 frames: if the run is interrupted, killed or
stopped with --stop-after, the same command continues from the last save and measures later rows again.

It uses one thread. Rows of 100 frames go to FOLDER/rows.jsonl. At the end (or with --report, for the rows so far) two
Markdown tables are printed: the change of time and resident memory per 10,000 frames, as a share of their level, and
that of J with a bootstrap interval; and about twenty rows.
"""

import argparse
import json
import math
import resource
import time
from pathlib import Path
from statistics import fmean, median

import numpy as np
import torch

import mnemask as mm
from mnemask.bench.machine import processor_name
from mnemask.datasets.synthetic.video import SyntheticVideo
from mnemask.memory.policies import DEFAULT_POLICY
from mnemask.metrics import region_similarity

ROW = 100  # frames
SAVE_EVERY = 500
CYCLE, FOLLOWED = 600, 450  # an object is tracked in the first 450 of every 600 frames
LIMIT = 0.02  # growth per 10,000 frames, as a share


def memory_mib(name: str) -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{name}:")[1].split()[0]) / 1024


class Stream:
    """The video, and which objects are tracked when; both depend only on the frame number."""

    def __init__(self, num_frames: int, size: tuple[int, int], num_objects: int, seed: int) -> None:
        self.video = SyntheticVideo(num_frames, size, num_objects, seed)
        self.ids = range(1, num_objects + 1)

    def wanted(self, index: int) -> set[int]:
        return {k for k in self.ids if (index + (k - 1) * CYCLE // len(self.ids)) % CYCLE < FOLLOWED}

    def step(self, tracker: mm.Tracker, index: int) -> tuple[dict[str, float], list[float]]:
        """Tracks one frame; returns its times, and J of the objects in view that have no given mask."""
        frame, labels, truth = self.video[index]
        wanted = self.wanted(index)
        clear = {k for k in wanted if truth[k].visible > 0.3 and int((labels == k).sum()) >= 64}
        new = {k: labels == k for k in clear - set(tracker.object_ids)}
        begin, busy = time.perf_counter(), time.process_time()
        for gone in set(tracker.object_ids) - wanted:
            tracker.remove(gone)
        masks = tracker.step(frame, new)
        times = {"ms": 1000 * (time.perf_counter() - begin), "cpu_ms": 1000 * (time.process_time() - busy)}
        judged = [k for k in masks.object_ids if k not in new and truth[k].visible > 0]
        return times, [region_similarity((masks.labels == k).numpy(), (labels == k).numpy()) for k in judged]


def run(args: argparse.Namespace) -> list[dict[str, float]]:
    """Returns all rows, of this run and earlier ones."""
    bank, log = args.folder / "tracker.bank", args.folder / "rows.jsonl"
    args.folder.mkdir(parents=True, exist_ok=True)
    model = mm.load_model(args.model, device="cpu")
    stream = Stream(args.frames, tuple(args.size), args.objects, args.seed)
    fresh = not bank.exists()
    tracker = (
        mm.Tracker(model, policy=args.policy, short_side=min(args.size)) if fresh else mm.Tracker.load(bank, model)
    )
    rows = [row for row in read_rows(log) if row["frame"] <= tracker.steps]
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = 1 + max((int(row["sitting"]) for row in rows), default=0)
    last = min(args.frames, tracker.steps + args.stop_after)
    times: list[dict[str, float]] = []
    scores: list[float] = []
    objects: list[int] = []
    for index in range(tracker.steps, last):
        took, judged = stream.step(tracker, index)
        times.append(took)
        scores += judged
        objects.append(len(tracker.object_ids))
        if (index + 1) % ROW == 0:
            stats = tracker.memory.stats()
            row = {
                "sitting": options,
                "frame": index + 1,
                "ms": median(t["ms"] for t in times),
                "cpu_ms": median(t["cpu_ms"] for t in times),
                "rss_mib": memory_mib("VmRSS"),
                "objects": fmean(objects),
                "tokens": stats.tokens,
                "evictions": stats.evictions,
                "j": fmean(scores) if scores else math.nan,
            }
            rows.append(row)
            with log.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(
                "{frame:6.0f}  {ms:6.1f} ms  {cpu_ms:6.1f} CPU ms  {rss_mib:6.1f} MiB  J {j:.3f}".format(**row),
                flush=True,
            )
            times, scores, objects = [], [], []
        if (index + 1) % SAVE_EVERY == 0 or index + 1 == last:
            tracker.save(bank)
    return rows


def read_rows(log: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def settled(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    """Returns the rows without the first of each run, in which caches and allocators warm up."""
    firsts = {}
    for row in rows:
        firsts.setdefault(row["sitting"], row["frame"])
    return [row for row in rows if row["frame"] != firsts[row["sitting"]]]


def slope(rows: list[dict[str, float]], name: str) -> float:
    """Returns the change per 10,000 frames as a share of the level: the slope of a line that all runs share.

    The number of tracked objects is part of the fit, because frames with more objects take longer.
    """
    sittings = sorted({row["sitting"] for row in rows})
    design = [
        [row["frame"] / 10_000, row["objects"], *(float(row["sitting"] == each) for each in sittings)] for row in rows
    ]
    values = [row[name] for row in rows]
    if len(rows) < len(sittings) + 4:
        return math.nan  # too few points for a line
    return float(np.linalg.lstsq(np.array(design), np.array(values), rcond=None)[0][0]) / fmean(values)


def drift(rows: list[dict[str, float]]) -> tuple[float, float, float]:
    """Returns the change of J per 10,000 frames, and its 95 % bootstrap interval over whole cycles."""
    cycles: dict[int, list[tuple[float, float]]] = {}
    for row in rows:
        if not math.isnan(row["j"]):  # no object was in view
            cycles.setdefault(int(row["frame"] - 1) // CYCLE, []).append((row["frame"] / 10_000, row["j"]))
    points = np.array([np.mean(cycle, axis=0) for cycle in cycles.values()])
    if len(points) < 3:
        return math.nan, math.nan, math.nan
    rng = np.random.default_rng(0)
    draws = [points[rng.integers(len(points), size=len(points))] for _ in range(2000)]
    slopes = [np.polyfit(draw[:, 0], draw[:, 1], 1)[0] for draw in draws if np.ptp(draw[:, 0]) > 0]
    low, high = np.quantile(slopes, (0.025, 0.975))
    return float(np.polyfit(points[:, 0], points[:, 1], 1)[0]), float(low), float(high)


def report(rows: list[dict[str, float]], args: argparse.Namespace) -> str:
    """Returns the results as Markdown."""
    steady = settled(rows)
    change, low, high = drift(steady)
    grows = {what: slope(steady, key) for what, key in (("ms", "ms"), ("CPU ms", "cpu_ms"), ("resident", "rss_mib"))}
    held = max(grows["resident"], grows["CPU ms"]) <= LIMIT and low <= 0 <= high
    machine = f"{processor_name()}, {torch.get_num_threads()} thread, torch {torch.__version__}"
    return "\n".join(
        [
            f"| in 10,000 frames, measured over {rows[-1]['frame']:,.0f} | change |",
            "|---|---|",
            *(f"| {what} | {100 * value:+.2f} % |" for what, value in grows.items()),
            f"| J | {change:+.3f} (95 % of resamplings of whole cycles: {low:+.3f} to {high:+.3f}) |",
            f"| CPU ms and resident memory grow by {100 * LIMIT:.0f} % at most, no drift of J beyond chance | "
            f"**{'yes' if held else 'no'}** |",
            f"| address space, as the system capped it | {args.cap_mib} MiB |",
            f"| processor | {machine} |",
            "",
            "| frame | ms | CPU ms | RSS MiB | objects | tokens | evictions | J |",
            "|---|---|---|---|---|---|---|---|",
            *table(rows),
        ]
    )


def table(rows: list[dict[str, float]]) -> list[str]:
    """Returns about twenty lines, each the mean of several rows."""
    every, lines = max(1, len(rows) // 20), []
    for number in range(every, len(rows) + 1, every):
        part = rows[number - every : number]
        known = [row["j"] for row in part if not math.isnan(row["j"])]
        mean = {name: fmean(row[name] for row in part) for name in ("ms", "cpu_ms", "objects")}
        last = (
            "| {frame:.0f} | {ms:.1f} | {cpu_ms:.1f} | {rss_mib:.1f} | {objects:.1f} | {tokens:.0f} | {evictions:.0f}"
        )
        lines.append(f"{last.format(**(part[-1] | mean))} | {fmean(known) if known else math.nan:.3f} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("--size", type=int, nargs=2, default=(160, 288), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--objects", type=int, default=3)
    parser.add_argument("--policy", default=DEFAULT_POLICY)
    parser.add_argument("--model", default="compact")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cap-mib", type=int, default=3072, help="address space that the system allows (RLIMIT_AS)")
    parser.add_argument("--folder", type=Path, default=Path("soak"), help="folder for the saved tracker and the rows")
    parser.add_argument("--stop-after", type=int, default=10**9, metavar="FRAMES", help="end this run early")
    parser.add_argument("--report", action="store_true", help="print the tables of the rows so far")
    args = parser.parse_args()
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_AS, (args.cap_mib * 2**20,) * 2)
    rows = read_rows(args.folder / "rows.jsonl") if args.report else run(args)
    if args.report or rows[-1]["frame"] + ROW > args.frames:
        print("\n" + report(rows, args))


if __name__ == "__main__":
    main()
