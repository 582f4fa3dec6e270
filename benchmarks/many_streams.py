"""Frames a second of several videos stepped together, beside each of them stepped on its own, as Markdown.

    python benchmarks/many_streams.py [--streams 1 2 4] [--device cuda] [--size 480 854] [--objects 1] [--rounds 9]

Both ways take turns, a cycle of five frames of each video at a time, which holds one write of each memory. Frames a
second are those of all videos together: the median and, in brackets, the quartiles. "difference" is the largest between
any two probabilities of both ways, over all frames.
"""

import argparse
from collections.abc import Callable, Sequence

import torch

import mnemask as mm
from mnemask.bench.machine import heading
from mnemask.bench.run import weights_of
from mnemask.bench.timing import Timing, interleaved
from mnemask.bench.whole import CYCLE


def two_ways(
    model: mm.STCN, videos: Sequence[mm.DrawnVideo], short_side: int
) -> tuple[dict[str, Callable[[], None]], list[float]]:
    """Both actions, and where they leave the largest differences of their masks."""
    batch, alone = (
        mm.TrackerBatch([mm.Tracker(model, short_side=short_side) for _ in videos]),
        [mm.Tracker(model, short_side=short_side) for _ in videos],
    )
    moments = [[video[t] for video in videos] for t in range(CYCLE + 1)]
    frames = [[mm.Frame(frame.image.to(model.device), frame.index) for frame, _ in moment] for moment in moments]
    prompts = [
        {k: labels == k for k in range(1, video.num_objects + 1)}
        for video, (_, labels) in zip(videos, moments[0], strict=True)
    ]
    together, separately, differences = [], [], [0.0]

    def step_together() -> None:
        together[:] = [batch.step(now) for now in frames[1:]]

    def step_separately() -> None:
        separately[:] = [[each.step(frame) for each, frame in zip(alone, now, strict=True)] for now in frames[1:]]
        if together:
            differences.append(
                max(
                    float((ours.probs - theirs.probs).abs().max())
                    for pair in zip(together, separately, strict=True)
                    for ours, theirs in zip(*pair, strict=True)
                )
            )

    batch.step(frames[0], prompts)
    for tracker, frame, given in zip(alone, frames[0], prompts, strict=True):
        tracker.step(frame, given)
    return {"together": step_together, "separately": step_separately}, differences
