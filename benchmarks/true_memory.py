"""Measures how much errors compound: J with the network's own masks in memory, and with the true ones.

    python benchmarks/true_memory.py DAVIS2016 [--sequence NAME ...] [--model PATH] [--kmn-sigma SHARE] [--processes 2]

Memory grows by every fifth frame (`keep-all`). "own" is ordinary tracking. For "true", the network predicts the mask of
each frame too, but every fifth frame is written to memory with its annotation. This is not a usable tracker: the
difference is the gain if nothing wrong were ever written to memory.
"""

import argparse
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch

import mnemask as mm
from mnemask.datasets.annotated import AnnotatedVideo
from mnemask.datasets.published import DavisSequences
from mnemask.io.images import read_image
from mnemask.metrics import Report, SequenceScorer
from mnemask.model.stcn import STCN
from mnemask.types import Frame

EVERY = 5


def follow(model: STCN, sequence: AnnotatedVideo, true_memory: bool, kmn_sigma: float | None) -> Report:
    """Returns the score of all frames except the first and the last, as in DAVIS 2016."""
    tracker = mm.Tracker(model, policy="keep-all", kmn_sigma=kmn_sigma)
    scorer = SequenceScorer(sequence.name, "davis2016")
    for index, path in enumerate(sequence.frames):
        frame, truth = Frame(read_image(path), index), sequence.read_labels(index)
        if index == 0:
            masks = tracker.step(frame, {1: torch.from_numpy(truth) == 1})
        elif true_memory and index % EVERY == 0 and truth.any():
            masks = tracker.fork().step(frame)
            tracker.step(frame, {1: torch.from_numpy(truth) == 1})
        else:
            masks = tracker.step(frame)
        scorer.add(truth, masks.labels.numpy())
    return scorer.report()


def run(root: Path, name: str, model: str, true_memory: bool, kmn_sigma: float | None) -> float:
    torch.set_num_threads(1)
    return follow(mm.load_model(model), DavisSequences(root, 2016)[name], true_memory, kmn_sigma).region.mean


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--sequence", action="append")
    parser.add_argument("--model", default="compact")
    parser.add_argument("--kmn-sigma", type=float, help="σ of the KMN kernel; by default the model's own, 0 for none")
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    names = args.sequence or DavisSequences(args.root, 2016).names
    with ProcessPoolExecutor(args.processes, get_context("spawn")) as pool:
        found = {
            (name, true): pool.submit(run, args.root, name, args.model, true, args.kmn_sigma)
            for name in names
            for true in (False, True)
        }
        print("| sequence | own, J | true, J |\n|---|---|---|")
        for name in names:
            print(f"| {name} | {100 * found[name, False].result():.1f} | {100 * found[name, True].result():.1f} |")
    means = [sum(found[name, true].result() for name in names) / len(names) for true in (False, True)]
    print(f"| mean | {100 * means[0]:.1f} | {100 * means[1]:.1f} |")


if __name__ == "__main__":
    main()
