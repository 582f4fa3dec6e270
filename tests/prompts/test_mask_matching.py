from pathlib import Path

import pytest
from refusals import refusal

from mnemask.errors import MaskError
from mnemask.prompts.mask_matching import match_frames

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


def test_accents_of_one_sign_and_of_two_are_the_same_name():
    matched, guessed = match_frames(
        [Path("cafe\u0301_a.png"), Path("caf\u00e9_b_mask.png")], ["caf\u00e9_a", "cafe\u0301_b"]
    )
    assert [path.name for path in matched.values()] == ["cafe\u0301_a.png", "caf\u00e9_b_mask.png"]
    assert not guessed
