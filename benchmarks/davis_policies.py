"""J, F and speed of each memory policy on DAVIS, as a Markdown table and JSON.

    python benchmarks/davis_policies.py ROOT --year 2016 [--model PATH] [--policy NAME ...] [--json FILE]

Sequences are shared out to `--processes` of one thread each; frames/s is that of one thread.
"""

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch

import mnemask as mm
from mnemask.datasets.davis import DavisSequences
from mnemask.evaluation.runner import Evaluation, evaluate
from mnemask.metrics import Report


def run(root: Path, year: int, name: str, policy: str, model: str, frames: float | None) -> Evaluation:
    torch.set_num_threads(1)
    network = mm.load_model(model)
    budget = None if frames is None else mm.Budget(frames=frames)
    return evaluate(lambda: mm.Tracker(network, policy=policy, budget=budget), [DavisSequences(root, year)[name]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--year", type=int, default=2016)
    parser.add_argument("--model", default="compact")
    parser.add_argument("--policy", action="append", choices=list(mm.POLICIES))
    parser.add_argument("--frames", type=float, help="budget in frames; by default the policy's own")
    parser.add_argument("--sequence", action="append")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    names = args.sequence or DavisSequences(args.root, args.year).names
    policies = args.policy or list(mm.POLICIES)
    results = {}
    with ProcessPoolExecutor(args.processes, get_context("spawn")) as pool:
        futures = {
            (policy, name): pool.submit(run, args.root, args.year, name, policy, args.model, args.frames)
            for policy in policies
            for name in names
        }
        print("| policy | " + " | ".join((*names, "J", "F", "J&F", "J decay", "95 %", "frames/s", "MiB")) + " |")
        print("|---" * (len(names) + 8) + "|")
        for policy in policies:
            runs = [futures[policy, name].result() for name in names]
            report = Report.merged([one.report for one in runs])
            speed = sum(one.num_frames for one in runs) / sum(one.seconds for one in runs)
            each = [f"{100 * one.report.region.mean:.1f} / {100 * one.report.boundary.mean:.1f}" for one in runs]
            low, high = report.interval() if len(names) > 1 else (float("nan"), float("nan"))
            values = (report.region.mean, report.boundary.mean, report.j_and_f, report.region.decay)
            total = [f"{100 * value:.1f}" for value in values]
            mib = max(one.most_bytes for one in runs) / 2**20
            cells = (policy, *each, *total, f"{100 * low:.1f} to {100 * high:.1f}", f"{speed:.2f}", f"{mib:.1f}")
            print("| " + " | ".join(cells) + " |", flush=True)
            results[policy] = report.to_dict() | {"frames_per_second": speed, "bank_mib": mib}
    if args.json:
        args.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
