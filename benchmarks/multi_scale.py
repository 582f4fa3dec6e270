"""Measures whether a comparison at stride 8 helps if objects look alike; prints Markdown tables.

    python benchmarks/multi_scale.py [--davis ROOT] [--set SET ...] [--trial NAME ...] [--size 240] [--clips N]

Sets: "choose" and "confirm", generated clips of two to four objects that look alike (`stride8_weight`, called "refine"
in trials, is chosen on the former), and, if DAVIS 2016 val is given, "davis". Each trial is compared with the first
one, clip by clip. "same bytes" holds fewer tokens, to make room for their stride-8 descriptors; "sharper" multiplies
plain affinities by a constant, to separate the effect of detail from that of a sharper softmax. All trackers process a
clip in step and share its key features.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain
from math import sqrt
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from clips import Clip, HeldOutClip, drawn, follow
from jaxtyping import Float
from policy_lab import Moment, moments, resized
from torch import Tensor

import mnemask as mm
from mnemask.datasets.published import DavisSequences
from mnemask.engines.parts import FeatureCache, SharedWeights
from mnemask.memory.read import DETAIL_BYTES
from mnemask.memory.tokens import CellGrid, bytes_per_token
from mnemask.metrics import Report, SequenceScorer, bootstrap_interval
from mnemask.model.stcn import KeyFeatures


@dataclass(frozen=True)
class Trial:
    """How memory is read."""

    stride8_weight: float = 0.0
    same_bytes: bool = False
    sharper: float = 1.0
    kmn_sigma: float = 0.0


TRIALS = {
    "plain": Trial(),
    "refine 4": Trial(4.0),
    "refine 8": Trial(8.0),
    "refine 16": Trial(16.0),
    "refine 8, same bytes": Trial(8.0, same_bytes=True),
    "refine 16, same bytes": Trial(16.0, same_bytes=True),
    "sharper 1.5": Trial(sharper=1.5),
    "sharper 3": Trial(sharper=3.0),
    "kernel 0.2": Trial(kmn_sigma=0.2),
    "kernel 0.2, refine 8": Trial(8.0, kmn_sigma=0.2),
    "kernel 0.2, refine 8, same bytes": Trial(8.0, same_bytes=True, kmn_sigma=0.2),
}


def lookalikes(name: str, seed: int) -> tuple[HeldOutClip, ...]:
    """Returns twelve clips of two, three and four objects, half of them with an occluder that passes in front."""
    return tuple(
        HeldOutClip(f"{name}-{i}", 2 + i % 3, seed + i, lookalikes=True, num_occluders=i % 2) for i in range(12)
    )


DRAWN = {"choose": lookalikes("choose", 400), "confirm": lookalikes("confirm", 500)}


class Sharper(SharedWeights):
    """The same network with keys scaled so that all affinities are multiplied by a constant."""

    def __init__(self, look: FeatureCache, factor: float) -> None:
        super().__init__(look)
        self.look, self.factor = (look,), factor  # in a tuple, so that its weights are not registered twice

    def encode_key(self, image: Float[Tensor, "B 3 H W"]) -> KeyFeatures:
        features = self.look[0].encode_key(image)
        return replace(features, key=features.key * sqrt(self.factor))


def tracker_of(trial: Trial, look: FeatureCache, size: tuple[int, int], num_objects: int) -> mm.Tracker:
    """Returns a tracker with the default policy and 2 frames, or as many bytes as 2 frames of plain tokens take."""
    network = Sharper(look, trial.sharper) if trial.sharper != 1 else look
    tokens = 2 * CellGrid(size, None).num_cells
    if trial.same_bytes:
        config = look.config
        plain = bytes_per_token(num_objects, config.key_channels, config.value_channels, look.dtype.itemsize)
        tokens = tokens * plain // (plain + DETAIL_BYTES)
    budget = mm.Budget(tokens=tokens)
    return mm.Tracker(
        network, budget=budget, stride8_weight=trial.stride8_weight, kmn_sigma=trial.kmn_sigma, short_side=None
    )


def opened(kind: str, name: str, args: argparse.Namespace) -> Iterator[Moment]:
    if kind == "davis":
        return (resized(moment, args.size) for moment in moments(Clip(kind, name), args.davis))
    video = drawn(name, DRAWN[kind]).open(size=(args.size, 2 * round(args.size * 427 / 480)))
    return (
        (np.ascontiguousarray(frame.image.numpy().transpose(1, 2, 0)), labels.numpy()) for frame, labels, _ in video
    )


def score(kind: str, name: str, trials: Sequence[str], args: argparse.Namespace) -> dict[str, Report]:
    """Returns the scores of each trial on one clip."""
    torch.set_num_threads(1)
    look = FeatureCache(mm.load_model(args.model))
    frames = opened(kind, name, args)
    first = next(frames)
    num_objects = np.count_nonzero(np.unique(first[1]))
    trackers = {trial: tracker_of(TRIALS[trial], look, first[1].shape, num_objects) for trial in trials}
    scorers = {trial: SequenceScorer(name) for trial in trials}
    follow(chain([first], frames), trackers, scorers, (look,))
    print(f"{kind} {name}", file=sys.stderr, flush=True)
    return {trial: scorer.report() for trial, scorer in scorers.items()}


def table(title: str, reports: Sequence[dict[str, Report]]) -> str:
    """Returns a Markdown table: means over all objects, and paired differences from the first trial."""
    first = next(iter(reports[0]))
    weights = np.array([len(report[first].objects) for report in reports])
    lines = [f"| {title} | J | F | J&F | J&F − {first} (95 %) | better, worse |", "|---" * 6 + "|"]
    for trial in reports[0]:
        parts = [(report[trial].region.mean, report[trial].boundary.mean) for report in reports]
        j, f = np.average(100 * np.array(parts), axis=0, weights=weights)
        gain = 100 * np.array([report[trial].j_and_f - report[first].j_and_f for report in reports])
        low, high = bootstrap_interval(gain, weights=weights) if len(gain) > 1 else (np.nan, np.nan)
        difference = f"{np.average(gain, weights=weights):+.1f} ({low:+.1f} to {high:+.1f})"
        counts = f"{(gain > 0.05).sum()}, {(gain < -0.05).sum()}"
        lines.append(f"| {trial} | {j:.1f} | {f:.1f} | {(j + f) / 2:.1f} | {difference} | {counts} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--davis", type=Path, help="root of DAVIS 2016")
    parser.add_argument("--model", default="compact")
    parser.add_argument("--set", action="append", choices=[*DRAWN, "davis"])
    parser.add_argument(
        "--trial",
        action="append",
        choices=list(TRIALS),
        help="only these; the others are compared with the first; by default all, plain first",
    )
    parser.add_argument("--clips", type=int, help="use only the first CLIPS clips of each set")
    parser.add_argument("--size", type=int, default=240, help="height of the frames")
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    names = {kind: [clip.name for clip in clips] for kind, clips in DRAWN.items()}
    if args.davis:
        names["davis"] = list(DavisSequences(args.davis, 2016).names)
    trials = list(dict.fromkeys(args.trial or TRIALS))
    with ProcessPoolExecutor(args.processes, get_context("spawn")) as pool:
        waiting = {
            kind: [pool.submit(score, kind, name, trials, args) for name in names[kind][: args.clips]]
            for kind in args.set or names
        }
        for kind, futures in waiting.items():
            reports = [future.result() for future in futures]
            print(table(f"{kind}, {len(reports)} clips", reports), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
