"""Masks as they were recorded, for each policy and both networks: the judge of whether a change keeps them.

`python tests/recorded_masks.py` says how far today's masks are from the record. `--record` writes a new record, which
belongs only in a change that is meant to alter masks; say so in its commit.

The weights are drawn from a seed, so that the record outlives those in the package. The clips are drawn too. Everything
is computed in float32, so that processors differ in the last bits only.
"""

import io
import lzma
import sys
from dataclasses import dataclass, field, replace
from functools import cache
from math import sqrt
from pathlib import Path

import numpy as np
import torch
from drawn_clip import drawn_clip

import mnemask as mm
from mnemask.model.stcn import COMPACT, STCN, STCN_SIZE

RECORD = Path(__file__).parent / "recorded" / "masks.xz"
# Both shapes with few channels, for speed, and the kernel that each reads with.
NARROW = {"key_channels": 16, "value_channels": 64, "compressed_channels": 32, "decoder_channels": (64, 32, 32)}
NETWORKS = {"compact": (replace(COMPACT, **NARROW), 0.2), "paper": (replace(STCN_SIZE, **NARROW), 0.0)}
IDS = (3, 1, 700)
NUM_FRAMES = 10

# Names in the record stay as they are; where a policy is renamed, its new name goes to the right.
POLICIES = {
    "distinct": "diverse",
    "least-used": "lfu-pinned",
    "thesis": "lfu",
    "keep-all": "keep-all",
    "first-and-latest": "first-and-latest",
    "fifo": "fifo",
    "lru": "lru",
    "random": "random",
    "softmax-index": "attention-mass",
    "afb": "afb",
    "prototypes": "prototypes",
    "rmem": "rmem",
    "readmem": "readmem",
    "with-latest": "with-latest",
    "per-object": "per-object",
}
# Ways of reading, and a small budget: recorded with the compact network.
SETTINGS = {
    "distinct, dot": {"metric": "dot"},
    "distinct, cosine": {"metric": "cosine"},
    "distinct, refine": {"stride8_weight": 2.0},
    "distinct, no kernel": {"kmn_sigma": 0.0},
    "distinct, top 3": {"top_k": 3},
    "thesis, 14 tokens": {"budget": mm.Budget(tokens=14)},
}


@dataclass(frozen=True)
class Clip:
    """What is tracked: objects are numbered from 0, and `given` and `removed` are by frame."""

    height: int
    width: int
    num_objects: int
    given: dict[int, tuple[int, ...]]
    removed: dict[int, int] = field(default_factory=dict)
    short_side: int | None = None
    budget: float = 2.6  # frames, where the policy forgets at all

    def frames_and_masks(self):
        return drawn_clip(NUM_FRAMES, self.height, self.width, self.num_objects)


CLIPS = {
    "two": Clip(48, 64, 2, {0: (0, 1)}),
    "late, corrected, removed": Clip(48, 64, 2, {0: (0,), 3: (1,), 5: (0,)}, {8: 1}, budget=4),
    "three, resized": Clip(71, 95, 3, {0: (0, 1, 2)}, short_side=48),
}


@cache
def seeded_network(size):
    """A network of random weights; its masks depend on what it remembers and move with the frames."""
    with torch.device("meta"):
        model = STCN(NETWORKS[size][0])
    numbers = np.random.RandomState(1)  # its uniform numbers never change, on no machine
    state = {}
    for name, tensor in model.state_dict().items():
        bound = 0.0 if tensor.ndim == 1 else sqrt(6 * len(tensor) / tensor.numel())
        bound *= 0.5 if name.endswith(("conv2.weight", "conv3.weight")) else 1
        drawn = numbers.uniform(-bound, bound, tensor.numel()).astype(np.float32)
        state[name] = torch.from_numpy(drawn).view(tensor.shape)
    model.load_state_dict(state, assign=True)
    model.requires_grad_(False).eval()
    model.value_encoder.resnet.conv1.weight[:, 3:] *= 5  # what is remembered depends on the masks,
    model.decoder.up_16_8.skip_conv.weight.mul_(0.3)  # what is decoded on what is remembered,
    model.decoder.up_8_4.skip_conv.weight.mul_(0.3)
    model.key_projection.weight.mul_(0.3)  # and more than one memory is read
    weight = model.decoder.pred.weight
    weight.sub_(weight.mean()).mul_(0.8)
    return model.to(memory_format=torch.channels_last)


def runs():
    """Network, policy and settings of all that is recorded, by name."""
    every = {f"{size}, {policy}": (size, policy, {}) for size in NETWORKS for policy in POLICIES}
    return every | {f"compact, {name}": ("compact", name.split(", ")[0], more) for name, more in SETTINGS.items()}


def labels_of(run, clip):
    """The labels of all frames, uint16 [T H W]; policies write every second frame at least, to have more to decide."""
    size, policy, settings = runs()[run]
    clip, policy = CLIPS[clip], mm.POLICIES[POLICIES[policy]]
    settings = {
        "kmn_sigma": NETWORKS[size][1],
        "write_on_growth": 0.0,  # recorded before a policy had one of its own
        "short_side": clip.short_side,
        "budget": None if policy.default_frames is None else mm.Budget(frames=clip.budget),
    } | settings
    tracker = mm.Tracker(
        seeded_network(size), policy=replace(policy, write_every=min(2, policy.write_every)), **settings
    )
    frames, masks = clip.frames_and_masks()
    labels = []
    for t, frame in enumerate(frames):
        if t in clip.removed:
            tracker.remove(IDS[clip.removed[t]])
        answer = tracker.step(frame, {IDS[k]: masks[t, k] for k in clip.given.get(t, ())})
        labels.append(answer.labels.numpy().astype(np.uint16))
    return np.stack(labels)


@cache
def recorded():
    """The recorded labels of each run and clip, by names joined with a semicolon."""
    with np.load(io.BytesIO(lzma.decompress(RECORD.read_bytes()))) as file:
        return dict(file)


def names():
    return [f"{run}; {clip}" for run in runs() for clip in CLIPS]


def num_differing(name):
    """How many pixels are not as they were recorded."""
    return int((labels_of(*name.split("; ")) != recorded()[name]).sum())


def record():
    file = io.BytesIO()
    np.savez(file, **{name: labels_of(*name.split("; ")) for name in names()})
    RECORD.write_bytes(lzma.compress(file.getvalue(), preset=9))


def compare():
    for name in names():
        if differing := num_differing(name):
            print(f"{name}: {differing} of {recorded()[name].size} pixels differ")


if __name__ == "__main__":
    record() if "--record" in sys.argv else compare()
