"""Faults of the device and the network are named, and leave the tracker as it was."""

import copy

import pytest
import torch
from drawn_clip import drawn_clip
from refusals import refusal

import mnemask as mm
from mnemask.errors import BudgetError, FrameError
from mnemask.model.checkpoints import save_model
from mnemask.model.stcn import STCN


class Exhausted(STCN):
    """A network on a device that has no memory left."""

    def encode_value(self, image, features, masks):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 79 GiB in all")


def test_a_device_without_memory_is_an_error_that_names_the_knobs(tiny_model):
    frames, masks = drawn_clip(1, num_objects=2)
    model = Exhausted(tiny_model.config).requires_grad_(False).eval()
    model.load_state_dict(tiny_model.state_dict())
    tracker = mm.Tracker(model, short_side=None)
    with refusal(BudgetError, r"96×64", r"\(CUDA", r"--size", r"--budget"):
        tracker.step(frames[0], {1: masks[0, 0], 2: masks[0, 1]})
    assert tracker.object_ids == ()
    assert tracker.memory.tokens is None


@pytest.mark.parametrize(("part", "named"), [("key_projection", "keys"), ("decoder", "masks")])
def test_numbers_that_are_none_are_an_error_that_names_the_frame(tiny_model, part, named):
    frames, masks = drawn_clip(4)
    model = copy.deepcopy(tiny_model)
    tracker = mm.Tracker(model, short_side=None)
    tracker.step(frames[0], {1: masks[0, 0]})
    before = tracker.state()
    next(getattr(model, part).parameters()).fill_(torch.nan)
    with refusal(FrameError, rf"{named}"):
        tracker.step(frames[1])
    assert tracker.state() == before
    model.load_state_dict(tiny_model.state_dict())
    other = mm.Tracker(tiny_model, short_side=None)
    other.step(frames[0], {1: masks[0, 0]})
    assert torch.equal(tracker.step(frames[1]).probs, other.step(frames[1]).probs)


@pytest.mark.parametrize("number", [torch.nan, torch.inf])
def test_weights_that_are_no_numbers_are_refused_at_load(tiny_model, tmp_path, number):
    model = copy.deepcopy(tiny_model)
    model.decoder.pred.weight.view(-1)[0] = number
    save_model(model, tmp_path / "broken.safetensors", dtype=torch.float32)
    with refusal(mm.errors.CheckpointError, r"decoder\.pred\.weight"):
        mm.load_model(tmp_path / "broken.safetensors")
