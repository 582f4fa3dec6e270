"""What the tests of the tracker share."""

import torch

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
