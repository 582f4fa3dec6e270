"""Boxes and clicks in the plan of a run."""

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from refusals import refusal
from test_clicks import HEIGHT, WIDTH, drawn, overlap

import mnemask as mm
from mnemask.errors import CheckpointError, InputError, MaskError
from mnemask.prompts import PromptPlan
from mnemask.prompts.clicks import ClickSegmenter

ON_DISK, ON_SQUARE = "=70,90", "=195,85"


@pytest.fixture(scope="module")
def model():
    return mm.load_model("compact", device="cpu")


@pytest.fixture
def frame():
    return mm.Frame(torch.from_numpy(drawn()[0]).permute(2, 0, 1), 0)


def planned(model=None, boxes=(), **prompts):
    plan = PromptPlan(prompts.pop("mask", None), boxes, prompts.pop("later", ()), False, **prompts)
    if model is not None:
        plan.prepare(model)
    return plan


def test_each_object_is_found_from_its_own_clicks(model, frame):
    plan = planned(model, clicks=["3" + ON_DISK, "1" + ON_SQUARE], not_clicks=["3" + ON_SQUARE])
    found = plan(frame)
    assert list(found) == [3, 1]
    session = ClickSegmenter(model).open(frame)
    assert torch.equal(found[3], session.mask([(70, 90)], [(195, 85)]))
    assert torch.equal(found[1], session.mask([(195, 85)]))


def test_clicks_correct_a_box_or_a_mask_of_the_same_object(model, frame, tmp_path):
    _, disk, square = drawn()
    Image.fromarray((disk | square).astype(np.uint8)).save(tmp_path / "both.png")
    corrected = planned(model, mask=tmp_path / "both.png", clicks=["1" + ON_DISK], not_clicks=["1" + ON_SQUARE])(frame)
    assert list(corrected) == [1]
    assert overlap(corrected[1], disk) > overlap(torch.from_numpy(disk | square), disk)
    boxed = planned(model, ["25,45,91,91"], not_clicks=["1" + ON_SQUARE])(frame)
    session = ClickSegmenter(model).open(frame)
    assert torch.equal(boxed[1], session.mask((), [(195, 85)], (25, 45, 91, 91)))


def test_a_box_gets_an_id_that_clicks_do_not_take_only_if_they_come_later(model, frame):
    found = planned(model, ["25,45,91,91"], clicks=["2" + ON_SQUARE])(frame)
    assert list(found) == [1, 2]


BOX_OF_DISK, BOX_OF_SQUARE = "25,45,91,91", "160,50,70,70"


@pytest.mark.parametrize(
    ("boxes", "clicks", "said"),
    [
        ([BOX_OF_DISK], (), "box of object 3 selects what is object 1"),
        ([], ["3" + ON_DISK], "clicks on object 3 select what is object 1"),
        ([], ["2" + ON_DISK], "clicks on object 2 select what is object 1"),
        ([], ["1" + ON_SQUARE], "clicks on object 1 select what is object 2"),
    ],
)
def test_a_box_or_clicks_on_what_a_mask_marks_as_another_object_are_refused(
    model, frame, tmp_path, boxes, clicks, said
):
    _, disk, square = drawn()
    Image.fromarray(disk + np.uint8(2) * square).save(tmp_path / "first.png")
    with refusal(MaskError, said, "frame 0", "--click [12]=X,Y"):
        planned(model, boxes, mask=tmp_path / "first.png", clicks=clicks)(frame)


@pytest.mark.parametrize(
    ("boxes", "clicks"),
    [([BOX_OF_DISK, "28,48,86,86"], ()), ([], ["1" + ON_DISK, "2=72,92"]), ([BOX_OF_DISK], ["2" + ON_DISK])],
)
def test_two_boxes_or_clicks_on_one_thing_are_refused_with_the_ids_of_both(model, boxes, clicks):
    image = torch.from_numpy(drawn()[0]).permute(2, 0, 1)
    with refusal(MaskError, "of object 2|on object 2", "what is object 1", "--click 1=X,Y"):
        planned(model, boxes, clicks=clicks)(mm.Frame(image, 0))
    if not boxes:
        later = planned(model, clicks=["1" + ON_SQUARE, *(f"7:{1 + int(click[0])}{click[1:]}" for click in clicks)])
        later(mm.Frame(image, 0))
        with refusal(MaskError, "frame 7", "--click 7:2=X,Y", "--not 7:3=X,Y"):
            later(mm.Frame(image, 7))


def test_an_object_that_is_a_part_of_another_is_refused_with_the_ways_to_give_it(model, tmp_path):
    image = np.full((HEIGHT, WIDTH, 3), (40, 90, 60), np.uint8)
    image[30:170, 40:200] = 200, 60, 50
    image[70:110, 80:120] = 30, 40, 220
    frame = mm.Frame(torch.from_numpy(image).permute(2, 0, 1), 0)
    whole, part = "38,28,164,144", "78,68,44,44"
    with refusal(MaskError, "box of object 2 selects", "its box before that of object 1", "--not 1=X,Y", "--not 2=X,Y"):
        planned(model, [whole, part])(frame)
    found = planned(model, [part, whole])(frame)
    assert int(found[1].sum()) < int(found[2].sum())
    Image.fromarray((image[..., 0] != 40).astype(np.uint8)).save(tmp_path / "whole.png")
    with refusal(MaskError, "box of object 2 selects", "part of object 1, keep it out of that"):
        planned(model, [part], mask=tmp_path / "whole.png")(frame)


def test_a_box_beside_a_mask_and_clicks_that_correct_one_cause_no_message_and_a_shared_part_does(
    model, frame, tmp_path, caplog
):
    disk = drawn()[1]
    Image.fromarray(disk.astype(np.uint8)).save(tmp_path / "disk.png")
    found = planned(model, [BOX_OF_SQUARE], mask=tmp_path / "disk.png", clicks=["1=60,80"])(frame)
    assert list(found) == [1, 2]
    assert "overlap" not in caplog.text
    corner = cv2.rectangle(np.zeros_like(disk, np.uint8), (150, 40), (180, 80), 1, -1)
    Image.fromarray(corner).save(tmp_path / "corner.png")
    found = planned(model, [BOX_OF_SQUARE], mask=tmp_path / "corner.png")(frame)
    shared = int((found[1] & found[2]).sum())
    assert f"objects 1 and 2 overlap in frame 0: {shared} of {int(found[2].sum())} pixels of object 2" in caplog.text


def test_clicks_may_be_in_a_later_frame(model):
    plan = planned(model, clicks=["1" + ON_DISK, "4:2" + ON_SQUARE])
    image = torch.from_numpy(drawn()[0]).permute(2, 0, 1)
    found = [plan(mm.Frame(image, index)) for index in (0, 1, 4)]
    assert [None if masks is None else list(masks) for masks in found] == [[1], None, [2]]


def test_what_cannot_be_is_said_before_the_video_is_read():
    for prompts in (
        {"not_clicks": ["1" + ON_DISK]},
        {"clicks": ["1" + ON_DISK], "not_clicks": ["1" + ON_DISK]},
        {"clicks": ["1" + ON_DISK, "9:1" + ON_DISK], "num_frames": 9},
    ):
        with pytest.raises(InputError):
            planned(**prompts)


@pytest.mark.parametrize("place", [f"7:1={WIDTH},5", f"7:1=5,{HEIGHT}", "7:1=-1,5"])
def test_a_click_outside_a_later_frame_is_refused_at_the_first_one(model, frame, place):
    with pytest.raises(MaskError):
        planned(model, clicks=["1" + ON_DISK, place])(frame)


def test_a_model_without_a_head_finds_boxes_by_colour_and_says_so_and_refuses_clicks(tiny_model, frame):
    box = ["25,45,91,91"]
    plan = planned(tiny_model, box)
    assert any("colour" in note for note in plan.notes)
    assert torch.equal(plan(frame)[1], mm.mask_from_box(frame, (25, 45, 91, 91)))
    assert torch.equal(planned(None, box)(frame)[1], mm.mask_from_box(frame, (25, 45, 91, 91)))
    with pytest.raises(CheckpointError):
        planned(tiny_model, clicks=["1" + ON_DISK])
    with pytest.raises(InputError):
        planned(None, clicks=["1" + ON_DISK])(frame)


def test_the_preview_shows_clicks(model, frame):
    with_clicks, without = planned(model, clicks=["1" + ON_DISK]), planned(model, ["25,45,91,91"])
    masks = without(frame)
    with_clicks._boxes = without._boxes
    assert with_clicks.preview(frame, masks) != without.preview(frame, masks)
