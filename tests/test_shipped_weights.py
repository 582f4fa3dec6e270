"""A floor for the weights in the package: what they reach on two drawn clips, so that a bad change of them is noticed.

The clips have objects that cross each other's way, 160 pixels high, 12 frames. J was measured with the weights that
`MEASURED_WITH` names; each floor is 4 points below. Other weights must reach the floors too. Where a change is meant to
lower them, measure again with `python tests/test_shipped_weights.py` and say so in the commit.
"""

import hashlib
from statistics import fmean

import pytest

import mnemask as mm
from mnemask.datasets.synthetic.drawn import DrawnVideo
from mnemask.datasets.synthetic.video import SyntheticVideo
from mnemask.metrics import region_similarity
from mnemask.model.checkpoints import packaged_weights

MEASURED_WITH = "73dd91df966a"  # the first digits of the file's SHA-256
SIZE, NUM_FRAMES = (160, 240), 12
CLIPS = {
    "drawn": DrawnVideo(NUM_FRAMES, SIZE, num_objects=2, seed=1),
    "synthetic": SyntheticVideo(NUM_FRAMES, SIZE, num_objects=2, seed=200, num_occluders=0, pace=3),
}
FLOORS = {
    ("drawn", "diverse"): 0.90,
    ("drawn", "lfu"): 0.90,
    ("drawn", "first-and-latest"): 0.90,
    ("synthetic", "diverse"): 0.89,
    ("synthetic", "lfu"): 0.89,
    ("synthetic", "first-and-latest"): 0.89,
}


def mean_j(model, clip, policy):
    """J of every object in every frame after the first, where there is one."""
    tracker, scores = mm.Tracker(model, policy=policy, short_side=None), []
    for frame, labels, *_ in CLIPS[clip]:
        ids = [i for i in (1, 2) if (labels == i).any()]
        masks = tracker.step(frame, {i: labels == i for i in ids} if frame.index == 0 else None)
        if frame.index:
            found = masks.labels
            scores += [region_similarity((found == i).numpy(), (labels == i).numpy()) for i in ids]
    return fmean(scores)


@pytest.fixture(scope="module")
def shipped():
    return mm.load_model("compact", device="cpu")


@pytest.mark.parametrize(("clip", "policy"), FLOORS)
def test_the_shipped_weights_follow_drawn_objects(shipped, clip, policy):
    digest = hashlib.sha256(packaged_weights("compact").read_bytes()).hexdigest()
    score = mean_j(shipped, clip, policy)
    assert score >= FLOORS[clip, policy], f"weights {digest[:12]}; the floor was measured with {MEASURED_WITH}"


if __name__ == "__main__":
    model = mm.load_model("compact", device="cpu")
    for clip, policy in FLOORS:
        print(f'    ("{clip}", "{policy}"): {mean_j(model, clip, policy) - 0.04:.2f},')
