"""Files of several pictures are videos of all of them."""

import io
import os
import threading
from contextlib import suppress

import numpy as np
import pytest
import torch
from PIL import Image
from refusals import refusal

from mnemask.doctor import diagnose
from mnemask.errors import FrameError
from mnemask.io import VideoReader, sources
from mnemask.io.random_access import FrameAccess
from mnemask.prompts.mask_file import inspect_mask


@pytest.fixture
def pages(clip):
    return [Image.fromarray(picture) for picture in clip[:5]]


def save(path, pages, **how):
    pages[0].save(path, save_all=True, append_images=pages[1:], **how)
    return path


def pictures(source, **how):
    return [frame.image.permute(1, 2, 0).numpy() for frame in VideoReader(source, **how)]


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "I;16"])
def test_all_pages_of_a_tiff_are_frames(tmp_path, pages, mode):
    if mode == "I;16":
        converted = [Image.fromarray(np.asarray(page.convert("L")).astype(np.uint16) * 257) for page in pages]
        expected = [page.convert("L").convert("RGB") for page in pages]
    else:
        converted = [page.convert(mode) for page in pages]
        expected = [page.convert("RGB") for page in converted]
    path = save(tmp_path / "stack.tif", converted)
    read = pictures(path)
    assert len(read) == VideoReader(path).num_frames == 5
    for got, page in zip(read, expected, strict=True):
        assert np.abs(got.astype(int) - np.asarray(page)).max() <= 1
    assert [frame.seconds for frame in VideoReader(path)] == [None] * 5
    assert len(pictures(path, start=3)) == 2


@pytest.mark.parametrize(("name", "how"), [("a.webp", {"lossless": True}), ("a.png", {}), ("a.gif", {})])
def test_animations_are_frames_with_their_times(tmp_path, pages, name, how):
    path = save(tmp_path / name, pages, duration=[40, 80, 120, 40, 40], **how)
    read = list(VideoReader(path))
    assert [round(frame.seconds, 3) for frame in read] == [0, 0.04, 0.12, 0.24, 0.28]
    if name != "a.gif":  # of 256 colours
        assert all(np.array_equal(frame.image.permute(1, 2, 0), page) for frame, page in zip(read, pages, strict=True))
    assert [frame.index for frame in VideoReader(path, start="0.1s", stop="0.25s")] == [2, 3]
    assert not any(finding.severity == "problem" for finding in diagnose(path))


def test_one_page_is_a_picture(tmp_path, pages):
    pages[0].save(tmp_path / "one.tif")
    (frame,) = VideoReader(tmp_path / "one.tif")
    assert frame.name == "one"


def test_a_folder_with_one_stack_is_that_stack_and_with_several_is_refused(tmp_path, pages):
    save(tmp_path / "a.tif", pages)
    assert len(pictures(tmp_path)) == 5
    assert not any(finding.severity == "problem" for finding in diagnose(tmp_path))
    save(tmp_path / "b.tif", pages)
    with refusal(FrameError, "pictures"):
        VideoReader(tmp_path)


def test_thumbnails_are_left_out_and_other_sizes_refused(tmp_path, pages):
    small = pages[1].resize((16, 12))
    small.encoderinfo = {"tiffinfo": {254: 1}}
    save(tmp_path / "thumbnail.tif", [pages[0], small, pages[2]])
    reader = VideoReader(tmp_path / "thumbnail.tif")
    assert len(list(reader)) == 2
    assert reader.facts.notes
    save(tmp_path / "sizes.tif", [pages[0], pages[1].resize((16, 12))])
    with refusal(FrameError, r"16x12"):
        VideoReader(tmp_path / "sizes.tif")


def test_a_webp_that_is_cut_off_cannot_be_read(tmp_path, pages):
    path = save(tmp_path / "stack.webp", pages, lossless=True)
    path.write_bytes(path.read_bytes()[:-400])
    with refusal(FrameError, r"stack\.webp"):
        pictures(path)


def test_the_good_pictures_of_an_animation_that_is_cut_off_are_read(tmp_path, pages):
    path = save(tmp_path / "a.png", pages, duration=40)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    read = []
    with refusal(FrameError, r"a\.png' cannot be read from page [1-4] on"):
        read.extend(VideoReader(path))
    assert 1 <= len(read) < 5
    assert all(np.array_equal(page, frame.image.permute(1, 2, 0)) for page, frame in zip(pages, read, strict=False))
    assert len(pictures(path, on_corrupt="hold")) == len(read)


def test_the_range_of_a_deep_animation_that_is_cut_off_is_that_of_its_good_pictures(tmp_path):
    noise = np.random.default_rng(0).integers(0, 4096, (5, 48, 64)).astype(np.uint16)
    path = save(tmp_path / "a.png", [Image.fromarray(values) for values in noise], duration=40)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    with VideoReader(path, on_corrupt="hold") as video:
        assert video.facts.levels.white == 4095
        assert 1 <= len(list(video)) < 5


def test_pictures_that_a_stack_says_it_has_and_has_not_are_missed(tmp_path, pages):
    pages[0].save(tmp_path / "big.tif", tiffinfo={270: "ImageJ=1.53t\nimages=800\nframes=800\n"})
    save(tmp_path / "big.tif", pages[:2], tiffinfo={270: "ImageJ=1.53t\nimages=800\nframes=800\n"})
    with refusal(FrameError, r"800"):
        VideoReader(tmp_path / "big.tif")


SHAPED = {
    "ImageJ=1.53t\nimages=6\nchannels=2\nframes=3\nhyperstack=true\n": 6,
    "ImageJ=1.53t\nimages=6\nslices=3\nframes=2\n": 6,
    '{"shape": [2, 3, 40, 60]}': 6,
    '<OME><Pixels SizeC="2" SizeT="3" SizeX="60" SizeY="40" SizeZ="1"/></OME>': 6,
}


@pytest.mark.parametrize("description", SHAPED)
def test_channels_and_slices_of_each_time_are_no_frames(tmp_path, description):
    pages = [Image.new("L", (60, 40), 9 * page) for page in range(SHAPED[description])]
    path = save(tmp_path / "stack.tif", pages, description=description)
    with refusal(FrameError, "channels"):
        VideoReader(path)
    assert len(pictures(save(tmp_path / "3.tif", pages[:3], description="ImageJ=1.53t\nimages=3\nslices=3\n"))) == 3


def test_of_a_stack_that_is_cut_off_the_whole_pages_are_read(tmp_path, pages):
    whole = save(tmp_path / "whole.tif", pages).read_bytes()
    (tmp_path / "cut.tif").write_bytes(whole[: len(whole) * 6 // 10])
    read = []
    with refusal(FrameError, "cut.tif"):
        read.extend(VideoReader(tmp_path / "cut.tif"))
    assert 1 <= len(read) < 5
    assert any(finding.severity == "problem" for finding in diagnose(tmp_path / "cut.tif"))


def test_of_a_stack_of_masks_the_first_is_read_and_that_is_said(tmp_path):
    masks = [Image.fromarray(np.eye(40, 60, k, np.uint8)) for k in range(3)]
    reading = inspect_mask(save(tmp_path / "masks.tif", masks))
    assert np.array_equal(reading.labels, masks[0])
    assert ["3 pictures" in note for note in reading.notes] == [True]


def test_a_gif_that_does_not_end_is_a_doubt(tmp_path, pages):
    whole = save(tmp_path / "whole.gif", pages).read_bytes()
    (tmp_path / "cut.gif").write_bytes(whole[: len(whole) * 6 // 10])
    assert not VideoReader(tmp_path / "whole.gif").facts.notes
    assert ["cut off" in note for note in VideoReader(tmp_path / "cut.gif").facts.notes] == [True]


@pytest.mark.parametrize(
    ("how", "steps"),
    [
        ({}, [100] * 8),
        ({"duration": 0}, [100] * 8),
        ({"loop": 0}, [100] * 8),
        ({"duration": 40}, [40] * 8),
        ({"duration": [40, 40, 0, 40, 40, 40, 40, 40]}, None),  # the third one states no delay
        ({"duration": [0, 40, 40, 40, 40, 40, 40, 40]}, [100, 40, 40, 40, 40, 40, 40, 40]),
        ({"disposal": 2}, [100] * 8),
        ({"disposal": 2, "duration": 40}, [40] * 8),
    ],
)
@pytest.mark.parametrize("everywhere", [True, False])
def test_all_pictures_of_a_gif_are_frames_whatever_delays_it_states(tmp_path, how, steps, everywhere):
    path, drawn = animated(tmp_path / "a.gif", everywhere, **how)
    read = list(VideoReader(path))
    assert len(read) == 8
    if steps:
        assert [round(1000 * frame.seconds) for frame in read] == [sum(steps[:at]) for at in range(8)]
    for frame, picture in zip(read, drawn, strict=True):
        np.testing.assert_array_equal(frame.image.permute(1, 2, 0), picture)
    with FrameAccess(path) as frames:
        assert len(frames) == 8
        for at in (7, 2, 5):
            assert torch.equal(frames[at].image, read[at].image)
            assert frames[at].seconds == read[at].seconds
    findings = diagnose(path)
    assert {finding.severity for finding in findings} == {"ok"}
    assert "8 frames can be read" in " ".join(finding.what for finding in findings)


def test_pictures_that_are_stated_but_not_read_are_no_small_matter(tmp_path, monkeypatch):
    path, _ = animated(tmp_path / "a.gif", everywhere=True)
    monkeypatch.setattr(sources, "hides_pictures", lambda path: False)
    (said,) = [finding for finding in diagnose(path) if "header states" in finding.what]
    assert (said.severity, "8 frames" in said.what) == ("warning", True)


def animated(path, everywhere, **how):
    """Saves 8 pictures of all 256 colours as a GIF, and returns them as they are in it."""
    rng = np.random.default_rng(0)
    colours = rng.permutation(256)[:, None].repeat(3, 1).astype(np.uint8)
    first, drawn = rng.permutation(np.arange(32 * 48) % 256).reshape(32, 48), []
    for at in range(8):
        indices = (first + 31 * at) % 256 if everywhere else first.copy()
        indices[8:20, 3 * at : 3 * at + 12] = 7
        drawn.append(colours[indices])
    return save(path, [Image.fromarray(picture) for picture in drawn], **how), drawn


@pytest.mark.parametrize("called", ["stack.lsm", "stack", "stack.mp4"])
@pytest.mark.parametrize("format", ["TIFF", "WEBP", "big"])
def test_a_stack_is_known_by_its_first_bytes(tmp_path, pages, called, format):
    how = {"format": "TIFF", "big_tiff": True} if format == "big" else {"format": format, "lossless": True}
    read = pictures(save(tmp_path / called, pages, **how))
    assert len(read) == 5
    np.testing.assert_array_equal(read[-1], np.asarray(pages[-1]))


@pytest.mark.parametrize("format", ["TIFF", "WEBP"])
def test_a_stack_through_a_pipe_is_refused_by_what_it_is(tmp_path, pages, format):
    data = save(tmp_path / "stack", pages, format=format).read_bytes()
    with refusal(FrameError, "save it to a file"):
        VideoReader(io.BytesIO(data))
    read, write = os.pipe()
    writer = threading.Thread(target=fill, args=(write, data))
    writer.start()
    with os.fdopen(read, "rb") as pipe, refusal(FrameError, "is a " + ("TIFF" if format == "TIFF" else "WebP")):
        VideoReader(pipe)
    writer.join()


def fill(pipe, data):
    with suppress(BrokenPipeError), os.fdopen(pipe, "wb") as file:
        file.write(data)


def test_pictures_that_metamorph_puts_into_one_page_are_refused(tmp_path, pages):
    pages[0].save(tmp_path / "stack.stk", format="TIFF", tiffinfo={33629: tuple(range(5))})
    with refusal(FrameError, "MetaMorph"):
        VideoReader(tmp_path / "stack.stk")


def test_a_stack_is_found_among_any_number_of_images(tmp_path, pages):
    for number in range(40):
        pages[0].save(tmp_path / f"{number}.png")
    save(tmp_path / "17.png", pages)
    with refusal(FrameError, r"17\.png holds 5 pictures"):
        next(iter(VideoReader(tmp_path)))
