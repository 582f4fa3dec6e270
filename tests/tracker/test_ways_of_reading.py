"""However a tracker reads, plainly, refined at stride 8 or near, it does so wherever it goes on."""

import pytest
import torch
from drawn_clip import drawn_clip
from refusals import refusal
from thorough import thorough_but
from tracking import followed

import mnemask as mm
from mnemask.errors import CheckpointError, InputError
from mnemask.memory.read import CHANNELS, DETAIL_BYTES
from mnemask.memory.storage import load_bank, save_bank
from mnemask.model.stcn import COMPACT, STCN, STCN_SIZE
from mnemask.pipeline.estimates import estimate_memory

WAYS = (
    {"stride8_weight": 0.0, "kmn_sigma": 0},
    {"stride8_weight": 8.0},
    {"kmn_sigma": 0.15},
    {"stride8_weight": 8.0, "kmn_sigma": 0.15},
)


@pytest.mark.parametrize("way", thorough_but(2, WAYS), ids=str)
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


def test_compact_has_a_kmn_sigma_and_the_published_network_none():
    assert mm.Tracker(mm.load_model("compact")).memory.kmn_sigma == 0.2
    with torch.device("meta"):
        assert STCN(COMPACT).kmn_sigma == 0.2
        assert STCN(STCN_SIZE).kmn_sigma == 0


def test_the_sigma_given_is_the_one_used(tiny_model):
    plain, narrow, wide = (followed(tiny_model, 8, kmn_sigma=kmn_sigma) for kmn_sigma in (0, 0.15, 1000))
    assert torch.equal(plain[1].probs, followed(tiny_model, 8)[1].probs)
    assert not torch.equal(plain[1].probs, narrow[1].probs)
    torch.testing.assert_close(plain[1].probs, wide[1].probs, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("kmn_sigma", [-1, 0.001, "0.15", [0.1]])
def test_a_saved_memory_with_an_impossible_sigma_is_refused(kmn_sigma, tiny_model, tmp_path):
    path = tmp_path / "bad.bank"
    followed(tiny_model, 6)[0].save(path)
    tokens, facts = load_bank(path, torch.device("cpu"))
    save_bank(path, tokens, {**facts, "config": {**facts["config"], "kmn_sigma": kmn_sigma}})
    with refusal(mm.MnemaskError):
        mm.Tracker.load(path, tiny_model)


@pytest.mark.parametrize("kmn_sigma", [-0.1, 0.001, float("nan"), True])
def test_an_impossible_sigma_is_refused_before_a_frame(kmn_sigma, tiny_model):
    with refusal(mm.InputError, r"0\.2"):
        mm.Tracker(tiny_model, kmn_sigma=kmn_sigma)


OFF_RANGE = (-1.0, float("nan"), float("inf"))


def test_refinement_changes_the_masks_and_its_absence_does_not(tiny_model):
    plain, fine = (followed(tiny_model, 8, stride8_weight=stride8_weight) for stride8_weight in (0.0, 8.0))
    assert torch.equal(plain[1].probs, followed(tiny_model, 8)[1].probs)
    assert not torch.equal(plain[1].probs, fine[1].probs)
    assert plain[0].memory.tokens.detail.nbytes == 0
    assert fine[0].memory.tokens.detail.shape == (len(fine[0].memory.tokens), 4, CHANNELS)


def test_a_saved_memory_without_the_detail_that_its_settings_need_is_refused(tiny_model, tmp_path):
    path = tmp_path / "half.bank"
    followed(tiny_model, 6)[0].save(path)
    tokens, facts = load_bank(path, torch.device("cpu"))
    save_bank(path, tokens, {**facts, "config": {**facts["config"], "stride8_weight": 8.0}})
    with refusal(CheckpointError, "stride"):
        mm.Tracker.load(path, tiny_model)


def test_memories_are_not_taken_over_by_a_tracker_that_refines_otherwise(tiny_model):
    tracker, _ = followed(tiny_model, 6, stride8_weight=8.0)
    with refusal(InputError, "tracker"):
        mm.Tracker(tiny_model, short_side=None).warm_start(tracker)
    follower = mm.Tracker(tiny_model, short_side=None, stride8_weight=8.0)
    follower.warm_start(tracker)
    assert follower.step(drawn_clip(1)[0][0]).object_ids == (7, 3)


@pytest.mark.parametrize("stride8_weight", OFF_RANGE)
def test_a_weight_that_is_no_number_from_0_is_refused(stride8_weight, tiny_model):
    with refusal(InputError, r"stride8_weight"):
        mm.Tracker(tiny_model, stride8_weight=stride8_weight)


def test_the_memory_promised_to_a_run_counts_the_detail(tiny_model):
    plain, fine = (
        estimate_memory(
            mm.Tracker(tiny_model, budget=mm.Budget(tokens=5000), stride8_weight=stride8_weight), (480, 854), 2
        ).bank
        for stride8_weight in (0.0, 8.0)
    )
    assert (fine - plain) % (5000 * DETAIL_BYTES) == 0 < fine - plain
