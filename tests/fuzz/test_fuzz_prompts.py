"""Masks, boxes, polygons and strokes as nobody should give them."""

import io

import numpy as np
import pytest
import torch
from hostile import bounded, mutations, outcome, with_right_checksums
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import mnemask as mm
from mnemask.prompts import Box, inspect_mask, parse_at, parse_box

SIZE = (40, 56)


def encoded(mode, suffix, **settings):
    """A small image of two areas as the bytes of a file."""
    pixels = np.zeros(SIZE, np.uint8)
    pixels[8:24, 10:30], pixels[20:36, 32:50] = 1, 2
    image = Image.fromarray(pixels, "L") if mode != "P" else Image.fromarray(pixels, "P")
    if mode == "P":
        image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    elif mode != "L":
        image = Image.fromarray(pixels * 100, "L").convert(mode)
    out = io.BytesIO()
    image.save(out, suffix, **settings)
    return out.getvalue()


PNG = encoded("P", "PNG")
FILES = [PNG, encoded("RGBA", "PNG"), encoded("L", "TIFF", compression="tiff_lzw")]
FILES += [encoded("RGB", kind) for kind in ("BMP", "WEBP", "JPEG", "PPM")] + [encoded("P", "GIF")]


def read(place, data):
    """What a mask file says; it must mean pixels of its own frame, and only those."""
    place.write_bytes(data)
    masks = outcome(lambda: mm.read_mask(place, antialiased="clean"))
    outcome(lambda: inspect_mask(place, SIZE))
    for object_id, mask in (masks or {}).items():
        assert 1 <= object_id <= 65_535
        assert mask.dtype == torch.bool
        assert mask.ndim == 2
        assert mask.any()


@bounded
@given(data=st.one_of(st.binary(max_size=200), st.sampled_from(FILES).flatmap(mutations)))
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of metadata
def test_a_damaged_mask_file_is_read_or_refused(place, data):
    read(place, data)


@bounded
@given(data=mutations(PNG).map(with_right_checksums))
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damage_that_checksums_do_not_tell_is_read_or_refused(place, data):
    read(place, data)


numbers = st.one_of(st.integers(-(10**7), 10**7), st.integers(-10, 80), st.floats(), st.just(10**400))
points = st.lists(st.tuples(numbers, numbers), max_size=8)
image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, *SIZE), np.uint8))


@bounded
@given(points=st.one_of(points, st.lists(st.lists(numbers, max_size=3), max_size=5)))
def test_any_polygon_is_a_mask_or_refused(points):
    mask = outcome(lambda: mm.mask_from_polygon(points, SIZE))
    assert mask is None or (mask.shape == SIZE and mask.any())


@bounded
@given(box=st.tuples(*[st.one_of(st.integers(-10, 80), st.integers(-(10**30), 10**30))] * 4))
def test_any_box_is_a_mask_or_refused(box):
    mask = outcome(lambda: mm.mask_from_box(image, box))
    assert mask is None or (mask.shape == SIZE and mask.any())


@bounded
@given(strokes=st.dictionaries(st.integers(-2, 70_000), st.lists(points, max_size=3), max_size=3))
def test_any_strokes_are_masks_or_refused(strokes):
    masks = outcome(lambda: mm.mask_from_scribble(image, strokes))
    for mask in (masks or {}).values():
        assert mask.shape == SIZE


texts = st.one_of(
    st.text(max_size=30),
    st.text(alphabet="0123456789,-=_ ٣²", max_size=30),
    st.sampled_from(["9" * 5000 + "=a.png", "9" * 5000 + ",1,1,1", "1,1,1," + "9" * 4000, "0=\0", "-1=a", "1_0=b"]),
)


@bounded
@given(text=texts)
def test_any_text_is_a_box_or_refused(text):
    box = outcome(lambda: parse_box(text))
    if box is not None:
        assert isinstance(box, Box)
        outcome(lambda: mm.mask_from_box(image, box))


@bounded
@given(text=texts)
def test_any_text_is_a_frame_and_a_file_or_refused(text):
    at = outcome(lambda: parse_at(text))
    if at is not None and str(at.path).isprintable():  # a sentence names the file as its owner does
        assert at.frame >= 0
        outcome(lambda: mm.read_mask(at.path))
