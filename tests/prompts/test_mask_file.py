import contextlib
import logging
import os
import struct
import zlib

import cv2
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2
from refusals import refusal

from mnemask.errors import FrameError, MaskError
from mnemask.io import MaskWriter, davis_palette, read_image
from mnemask.io.frame_files import find_frames
from mnemask.io.label_files import read_labels
from mnemask.prompts import PromptPlan, inspect_mask, read_mask
from mnemask.prompts.mask_folder import list_masks
from mnemask.types import Frame, Masks

H, W = 48, 80
WHITE = (255, 255, 255)


def drawn(values=(1, 2), dtype=np.uint8, antialias=False):
    """Two discs of the given values on 0."""
    image = np.zeros((H, W), np.float32)
    for value, centre in zip(values, ((20, 24), (56, 22)), strict=False):
        cover = np.zeros((8 * H, 8 * W), np.float32)
        cv2.circle(cover, (8 * centre[0], 8 * centre[1]), 8 * 13, 1, -1)
        cover = cv2.resize(cover, (W, H), interpolation=cv2.INTER_AREA)
        cover = cover if antialias else (cover > 0.5)
        image = image * (1 - cover) + value * cover
    return np.round(image).astype(dtype)


def save(path, array, palette=None, **options):
    image = Image.fromarray(array)
    if palette is not None:
        image.putpalette(palette)
    image.save(path, **options)
    return path


def coloured(labels, colours):
    return np.array([(0, 0, 0), *colours], np.uint8)[labels]


def check(masks, labels):
    assert list(masks) == [i for i in np.unique(labels) if i]
    for object_id, mask in masks.items():
        assert mask.dtype == torch.bool
        assert torch.equal(mask, torch.from_numpy(labels == object_id))


def painted_png(path, labels=None):
    return save(path, drawn() if labels is None else labels, davis_palette().tobytes())


def test_palette_indices_are_ids(tmp_path):
    labels = drawn((3, 7))
    check(read_mask(painted_png(tmp_path / "m.png", labels), (H, W)), labels)


def test_grey_levels_are_ids(tmp_path):
    labels = drawn((2, 200))
    check(read_mask(save(tmp_path / "m.png", labels)), labels)


def test_16_bit_grey_levels_are_ids(tmp_path):
    labels = drawn((300, 12_000), np.uint16)
    check(read_mask(save(tmp_path / "m.png", labels)), labels)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "webp"])
def test_black_and_white_is_one_object_and_not_255(tmp_path, suffix):
    mask = drawn((255,))
    check(read_mask(save(tmp_path / f"m.{suffix}", mask, quality=75)), (mask > 0).astype(int))


def test_one_bit_and_black_and_white_palettes_are_one_object_whatever_their_order(tmp_path):
    mask = (drawn((1,)) > 0).astype(np.uint8)
    Image.fromarray(mask * 255).convert("1").save(tmp_path / "bit.png")
    save(tmp_path / "swapped.png", 1 - mask, [255, 255, 255, 0, 0, 0])
    save(tmp_path / "rgb.png", np.repeat(mask[..., None] * 255, 3, 2))
    for name in ("bit.png", "swapped.png", "rgb.png"):
        check(read_mask(tmp_path / name), mask)


def test_soft_edges_of_black_and_white_are_cut_at_half_with_a_warning(tmp_path, caplog):
    path = save(tmp_path / "m.png", drawn((255,), antialias=True))
    with caplog.at_level(logging.WARNING):
        masks = read_mask(path)
    check(masks, (drawn((255,)) > 0).astype(int))
    assert "blended pixels" in caplog.text


def test_a_wide_feathered_edge_is_still_one_object(tmp_path):
    soft = cv2.GaussianBlur(drawn((255,)), (0, 0), 3)
    assert list(read_mask(save(tmp_path / "m.png", soft))) == [1]


@pytest.mark.parametrize("value", [100, 127, 150])
def test_a_thin_grey_object_away_from_a_white_one_is_an_object(tmp_path, value):
    image = np.zeros((240, 320), np.uint8)
    image[40:140, 40:140] = 255
    image[160:220, 200:202] = value
    check(read_mask(save(tmp_path / "m.png", image)), image)


def test_faint_strands_of_a_matte_are_no_objects(tmp_path):
    soft = cv2.GaussianBlur(drawn((255,)), (0, 0), 1)
    soft[2:40, 60] = np.linspace(60, 120, 38).astype(np.uint8)
    assert list(read_mask(save(tmp_path / "m.png", soft))) == [1]


def contoured(size, ids, width, inner=False):
    """Discs and a bar with a contour of 255 of so many pixels around each, as in PASCAL VOC."""
    height, side = size[1], min(size)
    labels = np.zeros(size, np.uint8)
    for number, object_id in enumerate(ids):
        centre = (round((number + 0.7) * height / (len(ids) + 0.4)), size[0] // 2 + (number % 2) * side // 8)
        cv2.circle(labels, centre, side // 4, object_id, -1)
    cv2.rectangle(labels, (side // 6, 0), (side // 3, size[0] - 1), ids[0], -1)
    edge = cv2.dilate(labels, np.ones((3, 3))) != cv2.erode(labels, np.ones((3, 3)))
    labels[cv2.dilate(edge.astype(np.uint8), np.ones((max(1, width - 1),) * 2)) > 0] = 255
    return labels


CONTOURS = [((15,), 5), ((1, 2, 3), 5), ((1, 2), 2), ((40, 90), 5), ((20, 3), 4)]


@pytest.mark.parametrize(
    ("size", "ids", "width"),
    [
        *((size, *each) for size in [(120, 160), (375, 500), (480, 854)] for each in CONTOURS),
        ((1080, 1920), (1, 2, 3), 5),
    ],
)
@pytest.mark.parametrize("form", ["grey", "palette", "colours"])
def test_a_contour_of_255_is_void(tmp_path, size, ids, width, form):
    labels = contoured(size, ids, width)
    path = tmp_path / "m.png"
    save(
        path,
        davis_palette()[labels] if form == "colours" else labels,
        davis_palette().tobytes() if form == "palette" else None,
    )
    reading = inspect_mask(path)
    assert reading.num_void == (labels == 255).sum()
    check(read_mask(path), np.where(labels == 255, 0, labels))


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        ((1001, 2003), True),
        ((2001,), True),
        ((9999, 10_001), False),
        ((1001, 26_001), False),
        ((1001, 3), False),
        ((), False),
    ],
)
def test_the_region_to_ignore_of_kitti_mots_is_an_object_and_that_is_said(tmp_path, ids, said):
    labels = drawn(ids, np.uint16)
    labels[40:, 30:50] = 10_000
    path = save(tmp_path / "m.png", labels)
    reading = inspect_mask(path)
    assert reading.ids == sorted({*ids, 10_000})
    assert any("--void 10000" in note for note in reading.notes) == said
    left_out = inspect_mask(path, void=10_000)
    assert (left_out.ids, left_out.notes) == (sorted(ids), ())
    assert not inspect_mask(path, void="none").notes


@pytest.mark.parametrize("void", [WHITE, (224, 224, 192), (128, 128, 128)])
@pytest.mark.parametrize("painted", [((255, 0, 0), (0, 255, 0)), ((128, 0, 0), (0, 128, 0))])
def test_a_contour_in_a_colour_that_tools_draw_is_void_and_that_is_said(tmp_path, painted, void):
    labels = contoured((120, 160), (1, 2), 5)
    picture = np.select([labels[..., None] == value for value in (1, 2, 255)], [*painted, void]).astype(np.uint8)
    path = save(tmp_path / "m.png", picture)
    reading = inspect_mask(path)
    assert reading.num_void == (labels == 255).sum()
    assert reading.colours == {1: painted[0], 2: painted[1]}
    assert any("void" in note for note in reading.notes)
    check(read_mask(path), np.where(labels == 255, 0, labels))
    assert len(read_mask(path, void="none")) == 3
    if void != (128, 128, 128):
        check(read_mask(path, void=255), np.where(labels == 255, 0, labels))


def test_a_value_of_void_that_no_painted_colour_has_leaves_nothing_out_and_that_is_said_of_all_but_255(tmp_path):
    path = save(tmp_path / "m.png", coloured(drawn(), [(255, 0, 0), (0, 255, 0)]))
    for void in (255, 7):
        reading = inspect_mask(path, void=void)
        assert (reading.ids, reading.num_void) == ([1, 2], 0)
        assert any("--void 7" in note for note in reading.notes) == (void == 7)
    assert list(read_mask(path, void=1)) == [2]
    solid = save(tmp_path / "white.png", coloured(drawn(), [(255, 0, 0), WHITE]))
    assert list(read_mask(solid)) == [1, 2]
    assert list(read_mask(solid, void=255)) == [1]


def areas(kind, size, others):
    """A map with an area of 255 that is no contour, beside other objects."""
    height, width = size
    labels = np.zeros(size, np.uint8)
    for number, value in enumerate(others):
        cv2.circle(labels, (width * (1 + 2 * number) // 8, height // 3), height // 8, value, -1)
    if kind == "disc":
        cv2.circle(labels, (width * 3 // 4, height * 2 // 3), height // 4, 255, -1)
    elif kind == "touching square":
        labels[height // 3 : height * 2 // 3, width // 8 : width // 3][
            labels[height // 3 : height * 2 // 3, width // 8 : width // 3] == 0
        ] = 255
    elif kind == "pole":
        labels[height // 10 : -height // 10, width * 3 // 4 : width * 3 // 4 + 3] = 255
    elif kind == "speck":
        labels[height * 3 // 4 : height * 3 // 4 + 4, width * 3 // 4 : width * 3 // 4 + 4] = 255
    elif kind == "ground":
        labels[labels == 0] = 255
        labels[: height // 8] = 0
    return labels


@pytest.mark.parametrize("size", [(96, 128), (480, 854)])
@pytest.mark.parametrize("kind", ["disc", "touching square", "pole", "speck", "ground"])
@pytest.mark.parametrize("form", ["grey", "palette"])
def test_an_area_of_255_is_an_object_beside_grey_levels_and_a_question_beside_small_ids(tmp_path, size, kind, form):
    palette = davis_palette().tobytes() if form == "palette" else None
    grey = areas(kind, size, (85, 170))
    path = save(tmp_path / "grey.png", grey, palette)
    reading = inspect_mask(path)
    assert reading.num_void == 0
    assert reading.notes
    check(read_mask(path), grey)
    small = areas(kind, size, (1, 2))
    path = save(tmp_path / "small.png", small, palette)
    with refusal(MaskError, r"--void", r"255"):
        read_mask(path)
    check(read_mask(path, void="none"), small)
    check(read_mask(path, void=255), np.where(small == 255, 0, small))


def test_a_trimap_is_a_question(tmp_path):
    sure = drawn((255, 255))
    unknown = np.asarray(cv2.dilate(sure, np.ones((7, 7), np.uint8))) & ~sure
    path = save(tmp_path / "m.png", np.where(unknown > 0, 128, sure).astype(np.uint8))
    with refusal(MaskError, "--void 128"):
        read_mask(path)
    check(read_mask(path, void=128), (sure > 0).astype(np.uint8))
    assert list(read_mask(path, void="none")) == [128, 255]


def test_black_beside_colours_on_white_is_an_object(tmp_path):
    labels = drawn()
    check(
        read_mask(save(tmp_path / "m.png", np.array([WHITE, (255, 0, 0), (0, 0, 0)], np.uint8)[labels])),
        np.choose(labels, [0, 2, 1]).astype(np.uint8),
    )


def test_any_value_may_be_said_to_be_void(tmp_path):
    labels = drawn((1, 2))
    for path in (save(tmp_path / "m.png", labels), save(tmp_path / "c.png", davis_palette()[labels])):
        check(read_mask(path, void=2), np.where(labels == 2, 0, labels))


def test_a_solid_area_in_the_void_colour_of_the_davis_palette_is_a_question(tmp_path):
    path = save(tmp_path / "m.png", davis_palette()[drawn((2, 255))])
    with refusal(MaskError, r"--void", r"255"):
        read_mask(path)
    check(read_mask(path, void="none"), drawn((2, 255)))


@pytest.mark.parametrize("scale", [0.6, 1.5])
def test_ids_resized_with_interpolation_are_refused_or_cleaned(tmp_path, scale):
    size = (round(W * scale), round(H * scale))
    path = save(tmp_path / "m.png", cv2.resize(drawn((1, 6)), size, interpolation=cv2.INTER_AREA if scale < 1 else 1))
    assert len(np.unique(np.asarray(Image.open(path)))) > 3
    with refusal(MaskError, "neighbour"):
        read_mask(path)
    masks = read_mask(path, antialiased="clean")
    assert list(masks) == [1, 6]
    exact = cv2.resize(drawn((1, 6)), size, interpolation=cv2.INTER_NEAREST)
    for object_id, mask in masks.items():
        both, either = (mask.numpy() & (exact == object_id)).sum(), (mask.numpy() | (exact == object_id)).sum()
        assert both / either > 0.85


def shapes(seed, size, ids):
    """Overlapping discs, rectangles and thin lines."""
    rng = np.random.default_rng(seed)
    height, width = size
    labels = np.zeros((height, width), np.int32)
    for _ in range(rng.integers(1, 6)):
        object_id = int(rng.choice(ids))
        x, y, x2, y2 = (int(rng.integers(side)) for side in (width, height, width, height))
        radius = int(rng.integers(2, min(height, width) // 2))
        kind = rng.integers(3)
        if kind == 0:
            cv2.circle(labels, (x, y), radius, object_id, -1)
        elif kind == 1:
            cv2.rectangle(labels, (x, y), (x + radius, y2), object_id, -1)
        else:
            cv2.line(labels, (x, y), (x2, y2), object_id, int(rng.integers(1, 4)))
    labels[0, 0] = 0  # something is background
    labels[-1, -1] = object_id
    return labels


def antialiased(seed, size, ids):
    """Discs with the soft edges of a drawing program."""
    rng = np.random.default_rng(seed)
    image = np.zeros(size, np.float32)
    for _ in range(rng.integers(2, 5)):
        cover = np.zeros((8 * size[0], 8 * size[1]), np.float32)
        centre = tuple(int(8 * rng.integers(side)) for side in size[::-1])
        cv2.circle(cover, centre, int(rng.integers(40, 3 * min(size))), 1, -1)
        cover = cv2.resize(cover, size[::-1], interpolation=cv2.INTER_AREA)
        image = image * (1 - cover) + int(rng.choice(ids)) * cover
    return np.round(image).astype(np.uint8)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.tuples(st.integers(40, 200), st.integers(40, 200)),
    top=st.sampled_from([2, 5, 254]),
    form=st.sampled_from(["grey", "palette", "colours", "16 bits"]),
)
def test_ids_with_hard_edges_are_read_as_they_are(tmp_path, seed, size, top, form):
    labels = shapes(seed, size, range(1, top + 1))
    path = tmp_path / "m.png"
    if form == "grey":
        save(path, labels.astype(np.uint8))
    elif form == "palette":
        painted_png(path, labels.astype(np.uint8))
    elif form == "colours":
        save(path, davis_palette()[labels])
    else:
        labels *= 200
        save(path, labels.astype(np.uint16))
    assert inspect_mask(path).num_blended == 0
    check(read_mask(path), labels)


@pytest.mark.parametrize("size", [(16, 24), (64, 96), (480, 854), (1500, 2000)])
@pytest.mark.parametrize("ids", [(1, 2), (2, 1), (5, 1), (200, 240)])
def test_touching_discs_of_any_size_are_read_as_they_are(tmp_path, size, ids):
    labels = np.zeros(size, np.uint8)
    radius = size[0] // 4
    for object_id, side in zip(ids, (-1, 1), strict=True):
        cv2.circle(labels, (size[1] // 2 + side * radius, size[0] // 2), radius + 1, object_id, -1)
    check(read_mask(save(tmp_path / "m.png", labels)), labels)


@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.tuples(st.integers(100, 200), st.integers(100, 200)),
    ids=st.sampled_from([(3, 6), (2, 5, 9), (20, 120, 200)]),
)
def test_ids_with_soft_edges_are_refused(tmp_path, seed, size, ids):
    image = antialiased(seed, size, ids)
    assume(len(np.unique(image)) > len(ids) + 1)
    with refusal(MaskError, "blended"):
        read_mask(save(tmp_path / "m.png", image))


@pytest.mark.parametrize("interpolation", [cv2.INTER_CUBIC, cv2.INTER_LANCZOS4])
@pytest.mark.parametrize("size", [(1280, 720), (480, 270)])
def test_an_id_that_is_but_dots_around_another_is_refused_or_cleaned(tmp_path, interpolation, size):
    labels = np.zeros((1080, 1920), np.uint8)
    cv2.ellipse(labels, (960, 540), (300, 180), 20, 0, 360, 2, -1)
    resized = cv2.resize(labels, size, interpolation=interpolation)
    assert (resized == 1).any()
    path = save(tmp_path / "m.png", resized)
    with refusal(MaskError, "blended pixels along its edges"):
        read_mask(path)
    assert list(read_mask(path, antialiased="clean")) == [2]


@pytest.mark.parametrize(("begin", "end"), [((100, 99), (140, 99)), ((50, 150), (450, 150)), ((50, 50), (450, 290))])
def test_a_thin_line_beside_or_across_an_object_is_one(tmp_path, begin, end):
    labels = np.zeros((480, 854), np.uint8)
    labels[100:300, 100:400] = 2
    cv2.line(labels, begin, end, 1)
    check(read_mask(save(tmp_path / "m.png", labels)), labels)


@pytest.mark.parametrize("interpolation", [cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_AREA, cv2.INTER_LANCZOS4])
@pytest.mark.parametrize("seed", range(4))
def test_ids_resized_with_any_interpolation_are_refused(tmp_path, interpolation, seed):
    labels = antialiased(seed, (200, 300), (40, 90)) // 40 * 40  # hard again
    resized = cv2.resize(labels, (210, 140), interpolation=interpolation)
    with refusal(MaskError, "blended"):
        read_mask(save(tmp_path / "m.png", resized))


def test_one_bright_id_is_no_black_and_white(tmp_path):
    for labels in (drawn((240,)), drawn((236, 248)), shapes(0, (60, 80), [249]).astype(np.uint8)):
        check(read_mask(save(tmp_path / "m.png", labels)), labels)


def test_a_small_object_within_a_contour_of_void_is_not_black_and_white(tmp_path):
    labels = np.zeros((200, 300), np.uint8)
    labels[50:70, 60:80] = 255
    labels[53:67, 63:77] = 1
    reading = inspect_mask(save(tmp_path / "m.png", labels))
    assert (reading.kind, reading.num_void) == ("ids", (labels == 255).sum())
    check(read_mask(tmp_path / "m.png"), np.where(labels == 255, 0, labels))


def test_areas_numbered_row_by_row_are_no_soft_map(tmp_path):
    labels = np.arange(1, 101, dtype=np.uint8).reshape(10, 10).repeat(12, 0).repeat(12, 1)
    check(read_mask(save(tmp_path / "m.png", labels)), labels)


def test_a_thin_line_in_a_colour_of_its_own_is_an_object(tmp_path):
    labels = drawn()
    labels[40:42, 5:70] = 3
    path = save(tmp_path / "m.png", coloured(labels, [(255, 40, 0), (10, 60, 250), (10, 220, 30)]))
    found = sorted(int(mask.sum()) for mask in read_mask(path).values())
    assert found == sorted((labels == i).sum() for i in (1, 2, 3))


def test_a_rim_of_another_objects_id_is_blended_too(tmp_path):
    # At half of the edge, 2 and 0 mix to 1, which is an object of its own elsewhere.
    path = save(tmp_path / "m.png", cv2.resize(drawn((1, 2)), (2 * W, 2 * H), interpolation=cv2.INTER_LINEAR))
    masks = read_mask(path, antialiased="clean")
    assert not masks[1][:, W:].any()


def test_a_thin_object_is_kept(tmp_path):
    labels = drawn((1, 3))
    labels[40:42, 5:70] = 2
    labels[20, 20] = 4
    check(read_mask(save(tmp_path / "m.png", labels)), labels)


def test_colours_of_the_davis_palette_get_its_ids(tmp_path):
    labels = drawn((2, 5))
    path = save(tmp_path / "m.png", davis_palette()[labels])
    check(read_mask(path), labels)


def test_other_colours_are_numbered_as_they_appear(tmp_path):
    labels = drawn()
    first = labels[labels > 0][0]
    path = save(tmp_path / "m.png", coloured(labels, [(255, 40, 0), (10, 60, 250)]))
    check(read_mask(path), np.where(labels == 0, 0, np.where(labels == first, 1, 2)))


def test_colours_on_white_have_the_white_as_background(tmp_path):
    image = np.full((H, W, 3), 255, np.uint8)
    image[10:20, 10:30] = (250, 0, 0)
    assert read_mask(save(tmp_path / "m.png", image))[1].sum() == 200


def test_colours_without_background_are_refused(tmp_path):
    image = np.full((H, W, 3), (10, 200, 30), np.uint8)
    image[10:20, 10:30] = (250, 0, 0)
    with refusal(MaskError, "background"):
        read_mask(save(tmp_path / "m.png", image))


def test_blended_colours_do_not_become_objects(tmp_path, caplog):
    image = np.stack([drawn((250, 20), antialias=True), drawn((0, 240), antialias=True), np.zeros((H, W), int)], 2)
    path = save(tmp_path / "m.png", image.astype(np.uint8))
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 20
    with caplog.at_level(logging.WARNING):
        masks = read_mask(path)
    assert list(masks) == [1, 2]
    assert "blended" in caplog.text
    exact = drawn()
    assert sum(((exact > 0) != (masks[1] | masks[2]).numpy()).ravel()) < 60


def test_colours_that_went_through_a_jpeg_are_no_further_objects(tmp_path):
    labels = np.kron(drawn(), np.ones((3, 3), np.uint8))  # large enough for plain areas of many colours
    save(tmp_path / "m.jpg", coloured(labels, [(250, 0, 0), (0, 240, 0)]), quality=97)
    Image.open(tmp_path / "m.jpg").save(tmp_path / "m.png")
    masks = read_mask(tmp_path / "m.png")
    assert list(masks) == [1, 2]
    assert all(((labels == 3 - i) != masks[i].numpy()).mean() < 0.05 for i in (1, 2))  # the second begins higher


@pytest.mark.parametrize("mode", ["RGB", "L", "P"])
def test_a_photograph_is_refused(tmp_path, mode):
    rng = np.random.default_rng(0)
    smooth = cv2.resize(rng.integers(0, 256, (9, 9, 3), np.uint8), (W, H), interpolation=cv2.INTER_CUBIC)
    noisy = np.clip(smooth + rng.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)
    Image.fromarray(noisy).convert(mode).save(tmp_path / "m.png")
    with refusal(MaskError, "photograph"):
        read_mask(tmp_path / "m.png")


def test_a_smooth_map_of_probabilities_is_refused(tmp_path):
    y, x = np.mgrid[:480, :480]
    soft = 200 * np.exp(-((y - 240) ** 2 + (x - 240) ** 2) / 90_000)
    with refusal(MaskError, "soft"):
        read_mask(save(tmp_path / "m.png", soft.astype(np.uint8)))


def test_ids_and_colours_in_a_jpeg_are_refused(tmp_path):
    for image in (drawn((20, 90)), coloured(drawn(), [(255, 0, 0), (0, 0, 255)])):
        image = image.repeat(5, 0).repeat(5, 1)
        with refusal(MaskError, r"JPEG"):
            read_mask(save(tmp_path / "m.jpg", image))


def test_a_cut_out_is_one_object(tmp_path):
    rng = np.random.default_rng(0)
    alpha = np.where(drawn((255,)) > 0, 255, 0).astype(np.uint8)
    image = np.dstack([rng.integers(0, 256, (H, W, 3), np.uint8), alpha])
    check(read_mask(save(tmp_path / "m.png", image)), (alpha > 0).astype(int))


def test_colours_painted_on_transparency_are_objects(tmp_path):
    labels = drawn()
    image = np.dstack([coloured(labels, [(200, 0, 0), (0, 0, 200)]), np.where(labels > 0, 255, 0).astype(np.uint8)])
    image[labels == 0, :3] = 255  # what is transparent has a colour too
    first = labels[labels > 0][0]
    check(read_mask(save(tmp_path / "m.png", image)), np.where(labels == 0, 0, np.where(labels == first, 1, 2)))


def test_black_and_white_paint_beside_colours_on_transparency_are_objects(tmp_path):
    labels = drawn((1, 2))
    labels[2:10, 2:70] = 3
    for paint in ([(0, 0, 0), (0, 0, 200), (255, 255, 255)], [(128, 0, 0), (0, 128, 0), (0, 0, 0)]):
        image = np.dstack([np.array([(9, 9, 9), *paint], np.uint8)[labels], np.where(labels, 255, 0).astype(np.uint8)])
        found = sorted(int(mask.sum()) for mask in read_mask(save(tmp_path / "m.png", image)).values())
        assert found == sorted(int((labels == i).sum()) for i in (1, 2, 3))


def test_a_palette_with_a_colour_first_and_a_white_or_black_background_is_read_by_its_colours(tmp_path):
    labels = drawn((1, 2))
    for ground in (0, 255):
        palette = [255, 0, 0, *[ground] * 3, 0, 0, 255]  # object 1 is index 0
        masks = read_mask(save(tmp_path / "m.png", np.array([1, 0, 2], np.uint8)[labels], palette))
        assert sorted(int(mask.sum()) for mask in masks.values()) == sorted(int((labels == i).sum()) for i in (1, 2))


def test_black_paint_on_transparency_is_one_object(tmp_path):
    alpha = drawn((255,))
    image = np.dstack([np.zeros((H, W, 3), np.uint8), alpha])
    check(read_mask(save(tmp_path / "m.png", image)), (alpha > 0).astype(int))


def test_another_size_is_refused_with_both_sizes(tmp_path):
    with refusal(MaskError, r"80x48", r"854x480"):
        read_mask(painted_png(tmp_path / "m.png"), (480, 854))


def test_an_empty_mask_is_refused(tmp_path):
    for values in (np.zeros((H, W), np.uint8), np.zeros((H, W, 3), np.uint8), np.zeros((H, W, 4), np.uint8)):
        with refusal(MaskError, "object"):
            read_mask(save(tmp_path / "m.png", values))


@pytest.mark.parametrize("size", [(400, 1), (1, 400), (1, 1), (2, 1), (2, 3)])
def test_masks_of_few_pixels_a_side_are_read(tmp_path, size):
    mask = np.zeros(size, np.uint8)
    mask[: max(size[0] // 2, 1), : max(size[1] // 2, 1)] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    assert np.array_equal(read_mask(tmp_path / "mask.png", size)[1].numpy(), mask > 0)


def test_a_mask_that_is_all_object_is_one_object(tmp_path):
    assert read_mask(save(tmp_path / "m.png", np.full((H, W), 255, np.uint8)))[1].all()


def test_a_missing_file_a_folder_and_a_text_file_are_one_sentence_each(tmp_path):
    (tmp_path / "notes.png").write_text("hello")
    with refusal(MaskError, "exist"):
        read_mask(tmp_path / "gone.png")
    with refusal(MaskError, "cannot"):
        read_mask(tmp_path)
    with refusal(MaskError, "image"):
        read_mask(tmp_path / "notes.png")


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of damaged TIFF
def test_a_file_cut_or_changed_anywhere_is_read_or_refused(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("m.png", "m.webp", "m.tif", "m.bmp", "m.gif"):
        whole = bytearray(painted_png(tmp_path / name).read_bytes())
        for _ in range(60):
            damaged = whole[: rng.integers(1, len(whole))] if rng.random() < 0.5 else whole.copy()
            damaged[rng.integers(len(damaged))] = rng.integers(256)
            (tmp_path / name).write_bytes(damaged)
            with contextlib.suppress(MaskError):
                read_mask(tmp_path / name)


def test_a_huge_size_in_the_header_is_refused_before_decoding(tmp_path):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    for width, height in ((20_000, 8), (16_000, 16_000)):
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
        (tmp_path / "m.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
        with refusal(MaskError, "larger than 16384"):
            read_mask(tmp_path / "m.png")


@pytest.mark.parametrize("side", [10_000, 100_000])
def test_what_pillow_calls_a_bomb_is_our_sentence(tmp_path, side):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    (tmp_path / "m.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    with refusal(MaskError, r"m\.png", r"16384", r"67"):
        read_mask(tmp_path / "m.png")


def test_ids_beyond_what_an_id_can_be_are_refused_with_the_largest(tmp_path):
    labels = drawn().astype(np.int32)
    labels[labels == 2] = 10**9
    Image.fromarray(labels).save(tmp_path / "m.tif")
    with refusal(MaskError, r"1000000000", r"65535"):
        read_mask(tmp_path / "m.tif")


def test_a_map_with_more_objects_than_anybody_follows_is_refused(tmp_path):
    ids = np.random.default_rng(0).permutation(30 * 40).astype(np.uint16)
    labels = ids.reshape(30, 40).repeat(4, 0).repeat(4, 1)
    with refusal(MaskError, r"1199", r"256"):
        read_mask(save(tmp_path / "m.png", labels))


def test_a_palette_of_16_bits_is_one_sentence(tmp_path):
    """Photometric interpretation 3 with 16 bits a sample, which TIFF allows and Pillow does not read."""
    image = Image.fromarray(drawn((1, 2), np.uint16))
    image.save(tmp_path / "m.tif", tiffinfo={320: (0,) * 3 * 65_536})
    data = (tmp_path / "m.tif").read_bytes()
    photometric = struct.pack("<HHIH", 262, 3, 1, 1)
    assert photometric in data
    (tmp_path / "m.tif").write_bytes(data.replace(photometric, struct.pack("<HHIH", 262, 3, 1, 3)))
    with refusal(MaskError, r"m\.tif", r"PNG"):
        read_mask(tmp_path / "m.tif")


def test_more_masks_than_memory_should_hold_are_refused(tmp_path):
    labels = (np.arange(750 * 750, dtype=np.uint32).reshape(750, 750) % 251).astype(np.uint16)
    labels = labels.repeat(4, 0).repeat(4, 1)
    with refusal(MaskError, "GiB"):
        read_mask(save(tmp_path / "m.png", labels))


@pytest.mark.shared
def test_real_masks_are_read_as_they_are(shared_data):
    folders = [*shared_data.glob("davis2016-dev/Annotations/480p/*"), *shared_data.glob("static/*/masks")]
    for folder in folders:
        for path in sorted(folder.glob("*.png"))[:5]:
            labels = np.asarray(Image.open(path).convert("L") if "davis" in str(path) else Image.open(path))
            ids = set(np.unique(labels).tolist()) - {0}
            assert set(read_mask(path)) == ({1} if ids == {255} else ids), path


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_orientation_tag_turns_a_mask_as_it_turns_frames(tmp_path, orientation):
    mask = np.zeros((30, 40), np.uint8)
    mask[3:12, 5:25] = 1
    exif = Image.Exif()
    exif[274] = orientation
    image = Image.fromarray(mask)
    image.putpalette(davis_palette().tobytes())
    image.save(tmp_path / "mask.png", exif=exif)
    Image.fromarray(mask * 255).save(tmp_path / "frame.png", exif=exif)
    shown = read_image(tmp_path / "frame.png")
    assert np.array_equal(read_mask(tmp_path / "mask.png", tuple(shown.shape[1:]))[1], shown[0] > 0)
    assert np.array_equal(read_labels(tmp_path / "mask.png"), shown[0] > 0)


def test_a_tag_that_would_turn_a_mask_out_of_the_videos_size_is_left_aside_with_a_warning(tmp_path, caplog):
    exif = Image.Exif()
    exif[274] = 6
    mask = np.zeros((30, 40), np.uint8)
    mask[3:12, 5:25] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png", exif=exif)
    with caplog.at_level(logging.WARNING):
        assert np.array_equal(read_mask(tmp_path / "mask.png", (30, 40))[1], mask > 0)
    assert "orientation tag" in caplog.text


@pytest.mark.parametrize("void", ["255", "None", None, 0, 1.5, True])
def test_what_is_no_value_of_void_is_refused_and_not_ignored(tmp_path, void, as_users_call_it):
    Image.fromarray(np.eye(9, dtype=np.uint8)).save(tmp_path / "mask.png")
    with refusal(MaskError, "void"):
        read_mask(tmp_path / "mask.png", void=void)
    assert list(read_mask(tmp_path / "mask.png", void=np.int64(255))) == [1]


def test_a_label_video_says_that_its_first_map_is_read_and_one_of_its_maps_does_not(tmp_path):
    with MaskWriter(tmp_path, "ffv1", largest_id=1) as writer:
        for index in range(3):
            labels = torch.from_numpy((drawn((1,)) > 0).astype(np.int32))
            probs = torch.stack([labels == 0, labels == 1]).float()
            writer.write(Masks(labels, probs, (1,), index), Frame(torch.zeros((3, H, W), dtype=torch.uint8), index))
    assert "first of its 3" in inspect_mask(tmp_path / "masks.mkv").notes[0]
    assert not inspect_mask(tmp_path / "masks.mkv" / "00002").notes


@pytest.mark.parametrize("ground", ["transparent", "opaque"])
@pytest.mark.parametrize("opacity", [0.1, 0.39, 0.49, 0.51])
def test_paint_that_is_hardly_opaque_counts_as_painted(tmp_path, opacity, ground):
    labels = drawn()
    pixels = np.zeros((H, W, 4), np.uint8)
    pixels[labels == 1] = (255, 0, 0, round(255 * opacity))
    pixels[labels == 2] = (0, 255, 0, 255)
    if ground == "opaque":
        pixels[labels == 0] = (0, 0, 0, 255)
    path = tmp_path / "m.png"
    save(path, pixels)
    assert np.array_equal(inspect_mask(path).labels, np.array([0, 2, 1])[labels])  # green is the first from the top
    assert any("opacity" in note for note in inspect_mask(path).notes) == (opacity < 0.5)


def test_a_faint_shadow_is_no_paint(tmp_path):
    labels = drawn()
    pixels = np.zeros((H, W, 4), np.uint8)
    pixels[labels == 1] = (200, 120, 40, 255)
    pixels[labels == 2] = (0, 0, 0, 90)
    save(tmp_path / "m.png", pixels)
    assert np.array_equal(inspect_mask(tmp_path / "m.png").labels > 0, labels == 1)


def test_an_index_that_is_transparent_is_the_background(tmp_path):
    labels = drawn((1, 2), np.uint8)
    image = Image.fromarray(np.where(labels == 0, 2, labels - 1).astype(np.uint8)).convert("P")
    image.putdata(np.where(labels == 0, 2, labels - 1).ravel().tolist())
    image.putpalette([255, 0, 0, 0, 255, 0, 71, 112, 76])
    image.save(tmp_path / "m.png", transparency=2)
    found = read_mask(tmp_path / "m.png")
    assert len(found) == 2
    assert torch.equal(sum(found.values()) > 0, torch.from_numpy(labels > 0))


def test_webp_without_loss_is_no_lossy_file(tmp_path):
    labels = drawn((1, 2), np.uint8)
    Image.fromarray(labels * 100).convert("RGB").save(tmp_path / "m.webp", lossless=True)
    assert sorted(read_mask(tmp_path / "m.webp")) == [100, 200]


def png_chunks(array, colour_type):
    """A PNG of 16 bits a channel, of kinds that Pillow does not write."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width = array.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["rgb.png", "rgba.png", "grey and alpha.png", "rgb.tif"])
def test_grey_levels_of_16_bits_are_ids_in_any_number_of_channels(tmp_path, kind):
    labels = drawn((300, 310), np.uint16)
    opaque = np.full((H, W), 65_535, np.uint16)
    if kind == "grey and alpha.png":
        (tmp_path / kind).write_bytes(png_chunks(np.dstack([labels, opaque]), 4))
    else:
        cv2.imwrite(str(tmp_path / kind), np.dstack([labels] * 3 + [opaque] * ("a" in kind.split(".")[0])))
    check(read_mask(tmp_path / kind), labels)
    if kind != "grey and alpha.png":
        assert np.array_equal(read_labels(tmp_path / kind), labels)


def test_colours_of_16_bits_that_8_bits_would_make_one_are_refused(tmp_path):
    labels = drawn()
    for one, other, read in ((40_000, 30_000, True), (40_000, 40_010, False)):
        bgr = np.array([(0, 0, 0), (0, 0, one), (0, 0, other)], np.uint16)[labels]
        cv2.imwrite(str(tmp_path / "m.png"), bgr)
        with contextlib.nullcontext() if read else refusal(MaskError, "16 bits"):
            assert len(read_mask(tmp_path / "m.png")) == 2


def test_whole_numbers_in_floating_point_are_ids_and_fractions_are_refused(tmp_path):
    labels = drawn((1, 300), np.float32)
    Image.fromarray(labels).save(tmp_path / "m.tif")
    check(read_mask(tmp_path / "m.tif"), labels.astype(int))
    assert np.array_equal(read_labels(tmp_path / "m.tif"), labels)
    Image.fromarray(labels / 7).save(tmp_path / "m.tif")
    with refusal(MaskError, "fractions"):
        read_mask(tmp_path / "m.tif")


def test_a_matte_of_fractions_is_black_and_white_and_that_is_said(tmp_path):
    soft = cv2.GaussianBlur(drawn((1,), np.float32), (0, 0), 2)
    Image.fromarray(soft).save(tmp_path / "m.tif")
    reading = inspect_mask(tmp_path / "m.tif")
    assert reading.kind == "black and white"
    assert any("fractions" in note for note in reading.notes)
    check(read_mask(tmp_path / "m.tif"), (soft > 0.5).astype(int))
    Image.fromarray(soft - 0.5).save(tmp_path / "m.tif")
    with refusal(MaskError, "fractions"):
        read_mask(tmp_path / "m.tif")


@pytest.mark.parametrize("largest", [0.999, 0.6])
@pytest.mark.parametrize("sigma", [0, 2])
def test_a_matte_that_does_not_reach_1_is_cut_at_half_of_its_largest_value_and_that_is_said(tmp_path, largest, sigma):
    soft = drawn((1,), np.float32)
    soft = cv2.GaussianBlur(soft, (0, 0), sigma) if sigma else soft
    Image.fromarray(soft * np.float32(largest)).save(tmp_path / "m.tif")
    reading = inspect_mask(tmp_path / "m.tif")
    assert reading.kind == "black and white"
    assert any(f"0 to {largest:g}" in note for note in reading.notes)
    check(read_mask(tmp_path / "m.tif"), (soft > soft.max() / 2).astype(int))


def test_fractions_of_several_areas_are_no_matte(tmp_path):
    Image.fromarray(drawn((1, 2), np.float32) / 2.5).save(tmp_path / "m.tif")
    with refusal(MaskError, "fractions up to 0.8"):
        inspect_mask(tmp_path / "m.tif")


@pytest.mark.parametrize("name", ["m.avif", "m.HEIC", "m.tga", "m.psd"])
def test_a_picture_of_a_kind_that_is_not_read_is_said_to_be_that(tmp_path, name):
    (tmp_path / name).write_bytes(b"\0\0\0 ftypavif")
    with refusal(MaskError, name[2:].upper(), "PNG"):
        read_mask(tmp_path / name)
    with refusal(MaskError, name, "PNG"):
        list_masks(tmp_path)
    with refusal(FrameError, name[1:].lower(), "PNG"):
        find_frames(tmp_path)


@pytest.mark.parametrize("bits", [8, 16])
def test_a_background_of_minus_one_is_named(tmp_path, bits):
    labels = drawn().astype(np.int8 if bits == 8 else np.int16)
    labels[labels == 0] = -1
    tags = ImageFileDirectory_v2()
    tags[339] = 2  # signed
    plain = Image.fromarray(labels.view(np.uint8 if bits == 8 else np.uint16))
    plain.save(tmp_path / "m.tif", tiffinfo=tags)
    with refusal(MaskError, "-1", "add 1"):
        read_mask(tmp_path / "m.tif")


@pytest.mark.parametrize("quality", [30, 50, 75, 90, 95, 99])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_black_and_white_that_was_a_jpeg_once_is_still_black_and_white(tmp_path, quality, mode):
    mask = drawn((255,)).repeat(3, 0).repeat(3, 1)
    Image.fromarray(mask).convert(mode).save(tmp_path / "m.jpg", quality=quality)
    Image.open(tmp_path / "m.jpg").save(tmp_path / "m.png")
    reading = inspect_mask(tmp_path / "m.png")
    assert reading.kind == "black and white"
    assert (reading.labels != (mask > 0)).mean() < 0.002


@pytest.mark.parametrize("values", [(1, 2, 253, 254), (5, 10, 15, 20, 235, 240, 245, 250), (16, 17, 235)])
def test_ids_near_both_ends_are_no_noise(tmp_path, values):
    labels = np.zeros((96, 8 + 38 * len(values)), np.uint8)
    for number, value in enumerate(values):
        labels[20:80, 8 + 38 * number : 40 + 38 * number] = value
    assert inspect_mask(save(tmp_path / "m.png", labels)).ids == list(values)


@pytest.mark.parametrize("subsampling", [0, 2])
@pytest.mark.parametrize("quality", [75, 90, 95])
@pytest.mark.parametrize("scale", [1, 4])
def test_an_object_whose_colour_a_jpeg_made_uneven_is_not_lost_without_a_word(tmp_path, quality, scale, subsampling):
    labels = drawn().repeat(scale, 0).repeat(scale, 1)
    cv2.circle(labels, (scale * W - 9, scale * H - 9), 7, 3, -1)
    image = Image.fromarray(coloured(labels, [(255, 0, 0), (0, 255, 0), (0, 0, 255)]))
    image.save(tmp_path / "m.jpg", quality=quality, subsampling=subsampling)
    Image.open(tmp_path / "m.jpg").save(tmp_path / "m.png")
    with refusal(MaskError, "JPEG|photograph"):
        read_mask(tmp_path / "m.png")


def test_a_thin_object_beside_soft_edges_is_named_and_not_lost(tmp_path):
    first, second = (drawn((255,) if i == 0 else (0, 255), antialias=True)[..., None] / 255 for i in (0, 1))
    picture = np.round(first * (255, 0, 0) + second * (0, 0, 255)).astype(np.uint8)
    assert list(read_mask(save(tmp_path / "soft.png", picture))) == [1, 2]
    picture[2:4, 5:70] = (0, 255, 0)
    with refusal(MaskError, "130 pixels of #00ff00", "antialiasing"):
        read_mask(save(tmp_path / "m.png", picture))


def disc_and_square():
    labels = np.zeros((96, 128), np.uint8)
    cv2.circle(labels, (35, 45), 17, 1, -1)
    labels[31:70, 82:109] = 2
    return labels


def through_jpeg(path, picture, **options):
    save(path.with_suffix(".jpg"), picture, **options)
    Image.open(path.with_suffix(".jpg")).save(path)
    return path


@pytest.mark.parametrize("quality", [75, 90, 98, 100])
@pytest.mark.parametrize("levels", [(128, 255), (120, 255)])
def test_two_grey_objects_that_were_a_jpeg_once_are_not_one(tmp_path, quality, levels):
    picture = np.array([0, *levels], np.uint8)[disc_and_square()]
    with refusal(MaskError, "255|JPEG"):
        read_mask(through_jpeg(tmp_path / "m.png", picture, quality=quality))


def test_noise_of_the_best_jpeg_makes_no_objects(tmp_path):
    labels = disc_and_square()
    picture = coloured(labels, [(255, 0, 0), (0, 0, 255)])
    masks = read_mask(through_jpeg(tmp_path / "m.png", picture, quality=100, subsampling=0))
    assert list(masks) == [1, 2]
    found = masks[1].numpy() + 2 * masks[2].numpy()
    assert min((found != labels).mean(), (found != np.array([0, 2, 1])[labels]).mean()) < 0.01
    with refusal(MaskError, "84, 86 scattered beside 85", "JPEG"):
        read_mask(through_jpeg(tmp_path / "g.png", np.array([0, 85, 170], np.uint8)[labels], quality=100))


@pytest.mark.parametrize("form", ["grey", "red"])
def test_thin_objects_with_numbers_next_to_those_of_large_ones_are_no_noise(tmp_path, form):
    labels = disc_and_square() * 2  # 2 and 4
    for number, row in ((1, 5), (3, 8), (5, 80), (6, 84)):
        labels[row : row + 2, 10:100:1] = number
    labels[40:60, 20] = 1
    picture = labels if form == "grey" else np.dstack([labels, labels * 0, labels * 0])
    assert sorted(np.bincount(labels[labels > 0])[1:]) == sorted(
        int(mask.sum()) for mask in read_mask(save(tmp_path / "m.png", picture)).values()
    )


@pytest.mark.parametrize("form", ["grey", "colours"])
def test_what_is_left_of_hidden_objects_is_no_noise_of_those_beside_them(tmp_path, form):
    labels = np.zeros((96, 128), np.uint16)
    labels[10:60, 10:60], labels[20:22, 62], labels[40, 62:65] = 2, 1, 3
    colours = np.array([(0, 0, 0), (203, 102, 52), (200, 100, 50), (198, 97, 52)], np.uint8)
    masks = read_mask(save(tmp_path / "m.png", labels if form == "grey" else colours[labels]))
    assert sorted(int(mask.sum()) for mask in masks.values()) == [2, 3, 2500]


def test_edges_that_are_blended_in_linear_light_make_no_colour(tmp_path):
    light = np.zeros((200, 400, 3))
    light[41:160, 51:201, 0] = light[41:160, 201:351, 1] = 1
    blended = light.reshape(100, 2, 200, 2, 3).mean((1, 3)) ** (1 / 2.2)
    assert list(read_mask(save(tmp_path / "m.png", np.round(255 * blended).astype(np.uint8)))) == [1, 2]


def test_colours_that_run_into_each_other_far_from_the_outlines_are_refused(tmp_path):
    labels = cv2.copyMakeBorder(drawn(), 40, 40, 40, 40, cv2.BORDER_CONSTANT, value=0)
    image = Image.fromarray(coloured(labels, [(255, 0, 0), (0, 255, 0)]))
    image.save(tmp_path / "m.jpg", quality=75)
    Image.open(tmp_path / "m.jpg").save(tmp_path / "m.png")
    with refusal(MaskError, "JPEG", "PNG"):
        read_mask(tmp_path / "m.png")


def test_a_palette_with_a_black_object_first_on_a_white_ground_is_read_by_its_colours(tmp_path):
    labels = drawn()
    palette = [0, 0, 0, 255, 255, 255, 255, 0, 0]  # object 1 is black
    save(tmp_path / "p.png", np.array([1, 0, 2], np.uint8)[labels], palette)
    Image.open(tmp_path / "p.png").convert("RGB").save(tmp_path / "rgb.png")
    found, expected = read_mask(tmp_path / "p.png"), read_mask(tmp_path / "rgb.png")
    assert sorted(found) == sorted(expected) == [1, 2]
    assert all(torch.equal(found[i], expected[i]) for i in found)


def test_black_and_white_of_video_is_one_object_and_that_is_said(tmp_path):
    mask = drawn((1,)) > 0
    reading = inspect_mask(save(tmp_path / "m.png", np.where(mask, 235, 16).astype(np.uint8)))
    assert np.array_equal(reading.labels, mask)
    assert any("16 and 235" in note for note in reading.notes)


@pytest.mark.parametrize("levels", [(85, 170), (128, 255)])
@pytest.mark.parametrize("paint", [0, 255])
def test_one_colour_at_two_opacities_is_a_question(tmp_path, levels, paint):
    pixels = np.full((H, W, 4), paint, np.uint8)
    pixels[..., 3] = np.array([0, *levels], np.uint8)[drawn()]
    with refusal(MaskError, *map(str, levels), "opaque"):
        read_mask(save(tmp_path / "m.png", pixels))


@pytest.mark.parametrize("width", [1, 3])
def test_a_white_frame_around_a_black_and_white_mask_is_said(tmp_path, caplog, width):
    mask = drawn((255,))
    framed = cv2.copyMakeBorder(mask, width, width, width, width, cv2.BORDER_CONSTANT, value=255)
    for picture, said in ((mask, False), (framed, True), (255 - mask, False)):
        caplog.clear()
        read_mask(save(tmp_path / "m.png", picture))
        assert ("white frame" in caplog.text) == said


@pytest.mark.parametrize(("ids", "void"), [((1, 3), 254), ((1000, 2000), 255), ((1000, 2000), 65_534)])
def test_a_contour_of_another_value_that_tools_use_is_void_too(tmp_path, ids, void):
    labels = contoured((120, 160), (1, 2), 5).astype(np.uint16)
    values = np.select([labels == 1, labels == 2, labels == 255], [*ids, void], 0)
    reading = inspect_mask(save(tmp_path / "m.png", values.astype(np.uint8 if max(ids) < 256 else np.uint16)))
    assert reading.ids == list(ids)
    assert reading.num_void == (labels == 255).sum()


def test_a_pipe_is_no_mask_and_nothing_waits_for_it(tmp_path):
    os.mkfifo(tmp_path / "m.png")
    with refusal(MaskError, "pipe", "file"):
        read_mask(tmp_path / "m.png")
    with refusal(MaskError, "pipe", "file"):
        PromptPlan(tmp_path / "m.png", [], [], clean=False)


def test_a_mask_of_values_that_are_not_finite_is_said_to_be_that(tmp_path):
    values = drawn().astype(np.float32)
    values[values == 0] = np.nan
    Image.fromarray(values).save(tmp_path / "mask.tif")
    with refusal(MaskError, "not finite numbers"):
        read_mask(tmp_path / "mask.tif")


def test_a_mask_without_bytes_is_empty_and_not_of_another_format(tmp_path):
    (tmp_path / "first.png").touch()
    with refusal(MaskError, "is empty"):
        inspect_mask(tmp_path / "first.png")
