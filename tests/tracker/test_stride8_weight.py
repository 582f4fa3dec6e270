"""Reads refined at stride 8: an option that is off by default, kept with the tracker, and paid for by the budget."""

import pytest
import torch
from drawn_clip import drawn_clip
from refusals import refusal
from tracking import followed

import mnemask as mm
from mnemask.errors import CheckpointError, InputError
from mnemask.memory.read import CHANNELS, DETAIL_BYTES
from mnemask.memory.storage import load_bank, save_bank
from mnemask.pipeline.estimates import estimate_memory

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
