"""J and F of each memory policy where several objects hide each other, as a Markdown table and JSON.

    python benchmarks/multi_object.py [--davis ROOT] [--model PATH] [--policy NAME ...] [--json FILE]

Two sets with exact masks: "generated", the eight clips of mnemask.datasets.heldout, and, where DAVIS 2016 val is given,
"pasted", pairs of its objects that cross (mnemask.datasets.pasted). Clips are shared out to `--processes` of one thread
each; frames/s is that of one thread. To try it out: --policy least-used --clips 1 --frames 10 --size 240.
"""

import argparse
import json
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

import torch

import mnemask as mm
from mnemask.datasets.heldout import HELD_OUT
from mnemask.datasets.pasted import DAVIS_PAIRS, PastedVideo
from mnemask.datasets.synthetic import SyntheticVideo
from mnemask.metrics import Report, SequenceScorer


@dataclass(frozen=True)
class Run:
    """One clip followed with one policy."""

    report: Report
    seconds: float
    num_frames: int


def open_clip(kind: str, number: int, davis: Path | None) -> tuple[str, SyntheticVideo | PastedVideo]:
    if kind == "generated":
        return HELD_OUT[number].name, HELD_OUT[number].open()
    assert davis is not None
    host, guest, seed = DAVIS_PAIRS[number]
    sequences = mm.DavisSequences(davis, 2016)
    return f"{host}+{guest}", PastedVideo(sequences[host], sequences[guest], seed)


def run(kind: str, number: int, policy: str, args: argparse.Namespace) -> Run:
    torch.set_num_threads(1)
    name, video = open_clip(kind, number, args.davis)
    tracker = mm.Tracker(mm.load_model(args.model), policy, short_side=args.size)
    scorer, seconds, num_frames = SequenceScorer(name), 0.0, 0
    for frame, labels, truth in islice(video, args.frames):
        prompts = {k: labels == k for k in truth} if frame.index == 0 else None
        begin = time.perf_counter()
        masks = tracker.step(frame, prompts)
        seconds += time.perf_counter() - begin
        num_frames += 1
        scorer.add(labels.numpy(), masks.labels.cpu().numpy())
    return Run(scorer.report(), seconds, num_frames)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--davis", type=Path, help="root of DAVIS 2016")
    parser.add_argument("--model", default="compact")
    parser.add_argument("--policy", action="append", choices=list(mm.POLICIES))
    parser.add_argument("--clips", type=int, help="of each set, the first so many")
    parser.add_argument("--frames", type=int, help="of each clip, the first so many")
    parser.add_argument("--size", type=int, default=480, help="short side at which frames are processed")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    sets = {"generated": range(len(HELD_OUT))[: args.clips]}
    if args.davis:
        sets["pasted"] = range(len(DAVIS_PAIRS))[: args.clips]
    results: dict[str, dict[str, object]] = {kind: {} for kind in sets}
    with ProcessPoolExecutor(args.processes, get_context("spawn")) as pool:
        futures = {
            (kind, policy): [pool.submit(run, kind, number, policy, args) for number in numbers]
            for policy in args.policy or list(mm.POLICIES)
            for kind, numbers in sets.items()
        }
        print("| policy | set | J | F | J&F | J decay | J&F, 95 % | frames/s |")
        print("|---|---|---|---|---|---|---|---|")
        for (kind, policy), waiting in futures.items():
            runs = [future.result() for future in waiting]
            report = Report.merged([one.report for one in runs])
            speed = sum(one.num_frames for one in runs) / sum(one.seconds for one in runs)
            low, high = report.interval() if len(runs) > 1 else (float("nan"), float("nan"))
            values = (report.region.mean, report.boundary.mean, report.j_and_f, report.region.decay)
            total = " | ".join(f"{100 * value:.1f}" for value in values)
            print(f"| {policy} | {kind} | {total} | {100 * low:.1f} to {100 * high:.1f} | {speed:.2f} |", flush=True)
            results[kind][policy] = report.to_dict() | {"frames_per_second": speed}
    if args.json:
        args.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
