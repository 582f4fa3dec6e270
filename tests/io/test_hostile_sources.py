"""Files and names made to do harm: refused from what they claim, before anything is decoded or followed."""

import io
import os
import resource
import struct
import subprocess
import sys
import zlib

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from refusals import refusal

from mnemask.errors import FrameError
from mnemask.io import VideoReader
from mnemask.io.atomic import safe_name
from mnemask.io.frame_files import find_frames
from mnemask.io.pictures import MAX_PIXELS, MAX_SIDE

HUGE = 100_000


def png_header(side):
    """A PNG of this size with nothing in it."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def claims(jpeg, side):
    """The JPEG with another size in its header."""
    data = bytearray(jpeg)
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", side, side)
    return bytes(data)


def jpeg_of(picture):
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG")
    return buffer.getvalue()


# Sizes


@pytest.mark.parametrize("side", [10_000, HUGE])
def test_a_huge_image_is_refused_from_its_header_in_one_sentence(tmp_path, side):
    (tmp_path / "bomb.png").write_bytes(png_header(side))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with refusal(FrameError, r"bomb\.png'", r"16384", r"67"):
        list(VideoReader(tmp_path / "bomb.png"))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20 * 1024, "kilobytes"


def test_one_huge_image_among_others_is_refused_after_those_before(tmp_path, clip):
    for number in range(4):
        Image.fromarray(clip[number]).save(tmp_path / f"{number}.png")
    (tmp_path / "2.png").write_bytes(png_header(HUGE))
    frames = []
    with refusal(FrameError, r"2\.png"):
        frames.extend(VideoReader(tmp_path))
    assert len(frames) == 2
    reader = VideoReader(tmp_path, on_corrupt="skip")
    assert [frame.index for frame in reader] == [0, 1, 3]
    assert reader.events.skipped.frames == (2,)


def test_a_video_that_declares_huge_frames_is_refused_before_decoding(tmp_path, clip):
    """A few hundred bytes, of which the decoder would make 12 gigabytes."""
    path = tmp_path / "bomb.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        packet = av.Packet(claims(jpeg_of(clip[0]), 65_000))
        packet.stream, packet.pts, packet.dts, packet.is_keyframe = stream, 0, 0, True
        container.mux(packet)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with refusal(FrameError, "bomb"):
        list(VideoReader(path))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024


def test_a_frame_that_becomes_huge_in_mid_stream_is_damaged(tmp_path, clip):
    path = tmp_path / "late.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for number in range(6):
            jpeg = jpeg_of(clip[number])
            packet = av.Packet(claims(jpeg, 16_000) if number == 4 else jpeg)
            packet.stream, packet.pts, packet.dts, packet.is_keyframe = stream, number, number, True
            container.mux(packet)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    reader = VideoReader(path, on_corrupt="skip")
    assert [frame.index for frame in reader] == [0, 1, 2, 3, 5]
    assert reader.events.corrupt.frames == (4,)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024


def test_the_limits_are_those_that_the_docs_state():
    assert (MAX_SIDE, MAX_PIXELS) == (16_384, 8192 * 8192)


# Files that are none


def test_links_in_circles_pipes_and_devices_in_a_folder_are_no_images(tmp_path, clip):
    Image.fromarray(clip[0]).save(tmp_path / "0.png")
    (tmp_path / "self.png").symlink_to("self.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe.png")
    for name in "abc":
        (tmp_path / name).symlink_to(".")
    assert [path.name for path in find_frames(tmp_path).paths] == ["0.png"]
    assert [path.name for path in find_frames(tmp_path / "**" / "*.png").paths] == ["0.png"]


def test_a_deep_chain_of_links_is_followed_or_refused_but_ends(tmp_path, clip):
    Image.fromarray(clip[0]).save(tmp_path / "0.png")
    for number in range(60):
        (tmp_path / f"{number + 1}.png").symlink_to(f"{number}.png")
    names = [path.name for path in find_frames(tmp_path).paths]
    assert names == [f"{number}.png" for number in range(41)], "as many as the system follows"


@pytest.mark.parametrize("source", ["/dev/zero", "/dev/null"])
def test_a_device_is_no_video(source):
    with refusal(FrameError, "device"):
        VideoReader(source)


def test_a_named_pipe_is_a_pipe(video_file, clip, tmp_path):
    path, fifo = video_file("clip.mkv", clip), tmp_path / "fifo"
    os.mkfifo(fifo)
    feed = "import sys; open(sys.argv[2], 'wb').write(open(sys.argv[1], 'rb').read())"
    with (
        subprocess.Popen([sys.executable, "-S", "-c", feed, str(path), str(fifo)]),
        VideoReader(fifo) as reader,
    ):
        assert len(list(reader)) == 30


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000, "\udcff", "**.png", "[", "***"])
def test_a_name_that_no_file_has_is_one_sentence(name):
    with pytest.raises(FrameError) as caught:
        VideoReader(name)
    assert len(str(caught.value)) < 500


# Names


@given(st.text(max_size=400))
def test_a_safe_name_is_one_part_of_a_path_and_otherwise_the_name_itself(name):
    safe = safe_name(name)
    assert safe not in ("", ".", "..")
    assert not set(safe) & set("/\0")
    if os.name != "nt" and name not in ("", ".", "..") and not set(name) & set("/\0"):
        assert safe == name


@pytest.mark.parametrize("name", ["../../x", "..\\..\\x", "/etc/passwd", "C:\\x", "~/x", "a\0b", "con", "NUL .txt"])
def test_a_frame_called_so_is_written_into_the_folder(tmp_path, name):
    (tmp_path / safe_name(name)).write_bytes(b"")
    assert len(list(tmp_path.iterdir())) == 1
