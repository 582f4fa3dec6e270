"""Compares the speed of J and F with trackeval, which has the official DAVIS tool's code; prints Markdown.

    python benchmarks/scoring_speed.py DAVIS2016 [--frames 20] [--rounds 7]

Predictions are the true masks of two frames later, so outlines differ as those of a tracker do. Masks are in memory,
trackeval's as the run-length codes that it takes. Both run in one process on the first `--frames` frames of each
sequence and are timed in turns. Needs the dev extra, and scikit-image, of which trackeval uses one function.
"""

import argparse
import warnings
from pathlib import Path

import numpy as np
import torch
from pycocotools import mask as rle
from trackeval.metrics import JAndF

from mnemask.bench.machine import interleaved
from mnemask.datasets.published import DavisSequences
from mnemask.metrics import SequenceScorer


def encoded(masks: list[np.ndarray]) -> list[list[dict]]:
    return [[rle.encode(np.asfortranarray(mask != 0, np.uint8))] for mask in masks]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("davis", type=Path)
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    warnings.simplefilter("ignore", DeprecationWarning)  # pycocotools with NumPy 2
    sequences = DavisSequences(args.davis, 2016)
    print("| sequence | mnemask, ms a frame | trackeval | ratio | largest difference |\n|---|---|---|---|---|")
    ratios = []
    for name in sequences.names:
        truth = [sequences[name].read_labels(index) for index in range(args.frames + 2)]
        pairs = list(zip(truth, truth[2:], strict=False))
        theirs, metric = (encoded(truth[:-2]), encoded(truth[2:])), JAndF()

        def ours(pairs: list[tuple[np.ndarray, np.ndarray]] = pairs) -> np.ndarray:
            scorer = SequenceScorer("sequence", "davis2016")
            for true, predicted in (pairs[0], *pairs):  # the first frame is given, not scored
                scorer.add(true, predicted)
            scorer.add(*pairs[0])  # nor is the last
            (one,) = scorer.report().objects
            return np.array([one.region.mean, one.boundary.mean])

        def official(theirs: tuple = theirs, metric: JAndF = metric) -> np.ndarray:
            region = metric._compute_j(*theirs, 1, 1, len(theirs[0]))[0, 0]
            return np.array([region.mean(), metric._compute_f(*theirs, 0, 0, 0.008).mean()])

        difference = np.abs(ours() - official()).max()
        times = interleaved({"ours": ours, "official": official}, args.rounds, torch.device("cpu"))
        mine, other = times["ours"].per(args.frames + 2), times["official"].per(args.frames)
        ratios.append(other.median / mine.median)
        print(
            f"| {name} | {mine.milliseconds} | {other.milliseconds} | {ratios[-1]:.1f} | {difference:.1e} |", flush=True
        )
    print(f"| median | | | {np.median(ratios):.1f} | |")


if __name__ == "__main__":
    main()
