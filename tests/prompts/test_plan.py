"""All prompts of a run as a whole: one colour, one id; folders of masks; objects that come and go."""

import json
import re
from fractions import Fraction

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from refusals import refusal

import mnemask as mm
from mnemask.errors import InputError, MaskError
from mnemask.io import davis_palette
from mnemask.prompts import PromptPlan

H, W = 48, 80
RED, GREEN, BLUE, GREY, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (127, 127, 127), (255, 255, 255)
DAVIS = [tuple(colour) for colour in davis_palette(8).tolist()]


def discs(*numbers):
    """Labels with a disc for each number, at a place of its own."""
    labels = np.zeros((H, W), np.uint8)
    for number in numbers:
        cv2.circle(labels, (10 + 20 * (number - 1), 14 if number % 2 else 34), 8, number, -1)
    return labels


def painted(labels, colours, ground=(0, 0, 0), alpha=False):
    pixels = np.zeros((H, W, 3), np.uint8)
    pixels[:] = ground
    for number, colour in colours.items():
        pixels[labels == number] = colour
    return np.dstack([pixels, np.where(labels > 0, 255, 0).astype(np.uint8)]) if alpha else pixels


def save(path, pixels, palette=None):
    image = Image.fromarray(pixels)
    if palette is not None:
        image.putpalette(np.array(palette, np.uint8).tobytes())
    image.save(path)
    return path


def given(plan, index):
    """What a plan gives at a frame, as a map of ids, and what is gone."""
    masks = plan(mm.Frame(torch.zeros(3, H, W, dtype=torch.uint8), index)) or {}
    labels = np.zeros((H, W), np.int32)
    for object_id, mask in masks.items():
        if mask is not None:
            labels[mask.numpy()] = object_id
    return labels, [object_id for object_id, mask in masks.items() if mask is None]


def ids_at(plan, index, labels):
    """The id that each disc has at a frame."""
    found, _ = given(plan, index)
    return {int(number): sorted(set(found[labels == number].tolist())) for number in np.unique(labels) if number}


FORMS = {
    "RGB": lambda path, labels, colours: save(path, painted(labels, colours)),
    "RGBA": lambda path, labels, colours: save(path, painted(labels, colours, (9, 9, 9), alpha=True)),
    "on white": lambda path, labels, colours: save(path, painted(labels, colours, WHITE)),
    "palette of its own": lambda path, labels, colours: save(
        path, (labels + 1) % 4, [colours.get(3, (1, 1, 1)), (0, 0, 0), *(colours.get(i, (1, 1, 1)) for i in (1, 2))]
    ),
}


@pytest.mark.parametrize("first", FORMS)
@pytest.mark.parametrize("later", FORMS)
@pytest.mark.parametrize("paint", [{1: RED, 2: GREEN, 3: BLUE}, {1: GREY, 2: RED, 3: (255, 255, 0)}])
def test_a_colour_is_one_object_in_every_file_and_a_new_one_a_new_object(tmp_path, first, later, paint):
    there = discs(1, 2)
    FORMS[first](tmp_path / "first.png", there, paint)
    swapped = {1: paint[2], 2: paint[1], 3: paint[3]}  # the other object comes first from the top left
    FORMS[later](tmp_path / "later.png", discs(1, 2, 3), swapped)
    FORMS[later](tmp_path / "last.png", discs(3), {3: paint[2]})
    plan = PromptPlan(tmp_path / "first.png", [], [f"6={tmp_path / 'later.png'}", f"9={tmp_path / 'last.png'}"], False)
    assert ids_at(plan, 0, there) == {1: [1], 2: [2]}
    assert ids_at(plan, 6, discs(1, 2, 3)) == {1: [2], 2: [1], 3: [3]}
    assert ids_at(plan, 9, discs(3)) == {3: [2]}
    assert set(plan.colours.values()) == {1, 2, 3}
    assert any("is object 3" in note for note in plan.notes)


def test_more_objects_than_can_be_tracked_at_once_are_refused_before_the_first_frame(tmp_path):
    squares = np.arange(1, 201, dtype=np.uint16).reshape(10, 20).repeat(6, 0).repeat(6, 1)
    Image.fromarray(squares).save(tmp_path / "first.png")
    Image.fromarray(squares + 200).save(tmp_path / "later.png")
    with refusal(MaskError, "frame 6", "400", "256"):
        PromptPlan(tmp_path / "first.png", [], [f"6={tmp_path / 'later.png'}"], False)


def test_colours_that_are_nearly_those_of_before_are_asked_about(tmp_path):
    save(tmp_path / "first.png", painted(discs(1, 2), {1: RED, 2: GREEN}))
    save(tmp_path / "later.png", painted(discs(1, 2), {1: (254, 0, 0), 2: (2, 254, 1)}))
    with refusal(MaskError, "later.png", "#ff0000"):
        PromptPlan(tmp_path / "first.png", [], [f"6={tmp_path / 'later.png'}"], False)
    save(tmp_path / "later.png", painted(discs(1, 3), {1: RED, 3: (250, 0, 3)}))
    PromptPlan(tmp_path / "first.png", [], [f"6={tmp_path / 'later.png'}"], False)
    save(tmp_path / "numbers.png", painted(discs(1, 2), {1: (1, 0, 0), 2: (2, 0, 0)}))
    save(tmp_path / "later.png", painted(discs(3), {3: (3, 0, 0)}))
    plan = PromptPlan(tmp_path / "numbers.png", [], [f"6={tmp_path / 'later.png'}"], False)
    assert ids_at(plan, 6, discs(3)) == {3: [3]}


def test_the_colours_of_a_palette_are_those_of_its_ids(tmp_path):
    save(tmp_path / "first.png", discs(1, 2), davis_palette())
    save(tmp_path / "later.png", painted(discs(1, 2, 3), {1: DAVIS[2], 2: DAVIS[1], 3: DAVIS[5]}))
    plan = PromptPlan(tmp_path / "first.png", [], [f"6={tmp_path / 'later.png'}"], False)
    assert ids_at(plan, 0, discs(1, 2)) == {1: [1], 2: [2]}
    assert ids_at(plan, 6, discs(1, 2, 3)) == {1: [2], 2: [1], 3: [5]}


def test_ids_that_were_written_for_painted_objects_correct_them(tmp_path):
    save(tmp_path / "first.png", painted(discs(1, 2), {1: RED, 2: GREEN}))
    save(tmp_path / "later.png", discs(1, 2), davis_palette())
    plan = PromptPlan(tmp_path / "first.png", [], [f"6={tmp_path / 'later.png'}"], False)
    assert ids_at(plan, 0, discs(1, 2)) == ids_at(plan, 6, discs(1, 2)) == {1: [1], 2: [2]}


@pytest.mark.parametrize("form", ["grey", "grey as RGB"])
def test_white_is_the_object_that_it_is_elsewhere(tmp_path, form):
    levels = np.array([0, 127, 255], np.uint8)
    for name, labels in (("first", discs(1, 2)), ("white", discs(2)), ("grey", discs(1))):
        pixels = levels[labels]
        save(tmp_path / f"{name}.png", pixels if form == "grey" else np.repeat(pixels[..., None], 3, 2))
    later = [f"3={tmp_path / 'white.png'}", f"4={tmp_path / 'grey.png'}"]
    plan = PromptPlan(tmp_path / "first.png", [], later, False)
    assert ids_at(plan, 0, discs(1, 2)) == {1: [127], 2: [255]}
    assert ids_at(plan, 3, discs(2)) == {2: [255]}
    assert ids_at(plan, 4, discs(1)) == {1: [127]}


def test_palettes_that_contradict_each_other_are_refused(tmp_path):
    save(tmp_path / "first.png", discs(1, 2), [(0, 0, 0), RED, GREEN])
    save(tmp_path / "later.png", discs(1, 2), [(0, 0, 0), GREEN, RED])
    with refusal(MaskError, r"#00ff00", r"first\.png", r"RGB"):
        PromptPlan(tmp_path / "first.png", [], [f"6={tmp_path / 'later.png'}"], False)


def test_a_palette_turned_to_grey_is_refused(tmp_path):
    save(tmp_path / "first.png", discs(1, 2), davis_palette())
    Image.open(tmp_path / "first.png").convert("L").save(tmp_path / "later.png")
    with refusal(MaskError, r"38", r"75"):
        PromptPlan(tmp_path / "first.png", [], [f"6={tmp_path / 'later.png'}"], False)


@pytest.mark.parametrize("colours", [(RED, GREEN), (DAVIS[1], DAVIS[2])])
@pytest.mark.parametrize("grey_first", [False, True])
def test_colours_turned_to_grey_are_refused_before_and_after_the_colours_themselves(tmp_path, colours, grey_first):
    pixels = painted(discs(1, 2), {1: colours[0], 2: colours[1]})
    grey = np.asarray(Image.fromarray(pixels).convert("L"))
    save(tmp_path / "first.png", grey if grey_first else pixels)
    save(tmp_path / "later.png", pixels if grey_first else grey)
    with refusal(MaskError, "later.png", "turned to grey"):
        PromptPlan(tmp_path / "first.png", [], [f"6={tmp_path / 'later.png'}"], False)


def test_colours_beside_grey_levels_that_are_ids_are_not_taken_for_those_turned_to_grey(tmp_path):
    save(tmp_path / "first.png", discs(1, 2))
    save(tmp_path / "later.png", painted(discs(1, 2), {1: RED, 2: GREEN}))
    plan = PromptPlan(tmp_path / "first.png", [], [f"6={tmp_path / 'later.png'}"], False)
    assert ids_at(plan, 6, discs(1, 2)) == {1: [3], 2: [4]}
    many = np.where(discs(1, 2) > 0, discs(1, 2), discs(3) // 3 * 38)  # the level of #800000
    save(tmp_path / "first.png", many)
    save(tmp_path / "later.png", painted(discs(1), {1: DAVIS[1]}))
    plan = PromptPlan(tmp_path / "first.png", [], [f"6={tmp_path / 'later.png'}"], False)
    assert ids_at(plan, 6, discs(1)) == {1: [1]}


def test_the_davis_colour_of_an_object_that_has_another_colour_is_asked_about(tmp_path):
    save(tmp_path / "first.png", painted(discs(1, 2), {1: RED, 2: GREEN}))
    save(tmp_path / "later.png", painted(discs(1), {1: DAVIS[1]}))
    with refusal(MaskError, r"#800000", r"#ff0000", r"--at", r"6:ID"):
        PromptPlan(tmp_path / "first.png", [], [f"6={tmp_path / 'later.png'}"], False)
    plan = PromptPlan(tmp_path / "first.png", [], [f"6:4={tmp_path / 'later.png'}"], False)
    assert ids_at(plan, 6, discs(1)) == {1: [4]}


def test_boxes_take_the_ids_that_colours_leave_and_later_colours_those_that_boxes_leave(tmp_path):
    save(tmp_path / "first.png", painted(discs(1, 2), {1: RED, 2: GREEN}))
    save(tmp_path / "later.png", painted(discs(3), {3: BLUE}))
    plan = PromptPlan(tmp_path / "first.png", ["40,4,30,30"], [f"6={tmp_path / 'later.png'}"], False)
    assert {frame: list(ids) for frame, ids in plan.to_come.items()} == {0: [1, 2, 3], 6: [4]}
    assert "box 40,4 to 70,34 (30x30) of object 3" in plan.notes


@pytest.mark.parametrize("first", ["levels", "black and white"])
def test_a_painted_grey_is_the_object_that_its_level_is_elsewhere(tmp_path, first):
    levels = np.array([0, 127, 255] if first == "levels" else [0, 0, 255], np.uint8)
    save(tmp_path / "first.png", levels[discs(1, 2)])
    save(tmp_path / "later.png", painted(discs(1, 2), {1: RED, 2: WHITE}))
    plan = PromptPlan(tmp_path / "first.png", [], [f"6={tmp_path / 'later.png'}"], False)
    assert ids_at(plan, 6, discs(1, 2)) == ({1: [1], 2: [255]} if first == "levels" else {1: [2], 2: [1]})


def test_a_folder_for_each_object_gives_each_its_masks(tmp_path):
    one, nine = discs(1), discs(2)
    for name, masks in (("1", {0: one, 4: one * 0}), ("9", {0: nine * 0, 2: nine})):
        (tmp_path / name).mkdir()
        for index, labels in masks.items():
            alpha = np.where(labels > 0, 255, 0).astype(np.uint8)
            noise = np.random.default_rng(0).integers(0, 255, (H, W, 3), np.uint8)
            save(tmp_path / name / f"{index:05d}.png", np.dstack([noise, alpha]))  # cut-outs, as `segment` writes them
    plan = PromptPlan(tmp_path, [], [], False)
    assert ids_at(plan, 0, one) == {1: [1]}
    assert ids_at(plan, 2, nine) == {2: [9]}
    assert given(plan, 4)[1] == [1]


def folder(path, **files):
    path.mkdir()
    for name, labels in files.items():
        save(path / f"{name}.png", labels, davis_palette())
    return path


FROM_0, FROM_1 = [f"{index:05d}" for index in range(5)], [f"{index:04d}" for index in range(1, 7)]


@pytest.mark.parametrize(
    ("names", "mask", "later", "start", "warning"),
    [
        (FROM_0, "00003.png", "", 0, r"named after frame 3 \(00003\), but is given to frame 0: .* --at 3="),
        (FROM_0, "00003_mask.png", "", 0, "named after frame 3"),
        (FROM_0, "00003.png", "", 2, "is given to frame 2"),
        (FROM_0, "00003.png", "", 3, None),
        (FROM_0, "00000.png", "", 0, None),
        (FROM_0, "first.png", "", 0, None),
        (FROM_0, "mask_00001.png", "", 0, None),
        (["1", "2", "3"], "mask_3.png", "", 0, None),
        (FROM_1, "0001.png", "4:2=0004.png", 0, r"named after frame 3 \(0004\), but is given to frame 4: .* --at 3:2="),
        (FROM_1, "0001.png", "3:2=0004.png", 0, None),
        (["1", "2", "3"], "1.png", "0:2=2.png", 0, None),
        (None, "00120.png", "", 0, "the number of frame 120 .* but is given to frame 0: .* --at 120="),
        (None, "00120.png", "", 120, None),
        (None, "00001.png", "", 0, None),
        (None, "20240115.png", "", 0, None),
        (None, "7.png", "50:2=00060.png", 0, None),
    ],
)
def test_a_mask_named_after_another_frame_than_its_own_is_doubted(
    tmp_path, monkeypatch, caplog, names, mask, later, start, warning
):
    monkeypatch.chdir(tmp_path)
    save(tmp_path / mask, discs(1))
    if later:
        save(tmp_path / later.split("=")[1], discs(3))
    plan = PromptPlan(
        tmp_path / mask, [], [later] if later else [], False, names=names, begins_later=start > 0, num_frames=200
    )
    given(plan, start)
    assert not warning or re.search(warning, caplog.text)
    assert len(caplog.records) == (1 if warning else 0)


def test_a_folder_gives_each_frame_its_mask_and_an_empty_one_says_that_all_are_gone(tmp_path):
    masks = folder(tmp_path / "m", f0=discs(1, 2), f3=discs(2, 3), f5=discs(), f8=discs(2))
    (masks / "notes.txt").write_text("ours")
    plan = PromptPlan(masks, [], [], False, names=[f"f{i}" for i in range(9)], num_frames=9)
    answers = {index: given(plan, index) for index in range(9)}
    assert {index: sorted(set(np.unique(labels).tolist()) - {0}) for index, (labels, _) in answers.items()} == {
        **{index: [] for index in range(9)},
        0: [1, 2],
        3: [2, 3],
        8: [2],
    }
    assert {index: gone for index, (_, gone) in answers.items() if gone} == {5: [1, 2, 3]}


def test_what_was_guessed_of_many_masks_is_said_once(tmp_path):
    masks = folder(tmp_path / "m", f0=discs(1, 2))
    for name in ("f2", "f3", "f5"):
        save(masks / f"{name}.png", np.where(discs(1, 2), discs(1, 2) + np.uint16(1000), 10_000).astype(np.uint16))
    plan = PromptPlan(masks, [], [], False, names=[f"f{i}" for i in range(9)], num_frames=9)
    assert [note for note in plan.notes if "--void" in note] == [
        "frame 2, f2.png and 2 more masks: the solid area of 10000 is an object; if it is void, give --void 10000"
    ]


def test_one_object_is_gone_where_its_own_mask_is_empty_or_it_is_removed_and_comes_again_when_given(tmp_path):
    first, empty = save(tmp_path / "f.png", discs(1, 2, 3)), save(tmp_path / "e.png", discs())
    plan = PromptPlan(first, [], [f"2:1={empty}", f"6={first}"], False, removed=["2:3", "4:2"])
    assert given(plan, 0)[1] == []
    assert given(plan, 2)[1] == [1, 3]
    assert given(plan, 4)[1] == [2]
    assert np.array_equal(given(plan, 6)[0], discs(1, 2, 3))


@pytest.mark.parametrize(
    ("later", "removed", "message"),
    [
        ([], ["2:9"], r"object 9 is to be removed at frame 2 .* is tracked \(1, 2\)"),
        ([], ["0:1"], "object 1 is to be removed at frame 0"),
        ([], ["2:1", "4:1"], "object 1 is to be removed at frame 4"),
        (["2=first.png"], ["2:1"], "object 1 is both given and removed at frame 2"),
        ([], ["2"], "is not FRAME:ID"),
        (["9=first.png"], [], "frame 9 but the video has 8 frames"),
        ([], ["9:1"], "frame 9 but the video has 8 frames"),
        (["3=nothing.png"], [], "does not exist"),
    ],
)
def test_what_cannot_be_done_later_is_refused_before_the_first_frame(tmp_path, monkeypatch, later, removed, message):
    monkeypatch.chdir(tmp_path)
    first = save(tmp_path / "first.png", discs(1, 2), davis_palette())
    with refusal(InputError, message):
        PromptPlan(first, [], later, False, removed=removed, num_frames=8)


def test_a_later_mask_of_another_size_is_refused_at_the_first_frame(tmp_path):
    first, later = save(tmp_path / "f.png", discs(1, 2)), save(tmp_path / "l.png", discs(1, 2)[:40])
    with refusal(MaskError, r"l\.png", r"80x40"):
        given(PromptPlan(first, [], [f"6={later}"], False), 0)


def test_a_mask_that_hides_the_whole_frame_is_warned_of(tmp_path, caplog):
    given(PromptPlan(save(tmp_path / "m.png", np.full((H, W), 255, np.uint8)), [], [], False), 0)
    assert "100 % of frame 0" in caplog.text


def test_a_preview_shows_the_frame_the_objects_and_the_boxes(tmp_path):
    plan = PromptPlan(save(tmp_path / "m.png", discs(1)), ["30,20,40,24"], [], False)
    frame = mm.Frame(torch.randint(0, 255, (3, H, W), dtype=torch.uint8), 0)
    (tmp_path / "p.png").write_bytes(plan.preview(frame, {1: torch.from_numpy(discs(1) == 1), 2: None}))
    picture = np.asarray(Image.open(tmp_path / "p.png")).astype(int)
    zoom = picture.shape[0] // H
    assert picture.shape == (zoom * H, zoom * W, 3)
    changed = np.abs(picture - frame.image.permute(1, 2, 0).numpy().repeat(zoom, 0).repeat(zoom, 1)).max(2) > 0
    assert changed[14 * zoom, 12 * zoom]
    assert changed[20 * zoom, 30 * zoom : 70 * zoom].all()
    assert not changed[-2 * zoom :].any()


def test_a_mask_of_the_size_at_which_wide_pixels_are_shown_is_refused_with_the_reason(tmp_path):
    shown = cv2.resize(discs(1), (round(W * 16 / 11), H), interpolation=cv2.INTER_NEAREST)
    plan = PromptPlan(save(tmp_path / "shown.png", shown), [], [], False)
    frame = mm.Frame(torch.zeros(3, H, W, dtype=torch.uint8), 0, pixel_aspect=Fraction(16, 11))
    with refusal(MaskError, r"16:11"):
        plan(frame)


@pytest.mark.parametrize("inverted", [True, False])
def test_a_mask_of_most_of_the_picture_and_its_border_draws_a_warning(tmp_path, caplog, inverted):
    mask = save(tmp_path / "m.png", np.where((discs(1) > 0) != inverted, 255, 0).astype(np.uint8))
    given(PromptPlan(mask, [], [], False), 0)
    assert ("invert it" in caplog.text) == inverted


def labelled(path, *names, marked=1):
    """A COCO file of pictures, the first of which have an object."""
    images = [{"id": i, "file_name": name, "height": H, "width": W} for i, name in enumerate(names)]
    square = [4, 4, 20, 4, 20, 20, 4, 20]
    shapes = [{"id": i, "image_id": i, "category_id": 1, "segmentation": [square]} for i in range(marked)]
    categories = [{"id": 1, "name": "dog"}]
    path.write_text(json.dumps({"images": images, "annotations": shapes, "categories": categories}))
    return path


FRAMES = [f"{index:05d}" for index in range(9)]


def test_pictures_that_nobody_annotated_say_nothing_and_that_is_said(tmp_path, caplog):
    place = labelled(tmp_path / "a.json", *(f"{name}.jpg" for name in FRAMES))
    plan = PromptPlan(place, [], [], False, names=FRAMES, num_frames=9)
    assert list(plan.to_come) == [0]
    assert "8 of 9 masks" in caplog.text
    assert "00001 to 00008" in caplog.text


def test_black_masks_of_frames_that_nobody_annotated_say_nothing_and_that_is_said(tmp_path, caplog):
    (tmp_path / "m").mkdir()
    for name in FRAMES:
        save(tmp_path / "m" / f"{name}.png", discs(1, 2) if name == FRAMES[0] else discs(), DAVIS)
    plan = PromptPlan(tmp_path / "m", [], [], False, names=FRAMES, num_frames=9)
    assert list(plan.to_come) == [0]
    assert "8 of 9 masks" in caplog.text


def test_masks_that_mark_nothing_at_all_are_refused(tmp_path):
    (tmp_path / "m").mkdir()
    save(tmp_path / "m" / "00000.png", discs(), DAVIS)
    empty = labelled(tmp_path / "a.json", "00000.jpg", "00001.jpg", marked=0)
    for place in (tmp_path / "m", empty):
        with refusal(MaskError, "object"):
            PromptPlan(place, [], [], False, names=FRAMES, num_frames=9)


def test_a_folder_that_only_says_that_objects_are_gone_is_taken_beside_other_prompts(tmp_path):
    (tmp_path / "m").mkdir()
    save(tmp_path / "m" / "00005.png", discs(), DAVIS)
    first = save(tmp_path / "first.png", discs(1), DAVIS)
    plan = PromptPlan(tmp_path / "m", [], [f"0={first}"], False, names=FRAMES, num_frames=9)
    assert given(plan, 0)[0].any()
    assert given(plan, 5)[1] == [1]


@pytest.mark.parametrize(
    ("picture", "names", "frame"),
    [
        ("00004.jpg", FRAMES, 4),
        ("frame_000004.jpg", FRAMES, 4),
        ("frame_000004.jpg", None, 4),
        ("first.jpg", FRAMES, 0),
        ("first.jpg", None, 0),
        ("cam2.jpg", None, 0),
        ("3f2a9c1b-dog.jpg", None, 0),
        ("00000.jpg", FRAMES, 0),
    ],
)
def test_the_only_picture_of_a_file_goes_to_the_frame_that_it_is_called_after(tmp_path, caplog, picture, names, frame):
    plan = PromptPlan(labelled(tmp_path / "a.json", picture), [], [], False, names=names)
    assert list(plan.to_come) == [frame]
    assert (f"frame {frame}" in caplog.text) == bool(frame)


def test_the_only_picture_of_a_file_that_is_called_after_no_frame_is_asked_about(tmp_path):
    with refusal(MaskError, "IMG_2041", "--at"):
        PromptPlan(labelled(tmp_path / "a.json", "IMG_2041.jpg"), [], [], False, names=FRAMES, num_frames=9)


@pytest.mark.parametrize("how", ["mask", "box"])
def test_what_names_no_frame_is_of_the_first_that_is_read(tmp_path, how):
    first = save(tmp_path / "first.png", discs(1), DAVIS)
    plan = PromptPlan(
        first if how == "mask" else None,
        ["2,6,17,17"] if how == "box" else [],
        [f"7:3={save(tmp_path / 'later.png', discs(3) // 3 * 255)}"],
        False,
        begins_later=True,
    )
    plan.check_sizes(mm.Frame(torch.zeros(3, H, W, dtype=torch.uint8), 0))
    assert given(plan, 5)[0].any()
    assert list(plan.to_come) == [7]


@pytest.mark.parametrize("how", ["folder", "at", "click", "remove"])
def test_what_names_a_frame_before_the_first_that_is_read_is_refused(tmp_path, how):
    (tmp_path / "m").mkdir()
    first = save(tmp_path / "m" / "00000.png", discs(1), DAVIS)
    plan = PromptPlan(
        tmp_path / "m" if how == "folder" else None,
        [],
        [f"0={first}"] if how == "at" else [],
        False,
        clicks=["0:1=10,14"] if how == "click" else [],
        removed=["0:1"] if how == "remove" else [],
        known=[1] if how == "remove" else [],
        begins_later=True,
    )
    with refusal(MaskError, "frame 0", "5"):
        given(plan, 5)


def palette_file(path, labels, colours):
    image = Image.fromarray(labels).convert("P")
    image.putdata(labels.ravel().tolist())
    image.putpalette([part for colour in colours for part in colour])
    image.save(path)


@pytest.mark.parametrize("later", [((0, 0, 0), BLUE), ((0, 0, 0), (0, 250, 0), (250, 0, 0))])
def test_a_palette_that_was_made_for_its_file_alone_is_refused(tmp_path, later):
    palette_file(tmp_path / "first.png", discs(1, 2), ((0, 0, 0), RED, GREEN))
    palette_file(tmp_path / "later.png", discs(*range(1, len(later))), later)
    with refusal(MaskError, "palette", "first.png", "later.png"):
        PromptPlan(tmp_path / "first.png", [], [f"6={tmp_path / 'later.png'}"], False)
    grey = [(level, level, level) for level in range(3)]
    palette_file(tmp_path / "later.png", discs(1, 2), grey)
    plan = PromptPlan(tmp_path / "first.png", [], [f"6={tmp_path / 'later.png'}"], False)
    assert ids_at(plan, 6, discs(1, 2)) == {1: [1], 2: [2]}, "a grey is its index"


def test_of_a_cut_out_in_the_folder_of_its_object_only_transparency_counts(tmp_path):
    (tmp_path / "3").mkdir()
    labels = discs(1, 2)
    colours = np.array([(0, 0, 0, 0), (*RED, 255), (*GREEN, 255)], np.uint8)
    Image.fromarray(colours[labels]).save(tmp_path / "3" / "00000.png")
    plan = PromptPlan(tmp_path, [], [], False)
    assert ids_at(plan, 0, (labels > 0).astype(np.uint8)) == {1: [3]}


@pytest.mark.parametrize(("aspect", "said"), [(Fraction(16, 11), True), (Fraction(1), False)])
def test_boxes_and_clicks_on_wide_pixels_count_those_that_are_stored_and_that_is_said(caplog, aspect, said):
    plan = PromptPlan(None, ["10,10,20,20"], [], clean=False)
    plan.check_sizes(mm.Frame(torch.zeros(3, H, W, dtype=torch.uint8), 0, pixel_aspect=aspect))
    assert (f"{W} across" in caplog.text) == said


def test_a_mask_of_which_others_leave_nothing_is_refused_before_the_first_frame_and_a_part_is_said(tmp_path, caplog):
    small, large = (save(tmp_path / f"{r}.png", cv2.circle(discs(), (30, 20), r, 255, -1)) for r in (6, 12))
    first = save(tmp_path / "first.png", discs(1, 3))
    with refusal(MaskError, r"6\.png", "frame 5", "given before it"):
        PromptPlan(first, [], [f"5:5={large}", f"5:4={small}"], False)
    plan = PromptPlan(first, [], [f"5:4={small}", f"5:5={large}"], False)
    shared = int((np.asarray(Image.open(small)) > 0).sum())
    assert f"overlap in 1 frame, first {large} in frame 5, which shares {shared} pixels" in caplog.text
    assert list(plan.to_come[5]) == [4, 5]


@pytest.mark.parametrize("to", ["other ids", "swapped paint", "moved", "as it was"])
def test_a_mask_that_changes_before_its_frame_comes_is_refused(tmp_path, to):
    first, later = save(tmp_path / "first.png", discs(1, 2)), tmp_path / "later.png"
    before = painted(discs(1, 2), {1: RED, 2: GREEN})
    now = {
        "other ids": discs(1, 2) * 3,
        "swapped paint": painted(discs(1, 2), {1: GREEN, 2: RED}),
        "moved": painted(discs(2, 3), {2: RED, 3: GREEN}),
        "as it was": before,
    }
    plan = PromptPlan(first, [], [f"5={save(later, before)}"], False)
    given(plan, 0)
    save(later, now[to])
    if to == "as it was":
        assert given(plan, 5)[0].any()
    else:
        with refusal(MaskError, r"later\.png", "changed since the run started", "--resume"):
            given(plan, 5)
