"""More than 8 bits are read by the range that the whole video uses."""

import weakref

import av
import numpy as np
import pytest
from PIL import Image

from mnemask.io import VideoReader
from mnemask.io.pictures import Levels, extremes

cv2 = pytest.importorskip("cv2")
GREY = np.random.default_rng(0).integers(40, 250, (6, 24, 32), np.uint8)


def frames(source):
    return [frame.image.permute(1, 2, 0).numpy() for frame in VideoReader(source)]


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("colour", [False, True])
def test_values_of_any_bits_look_like_those_of_8_bits(tmp_path, bits, suffix, colour):
    for t, grey in enumerate(GREY):
        wide = np.round(grey / 255 * (2**bits - 1)).astype(np.uint16)
        cv2.imwrite(str(tmp_path / f"{t}{suffix}"), cv2.merge([wide, wide // 2, wide // 4]) if colour else wide)
    reader = VideoReader(tmp_path)
    assert reader.facts.levels == Levels(0, 2**bits - 1)
    for read, grey in zip(frames(tmp_path), GREY, strict=True):
        shares = (4, 2, 1) if colour else (1, 1, 1)  # OpenCV writes blue first
        expected = np.stack([grey // share for share in shares], axis=2)
        assert np.abs(read.astype(int) - expected).max() <= 1


def test_one_scale_serves_the_dark_and_the_bright_frames(tmp_path):
    for t, white in enumerate((60, 4000, 60)):
        Image.fromarray(np.full((8, 8), white, np.uint16)).save(tmp_path / f"{t}.png")
    assert [int(frame.max()) for frame in frames(tmp_path)] == [4, 249, 4]


def test_a_narrow_range_is_spread_and_said(tmp_path):
    for t in range(3):
        Image.fromarray(29_000 + 4 * GREY[t].astype(np.uint16)).save(tmp_path / f"{t}.png")
    reader = VideoReader(tmp_path)
    read = np.stack([frame.image.numpy() for frame in reader])
    assert read.max() - read.min() > 150
    assert reader.facts.about


def test_black_says_nothing_of_the_range():
    assert Levels.of([np.zeros((4, 4), np.uint16)]) == Levels()


DARK = np.random.default_rng(1).integers(0, 9, GREY.shape[1:], np.uint16)


def save_deep(folder, pictures):
    for number, picture in pictures.items():
        Image.fromarray(picture.astype(np.uint16)).save(folder / f"{number}.png")


def followed(folder):
    return VideoReader(folder, follow=True, quiet_seconds=0.2)


def test_dark_frames_at_the_start_of_a_followed_folder_do_not_set_its_range(tmp_path):
    save_deep(tmp_path, {0: DARK, 1: DARK} | {t: GREY[t] * 16.0 for t in range(2, 6)})
    (tmp_path / "6.png").write_bytes((tmp_path / "5.png").read_bytes()[:200])
    reader = followed(tmp_path)
    read = [next(frame.image.numpy() for frame in reader)]
    assert reader.facts.about == ("more than 8 bits: 4095 is white (12 bits)",)
    (tmp_path / "6.png").unlink()
    read = [frame.image.permute(1, 2, 0).numpy() for frame in reader]
    assert all(np.array_equal(one, other) for one, other in zip(read, frames(tmp_path), strict=True))


def test_black_frames_at_the_start_of_a_followed_folder_leave_its_range_open(tmp_path):
    save_deep(tmp_path, {0: 0 * DARK})
    reader, read = followed(tmp_path), []
    for t, frame in enumerate(reader, 1):
        read.append(int(frame.image.max()))
        save_deep(tmp_path, {t: GREY[t] * 16.0} if t < 3 else {})
    assert reader.facts.levels == Levels(0, 4095)
    assert read == [0, *(pytest.approx(int(GREY[t].max()), abs=1) for t in (1, 2))]


@pytest.mark.parametrize("pedestal", [0, 256])
def test_a_followed_folder_in_which_only_dark_frames_are_is_read_by_10_bits_and_what_exceeds_them_is_said(
    tmp_path, caplog, pedestal
):
    save_deep(tmp_path, {0: DARK + pedestal})
    reader, read = followed(tmp_path), []
    for t, frame in enumerate(reader, 1):
        read.append(frame.image.numpy())
        save_deep(tmp_path, {t: GREY[t] * 16.0} if t < 4 else {})
    assert reader.facts.levels == Levels(0, 1023)
    assert len(read) == 4
    assert read[0].max() < 70
    (note,) = reader.facts.notes
    assert f"1.png holds values from {16 * int(GREY[1].min())} to {16 * int(GREY[1].max())}" in note
    assert "1023 is white (10 bits)" in note
    assert "without follow" in note
    assert caplog.text.count(note) == 1


def test_samples_are_not_held_together():
    alive, most = [], 0

    def samples():
        nonlocal most
        for white in range(8):
            values = np.full((64, 64), 500 * white, np.uint16)
            alive.append(weakref.ref(values))
            yield values
            del values
            most = max(most, sum(each() is not None for each in alive))

    assert Levels.of_deep(samples()) == Levels(0, 4095)
    assert most <= 3
    assert Levels.of_deep([None]) is None


def test_8_bits_have_no_levels(tmp_path):
    Image.fromarray(GREY[0]).save(tmp_path / "0.png")
    assert VideoReader(tmp_path).facts.levels is None


@pytest.mark.parametrize("stored", ["gray16le", "rgb48le", "rgba64le", "gbrap16le", "ya16le"])
def test_a_video_of_16_bits_that_uses_12_is_read_by_those(tmp_path, stored):
    video = tmp_path / ("v.mov" if stored == "ya16le" else "v.mkv")
    with av.open(str(video), "w") as container:
        stream = container.add_stream("png" if stored == "ya16le" else "ffv1", rate=25)
        stream.height, stream.width = GREY.shape[1:]
        stream.pix_fmt = stored.replace("ya16le", "ya16be")
        for grey in (GREY[0] // 20, *GREY[1:]):  # the first is dark
            wide = grey.astype(np.uint16) * 16
            values = wide if stored == "gray16le" else np.repeat(wide[:, :, None], 3, axis=2)
            picture = av.VideoFrame.from_ndarray(values, format="gray16le" if stored == "gray16le" else "rgb48le")
            container.mux(stream.encode(picture.reformat(format=stream.pix_fmt)))
        container.mux(stream.encode(None))
    assert VideoReader(video).facts.levels == Levels(0, 2**12 - 1)
    read = frames(video)
    assert len(read) == len(GREY)
    assert np.abs(read[-1].astype(int) - GREY[-1][:, :, None]).max() <= 1


@pytest.mark.parametrize("broken", [0, 65_535])
def test_a_broken_pixel_of_the_sensor_does_not_darken_the_video(tmp_path, broken):
    narrow = np.random.default_rng(0).integers(7278, 7478, (60, 80), np.uint16)
    wide = np.random.default_rng(0).integers(40, 4000, (60, 80), np.uint16)
    for name, picture in (("narrow", narrow), ("wide", wide)):
        levels = Levels.of([picture])
        hurt = picture.copy()
        hurt[5, 7] = broken
        assert abs(Levels.of([hurt]).white - levels.white) <= 8, name
        assert abs(Levels.of([hurt]).black - levels.black) <= 8, name


def test_an_animation_of_16_bits_has_the_range_that_it_uses(tmp_path):
    pictures = np.repeat(GREY[:1], len(GREY), axis=0)
    for index, picture in enumerate(pictures):
        picture[0, index] = 0  # Pillow leaves out pages that differ in bright values alone
    pages = [Image.fromarray(picture.astype(np.uint16) * 16) for picture in pictures]
    pages[0].save(tmp_path / "a.png", save_all=True, append_images=pages[1:], duration=40)
    reader = VideoReader(tmp_path / "a.png")
    assert reader.facts.levels == Levels(0, 4095)
    found = [frame.image[0].numpy() for frame in reader]
    assert len(found) == len(pictures)
    assert all(np.abs(one.astype(int) - other).max() <= 1 for one, other in zip(found, pictures, strict=True))


@pytest.mark.parametrize("broken", [0, 65_535])
def test_a_broken_pixel_does_not_darken_a_video_file(tmp_path, broken):
    with av.open(str(tmp_path / "v.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = 60, 80, "gray16le"
        for index in range(3):
            values = np.random.default_rng(index).integers(40, 4000, (60, 80), np.uint16)
            values[5, 7] = broken
            container.mux(stream.encode(av.VideoFrame.from_ndarray(values, format="gray16le")))
        container.mux(stream.encode(None))
    assert VideoReader(tmp_path / "v.mkv").facts.levels == Levels(0, 2**12 - 1)


@pytest.mark.parametrize("size", [1000, 1001, 20_000, 20_001])
def test_the_extremes_leave_one_value_in_ten_thousand_aside(size):
    values = np.random.default_rng(size).integers(0, 2**16, size, np.uint16)
    aside, ordered = -(-size // 10_000), np.sort(values)
    assert extremes(values) == (ordered[aside], ordered[-1 - aside])
