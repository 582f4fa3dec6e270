import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from refusals import refusal

from mnemask.errors import MaskError
from mnemask.io.written import Written
from mnemask.prompts.mask_folder import (
    MaskPlaces,
    folders_of_objects,
    list_masks,
    mask_files,
    match_frames,
    never_annotated,
)

FRAMES = [f"street_{number:05d}" for number in range(12)]


@pytest.mark.parametrize(
    "name",
    [
        "street_00003.png",
        "street_00003.jpg.png",
        "street_00003.png.png",
        "street_00003_mask.png",
        "street_00003-label.png",
        "street_00003_mask.jpg.png",
        "mask_street_00003.png",
        "street_00003_Segmentation.tif",
        "street_00003mask.bmp",
        "street_00003_instance_mask.png",
        "street_00003_jpg.rf.3fa8b1c2d4e5f607.png",
    ],
)
def test_a_mask_goes_to_the_frame_that_it_is_named_after(name):
    assert match_frames([Path(name)], FRAMES) == ({3: Path(name)}, "")


def test_a_name_that_a_frame_really_has_goes_before_what_is_put_around_names():
    names = ["a", "a_mask"]
    assert match_frames([Path("a_mask.png"), Path("a.png")], names)[0] == {0: Path("a.png"), 1: Path("a_mask.png")}


def test_where_no_name_fits_numbers_count_and_it_is_said():
    found, guessed = match_frames([Path("m3.png"), Path("00007.png")], FRAMES)
    assert found == {3: Path("m3.png"), 7: Path("00007.png")}
    assert "m3.png to street_00003" in guessed
    found, _ = match_frames([Path("10.png")], [f"cam1_{number}" for number in range(8, 20)])
    assert found == {2: Path("10.png")}


def test_of_a_video_the_number_is_the_frames_position():
    names = ["frame_000000.png", "frame_000011.png", "5.png", "video2_000007_mask.png"]
    assert list(match_frames([Path(name) for name in names], None, 12)[0]) == [0, 5, 7, 11]


@pytest.mark.parametrize(
    ("names", "frames", "num_frames", "message"),
    [
        (
            ["street_00003.png", "walk_00004.png"],
            FRAMES,
            12,
            r"1 of 2 .* walk_00004\.png; .* street_00000 to street_00011",
        ),
        (["99.png"], FRAMES, 12, r"1 of 1 .* 99\.png"),
        (["cover.png"], FRAMES, 12, r"cover\.png"),
        ([f"x{number}.png" for number in range(50, 60)], FRAMES, 12, r"10 of 10 .* x54\.png and 5 more"),
        (["12.png"], None, 12, r"12\.png; .*expected the number of a frame, from 0 to 11"),
        (["cover.png"], None, None, r"cover\.png"),
        (["3.png", "00003_mask.png"], None, 12, r"3\.png and 00003_mask\.png are both of frame 3"),
        (["1.png"], ["a1", "b1"], 2, r"1 of 1"),
        (["12345678901234567890.png"], None, None, r"match no frame"),
    ],
)
def test_masks_without_a_frame_of_their_own_are_refused_by_name(names, frames, num_frames, message):
    with refusal(MaskError, message):
        match_frames([Path(name) for name in names], frames, num_frames)


def test_only_images_count_and_a_folder_without_any_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / ".hidden.png").write_text("")
    with refusal(MaskError, "holds"):
        list_masks(tmp_path)
    (tmp_path / "b.PNG").write_text("")
    (tmp_path / "a.png").write_text("")
    assert [path.name for path in list_masks(tmp_path)] == ["a.png", "b.PNG"]


@pytest.mark.parametrize("place", ["run", "run/masks"])
def test_of_a_label_video_single_maps_are_offered_and_images(tmp_path, place):
    (tmp_path / "run/masks").mkdir(parents=True)
    (tmp_path / "run/masks/masks.mkv").write_bytes(b"")
    with refusal(MaskError, "run/masks/masks.mkv give single maps, such as --at 12=.*/masks.mkv/00012, .* export RUN"):
        list_masks(tmp_path / place)


def test_a_folder_without_an_id_beside_folders_of_objects_is_refused(tmp_path):
    for name in ("1", "2", ".cache"):
        (tmp_path / name).mkdir()
    assert list(folders_of_objects(tmp_path)) == [1, 2]
    (tmp_path / "cat").mkdir()
    with refusal(MaskError, "'cat'"):
        folders_of_objects(tmp_path)


def test_a_folder_of_an_object_that_is_named_by_0_is_refused(tmp_path):
    for name in ("000", "001"):
        (tmp_path / name).mkdir()
    with refusal(MaskError, r"000 is named by id 0, which is the background"):
        folders_of_objects(tmp_path)


def test_what_a_run_left_in_a_folder_of_masks_is_no_mask(tmp_path):
    for name in (
        "1/00003.png",
        "1/.hidden.png",
        "2/00003.png",
        ".hidden.png",
        "masks/00003.png",
        "out/masks/00003.png",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    written = Written(tmp_path)
    for name in ("preview.png", "masks/00004.png"):
        written.write(tmp_path / name, "")
    Written(tmp_path / "out").claim(tmp_path / "out/checkpoint")
    assert mask_files(tmp_path) == [tmp_path / "1/00003.png", tmp_path / "2/00003.png"]
    with refusal(MaskError, "holds no mask", "give .*masks, which a run wrote"):
        list_masks(tmp_path)
    (tmp_path / "1/preview.png").write_text("")
    assert tmp_path / "1/preview.png" in mask_files(tmp_path), "nobody but the user wrote it"


def test_of_annotations_the_files_of_the_tool_are_read(tmp_path):
    labelme = '{"shapes": [], "imagePath": "00003.jpg", "imageHeight": 4, "imageWidth": 6}'
    (tmp_path / "00003.json").write_text(labelme)
    (tmp_path / "00003.jpg").write_bytes(b"")
    assert mask_files(tmp_path) == [tmp_path / "00003.json"]


def picture(path, seed=0):
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (20, 30, 3), np.uint8)).save(path)


def label_map(path):
    Image.fromarray(np.pad(np.ones((10, 10), np.uint8), 5)).save(path)


def test_of_frames_and_masks_in_one_folder_the_masks_are_taken(tmp_path):
    for number in range(3):
        picture(tmp_path / f"{number:05d}_jpg.rf.0a1b.jpg", number)
        label_map(tmp_path / f"{number:05d}_jpg.rf.0a1b_mask.png")
    masks = [tmp_path / f"{number:05d}_jpg.rf.0a1b_mask.png" for number in range(3)]
    assert mask_files(tmp_path) == masks
    for names in (["00000", "00001", "00002"], [f"{number:05d}_jpg.rf.0a1b" for number in range(3)]):
        found = MaskPlaces.of(tmp_path, names, 3)
        assert [(at.frame, at.path) for at in found.places] == list(enumerate(masks))
        assert f"3 pictures in {tmp_path} beside their masks: left out" in found.notes


def test_masks_beside_others_that_may_be_masks_too_are_all_taken(tmp_path):
    for name in ("00000.png", "00001.png", "00001_mask.png"):
        label_map(tmp_path / name)
    with refusal(MaskError, "both of frame 1"):
        MaskPlaces.of(tmp_path, ["00000", "00001"], 2)


def coco_of(path, names):
    images = [{"id": number, "file_name": name, "height": 20, "width": 30} for number, name in enumerate(names)]
    shape = {"id": 1, "image_id": 0, "category_id": 1, "segmentation": [[5, 5, 25, 5, 25, 15]]}
    path.write_text(json.dumps({"images": images, "annotations": [shape], "categories": [{"id": 1, "name": "dog"}]}))


def test_of_frames_beside_an_annotation_file_that_file_is_asked_for(tmp_path):
    names = ["00000_jpg.rf.0a1b.jpg", "00001_jpg.rf.2c3d.jpg"]
    for name in names:
        picture(tmp_path / name)
    annotations = tmp_path / "_annotations.coco.json"
    annotations.write_text('{"note": "no annotations"}')
    assert len(mask_files(tmp_path)) == 2
    coco_of(annotations, names)
    with refusal(MaskError, "are frames, and _annotations.coco.json", f"give {annotations}"):
        MaskPlaces.of(tmp_path, ["00000", "00001"], 2)
    assert [at.frame for at in MaskPlaces.of(annotations, ["00000", "00001"], 2).places] == [0]


def test_label_maps_beside_an_annotation_file_are_masks(tmp_path):
    names = ["00000.png", "00001.png"]
    for name in names:
        label_map(tmp_path / name)
    coco_of(tmp_path / "export.json", names)
    assert len(MaskPlaces.of(tmp_path, ["00000", "00001"], 2).places) == 2


def test_what_is_neither_a_folder_nor_a_file_of_an_annotation_tool_is_refused(tmp_path):
    (tmp_path / "00000.png").write_bytes(b"an image")
    for name, what in (("00000.png", "annotation tool"), ("none", "does not exist")):
        with refusal(MaskError, what, "--at FRAME=FILE"):
            list_masks(tmp_path / name)


@pytest.mark.parametrize(
    ("masks", "frames"),
    [
        (["street_00000_1.png", "street_00000_2.png"], FRAMES),
        (["00003_1.png"], None),
        (["frame_00003_1.png", "frame_00003_2.png"], None),
        (["label-00003_1.png", "label-00003_2.png"], ["00001", "00002", "00003"]),
        (["00003_obj1.png"], ["00001", "00002", "00003"]),
        (["00003_1_mask.png", "00003_2_mask.png"], ["00001", "00002", "00003"]),
        ([f"0000{t}_{i}.png" for t in range(9) for i in (1, 2)], None),
        (["00003.1.png", "00003.2.png"], None),
        (["00003_12.jpg.png"], ["00003", "00004"]),
    ],
)
def test_a_mask_called_after_a_frame_and_a_number_is_asked_about(masks, frames):
    with refusal(MaskError, "and a number", "folder"):
        match_frames([Path(name) for name in masks], frames)


@pytest.mark.parametrize(
    ("masks", "frames", "expected"),
    [
        (["shot1_00000.png", "shot1_00001.png"], None, [0, 1]),
        (["1_00004.png", "1_00005.png"], None, [4, 5]),
        ([f"DJI_0001_{t:03d}.png" for t in range(12)], None, list(range(12))),
        ([f"00001-{t}.png" for t in range(12)], None, list(range(12))),
        (["20240501_003.png", "20240501_004.png"], None, [3, 4]),
        (["clip_1080_3.png", "clip_1080_4.png"], None, [3, 4]),
        (["2024-05-01_3.png", "2024-05-01_4.png"], None, [3, 4]),
        (["00003_1.png"], ["00003", "00003_1"], [1]),
    ],
)
def test_other_numbers_in_front_of_a_frame_s_are_none_of_an_object(masks, frames, expected):
    assert list(match_frames([Path(name) for name in masks], frames)[0]) == expected


@pytest.mark.parametrize(
    ("marked", "expected"),
    [
        ([1, 0, 0], True),
        ([1, 0, 0, 0, 1, 0, 0, 0], True),
        ([1, 0, 0, 1], True),
        ([1, 0], False),  # they are gone
        ([0, 0, 1, 0], False),
        ([1, 0, 1, 0, 0], False),
        ([1, 1, 0, 0], False),
        ([1, 0, 1, 0], False),
        ([0, 0], False),
    ],
)
def test_frames_that_nobody_came_to_are_told_from_those_without_objects(marked, expected):
    assert never_annotated([bool(each) for each in marked]) is expected


def test_accents_of_one_sign_and_of_two_are_the_same_name():
    matched, guessed = match_frames(
        [Path("cafe\u0301_a.png"), Path("caf\u00e9_b_mask.png")], ["caf\u00e9_a", "cafe\u0301_b"]
    )
    assert [path.name for path in matched.values()] == ["cafe\u0301_a.png", "caf\u00e9_b_mask.png"]
    assert not guessed
