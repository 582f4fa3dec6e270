import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from refusals import refusal

from mnemask.errors import FrameError
from mnemask.model import preprocess

sides = st.integers(1, 70)


@given(sides, sides)
def test_padding_goes_up_to_the_next_multiple_of_16_with_the_smaller_half_first(height, width):
    left, right, top, bottom = preprocess.padding((height, width))
    for side, first, last in ((height, top, bottom), (width, left, right)):
        assert (side + first + last) % 16 == 0
        assert first + last < 16
        assert last - first in (0, 1)


@given(sides, sides)
def test_unpad_gives_back_what_pad_framed(height, width):
    planes = torch.rand(2, height, width) + 1
    padded = preprocess.pad(planes)
    assert torch.equal(preprocess.unpad(padded, (height, width)), planes)
    assert float(padded.sum()) == pytest.approx(float(planes.sum()), rel=1e-5)


@pytest.mark.parametrize(
    ("size", "short_side", "expected"),
    [
        ((480, 854), 480, (480, 854)),
        ((1080, 1920), 480, (480, 853)),
        ((1920, 1080), 480, (853, 480)),
        ((240, 320), 480, (480, 640)),
        ((77, 101), None, (77, 101)),
        ((7, 7), 49, (49, 49)),
    ],
)
def test_the_short_side_gets_the_length_asked_for(size, short_side, expected):
    assert preprocess.working_size(size, short_side) == expected


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(16, 1000))
def test_the_short_side_is_exact_for_all_sizes(height, width, short_side):
    assert min(preprocess.working_size((height, width), short_side)) == short_side


def test_normalisation_takes_out_imagenets_mean_and_deviation():
    image = torch.randint(0, 256, (3, 4, 5), dtype=torch.uint8)
    found = preprocess.normalize(image)
    for channel, (mean, deviation) in enumerate(((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))):
        expected = (image[channel].double() / 255 - mean) / deviation
        torch.testing.assert_close(found[channel].double(), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [(20, 30), (5, 9), (10, 14)])
def test_a_resized_mask_keeps_its_share_of_the_picture(size):
    mask = torch.zeros(1, 10, 14)
    mask[:, 2:8, 3:11] = 1
    resized = preprocess.resize(mask, size)
    assert resized.shape == (1, *size)
    assert float(resized.min()) >= 0
    assert float(resized.max()) <= 1 + 1e-6
    assert float(resized.mean()) == pytest.approx(float(mask.mean()), abs=0.02)


def test_cells_are_rows_of_channels_in_reading_order():
    planes = torch.arange(2 * 3 * 4.0).view(2, 3, 4)
    assert torch.equal(preprocess.cells(planes)[5], planes[:, 1, 1])
    assert torch.equal(preprocess.cells(planes[None])[0], preprocess.cells(planes))


@pytest.mark.parametrize("short_side", [None, 480])
def test_a_frame_that_is_too_long_is_refused_with_a_short_side_that_would_do(short_side):
    with refusal(FrameError, r"the frame", r"17000", r"more than 16384") as caught:
        preprocess.refuse_too_long((400, 17000), short_side, "the frame")
    largest = int(re.search(r"short_side of at most (\d+)", str(caught.value))[1])
    preprocess.refuse_too_long((400, 17000), largest, "the frame")
    with refusal(FrameError, r"crop"):
        preprocess.refuse_too_long((400, 17000), largest + 1, "the frame")


@pytest.mark.parametrize(("size", "short_side"), [((10, 17000), None), ((3, 2000), 32)])
def test_a_frame_that_is_too_long_at_any_short_side_is_to_be_cropped(size, short_side):
    with refusal(FrameError, r"crop the video") as caught:
        preprocess.refuse_too_long(size, short_side, "the frame")
    assert "give a short_side" not in str(caught.value)


def test_the_short_side_that_would_do_is_one_that_the_command_line_takes():
    with refusal(FrameError, r"give a short_side of at most 40 \(--size\)"):
        preprocess.refuse_too_long((5, 1999), 480, "the frame")
