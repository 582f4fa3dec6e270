"""One rule of layout for every function that takes a picture, and label maps as prompts."""

import numpy as np
import pytest
import torch
from drawn_clip import drawn_clip
from PIL import Image
from refusals import refusal

import mnemask as mm
from mnemask.errors import FrameError, MaskError
from mnemask.io import contact_sheet

BOX = (30, 10, 40, 40)
STROKE = {1: [[(40, 30), (50, 30)]]}


@pytest.fixture(scope="module")
def clip():
    return drawn_clip(4, num_objects=2)


def takers(tiny_model):
    """Every public function that takes a picture, by name, as a function of the picture alone."""
    labels = np.ones((64, 96), np.uint8)
    return {
        "step": lambda picture: mm.Tracker(tiny_model, short_side=None).step(picture).probs,
        "batch": lambda picture: mm.TrackerBatch([mm.Tracker(tiny_model, short_side=None)]).step([picture])[0].probs,
        "box": lambda picture: mm.mask_from_box(picture, BOX),
        "scribble": lambda picture: mm.mask_from_scribble(picture, STROKE)[1],
        "overlay": lambda picture: mm.draw_overlay(picture, labels),
        "sheet": lambda picture: contact_sheet([(picture, labels)]),
    }


NAMES = ["step", "batch", "box", "scribble", "overlay", "sheet"]


@pytest.mark.parametrize("name", NAMES)
def test_arrays_with_channels_last_and_tensors_with_channels_first_are_the_same_picture(tiny_model, clip, name):
    take, tensor = takers(tiny_model)[name], clip[0][0]
    array = tensor.permute(1, 2, 0).numpy()
    answers = [np.asarray(take(picture)) for picture in (tensor, array, array[::-1][::-1], mm.Frame(tensor, 0))]
    for answer in answers[1:]:
        assert np.array_equal(answer, answers[0])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("spoil", "way_out"),
    [
        (lambda x: x.permute(1, 2, 0), "x.permute(2, 0, 1)"),
        (lambda x: x.numpy(), "x.transpose(1, 2, 0)"),
        (lambda x: x[0], "x.expand(3, -1, -1)"),
        (lambda x: x[:1], "x.expand(3, -1, -1)"),
        (lambda x: x[0].numpy(), "np.stack([x] * 3, axis=-1)"),
        (lambda x: x[None], "x[0]"),
        (lambda x: torch.cat((x, x[:1])), "x[:3]"),
        (lambda x: torch.cat((x, x[:1])).permute(1, 2, 0).numpy(), "x[..., :3]"),
        (lambda x: x / 255, "(255 * x).round()"),
        (lambda x: x.int(), "x as uint8"),
        (lambda x: Image.fromarray(x[0].numpy()), "np.asarray(x.convert"),
        (lambda x: x.to(torch.uint16), "(x.int() // 257) as uint8"),
        (lambda x: x.numpy().astype(np.uint16).transpose(1, 2, 0), "(x // 257) as uint8"),
        (lambda x: np.ma.masked_greater(x.permute(1, 2, 0).numpy(), 99), "x.filled(0)"),
        (lambda x: x.to("meta"), "with data"),
        (lambda x: x.to_sparse(), "x.to_dense()"),
    ],
)
def test_any_other_layout_is_refused_with_what_converts_it(tiny_model, clip, name, spoil, way_out, as_users_call_it):
    with pytest.raises(FrameError) as caught:
        takers(tiny_model)[name](spoil(clip[0][0]))
    assert way_out in caught.value.remedy


def test_a_picture_of_3x3_pixels_is_read_by_its_type():
    pixels = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)
    of_array, of_tensor = mm.Frame.from_picture(pixels, 0), mm.Frame.from_picture(torch.from_numpy(pixels), 0)
    assert torch.equal(of_array.image.permute(1, 2, 0), of_tensor.image)


@pytest.mark.parametrize("kind", ["meta", "sparse"])
def test_masks_without_numbers_of_their_own_are_refused(tiny_model, clip, kind, as_users_call_it):
    frames, masks = clip
    mask = masks[0, 0].to("meta") if kind == "meta" else masks[0, 0].to_sparse()
    for prompt in ({1: mask}, mask.to(torch.uint8)):
        with refusal(MaskError, kind):
            mm.Tracker(tiny_model, short_side=None).step(frames[0], prompt)


def test_masked_values_are_refused_and_never_read_as_marked(tiny_model, clip, as_users_call_it):
    frames, masks = clip
    inside = masks[0, 0].numpy()
    all_marked, all_one = (np.ma.masked_array(np.ones(inside.shape, kind), ~inside) for kind in (bool, np.int32))
    for prompt, filled in (({1: all_marked}, {1: all_marked.filled(0)}), (all_one, all_one.filled(0))):
        with refusal(MaskError, r"masked values", r"x\.filled\(0\)"):
            mm.Tracker(tiny_model, short_side=None).step(frames[0], prompt)
        labels = mm.Tracker(tiny_model, short_side=None).step(frames[0], filled).labels
        assert np.array_equal(labels == 1, inside)
    nothing_masked = np.ma.masked_array(inside)
    labels = mm.Tracker(tiny_model, short_side=None).step(frames[0], {1: nothing_masked}).labels
    assert np.array_equal(labels == 1, inside)


def test_the_way_out_of_a_16_bit_tensor_works():
    wide = torch.tensor([0, 257, 65535], dtype=torch.uint16)
    assert (wide.int() // 257).to(torch.uint8).tolist() == [0, 1, 255]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64, ">u2", ">i4"])
def test_a_label_map_is_the_masks_of_its_ids(tiny_model, clip, dtype):
    frames, masks = clip
    labels = (3 * masks[0, 0] + 200 * (masks[0, 1] & ~masks[0, 0])).numpy().astype(dtype)
    by_id = {3: labels == 3, 200: labels == 200}
    answers = []
    prompts = [labels, by_id] if dtype in (np.uint16, ">u2", ">i4") else [labels, torch.from_numpy(labels), by_id]
    for prompt in prompts:
        tracker = mm.Tracker(tiny_model, short_side=None)
        answers.append((tracker.step(frames[0], prompt), tracker.step(frames[1])))
    for answer in answers[1:]:
        assert all(torch.equal(one.probs, other.probs) for one, other in zip(answer, answers[0], strict=True))
    assert answers[0][0].object_ids == (3, 200)


def test_an_object_that_is_gone_is_forgotten_before_the_frame_until_it_is_given_again(tiny_model, clip):
    frames, masks = clip
    tracker, twin = (mm.Tracker(tiny_model, short_side=None) for _ in range(2))
    for each in (tracker, twin):
        each.step(frames[0], {1: masks[0, 0], 2: masks[0, 1]})
    twin.remove(2)
    gone = tracker.step(frames[1], {2: None})
    assert torch.equal(gone.probs, twin.step(frames[1]).probs)
    assert gone.object_ids == (1,)
    batch = mm.TrackerBatch([tracker])
    assert batch.step([frames[2]], [{1: None}])[0].object_ids == ()
    assert tracker.step(frames[3], {2: masks[3, 1]}).object_ids == (2,)
