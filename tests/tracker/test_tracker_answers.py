import copy

import cv2
import numpy as np
import pytest
import torch
from drawn_clip import drawn_clip
from tracking import assert_same_state, equal

from mnemask import Frame, Tracker


def test_the_answer_has_labels_probabilities_and_the_frames_name(make, clip):
    frames, masks = clip
    tracker = make()
    first = tracker.step(Frame(frames[0], 40, name="left"), {7: masks[0, 0], 300: masks[0, 1]})
    assert (first.index, first.name, first.object_ids) == (40, "left", (7, 300))
    for t in range(1, 5):
        found = tracker.step(frames[t])
        assert (found.index, found.name) == (t, f"0000{t}")
        assert found.labels.shape == (64, 96)
        assert found.labels.dtype == torch.int32
        assert found.probs.shape == (3, 64, 96)
        torch.testing.assert_close(found.probs.sum(0), torch.ones(64, 96))
        assert torch.equal(found.labels, torch.tensor([0, 7, 300], dtype=torch.int32)[found.probs.argmax(0)])
        assert torch.equal(found.mask(300), found.labels == 300)
    assert float(found.probs.std()) > 0.05


@pytest.mark.parametrize("settings", [{}, {"tta": "flip"}])
def test_a_thin_contour_of_255_in_a_label_map_is_an_object_with_a_warning(make, clip, caplog, settings):
    frames, _ = clip
    disc = cv2.circle(np.zeros((64, 96), np.uint8), (40, 30), 16, 7, -1)
    contour = cv2.circle(disc.copy(), (40, 30), 16, 255, 3)
    solid = cv2.circle(disc.copy(), (78, 30), 12, 255, -1)
    alone = np.where(contour == 255, contour, 0)
    for labels in (solid, alone, disc, {i: contour == i for i in (7, 255)}, np.where(contour == 255, 254, contour)):
        make(**settings).step(frames[0], labels)
    assert not caplog.records
    tracker = make(**settings)
    answer = tracker.step(Frame(frames[0], 3), torch.from_numpy(contour))
    tracker.step(Frame(frames[1], 4), torch.from_numpy(contour))
    assert answer.object_ids == (7, 255)
    (record,) = caplog.records
    assert "255 in the label map of frame 3 is a thin contour" in record.getMessage()


def test_a_prompted_frame_is_answered_with_the_masks_given(make, clip):
    frames, masks = clip
    found = make().step(frames[0], {3: masks[0, 0], 1: masks[0, 1], 2: masks[0, 2]})
    for object_id, k in ((3, 0), (1, 1), (2, 2)):
        assert torch.equal(found.mask(object_id), masks[0, k])
        assert float(found.probs[k + 1][masks[0, k]].min()) > 0.99


def test_where_prompts_overlap_the_first_given_wins(make, clip):
    frames, _ = clip
    left, right = torch.zeros(2, 64, 96, dtype=torch.bool)
    left[10:40, 10:60], right[20:50, 40:90] = True, True
    found = make().step(frames[0], {5: left, 4: right})
    assert torch.equal(found.mask(5), left)
    assert torch.equal(found.mask(4), right & ~left)


def test_overlapping_prompts_are_remembered_as_they_are_answered(make, clip):
    frames, _ = clip
    left, right = torch.zeros(2, 64, 96, dtype=torch.bool)
    left[16:48, 16:64], right[16:48, 48:96] = True, True
    overlapping, apart = make(), make()
    overlapping.step(frames[0], {5: left, 4: right})
    apart.step(frames[0], {5: left, 4: right & ~left})
    assert_same_state(overlapping, apart)


def test_frames_before_the_first_prompt_are_background(make, clip):
    frames, masks = clip
    tracker = make()
    for t in range(7):
        found = tracker.step(frames[t])
        assert found.object_ids == ()
        assert torch.count_nonzero(found.labels) == 0
        assert torch.equal(found.probs, torch.ones(1, 64, 96))
        assert tracker.memory.tokens is None
    tracker.step(frames[7], {1: masks[7, 0]})
    assert tracker.memory.tokens.written_at.unique().tolist() == [7]


def test_a_network_of_lower_precision_remembers_keys_in_float32_and_answers_much_the_same(clip, tiny_model):
    frames, masks = clip
    model = copy.deepcopy(tiny_model).bfloat16()
    model.key_projection.float()
    tracker, exact = (Tracker(each, policy="keep-all", short_side=None) for each in (model, tiny_model))
    for t in range(7):
        prompts = {1: masks[0, 0], 2: masks[0, 1]} if t == 0 else None
        found, expected = tracker.step(frames[t], prompts), exact.step(frames[t], prompts)
        torch.testing.assert_close(found.probs.sum(0), torch.ones(64, 96))
        assert float((found.labels == expected.labels).float().mean()) > 0.9
    tokens = tracker.memory.tokens
    assert (tokens.key.dtype, tokens.value.dtype, found.probs.dtype) == (torch.float32, torch.bfloat16, torch.float32)


def test_the_answer_may_be_changed_in_place(make, clip):
    frames, masks = clip
    tracker, twin = make(), make()
    for t in range(7):
        prompts = {1: masks[0, 0]} if t == 0 else None
        found, expected = tracker.step(frames[t], prompts), twin.step(frames[t], prompts)
        assert equal(found, expected)
        found.labels[:] = 9
        found.probs[:] = 0


@pytest.mark.parametrize("size", [(50, 301), (17, 16), (301, 50), (16, 16), (1, 40), (64, 96)])
@pytest.mark.parametrize("short_side", [None, 32])
def test_frames_of_any_size_and_shape_are_answered_at_their_own(make, size, short_side):
    frames, masks = drawn_clip(3, *size)
    masks[0, 0, : max(1, size[0] // 2), : size[1] // 2] = True
    tracker = make("keep-all", short_side=short_side)
    for t, frame in enumerate(frames):
        found = tracker.step(frame, {1: masks[0, 0]} if t == 0 else None)
        assert found.labels.shape == size
        assert found.probs.shape == (2, *size)
        torch.testing.assert_close(found.probs.sum(0), torch.ones(size))
        assert torch.isfinite(found.probs).all()
    assert torch.equal(tracker.step(frames[0], {1: masks[0, 0]}).mask(1), masks[0, 0])


def test_numpy_pictures_and_tensors_give_the_same_masks(make, clip):
    frames, masks = clip
    tensors, arrays = make(), make()
    for t in range(7):
        prompts = {1: masks[0, 0]} if t == 0 else None
        expected = tensors.step(frames[t], prompts)
        found = arrays.step(
            np.ascontiguousarray(frames[t].permute(1, 2, 0).numpy()), prompts and {1: prompts[1].numpy()}
        )
        assert equal(found, expected)


def test_pictures_that_are_read_only_or_reversed_views_are_taken(make, clip):
    frames, masks = clip
    picture, mask = frames[0].permute(1, 2, 0).numpy().copy(), masks[0, 0].numpy().copy()
    expected = make().step(picture, {1: mask})
    picture.flags.writeable = mask.flags.writeable = False
    assert equal(make().step(picture, {1: mask}), expected)
    bgr, upside_down = np.ascontiguousarray(picture[..., ::-1]), np.ascontiguousarray(mask[::-1])
    assert equal(make().step(bgr[..., ::-1], {1: upside_down[::-1]}), expected)


def test_the_callers_pictures_and_masks_are_not_changed_and_not_kept(make, clip):
    frames, masks = clip
    frame, mask = frames[0].clone(), masks[0, 0].clone()
    tracker, twin = make(), make()
    first = tracker.step(frame, {1: mask})
    expected = twin.step(frames[0], {1: masks[0, 0]})
    assert torch.equal(frame, frames[0])
    assert torch.equal(mask, masks[0, 0])
    frame.zero_()
    mask.zero_()
    assert equal(first, expected)
    assert equal(tracker.step(frames[1]), twin.step(frames[1]))


def test_ids_are_the_callers_in_any_order_up_to_65535(make, clip, as_users_call_it):
    frames, masks = clip
    few, many = make(), make()
    few.step(frames[0], {1: masks[0, 0], 2: masks[0, 1], 3: masks[0, 2]})
    many.step(frames[0], {65535: masks[0, 0], 2: masks[0, 1], np.uint8(40): masks[0, 2]})
    assert many.object_ids == (65535, 2, 40)
    for t in range(1, 7):
        plain, found = few.step(frames[t]), many.step(frames[t])
        assert torch.equal(found.probs, plain.probs)
        names = torch.tensor([0, 65535, 2, 40], dtype=torch.int32)
        assert torch.equal(found.labels, names[plain.labels.long()])
