"""Training sees what tracking sees: the same equations give the same masks."""

import pytest
import torch
from drawn_clip import drawn_clip

import mnemask as mm
from mnemask.model.geometry import normalize
from mnemask.training.unroll import unroll


@pytest.mark.parametrize("num_objects", [1, 3])
def test_an_unrolled_clip_equals_the_tracker_that_reads_everything(tiny_model, num_objects):
    frames, masks = drawn_clip(4, num_objects=num_objects)
    tracker = mm.Tracker(tiny_model, mm.KeepAll(write_every=1), top_k=10**6, short_side=None)
    first = {k + 1: masks[0, k] for k in range(num_objects) if masks[0, k].any()}
    with torch.no_grad():
        # The given masks compete softly in both.
        start = tracker.step(frames[0], first).probs[1:]
        expected = torch.stack([tracker.step(frame).probs for frame in frames[1:]])
        found = unroll(tiny_model, normalize(frames)[None], start[None])[0]
    assert expected.std() > 0.05
    # Where two objects are both certain of a pixel, float32 alone moves the soft aggregation by 4e-4.
    assert (found - expected).abs().mean() < 1e-5
    assert torch.allclose(found, expected, atol=2e-3)


def test_gradients_reach_every_part_of_the_network_through_the_predicted_mask(tiny_model):
    model = mm.STCN(tiny_model.config)
    model.load_state_dict(tiny_model.state_dict())
    frames, masks = drawn_clip(3)
    probs = unroll(model, normalize(frames)[None], masks[:1, :1].float())
    probs[:, -1, 1].mean().backward()
    untouched = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert not untouched
    assert model.value_encoder.resnet.conv1.weight.grad[:, 3].abs().sum() > 0
