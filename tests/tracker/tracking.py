"""What the tests of the tracker share."""

import torch
from drawn_clip import drawn_clip

import mnemask as mm

CELLS = 24  # of a frame of 64×96


def run(tracker, frames, prompts=None):
    """The masks of all frames; prompts by position."""
    return [tracker.step(frame, (prompts or {}).get(t)) for t, frame in enumerate(frames)]


def equal(first, second):
    """Whether two answers are the same to the last bit."""
    return (
        first.object_ids == second.object_ids
        and torch.equal(first.labels, second.labels)
        and torch.equal(first.probs, second.probs)
    )


def state(tracker):
    """Everything that a tracker knows, but for the network."""
    tokens = tracker.memory.tokens
    return {
        "ids": tracker.object_ids,
        "steps": (tracker.steps, tracker.last_write, tracker.size),
        "stats": tracker.memory.stats(),
        "tokens": tokens if tokens is None else {name: t.clone() for name, t in tokens.tensors().items()},
    }


def assert_same_state(first, second):
    first, second = state(first), state(second)
    assert {k: v for k, v in first.items() if k != "tokens"} == {k: v for k, v in second.items() if k != "tokens"}
    assert (first["tokens"] is None) == (second["tokens"] is None)
    for name in first["tokens"] or {}:
        assert torch.equal(first["tokens"][name], second["tokens"][name]), name


def followed(model, num_frames, **options):
    """A tracker after some frames of two objects, of which one comes late, and its last masks."""
    frames, masks = drawn_clip(num_frames, num_objects=2)
    tracker = mm.Tracker(model, short_side=None, **options)
    for t, frame in enumerate(frames):
        answer = tracker.step(frame, {7: masks[0, 0]} if t == 0 else {3: masks[t, 1]} if t == 3 else None)
    return tracker, answer
