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
from mnemask.io.images import deep_values, open_image
from mnemask.io.label_files import read_labels
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


def tiff(path, stored, **tags):
    """A plain TIFF of one strip for all, or of one for each channel, with any tags."""
    channels = 1 if stored.ndim == 2 else stored.shape[2]
    separate = tags.get("planes") == 2
    data = (np.moveaxis(stored, 2, 0) if separate else stored).astype(stored.dtype.newbyteorder("<")).tobytes()
    strips = channels if separate else 1
    lists = struct.pack(f"<{channels}H", *[8 * stored.itemsize] * channels)
    offsets = [8 + at * len(data) // strips for at in range(strips)]
    counts = [len(data) // strips] * strips
    lists_at = 8 + len(data)
    if strips > 1:
        lists += struct.pack(f"<{strips}I", *offsets) + struct.pack(f"<{strips}I", *counts)
    wide = (lists_at + 2 * channels, lists_at + 2 * channels + 4 * strips)
    entries = [
        (256, 3, 1, stored.shape[1]),
        (257, 3, 1, stored.shape[0]),
        (258, 3, channels, lists_at if channels > 2 else 8 * stored.itemsize),
        (259, 3, 1, 1),
        (262, 3, 1, tags.get("photometric", 2 if channels > 1 else 1)),
        (273, 4, strips, offsets[0] if strips == 1 else wide[0]),
        (274, 3, 1, tags.get("orientation", 1)),
        (277, 3, 1, channels),
        (278, 3, 1, stored.shape[0]),
        (279, 4, strips, counts[0] if strips == 1 else wide[1]),
        (284, 3, 1, tags.get("planes", 1)),
        *([(338, 3, 1, 2)] if channels == 4 else []),
    ]
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    head = b"II*\0" + struct.pack("<I", lists_at + len(lists)) + data + lists
    path.write_bytes(head + struct.pack("<H", len(entries)) + body + bytes(4))
    return path


STORED = {  # what is shown, as it is stored under an orientation
    1: lambda shown: shown,
    2: lambda shown: shown[:, ::-1],
    3: lambda shown: shown[::-1, ::-1],
    4: lambda shown: shown[::-1],
    5: lambda shown: np.swapaxes(shown, 0, 1),
    6: lambda shown: np.rot90(shown),
    7: lambda shown: np.swapaxes(shown[::-1, ::-1], 0, 1),
    8: lambda shown: np.rot90(shown, k=-1),
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["grey", "rgb", "rgba", "grey of 16 bits", "rgb of 16 bits"])
def test_a_plain_tiff_is_turned_once_as_a_frame_and_as_a_mask(tmp_path, picture, orientation, kind):
    grey = np.repeat(picture[..., :1], 3, axis=2)
    shown = grey if "grey" in kind else picture
    wide = shown.astype(np.uint16) * 257 if "16" in kind else shown
    stored = wide[..., 0] if "grey" in kind else wide
    if kind == "rgba":
        stored = np.dstack([stored, np.full(stored.shape[:2], 255, np.uint8)])
    path = tiff(tmp_path / "image.tif", np.ascontiguousarray(STORED[orientation](stored)), orientation=orientation)
    assert np.array_equal(pixels(path), shown)
    if "grey" in kind:
        assert np.array_equal(read_labels(path), stored)


def test_16_bit_channels_each_by_itself_are_refused(tmp_path, picture):
    path = tiff(tmp_path / "image.tif", picture.astype(np.uint16) * 257, planes=2)
    with refusal(FrameError, "PlanarConfiguration"):
        read_image(path)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_of_which_0_is_white_is_no_negative(tmp_path, picture, dtype):
    largest = np.iinfo(dtype).max
    stored = largest - picture[..., 0].astype(dtype) * (largest // 255)
    path = tiff(tmp_path / "image.tif", stored, photometric=0)
    assert np.array_equal(pixels(path)[..., 1], picture[..., 0])
    assert np.array_equal(read_labels(path), picture[..., 0].astype(dtype) * (largest // 255))


@pytest.mark.parametrize("white", [1000, 4095, 65_535])
def test_a_ppm_keeps_more_than_8_bits(tmp_path, white):
    values = np.linspace(0, white, 6 * 8 * 3).round().astype(np.uint16).reshape(6, 8, 3)
    (tmp_path / "0.ppm").write_bytes(b"P6\n# a comment\n8 6\n%d\n" % white + values.astype(">u2").tobytes())
    with open_image(tmp_path / "0.ppm") as image:
        deep = deep_values(image, tmp_path / "0.ppm")
    assert len(np.unique(deep)) == 6 * 8 * 3
    assert np.abs(deep - values / white * 65_535).max() <= 0.5
    assert np.abs(pixels(tmp_path / "0.ppm") - values / white * 255).max() <= 1


@pytest.mark.parametrize("white", [2, 3, 15, 255, 1000, 65_535])
@pytest.mark.parametrize("kind", [b"P5", b"P2"])
def test_a_pgm_of_ids_keeps_them_whatever_it_calls_white(tmp_path, white, kind):
    labels = np.random.default_rng(0).integers(0, 3, (6, 8))
    bytes_of = labels.astype(">u2" if white > 255 else np.uint8).tobytes()
    data = bytes_of if kind == b"P5" else " ".join(map(str, labels.ravel())).encode() + b"\n"
    (tmp_path / "m.pgm").write_bytes(kind + b"\n8 6\n%d\n" % white + data)
    assert np.array_equal(read_labels(tmp_path / "m.pgm"), labels)


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


def test_negative_values_of_8_bits_are_refused(tmp_path):
    for name, values in (("signed", [[-5, 4], [3, 2]]), ("plain", [[5, 4], [3, 2]])):
        raw = np.array(values, np.int8).view(np.uint8)
        Image.fromarray(raw).save(tmp_path / f"{name}.tif", tiffinfo={339: 2})
    assert pixels(tmp_path / "plain.tif")[..., 0].tolist() == [[5, 4], [3, 2]]
    with refusal(FrameError, "values from -5 to 4"):
        read_image(tmp_path / "signed.tif")
