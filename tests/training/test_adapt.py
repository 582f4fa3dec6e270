"""A network tuned to one annotated frame, and the clips it is tuned on."""

import cv2
import numpy as np
import pytest
import torch
from drawn_clip import drawn_clip
from refusals import refusal

import mnemask as mm
from mnemask.datasets.clips import ClipShape
from mnemask.datasets.first_frame import FirstFrameClips, fill_in
from mnemask.engines.parts import SharedWeights
from mnemask.errors import InputError, MaskError
from mnemask.training import adapt as adapting
from mnemask.training.adapt import parse_length

SHAPE = ClipShape(64, 3, 2)


@pytest.fixture(scope="module")
def annotated():
    """A frame and the masks of two objects in it."""
    frames, masks = drawn_clip(1, 80, 112, num_objects=2)
    return frames[0], {7: masks[0, 0], 3: masks[0, 1]}


@pytest.fixture(scope="module")
def source(annotated):
    frame, masks = annotated
    return FirstFrameClips(frame.permute(1, 2, 0).contiguous().numpy(), (masks[7] + 2 * masks[3]).byte().numpy())


def test_a_clip_begins_with_the_frame_and_its_objects_move(source):
    clips = [source.draw(np.random.default_rng(seed), SHAPE) for seed in range(8)]
    again = source.draw(np.random.default_rng(3), SHAPE)
    assert (again.frames == clips[3].frames).all()
    assert (again.labels == clips[3].labels).all()
    for clip in clips:
        assert clip.frames.shape == (3, 64, 64, 3)
        assert set(np.unique(clip.labels[0])) - {0, 255} == set(range(1, clip.num_objects + 1))
    assert any((clip.labels[0] != clip.labels[1]).any() for clip in clips)
    assert max(clip.num_objects for clip in clips) == 2


def test_of_two_objects_one_may_move_along_unlabelled(source):
    shape = ClipShape(64, 2, 1)
    assert all(source.draw(np.random.default_rng(seed), shape).num_objects == 1 for seed in range(4))


def test_a_hole_is_filled_from_around_it():
    picture = np.full((60, 90, 3), 200, np.uint8)
    hole = np.zeros((60, 90), bool)
    hole[20:40, 30:50] = True
    picture[hole] = 0
    assert np.abs(fill_in(picture, hole).astype(int) - 200).max() <= 6  # of 200, where the rim is soft


def test_an_object_at_the_border_is_cut_out_and_no_object_is_refused():
    labels = np.zeros((64, 64), np.uint8)
    with refusal(InputError, "labelled"):
        FirstFrameClips(np.zeros((64, 64, 3), np.uint8), labels)
    cv2.rectangle(labels, (0, 20), (25, 45), 1, -1)
    source = FirstFrameClips(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8), labels)
    assert not source.parts[1].loose
    assert source.draw(np.random.default_rng(0), SHAPE).num_objects == 1


def weights(model):
    return torch.cat([weight.flatten().float() for weight in model.state_dict().values()])


def test_so_many_steps_give_the_same_network_and_leave_the_given_one(tiny_model, annotated, monkeypatch):
    monkeypatch.setattr(adapting, "NUM_HELD_OUT", 1)
    monkeypatch.setattr(adapting, "mean_iou", scores(0.1, 0.2))
    before, told = weights(tiny_model), []
    first, second = (
        mm.adapt(tiny_model, *annotated, steps=1, short_side=64, on_step=lambda steps, spent: told.append(steps))
        for _ in range(2)
    )
    assert (first.kept, first.steps, first.before, first.after) == (True, 1, 0.1, 0.2)
    assert torch.equal(weights(first.model), weights(second.model))
    assert not torch.equal(weights(first.model), before)
    assert torch.equal(weights(tiny_model), before)
    assert told == [1, 1]
    frozen = [name for name in first.model.state_dict() if name.startswith("key_")]
    assert all(
        torch.equal(first.model.state_dict()[name], tiny_model.state_dict()[name])
        for name in frozen
        if not name.startswith("key_compression")
    )
    assert not any(parameter.requires_grad for parameter in first.model.parameters())


def scores(*values):
    """A measure that gives these numbers in turn, again and again."""
    left = []

    def measure(*_):
        left[:] = left or values
        return left.pop(0)

    return measure


def test_a_network_that_does_no_better_is_not_kept(tiny_model, annotated, monkeypatch):
    monkeypatch.setattr(adapting, "NUM_HELD_OUT", 1)
    monkeypatch.setattr(adapting, "mean_iou", scores(0.5, 0.5))
    done = mm.adapt(tiny_model, *annotated, seconds=0.01, short_side=64)
    assert done.model is tiny_model
    assert not done.kept
    assert done.to_dict().keys() == {"kept", "steps", "before", "after", "seconds"}


@pytest.mark.parametrize(("text", "length"), [("60s", {"seconds": 60}), (" 100 ", {"steps": 100})])
def test_a_length_is_seconds_or_steps(text, length):
    assert parse_length(text) == length


@pytest.mark.parametrize("text", ["", "s", "1m", "0", "-3s", "1.5", "nans", "infs"])
def test_what_is_no_length_is_refused(text):
    with refusal(InputError, "60s"):
        parse_length(text)


def test_what_cannot_be_adapted_is_refused(tiny_model, annotated):
    frame, masks = annotated
    with refusal(InputError, "steps is None"):
        mm.adapt(tiny_model, frame, masks)
    with refusal(InputError, "SharedWeights"):
        mm.adapt(SharedWeights(tiny_model), frame, masks, steps=1)
    with refusal(InputError, "no objects"):
        mm.adapt(tiny_model, frame, {}, steps=1)
    with refusal(MaskError, "7"):
        mm.adapt(tiny_model, frame, {7: torch.zeros(80, 112, dtype=torch.bool)}, steps=1)
