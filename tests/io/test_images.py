import struct
import zlib
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from refusals import refusal

from mnemask.errors import FrameError
from mnemask.io import read_image
from mnemask.io.name_order import natural_order


def pixels(path):
    return read_image(path).permute(1, 2, 0).numpy()


@pytest.fixture
def picture():
    return np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".webp"])
def test_lossless_images_are_read_exactly(tmp_path, picture, suffix):
    Image.fromarray(picture).save(tmp_path / f"image{suffix}", lossless=True)
    assert np.array_equal(pixels(tmp_path / f"image{suffix}"), picture)


def test_jpeg_equals_what_pillow_gives(tmp_path, picture):
    path = tmp_path / "image.jpg"
    Image.fromarray(picture).save(path)
    with Image.open(path) as image:
        assert np.array_equal(pixels(path), np.asarray(image))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGBA", "CMYK", "YCbCr"])
def test_every_kind_of_image_becomes_rgb(tmp_path, picture, mode):
    image = Image.fromarray(picture).convert(mode)
    path = tmp_path / ("image.tif" if mode in ("CMYK", "YCbCr", "PA") else "image.png")
    image.save(path)
    assert np.abs(pixels(path).astype(int) - np.asarray(image.convert("RGB"))).max() <= 2


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_grey_is_scaled_not_clipped(tmp_path, suffix):
    grey = np.linspace(0, 65_535, 64).round().astype(np.uint16).reshape(8, 8)
    path = tmp_path / f"image{suffix}"
    Image.fromarray(grey).save(path)
    assert np.array_equal(pixels(path)[:, :, 0], np.round(grey / 257).astype(np.uint8))


def test_floating_point_images_are_refused(tmp_path):
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "image.tif")
    with refusal(FrameError, "floating-point"):
        read_image(tmp_path / "image.tif")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_tags_are_applied(tmp_path, picture, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(picture).save(tmp_path / "image.png", exif=exif)
    turned = {
        1: picture,
        2: picture[:, ::-1],
        3: picture[::-1, ::-1],
        4: picture[::-1],
        5: picture.transpose(1, 0, 2),
        6: np.rot90(picture, k=-1),
        7: picture[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(picture),
    }
    assert np.array_equal(pixels(tmp_path / "image.png"), turned[orientation])


@pytest.mark.parametrize(("width", "height"), [(16_385, 1), (1, 16_385), (10_000, 10_000), (2**31 - 1, 2**31 - 1)])
def test_an_absurd_size_is_refused_from_the_header(tmp_path, width, height):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    path = tmp_path / "bomb.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b""))
    with refusal(FrameError, r"bomb\.png"):
        read_image(path)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")  # Pillow says so, and reads on or raises
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp", ".tif"])
@given(where=st.floats(0, 1), damage=st.binary(min_size=1, max_size=30), keep=st.floats(0, 1))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_file_gives_an_image_or_one_kind_of_error(tmp_path, picture, suffix, where, damage, keep):
    path = tmp_path / f"image{suffix}"
    Image.fromarray(picture).save(path)
    data = bytearray(path.read_bytes())
    at = int(where * len(data))
    data[at : at + len(damage)] = damage
    path.write_bytes(data[: max(1, int(keep * len(data)))])
    with suppress(FrameError):
        assert read_image(path).shape[0] == 3


def test_postscript_called_jpg_is_not_run(tmp_path):
    (tmp_path / "image.jpg").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n")
    with refusal(FrameError, "identify"):
        read_image(tmp_path / "image.jpg")


def test_numbers_are_counted_and_ties_are_decided(tmp_path):
    names = ["b1", "a10", "a2", "a02", "a", "2", "10"]
    ordered = natural_order(tmp_path / name for name in names)
    assert [path.name for path in ordered] == ["2", "10", "a", "a02", "a2", "a10", "b1"]
