"""Masks that lie among the frames of a folder are no frames."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from refusals import refusal

from mnemask.errors import FrameError
from mnemask.io import VideoReader
from mnemask.io.frame_files import find_frames
from mnemask.io.image_sequences import number_gaps
from mnemask.io.written import Written

PICTURE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
LABELS = np.zeros((40, 60), np.uint8)
LABELS[10:20, 10:30] = 1


def photograph(path):
    Image.fromarray(PICTURE).save(path)


def mask(path):
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(LABELS).save(path)


@pytest.mark.parametrize(
    ("frame", "annotation"),
    [
        ("{:05d}.png", "{:05d}_mask.png"),
        ("{:05d}.jpg", "{:05d}.png"),
        ("{:05d}.jpg", "{:05d}_m.png"),
        ("img_{:03d}.png", "mask_{:03d}.png"),
        ("{:03d}.png", "{:03d}_gtFine_labelIds.png"),
        ("ulm_000000_{:06d}_leftImg8bit.png", "ulm_000000_{:06d}_gtFine_labelIds.png"),
        ("frame ({}).webp", "frame ({}) - Segmentation.png"),
        ("t{}.5.jpg", "t{}.5-gt.png"),
        ("{:04d}.jpg", "{:04d}_mask1.png"),
        ("{:05d}.jpg", "{:05d}_mask_1.png"),
        ("{:05d}.jpg", "{:05d}.mask.0.png"),
        ("{:05d}.jpg", "{:05d}_2.png"),
    ],
)
def test_masks_beside_their_frames_are_left_out_and_that_is_said(tmp_path, frame, annotation):
    for t in range(4):
        photograph(tmp_path / frame.format(t))
        mask(tmp_path / annotation.format(t))
    found = find_frames(tmp_path)
    assert [path.name for path in found.paths] == [frame.format(t) for t in range(4)]
    assert len(found.notes) == 1
    assert VideoReader(tmp_path).facts.notes == found.notes


def test_a_few_masks_among_many_frames_are_left_out(tmp_path):
    for t in range(6):
        photograph(tmp_path / f"{t}.jpg")
    mask(tmp_path / "3_mask.png")
    mask(tmp_path / "mask.png")
    assert [path.stem for path in find_frames(tmp_path).paths] == list("012345")


def test_a_mask_without_a_number_is_no_frame_and_a_black_picture_may_be_one(tmp_path):
    for t in range(3):
        photograph(tmp_path / f"{t}.png")
    mask(tmp_path / "first.png")
    Image.new("RGB", (60, 40)).save(tmp_path / "end.png")
    found = find_frames(tmp_path)
    assert [path.name for path in found.paths] == ["0.png", "1.png", "2.png", "end.png"]
    assert ["first.png" in note for note in found.notes] == [True]


def test_the_mask_that_is_given_is_no_frame_whatever_it_is_called(tmp_path):
    for t in range(3):
        photograph(tmp_path / f"{t}.png")
    photograph(tmp_path / "first.png")
    assert len(find_frames(tmp_path).paths) == 4
    reader = VideoReader(tmp_path, masks=[tmp_path / ".." / tmp_path.name / "first.png"])
    assert [frame.name for frame in reader] == ["0", "1", "2"]
    assert len(reader.facts.notes) == 1


def test_a_folder_of_masks_is_a_video_of_masks(tmp_path):
    for t in range(3):
        mask(tmp_path / f"mask_{t}.png")
    assert len(find_frames(tmp_path).paths) == 3


def test_two_photographs_of_one_name_are_refused(tmp_path):
    for name in ("0.jpg", "0.webp", "1.jpg"):
        photograph(tmp_path / name)
    with refusal(FrameError, "same"):
        find_frames(tmp_path)


@pytest.mark.parametrize(("one", "other"), [("left_{}.png", "right_{}.png"), ("{}.png", "{} (1).png")])
def test_two_series_that_are_numbered_alike_are_a_doubt(tmp_path, one, other):
    for t in range(3):
        photograph(tmp_path / one.format(t))
        photograph(tmp_path / other.format(t))
    found = find_frames(tmp_path)
    assert len(found.paths) == 6
    assert one.format(0) in found.notes[0]


def test_names_of_letters_are_paired_with_what_begins_with_them(tmp_path):
    for name in "abc":
        photograph(tmp_path / f"{name}.png")
        mask(tmp_path / f"{name}_m.png")
    assert [path.stem for path in find_frames(tmp_path).paths] == ["a", "b", "c"]


def test_the_preview_of_a_run_is_no_frame_and_one_of_the_users_own_is(tmp_path):
    for name in ("0", "1", "preview"):
        photograph(tmp_path / f"{name}.png")
    assert len(find_frames(tmp_path).paths) == 3
    (tmp_path / "preview.png").unlink()
    Written(tmp_path).write(tmp_path / "preview.png", (tmp_path / "0.png").read_bytes())
    assert len(find_frames(tmp_path).paths) == len(find_frames(tmp_path / "*.png").paths) == 2


def test_a_name_that_is_not_utf_8_is_refused(tmp_path):
    photograph(tmp_path / "0.png")
    try:
        (tmp_path / "0.png").rename(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))
    except OSError:
        return  # a file system that takes no such name
    with refusal(FrameError, "UTF-8"):
        find_frames(tmp_path)


def test_shots_that_follow_each_other_are_no_doubt(tmp_path):
    for shot in (1, 2):
        for t in range(3):
            photograph(tmp_path / f"shot{shot}_{t}.png")
    assert not find_frames(tmp_path).notes


def test_brackets_in_the_name_of_a_folder_are_no_pattern(tmp_path):
    folder = tmp_path / "shot [1]"
    folder.mkdir()
    for t in range(3):
        photograph(folder / f"{t}.png")
    assert len(find_frames(folder / "[01].png").paths) == 2


def test_a_few_pictures_that_are_not_called_like_the_others_are_named(tmp_path):
    for t in range(12):
        photograph(tmp_path / f"{t:05d}.png")
    assert not find_frames(tmp_path).notes
    photograph(tmp_path / "cover.png")
    photograph(tmp_path / "00003 - Copy.png")
    found = find_frames(tmp_path)
    assert len(found.paths) == 14
    assert [path.name for path in found.paths[3:5]] == ["00003.png", "00003 - Copy.png"]
    (note,) = found.notes
    assert "00003 - Copy.png and 1 more are not named like the other 12" in note
    assert "as number 4" in note


def test_names_that_have_nothing_in_common_are_no_reason_for_a_note(tmp_path):
    for name in ("a1b2", "0c9f", "77de", "e4e5", "b001"):
        photograph(tmp_path / f"{name}.png")
    assert not find_frames(tmp_path).notes


@pytest.mark.parametrize(
    "names",
    [
        [f"Shot at {hour}.00.00 AM" for hour in range(1, 11)] + ["Shot at 1.00.00 PM"],
        [f"Captura {hour}.00.00 a. m." for hour in range(1, 11)] + ["Captura 1.00.00 p. m."],
        [f"스크린샷 오전 {hour}.00.00" for hour in range(1, 11)] + ["스크린샷 오후 1.00.00"],
        [f"f_{t}" for t in range(-3, 20)],
        [f"{t / 10:g}" for t in range(30)],
    ],
)
def test_numbers_of_other_forms_are_no_reason_for_a_note(tmp_path, names):
    for name in names:
        photograph(tmp_path / f"{name}.png")
    assert not [note for note in find_frames(tmp_path).notes if "not named like" in note]


def test_hexadecimal_numbers_are_one_series(tmp_path):
    for number in range(60):
        photograph(tmp_path / f"{number:04x}.png")
    (note,) = find_frames(tmp_path).notes
    assert "hexadecimal" in note


@pytest.mark.parametrize(
    "names",
    [
        [f"cam{camera}_{index:03d}" for camera in (1, 2, 3) for index in range(6)],
        [f"{index:03d}" for index in range(6)] + [f"{index:03d}_overlay" for index in range(5)],
        [f"left_{index}" for index in range(6)] + [f"right_{index}" for index in range(5)],
        [f"{index:03d}" for index in range(12)] + [f"{index:03d} (1)" for index in range(7)],
        [f"f{index}_cam{camera}" for camera in (1, 2, 3) for index in range(6 - camera)],
        [f"{index:04d}-view{camera}" for camera in (1, 2) for index in range(5)],
        [f"{index:04d}{more}" for index in range(5) for more in ("", "_1", "_2")],
        [f"{index:04d}{more}" for index in range(5) for more in ("", "_1", "_2", "_3")][:-1],
    ],
)
def test_several_series_are_a_doubt_though_some_of_one_are_missing(tmp_path, names):
    for number, name in enumerate(names):
        noise = np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{name}.png")
    assert any("two series" in note for note in VideoReader(tmp_path).facts.notes)


@pytest.mark.parametrize(
    "names",
    [
        [f"f{index}_cam2" for index in range(5)],
        [f"view_{index:04d}" for index in range(5)],
        [f"img_{shot}_{index}" for shot in (1, 2) for index in range(5)],
        [f"batch{shot}_{index}" for shot in (1, 2) for index in range(5)],
        [f"{index / 4:g}" for index in range(12)],
        [f"door cam {year}-01-0{day}" for year in (2024, 2025) for day in range(1, 6)],
    ],
)
def test_one_series_with_several_numbers_in_its_names_is_no_doubt(tmp_path, names):
    for name in names:
        photograph(tmp_path / f"{name}.png")
    assert not find_frames(tmp_path).notes


def test_several_copies_of_each_frame_are_called_copies(tmp_path):
    for name in (f"{index}{more}" for index in range(6) for more in ("", " (1)", " (2)")):
        photograph(tmp_path / f"{name}.png")
    assert any("0 (1).png is named as a copy of 0.png" in note for note in find_frames(tmp_path).notes)


@pytest.mark.parametrize(
    "name", ["z{}", "{}", "{:g}", "frame_{:+}", "slice {:g} mm", "z_{}", "t={:g}s", "scan 3 at {:.1f}", "\u2212{}"]
)
@pytest.mark.parametrize("step", [1, 0.5])
def test_a_series_with_signs_is_one_series(tmp_path, name, step):
    numbers = [step * number if step < 1 else number for number in range(-5, 7)]
    names = [name.format(number).replace("\u2212-", "\u2212").replace("+0", "0") for number in numbers]
    if name.startswith("\u2212"):
        names = [each if number < 0 else each[1:] for each, number in zip(names, numbers, strict=True)]
    for each in names:
        photograph(tmp_path / f"{each}.png")
    found = find_frames(tmp_path)
    assert [path.stem for path in found.paths] == names
    assert not [note for note in found.notes if "two series" in note]


def test_two_cameras_are_two_series_though_a_minus_is_in_the_name_of_one(tmp_path):
    for number in range(1, 7):
        photograph(tmp_path / f"cam-{number}.png")
        photograph(tmp_path / f"cam{number}.png")
    assert any("two series" in note for note in find_frames(tmp_path).notes)


def test_decimals_without_a_zero_in_front_are_hidden_and_that_is_said(tmp_path):
    for name in (".25", ".5", ".75", ".hidden"):
        photograph(tmp_path / f"{name}.png")
    with refusal(FrameError, r"rename them, such as \.25\.png to 0\.25\.png"):
        find_frames(tmp_path)
    for name in ("0", "1", "1.25"):
        photograph(tmp_path / f"{name}.png")
    for source in (tmp_path, tmp_path / "*.png"):
        found = find_frames(source)
        assert [path.stem for path in found.paths] == ["0", "1", "1.25"]
        (note,) = [note for note in found.notes if "hidden" in note]
        assert note.startswith(".25.png and 2 more: left out, since names that begin with a dot are hidden")


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".ppm", ".pgm", ".JFIF"])
def test_frames_of_rarer_suffixes_are_read(tmp_path, suffix):
    for t in range(3):
        format = "JPEG" if suffix.lower().startswith(".j") else "PPM"
        Image.fromarray(PICTURE).convert("L" if suffix == ".pgm" else "RGB").save(tmp_path / f"{t}{suffix}", format)
    photograph(tmp_path / "3.png")
    frames = list(VideoReader(tmp_path))
    assert [frame.name for frame in frames] == ["0", "1", "2", "3"]
    assert abs(frames[1].image.float().mean() - PICTURE.mean()) < 3


def test_pictures_that_cannot_be_read_are_named(tmp_path):
    for t in range(3):
        photograph(tmp_path / f"{t}.png")
    assert not find_frames(tmp_path).notes
    for name in ("3.heic", "4.HEIC", "5.exr", "first.gif", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    (note,) = find_frames(tmp_path, masks=[tmp_path / "first.gif"]).notes
    assert "3.heic" in note
    assert "2 more" in note


@pytest.mark.parametrize("called", [" (1)", "(1)", " copy", " - Copy", " copy 2", " - Kopie"])
def test_frames_that_are_called_copies_of_others_are_said(tmp_path, called):
    for t in range(5):
        photograph(tmp_path / f"frame_{t}.png")
    for t in (1, 3):
        photograph(tmp_path / f"frame_{t}{called}.png")
    found = find_frames(tmp_path)
    assert len(found.paths) == 7
    assert any(f"frame_1{called}.png" in note for note in found.notes)


def test_a_jpeg_of_a_mask_alone_among_frames_is_no_frame(tmp_path):
    for t in range(3):
        photograph(tmp_path / f"{t}.jpg")
    Image.fromarray(LABELS * 255).save(tmp_path / "mask.jpg")
    found = find_frames(tmp_path)
    assert [path.name for path in found.paths] == ["0.jpg", "1.jpg", "2.jpg"]
    assert "mask.jpg" in found.notes[0]
    photograph(tmp_path / "mask.jpg")
    assert len(find_frames(tmp_path).paths) == 4


def test_depth_beside_colour_of_the_same_name_is_no_frame_and_that_is_said(tmp_path):
    for number in range(3):
        photograph(tmp_path / f"{number:05d}.jpg")
        Image.fromarray(PICTURE[..., 0]).save(tmp_path / f"{number:05d}.pgm")
    found = find_frames(tmp_path)
    assert [path.suffix for path in found.paths] == [".jpg"] * 3
    assert "00000.pgm and 2 more" in found.notes[0]


@pytest.mark.parametrize(("frame", "annotation"), [(".ppm", ".png"), (".pgm", ".bmp"), (".jpg", ".pgm")])
@pytest.mark.parametrize("given", [True, False])
def test_masks_are_no_frames_whichever_of_both_formats_is_rare(tmp_path, frame, annotation, given):
    for number in range(3):
        Image.fromarray(PICTURE[..., 0] if frame == ".pgm" else PICTURE).save(tmp_path / f"{number:05d}{frame}")
        mask(tmp_path / f"{number:05d}{annotation}")
    found = find_frames(tmp_path, [tmp_path / f"00000{annotation}"] if given else [])
    assert [path.suffix for path in found.paths] == [frame] * 3
    assert len(found.notes) == 1


def test_a_mask_that_is_a_link_among_the_frames_is_no_frame(tmp_path):
    frames = tmp_path / "frames"
    frames.mkdir()
    for number in range(3):
        photograph(frames / f"f{number}.png")
    photograph(tmp_path / "soft.png")
    (frames / "f7.png").symlink_to(tmp_path / "soft.png")
    assert [path.name for path in find_frames(frames, [frames / "f7.png"]).paths] == ["f0.png", "f1.png", "f2.png"]
    (tmp_path / "first.png").symlink_to(frames / "f1.png")
    assert [path.name for path in find_frames(frames, [tmp_path / "first.png"]).paths] == ["f0.png", "f2.png", "f7.png"]


def test_a_link_among_the_frames_that_leads_nowhere_is_said(tmp_path):
    for number in range(3):
        photograph(tmp_path / f"{number}.png")
    for number in (3, 4):
        (tmp_path / f"{number}.png").symlink_to(tmp_path / "gone.png")
    (note,) = find_frames(tmp_path).notes
    assert note.startswith("3.png and 1 more: left out")
    for number in range(3):
        (tmp_path / f"{number}.png").unlink()
    with refusal(FrameError, "link"):
        find_frames(tmp_path)


@pytest.mark.parametrize("name", ["{:04d}_left", "{:d}", "f{}0_cam2", "{:03d}_leftImg8bit"])
def test_a_missing_number_is_known_wherever_it_is_in_the_name(name):
    paths = [Path(f"{name.format(number)}.png") for number in (1, 2, 4, 5, 6, 7)]
    ((at, (before, after)),) = number_gaps(paths).items()
    assert (at, after - before) == (2, 20 if "0_" in name else 2)


def test_of_a_folder_that_holds_only_folders_one_with_images_other_than_masks_is_named(tmp_path):
    mask(tmp_path / "Annotations/0.png")
    with refusal(FrameError, "no image in a readable format"):
        find_frames(tmp_path)
    for folder in "JPEGImages", "a":
        (tmp_path / folder).mkdir()
    photograph(tmp_path / "JPEGImages/0.png")
    with refusal(FrameError, "no image itself") as refused:
        find_frames(tmp_path)
    assert refused.value.remedy == f"give {str(tmp_path / 'JPEGImages')!r}"
