from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from refusals import refusal

from mnemask.datasets.annotated import AnnotatedImage, AnnotatedVideo, check_masks
from mnemask.datasets.video_sets import VIDEO_SETS
from mnemask.errors import InputError, MaskError
from mnemask.io.label_files import read_labels

LABELS = np.kron(np.array([[0, 1], [2, 255]]), np.ones((5, 8), int)).astype(np.uint8)


def save(path, labels, palette=True):
    image = Image.fromarray(labels)
    if palette:
        image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, *[9] * 759])
    image.save(path)
    return path


def video(masks, single_object=False):
    return AnnotatedVideo("clip", tuple(Path(f"{i}.jpg") for i in range(5)), masks, single_object)


def photograph(mask, **options):
    return AnnotatedImage("photo", Path("photo.jpg"), mask, **options)


def test_labels_of_a_frame_are_ids_with_void_or_one_object(tmp_path):
    masks = {1: save(tmp_path / "1.png", LABELS), 3: save(tmp_path / "3.png", LABELS, palette=False)}
    for index in masks:
        np.testing.assert_array_equal(video(masks).read_labels(index), LABELS)
        np.testing.assert_array_equal(video(masks, single_object=True).read_labels(index), LABELS > 0)
    assert video(masks).first_annotated == 1
    assert video(masks, single_object=True).read_labels(1).dtype == np.uint8


def test_a_frame_without_mask_is_refused_with_those_that_have_one(tmp_path):
    with refusal(InputError, "frames"):
        video({3: tmp_path / "3.png"}).read_labels(2)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "1", "P"])
def test_the_object_of_a_photograph_is_where_its_mask_is_bright(tmp_path, mode):
    white = np.zeros((6, 8), np.uint8)
    white[2:4, 3:7] = 255
    Image.fromarray(white).convert(mode).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(photograph(tmp_path / "mask.png").read_mask(), white > 0)


def test_soft_edges_of_a_photographs_mask_are_cut_in_the_middle(tmp_path):
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_array_equal(photograph(save(tmp_path / "mask.png", ramp, False)).read_mask(), ramp > 127)


def test_a_mask_of_small_values_is_told_how_to_be_read_and_an_empty_one_is_empty(tmp_path):
    ones = save(tmp_path / "ones.png", (LABELS == 1).astype(np.uint8), palette=False)
    with refusal(MaskError, r"ones\.png", r"object_above"):
        photograph(ones).read_mask()
    np.testing.assert_array_equal(photograph(ones, object_above=0).read_mask(), LABELS == 1)
    assert not photograph(save(tmp_path / "empty.png", np.zeros_like(LABELS), False)).read_mask().any()


def test_palette_and_greyscale_masks_give_the_stored_labels(tmp_path):
    for palette in (True, False):
        found = read_labels(save(tmp_path / f"{palette}.png", LABELS, palette))
        np.testing.assert_array_equal(found, LABELS)
        assert found.dtype == np.uint8


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_grey_saved_as_colour_is_still_a_mask(tmp_path, mode):
    Image.fromarray(LABELS).convert(mode).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_labels(tmp_path / "mask.png"), LABELS)


def test_two_valued_and_16_bit_masks_are_read(tmp_path):
    Image.fromarray(LABELS > 0).save(tmp_path / "bits.png")
    np.testing.assert_array_equal(read_labels(tmp_path / "bits.png"), LABELS > 0)
    Image.fromarray(LABELS.astype(np.uint16)).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(read_labels(tmp_path / "deep.png"), LABELS)


def test_palettes_that_contradict_each_other_are_refused_and_greys_are_not_compared(tmp_path):
    red, green, grey = (255, 0, 0), (0, 255, 0), (9, 9, 9)
    frame = tmp_path / "frame.png"
    Image.fromarray(LABELS).save(frame)

    def masks(*palettes):
        for index, colours in enumerate(palettes):
            image = Image.fromarray(LABELS % 255)
            image.putpalette([0, 0, 0, *np.ravel(colours).tolist()])
            image.save(tmp_path / f"{index}.png")
        paths = {index: tmp_path / f"{index}.png" for index in range(len(palettes))}
        return AnnotatedVideo("clip", [frame] * len(paths), paths, single_object=False)

    check_masks(masks((red, green), (red, green)))
    check_masks(masks((red, red), (red, red)))  # the indices are the ids, whatever their colours
    check_masks(masks((red, grey), (grey, green)))
    contradicting = masks((red, green), (grey, green), (grey, red))
    with refusal(MaskError, r"2\.png has #ff0000 as index 2 but .*0\.png has it as 1", "same palette"):
        check_masks(contradicting)
    check_masks(replace(contradicting, single_object=True))


def test_frames_that_their_orientation_tags_turn_are_said_once(tmp_path, caplog):
    upside_down = Image.Exif()
    upside_down[0x112] = 3
    frames, masks = [], {}
    for index in range(3):
        frames.append(tmp_path / f"{index}.jpg")
        Image.fromarray(LABELS).save(frames[-1], exif=upside_down)
        masks[index] = save(tmp_path / f"{index}.png", LABELS)
    check_masks(AnnotatedVideo("clip", frames, masks, single_object=False))
    assert caplog.text.count("clip: 0.jpg is shown turned by 180 degrees") == 1
    assert caplog.text.count("orientation tag") == 1


@pytest.mark.shared
def test_palettes_of_davis_do_not_contradict_each_other(shared_data):
    for video in VIDEO_SETS["DAVIS-2016-val"].open(shared_data / "davis2016-dev"):
        check_masks(replace(video, single_object=False))


def test_colours_are_refused_because_they_name_no_object(tmp_path):
    image = Image.open(save(tmp_path / "mask.png", LABELS)).convert("RGB")
    image.save(tmp_path / "mask.png")
    with refusal(MaskError, r"mask\.png", r"RGB"):
        read_labels(tmp_path / "mask.png")


def test_files_that_are_no_masks_are_refused_by_name(tmp_path):
    (tmp_path / "text.png").write_text("not an image")
    whole = save(tmp_path / "cut.png", np.random.default_rng(0).integers(0, 255, (90, 90), np.uint8)).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.png").touch()
    for name in ("text.png", "cut.png", "empty.png"):
        with refusal(MaskError, rf"{name}"):
            read_labels(tmp_path / name)
    with refusal(MaskError, r"absent\.png"):
        read_labels(tmp_path / "absent.png")
    with refusal(MaskError, "cannot"):
        read_labels(tmp_path)


def test_a_blended_edge_of_one_shade_is_refused_in_the_first_mask_with_an_object(tmp_path):
    frames, empty = (tmp_path / "0.jpg", tmp_path / "1.jpg"), np.zeros((48, 64), np.uint8)
    for frame in frames:
        Image.fromarray(np.stack([empty] * 3, -1)).save(frame)
    soft = empty.copy()
    soft[11:37, 15:49], soft[12:36, 16:48] = 100, 200
    masks = {index: save(tmp_path / f"{index}.png", labels, False) for index, labels in enumerate((empty, soft))}
    with refusal(MaskError, "1.png", "blended"):
        check_masks(AnnotatedVideo("clip", frames, masks, single_object=False))
