"""Compares the speed of several videos stepped together and stepped one by one; prints Markdown.

    python benchmarks/many_streams.py [--streams 1 2 4] [--device cuda] [--size 480 854] [--objects 1] [--rounds 9]

Both ways take turns, five frames of each video at a time, one of which is written to memory. Frames per second are
those of all videos together: the median and, in brackets, the quartiles. "difference" is the largest difference
between the probabilities of both ways after all rounds. To try it out: --size 96 160 --rounds 2.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

import mnemask as mm
from mnemask.bench.machine import Timing, heading, interleaved
from mnemask.bench.parts import CYCLE
from mnemask.bench.run import weights_of
from mnemask.model.stcn import STCN


class Streams:
    """Videos whose first frame is done, tracked in both ways."""

    def __init__(self, model: STCN, videos: Sequence[mm.DrawnVideo], short_side: int) -> None:
        self.batch = mm.TrackerBatch(mm.Tracker(model, write_every=CYCLE, short_side=short_side) for _ in videos)
        self.alone = [mm.Tracker(model, write_every=CYCLE, short_side=short_side) for _ in videos]
        first = [video[0] for video in videos]
        prompts = [{k: labels == k for k in range(1, videos[0].num_objects + 1)} for _, labels in first]
        self.batch.step([frame for frame, _ in first], prompts)
        for tracker, (frame, _), given in zip(self.alone, first, prompts, strict=True):
            tracker.step(frame, given)
        self.frames = [[video[t][0].image.to(model.device) for video in videos] for t in range(1, CYCLE + 1)]

    def together(self) -> list[mm.Masks]:
        return [self.batch.step(frames) for frames in self.frames][-1]

    def separately(self) -> list[mm.Masks]:
        # One video after the other, as separate runs would be.
        return [[tracker.step(moment[i]) for moment in self.frames][-1] for i, tracker in enumerate(self.alone)]


def rate(timing: Timing, num_frames: int) -> str:
    return f"{num_frames / timing.median:.1f} ({num_frames / timing.high:.1f}–{num_frames / timing.low:.1f})"


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="compact", help="compact, a checkpoint, or stcn with random weights")
    parser.add_argument("--streams", type=int, nargs="+", default=(1, 2, 4))
    parser.add_argument("--objects", type=int, default=1, help="in each video")
    parser.add_argument("--device")
    parser.add_argument("--size", type=int, nargs=2, default=(480, 854))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with TemporaryDirectory() as folder:
        model = mm.load_model(weights_of(args.model, Path(folder))[0], device=args.device)
    videos = [mm.DrawnVideo(CYCLE + 1, tuple(args.size), args.objects, seed) for seed in range(max(args.streams))]
    cases = {count: Streams(model, videos[:count], min(args.size)) for count in args.streams}
    actions = {(count, way): getattr(case, way) for count, case in cases.items() for way in ("separately", "together")}
    times = interleaved(actions, args.rounds, model.device)
    print(heading(model.device))
    print(
        f"{args.model} in {model.dtype}, {args.objects} object(s) in each video of {args.size[1]}×{args.size[0]} px.\n"
    )
    print("| videos | separately, frames/s | together, frames/s | ratio | difference |\n|---|---|---|---|---|")
    for count, case in cases.items():
        separately, together = times[count, "separately"], times[count, "together"]
        pairs = zip(case.together(), case.separately(), strict=True)
        difference = max(float((ours.probs - theirs.probs).abs().max()) for ours, theirs in pairs)
        print(
            f"| {count} | {rate(separately, count * CYCLE)} | {rate(together, count * CYCLE)} | "
            f"{separately.median / together.median:.2f} | {difference:.0e} |"
        )


if __name__ == "__main__":
    main()
