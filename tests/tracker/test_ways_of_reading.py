"""However a tracker reads, plainly, refined at stride 8 or near, it does so wherever it goes on."""

import pytest
import torch
from drawn_clip import drawn_clip
from tracking import followed

import mnemask as mm

WAYS = (
    {"stride8_weight": 0.0, "kmn_sigma": 0},
    {"stride8_weight": 8.0},
    {"kmn_sigma": 0.15},
    {"stride8_weight": 8.0, "kmn_sigma": 0.15},
)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_tracker_goes_on_identically_when_saved_or_forked(way, tiny_model, tmp_path):
    tracker, _ = followed(tiny_model, 8, **way)
    tracker.save(tmp_path / "half.bank")
    loaded, fork = mm.Tracker.load(tmp_path / "half.bank", tiny_model), tracker.fork()
    assert loaded.memory.stats() == tracker.memory.stats()
    for frame in drawn_clip(20, num_objects=2)[0][8:]:
        expected = tracker.step(frame).probs
        assert torch.equal(loaded.step(frame).probs, expected)
        assert torch.equal(fork.step(frame).probs, expected)


def test_a_batch_reads_as_each_tracker_does_alone(tiny_model):
    trackers = [followed(tiny_model, 5, **way)[0] for way in WAYS]
    frame = drawn_clip(6, num_objects=2)[0][5]
    alone = [tracker.fork().step(frame) for tracker in trackers]
    together = mm.TrackerBatch(trackers).step([frame] * len(trackers))
    for expected, masks in zip(alone, together, strict=True):
        torch.testing.assert_close(masks.probs, expected.probs, atol=1e-4, rtol=1e-3)
