import gc
import io
import os
import sys
import threading
import weakref
from dataclasses import replace
from fractions import Fraction
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler

import av
import numpy as np
import pytest
from encoding import encode
from PIL import Image
from refusals import refusal

from mnemask.errors import FrameError, InputError
from mnemask.io import VideoReader, prefetch
from mnemask.io.pictures import Damaged, DecodedPicture
from mnemask.io.stream import EncodedVideo
from mnemask.pipeline.expected import Expected


def read(source, **how):
    with VideoReader(source, **how) as video:
        return list(video)


def rgb(frame):
    return frame.image.permute(1, 2, 0).numpy()


def read_until_error(source):
    """The frames and the message with which they end."""
    frames = []
    with VideoReader(source) as video, pytest.raises(FrameError) as caught:
        frames.extend(video)
    return frames, str(caught.value)


def save(path, picture, **how):
    Image.fromarray(picture).save(path, **how)


class Unseekable(io.RawIOBase):
    """A file as a pipe gives it."""

    def __init__(self, data=b""):
        self.data = io.BytesIO(data)

    def readable(self):
        return True

    def writable(self):
        return True

    def read(self, size=-1):
        return self.data.read(size)

    def write(self, data):
        return self.data.write(data)


# Folders, patterns, single images


def test_a_folder_is_read_in_natural_order_without_its_other_files(tmp_path, clip):
    for number in (10, 2, 1):
        save(tmp_path / f"frame{number}.png", clip[number])
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "._frame3.png").write_bytes(b"what macOS leaves behind")
    with VideoReader(tmp_path) as video:
        assert (video.size, video.num_frames, video.frames_per_second) == (None, 3, None)
        frames = list(video)
        assert video.size == (48, 64)
    assert [(frame.name, frame.index, frame.seconds) for frame in frames] == [
        ("frame1", 0, None),
        ("frame2", 1, None),
        ("frame10", 2, None),
    ]
    assert all(np.array_equal(rgb(frame), clip[number]) for frame, number in zip(frames, (1, 2, 10), strict=True))


def test_a_pattern_picks_images_and_start_and_stop_keep_their_numbers(tmp_path, clip):
    for number, picture in enumerate(clip[:12]):
        save(tmp_path / f"{number}.png", picture)
        save(tmp_path / f"{number}.jpg", picture)
    with VideoReader(tmp_path / "*.png", start=8, stop=11) as video:
        assert video.num_frames == 3
        assert [(frame.index, frame.name) for frame in video] == [(8, "8"), (9, "9"), (10, "10")]
        assert [frame.index for frame in video] == [8, 9, 10], "iterating again starts again"


def test_one_image_is_a_video_of_one_frame(tmp_path, clip):
    save(tmp_path / "only.png", clip[0])
    assert [frame.name for frame in read(str(tmp_path / "only.png"))] == ["only"]


def test_two_images_whose_masks_would_share_a_file_are_refused(tmp_path, clip):
    save(tmp_path / "a.png", clip[0])
    save(tmp_path / "A.jpg", clip[0])
    with refusal(FrameError, "overwrite"):
        VideoReader(tmp_path)


def test_a_damaged_image_in_the_middle_is_named_after_the_good_ones(tmp_path, clip):
    for number in range(4):
        save(tmp_path / f"{number}.jpg", clip[number])
    damaged = tmp_path / "2.jpg"
    damaged.write_bytes(damaged.read_bytes()[:400])
    frames, message = read_until_error(tmp_path)
    assert [frame.name for frame in frames] == ["0", "1"]
    assert "2.jpg" in message


def test_a_size_change_is_said_before_the_first_frame_with_both_sizes(tmp_path, clip):
    save(tmp_path / "0.png", clip[0])
    save(tmp_path / "1.png", clip[1])
    save(tmp_path / "2.png", clip[1][:40, :60])
    frames, message = read_until_error(tmp_path)
    assert frames == []
    assert all(part in message for part in ("2.png", "0.png", "60x40", "64x48"))
    with VideoReader(tmp_path, stop=2) as video:
        assert len(list(video)) == 2


@pytest.mark.parametrize("how", ["stored", "tagged"])
def test_a_frame_on_its_side_is_refused_before_the_first_frame(tmp_path, clip, how):
    save(tmp_path / "0.jpg", clip[0])
    exif = Image.Exif()
    exif[274] = 6 if how == "tagged" else 1
    turned = clip[1] if how == "tagged" else clip[1].transpose(1, 0, 2)
    Image.fromarray(turned).save(tmp_path / "1.jpg", exif=exif)
    frames, message = read_until_error(tmp_path)
    assert frames == []
    assert all(part in message for part in ("1.jpg", "48x64", "64x48"))
    assert ("orientation tag" in message) == (how == "tagged")


@pytest.mark.parametrize(("tag", "said"), [(1, ""), (2, "mirrored"), (3, "180"), (4, "upside down"), (6, "")])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_frames_that_are_turned_without_another_size_are_said(tmp_path, clip, tag, said, suffix):
    exif = Image.Exif()
    exif[274] = tag
    for index in range(3):
        Image.fromarray(clip[index]).save(tmp_path / f"{index}{suffix}", exif=exif)
    notes = VideoReader(tmp_path).facts.notes
    assert len(notes) == bool(said)
    assert all(said in note and "preview.png" in note for note in notes)


# Video files


@pytest.mark.parametrize(
    ("name", "codec"), [("c.mp4", "libx264"), ("c.mov", "mpeg4"), ("c.mkv", "libx264"), ("c.webm", "libvpx-vp9"),
                        ("c.avi", "mpeg4")],
)  # fmt: skip
def test_a_video_gives_every_frame_with_its_time(video_file, clip, name, codec):
    path = video_file(name, clip, codec, **({"b": "5000000"} if codec == "mpeg4" else {}))
    with VideoReader(path) as video:
        assert (video.num_frames, video.frames_per_second, video.name) == (30, 25.0, "c")
        frames = list(video)
        assert [frame.index for frame in video] == list(range(30)), "iterating again starts again"
    assert [frame.name for frame in frames] == [f"{index:05d}" for index in range(30)]
    assert [frame.seconds for frame in frames] == pytest.approx([index / 25 for index in range(30)], abs=1e-3)
    for frame, picture in zip(frames, clip, strict=True):
        assert np.abs(rgb(frame).astype(int) - picture).mean() < 20, "no other frame of the texture is as near"


def test_part_of_a_video_equals_that_part_of_the_whole(video_file, clip):
    path = video_file("clip.mp4", clip)
    whole, part = read(path), read(path, start=7, stop=19)
    assert [frame.index for frame in part] == list(range(7, 19))
    assert all(np.array_equal(rgb(frame), rgb(whole[frame.index])) for frame in part)
    assert VideoReader(path, start=25).num_frames == 5


def test_a_start_after_the_end_is_an_error(video_file, clip, tmp_path):
    path = video_file("clip.mkv", clip, "ffv1")  # whose header counts no frames
    with refusal(FrameError, r"30"):
        read(path, start=30)
    save(tmp_path / "only.png", clip[0])
    with refusal(FrameError, "frames"):
        VideoReader(tmp_path / "only.png", start=1)


@pytest.mark.parametrize(("start", "stop"), [(5, 5), (5, 2), ("1s", "0.5s")])
def test_an_empty_range_is_refused(video_file, clip, start, stop):
    with refusal(FrameError, "range"):
        VideoReader(video_file("clip.mp4", clip), start=start, stop=stop)


@pytest.mark.parametrize("name", ["uneven.mp4", "uneven.mkv"])
def test_a_variable_frame_rate_stays_one_and_a_long_last_gap_is_no_damage(video_file, clip, name):
    ticks = [0, 40, 50, 300, 310, 1000, 1040, 1700]
    frames = read(video_file(name, clip[:8], ticks=ticks))
    assert [round(frame.seconds * 1000) for frame in frames] == ticks


def first_as_stored(path):
    """The first picture as the file stores it. Of the same file: libx264 may encode the same pictures in two ways."""
    with av.open(str(path)) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24", src_colorspace="ITU601")


@pytest.mark.parametrize("name", ["turned.mp4", "turned.mkv"])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("x_sign", [1, -1])
@pytest.mark.parametrize("y_sign", [1, -1])
def test_every_orientation_is_shown_upright(video_file, clip, name, transposed, x_sign, y_sign):
    one = 65_536
    a, b, c, d = (0, y_sign * one, x_sign * one, 0) if transposed else (x_sign * one, 0, 0, y_sign * one)
    path = video_file(name, clip[:2], matrix=[a, b, 0, c, d, 0, 0, 0, 1 << 30])
    shown, stored = rgb(read(path)[0]), first_as_stored(path)
    turned = stored.transpose(1, 0, 2) if transposed else stored
    assert np.array_equal(shown, turned[::y_sign, ::x_sign])


def test_a_phone_video_turned_by_90_degrees_has_its_top_row_at_the_top(video_file, clip):
    """The tkhd matrix of a portrait recording, as phones write it: shown turned clockwise."""
    one = 65_536
    path = video_file("phone.mp4", clip[:2], matrix=[0, one, 0, -one, 0, 0, 48 * one, 0, 1 << 30])
    with VideoReader(path) as video:
        assert np.array_equal(rgb(next(iter(video))), np.rot90(first_as_stored(path), k=-1))
        assert video.size == (64, 48)


def test_motion_jpeg_with_orientation_tags_is_shown_upright(tmp_path, clip):
    """PyAV cannot list the side data of such frames, as EXIF is unknown to it."""
    exif = Image.Exif()
    exif[274] = 6
    jpeg = io.BytesIO()
    save(jpeg, clip[0], format="JPEG", exif=exif, quality=95, subsampling=0)
    with av.open(str(tmp_path / "tagged.avi"), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj444p"
        packet = av.Packet(jpeg.getvalue())
        packet.stream, packet.pts, packet.dts, packet.is_keyframe = stream, 0, 0, True
        container.mux(packet)
    frame = rgb(read(tmp_path / "tagged.avi")[0])
    assert frame.shape == (64, 48, 3)
    assert np.abs(frame.astype(int) - np.rot90(clip[0], k=-1)).mean() < 4


def test_odd_sizes_keep_every_pixel(video_file, clip):
    frames = read(video_file("odd.mp4", [picture[:37, :51] for picture in clip[:3]]))
    assert [frame.size for frame in frames] == [(37, 51)] * 3


def test_text_in_a_header_that_is_not_utf_8_is_no_hindrance(video_file, clip):
    path = video_file("clip.mkv", clip[:3], "ffv1", format="matroska")
    data = path.read_bytes()
    assert b"Lavf" in data
    path.write_bytes(data.replace(b"Lavf", b"L\xff\xfe\xe9"))
    assert len(list(VideoReader(path))) == 3


def test_names_with_colons_and_percent_signs_are_files(video_file, clip):
    assert len(read(video_file("take 12:30 %d [1].mkv", clip[:3]))) == 3


def test_only_a_handful_of_frames_is_alive_at_a_time(video_file, clip):
    alive = []
    with VideoReader(video_file("clip.mp4", clip)) as video:
        for frame in prefetch(video, depth=2):
            alive = [reference for reference in alive if reference() is not None] + [weakref.ref(frame.image)]
            del frame
            assert len(alive) <= 5


def test_no_frame_waits_for_the_garbage_collector(video_file, clip):
    path = video_file("clip.mp4", clip)
    gc.collect()
    gc.disable()
    try:
        for _ in VideoReader(path):
            pass
        assert sum(type(thing) is av.VideoFrame for thing in gc.get_objects()) <= 3
    finally:
        gc.enable()


def test_frames_do_not_share_memory(video_file, clip):
    frames = read(video_file("clip.mp4", clip[:3]))
    before = rgb(frames[1]).copy()
    frames[0].image.fill_(0)
    assert np.array_equal(rgb(frames[1]), before)


# Damage


def cut(path, fraction):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * fraction)])
    return path


@pytest.mark.parametrize(
    ("name", "codec", "how"),
    [
        ("cut.mp4", "libx264", {"container_options": {"movflags": "faststart"}}),
        ("cut.mp4", "libx264", {"container_options": {"movflags": "frag_keyframe+empty_moov"}}),
        ("cut.mkv", "libx264", {}),
        ("cut.webm", "libvpx-vp9", {}),
        ("cut.avi", "mpeg4", {}),
    ],
)
@pytest.mark.parametrize("fraction", [0.5, 0.8])
def test_a_cut_off_video_gives_its_good_frames_and_then_says_so(video_file, noise, name, codec, how, fraction):
    path = video_file(name, noise, codec, **how)
    whole = read(path)
    frames, message = read_until_error(cut(path, fraction))
    assert 3 <= len(frames) < 30
    assert f"{len(frames)} of 30 frames" in message
    assert all(np.array_equal(rgb(frame), rgb(good)) for frame, good in zip(frames, whole, strict=False))


def test_an_mp4_cut_off_between_two_frames_is_noticed(video_file, clip):
    path = video_file("cut.mp4", clip, container_options={"movflags": "faststart"})
    with av.open(str(path)) as container:
        end = container.streams.video[0].index_entries[20].pos
    path.write_bytes(path.read_bytes()[:end])
    frames, message = read_until_error(path)
    assert len(frames) == 20
    assert "20 of 30 frames" in message


@pytest.mark.parametrize(("name", "passed"), [("damaged.mp4", 0), ("damaged.mkv", 1)])
@pytest.mark.parametrize("position", [0.3, 0.4, 0.5, 0.6, 0.7])
def test_a_damaged_video_gives_its_good_frames_and_then_says_so(video_file, noise, name, passed, position):
    """H.264 has no checksum: where Matroska loses its way, what remains of one frame may pass as a whole one."""
    path = video_file(name, noise)
    whole = read(path)
    data = bytearray(path.read_bytes())
    start = int(position * len(data))
    data[start : start + 5000] = np.random.default_rng(0).bytes(5000)
    path.write_bytes(data)
    frames, message = read_until_error(path)
    assert "damaged" in message
    assert 3 <= len(frames) < 30
    assert sum(not np.array_equal(rgb(frame), rgb(good)) for frame, good in zip(frames, whole, strict=False)) <= passed


def test_a_broadcast_goes_on_after_damage_and_says_so_in_the_log(video_file, noise, caplog):
    path = video_file("live.mp4", noise, g="5")
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 5000] = bytes(5000)
    path.write_bytes(data)
    broadcast = EncodedVideo(f"file:{path}", "camera", goes_on=True, broadcast=True)
    items = list(broadcast.pictures(start=0))
    assert 15 < sum(isinstance(item, DecodedPicture) for item in items) < 30
    assert "skipped damaged data" in caplog.text or any(isinstance(item, Damaged) for item in items)


def test_an_mp4_without_its_index_cannot_be_opened(video_file, clip):
    with refusal(FrameError, r"index.mp4", r"mp4"):
        VideoReader(cut(video_file("index.mp4", clip), 0.3))


def test_a_recording_without_a_stated_length_is_not_called_damaged(tmp_path, clip):
    stream = Unseekable()
    encode(stream, clip, format="matroska")
    path = tmp_path / "live.mkv"
    path.write_bytes(stream.data.getvalue())
    assert len(read(path)) == 30


def test_a_clip_trimmed_by_an_edit_list_is_not_called_damaged(video_file, clip, tmp_path):
    path, trimmed = video_file("whole.mp4", clip, g="10", bf="0"), tmp_path / "trimmed.mp4"
    with av.open(str(path)) as source, av.open(str(trimmed), "w") as target:
        copied = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.pts, packet.dts = (ticks - 15 * packet.duration for ticks in (packet.pts, packet.dts))
                packet.stream = copied
                target.mux(packet)
    with av.open(str(trimmed)) as container:
        assert container.streams.video[0].frames == 30, "the header still counts what is hidden"
    assert len(read(trimmed)) == 15
    with VideoReader(trimmed) as video:
        assert (video.num_frames, video.counted) == (15, False)
        with refusal(InputError, "frame 20"):
            Expected.of(video).refuse_beyond([20])
        Expected.of(video).refuse_beyond([14])


@pytest.mark.parametrize("sound", [False, True])
def test_a_fragmented_mp4_has_the_frames_of_all_fragments(tmp_path, clip, sound):
    path = tmp_path / "fragments.mp4"
    with av.open(str(path), "w", options={"movflags": "frag_keyframe"}) as container:
        video = container.add_stream("libx264", rate=25, options={"g": "10"})
        video.height, video.width, video.pix_fmt = *clip[0].shape[:2], "yuv420p"
        audio = container.add_stream("aac", rate=16_000, layout="mono") if sound else None
        for picture in clip:
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(video.encode(None))
        for start in range(0, 48_000 if sound else 0, 1024):
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            samples.sample_rate, samples.pts = 16_000, start
            container.mux(audio.encode(samples))
        if sound:
            container.mux(audio.encode(None))
    with VideoReader(path) as video:
        assert (video.num_frames, video.counted) == (len(clip), False)
        Expected.of(video).refuse_beyond([len(clip) - 1])
        with refusal(InputError, f"frame {len(clip) + 10}"):
            Expected.of(video).refuse_beyond([len(clip) + 10])
        assert len(list(video)) == len(clip)


@pytest.mark.parametrize("name", ["sound.mp4", "sound.mkv"])
def test_sound_that_outlasts_the_pictures_is_no_damage(tmp_path, clip, name):
    with av.open(str(tmp_path / name), "w") as container:
        pictures = container.add_stream("mpeg4", rate=25)
        pictures.height, pictures.width, pictures.pix_fmt = 48, 64, "yuv420p"
        sound = container.add_stream("aac", rate=8000, layout="mono")
        for picture in clip[:5]:
            container.mux(pictures.encode(av.VideoFrame.from_ndarray(picture)))
        for _ in range(20):
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            silence.sample_rate = 8000
            container.mux(sound.encode(silence))
        container.mux(pictures.encode(None))
        container.mux(sound.encode(None))
    assert len(read(tmp_path / name)) == 5


def test_a_stream_that_changes_its_size_is_refused_where_it_does(tmp_path, clip):
    path = tmp_path / "joined.h264"
    with path.open("wb") as joined:
        for part in (clip[:4], [np.tile(picture, (2, 2, 1)) for picture in clip[:4]]):
            encode(joined, part, format="h264", bf="0")
    frames, message = read_until_error(path)
    assert len(frames) == 4
    assert "frame 4 " in message
    assert "128x96" in message
    assert "64x48" in message


# What is no video


def test_a_missing_path_says_what_a_source_can_be(tmp_path):
    with refusal(FrameError, r"'nowhere.mp4'"):
        VideoReader("nowhere.mp4")
    with refusal(FrameError):
        VideoReader("")


def test_an_empty_folder_and_a_pattern_without_images_are_refused(tmp_path):
    with refusal(FrameError, "holds"):
        VideoReader(tmp_path)
    (tmp_path / "notes.txt").write_text("no image")
    with refusal(FrameError, r"\.txt"):
        VideoReader(str(tmp_path / "*"))


@pytest.mark.parametrize("data", [b"", b"just some text\n" * 100])
def test_a_file_that_is_no_video_is_refused(tmp_path, data):
    (tmp_path / "clip.mp4").write_bytes(data)
    with refusal(FrameError, r"clip.mp4"):
        VideoReader(tmp_path / "clip.mp4")


def test_a_file_with_sound_only_is_refused(tmp_path):
    with av.open(str(tmp_path / "song.wav"), "w") as container:
        sound = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        silence.sample_rate = 8000
        container.mux(sound.encode(silence))
    with refusal(FrameError, "stream"):
        VideoReader(tmp_path / "song.wav")


def test_a_camera_that_is_not_there_is_one_error(capfd):
    for source in ("camera:63", 63):
        with refusal(FrameError, r"63"):
            VideoReader(source)
    assert capfd.readouterr() == ("", ""), "OpenCV reports nothing besides"


# Pipes and addresses


def test_a_pipe_is_read_as_it_comes_and_only_once(video_file, clip):
    data = video_file("clip.mkv", clip).read_bytes()
    # Small enough to lie in the pipe as a whole, so that no second thread is needed.
    assert len(data) < 60_000
    read_end, write_end = os.pipe()
    with os.fdopen(read_end, "rb") as pipe:
        with os.fdopen(write_end, "wb") as feed:
            feed.write(data)
        with VideoReader(pipe) as video:
            assert len(list(video)) == 30
            with refusal(FrameError, "only"):
                next(iter(video))


def test_a_dash_is_standard_input(video_file, clip, monkeypatch):
    data = video_file("clip.mkv", clip[:5]).read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    with VideoReader("-") as video:
        assert video.name == "stdin"
        assert len(list(video)) == 5


def test_an_mp4_with_its_index_at_the_end_cannot_come_through_a_pipe(video_file, clip):
    noise = np.random.default_rng(0)
    large = [noise.integers(0, 256, (240, 320, 3), np.uint8) for _ in range(8)]
    path = video_file("clip.mp4", large)
    with refusal(FrameError, "index"):
        read(Unseekable(path.read_bytes()))
    front = video_file("front.mp4", large, container_options={"movflags": "faststart"})
    assert len(read(Unseekable(front.read_bytes()))) == 8
    assert len(read(io.BytesIO(path.read_bytes()))) == 8, "an open file can seek"


def test_a_pipe_that_breaks_off_is_noticed(video_file, clip):
    for name in ("clip.mkv", "clip.mp4"):
        data = video_file(name, clip, container_options={"movflags": "faststart"}).read_bytes()
        frames, message = read_until_error(Unseekable(data[: len(data) * 2 // 3]))
        assert f"{len(frames)} of 30 frames" in message


@pytest.fixture
def server(tmp_path):
    """Serves tmp_path; gives the address and the paths that were asked for."""
    asked = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            asked.append(self.path)

    with HTTPServer(("127.0.0.1", 0), partial(Handler, directory=tmp_path)) as httpd:
        thread = threading.Thread(target=partial(httpd.serve_forever, poll_interval=0.02))
        thread.start()
        yield f"127.0.0.1:{httpd.server_port}", asked
        httpd.shutdown()
        thread.join()


def test_an_address_is_read_and_its_secrets_stay_out_of_messages(video_file, clip, server):
    host, _ = server
    video_file("clip.mkv", clip[:5])
    with VideoReader(f"http://{host}/clip.mkv") as video:
        assert video.name == "clip"
        assert len(list(video)) == 5
    with refusal(FrameError, "absent") as caught:
        VideoReader(f"http://user:secret@{host}/absent.mp4?token=secret")
    assert "secret" not in str(caught.value)


def test_a_playlist_in_place_of_a_video_fetches_nothing(video_file, clip, server, tmp_path):
    host, asked = server
    video_file("part.ts", clip[:5], format="mpegts")
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://{host}/part.ts\n#EXT-X-ENDLIST\n"
    (tmp_path / "list.m3u8").write_text(playlist)
    for source in (tmp_path / "list.m3u8", Unseekable(playlist.encode())):
        with pytest.raises(FrameError):
            read(source)
    assert asked == []


@pytest.mark.parametrize(
    ("start", "stop", "indices"),
    [
        (3, 6, [3, 4, 5]),
        ("3", "6", [3, 4, 5]),
        ("0.12s", "0.24s", [3, 4, 5]),
        ("120ms", 6, [3, 4, 5]),
        (28, "0:00:01.2", [28, 29]),
        ("00:00:01.12", None, [28, 29]),
    ],
)
def test_a_part_is_chosen_by_frames_or_by_times(video_file, clip, start, stop, indices):
    reader = VideoReader(video_file("clip.mp4", clip), start=start, stop=stop)
    assert [frame.index for frame in reader] == indices
    assert reader.num_frames == len(indices)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "frames"])
@pytest.mark.parametrize(
    ("start", "stop", "goes_on"),
    [(0, 6, True), (2, 7, True), (0, 8, False), (0, None, False), (0, "0.24s", True), (0, "0.32s", False)],
)
def test_a_reader_says_whether_its_video_goes_on_behind_its_stop(
    tmp_path, video_file, clip, name, start, stop, goes_on
):
    if name == "frames":
        (tmp_path / name).mkdir()
        for index, picture in enumerate(clip[:8]):
            save(tmp_path / f"frames/{index}.png", picture)
        if isinstance(stop, str):
            pytest.skip("a folder has no times")
    else:
        video_file(name, clip[:8])
    with VideoReader(tmp_path / name, start=start, stop=stop) as video:
        assert not video.goes_on
        for _ in range(2):
            assert [frame.index for frame in video][-1] == (5 if goes_on and not start else 6 if goes_on else 7)
            assert video.goes_on == goes_on


def test_times_count_from_the_first_frame(video_file, clip):
    path = video_file("clip.mkv", clip[:4], "ffv1", ticks=[5000, 5040, 5080, 5120])
    assert [frame.index for frame in VideoReader(path, start="0.08s")] == [2, 3]


@pytest.mark.parametrize("beyond", [{"start": 30}, {"start": "00:00:02"}, {"stop": 31}, {"start": "2s", "stop": "3s"}])
def test_a_part_that_the_video_has_not_is_refused_with_its_length(video_file, clip, beyond):
    with refusal(FrameError, r"frames|1\.2"):
        VideoReader(video_file("clip.mp4", clip), **beyond)


@pytest.mark.parametrize("nonsense", ["-1", "1:75:00", "soon", "1.5", -1, True, ""])
def test_what_is_no_position_is_refused(video_file, clip, nonsense):
    with refusal(FrameError, "position"):
        VideoReader(video_file("clip.mp4", clip[:2]), start=nonsense)


def test_a_folder_has_no_times(tmp_path, clip):
    Image.fromarray(clip[0]).save(tmp_path / "0.png")
    with refusal(FrameError, "times"):
        VideoReader(tmp_path, start="1s")


@pytest.mark.parametrize("turned", [False, True])
def test_pixels_that_are_not_square_are_told_and_turn_with_the_picture(tmp_path, clip, turned):
    path = tmp_path / "dv.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = *clip[0].shape[:2], "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(16, 11)
        if turned:
            stream.set_display_matrix([0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30])
        for picture in clip[:2]:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode(None))
    reader = VideoReader(path)
    assert reader.facts.pixel_aspect == Fraction(16, 11)
    assert reader.facts.about == ("pixel aspect ratio 16:11",)
    assert not replace(reader.facts, pixel_aspect=Fraction(427, 428)).about, "that is how encoders round"
    assert [frame.pixel_aspect for frame in reader] == 2 * [Fraction(11, 16) if turned else Fraction(16, 11)]


@pytest.mark.parametrize("pixel_format", ["yuv420p10le", "yuv422p10le", "yuv444p12le", "gray10le", "gray12le"])
def test_more_than_8_bits_in_a_video_keep_their_brightness(tmp_path, clip, pixel_format):
    path = tmp_path / "deep.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = *clip[0].shape[:2], pixel_format
        for picture in clip[:2]:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture).reformat(format=pixel_format)))
        container.mux(stream.encode(None))
    for frame, picture in zip(VideoReader(path), clip, strict=False):
        assert abs(float(frame.image.float().mean()) - picture.mean()) < 6


def test_a_file_of_several_videos_says_which_is_read(tmp_path, clip):
    path = tmp_path / "views.mkv"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("ffv1", rate=25, width=64 * n, height=48 * n) for n in (1, 2)]
        for stream in streams:
            stream.pix_fmt = "yuv420p"
        for index in range(3):
            for stream in streams:
                frame = av.VideoFrame(stream.width, stream.height, "yuv420p")
                frame.pts = index
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode(None))
    with VideoReader(path) as video:
        (note,) = video.facts.notes
        height, width = next(iter(video)).size
    assert "2 videos" in note
    assert f"({width}x{height}) is read" in note


@pytest.mark.parametrize("part", [{"start": "0.2s"}, {"stop": "0.2s"}, {"stop": 8, "start": "0.2s"}])
def test_a_time_in_a_file_without_times_is_refused_before_the_first_frame(video_file, clip, part):
    with refusal(FrameError, "has no times"):
        next(iter(VideoReader(video_file("clip.h264", clip), **part)))


def test_of_a_stop_that_is_a_time_an_uneven_video_promises_no_frame_before_the_last(video_file, clip):
    ticks = [*range(0, 100, 10), *range(1000, 11_000, 1000)]
    with VideoReader(video_file("uneven.mp4", clip[:20], ticks=ticks), stop="0.1s") as video:
        expected = Expected.of(video)
        expected.refuse_beyond([9])
        with refusal(InputError, "frame 25"):
            expected.refuse_beyond([25])
        assert [frame.name for frame in video] == expected.names(0)[:10]
    with VideoReader(video_file("even.mp4", clip[:20]), stop="0.2s") as video:
        assert Expected.of(video).ahead == video.num_frames == 5
        with refusal(InputError, "frame 9"):
            Expected.of(video).refuse_beyond([9])


@pytest.mark.parametrize(
    ("name", "codec", "how", "stop", "end"),
    [
        ("even.mp4", "libx264", {"bf": "3"}, "0.4s", 10),
        ("even.ts", "libx264", {"bf": "3"}, "0.4s", 10),
        ("even.mkv", "libx264", {"bf": "3"}, "00:00:00.4", 10),
        ("even.avi", "mpeg4", {}, "400ms", 10),
        ("uneven.mp4", "libx264", {"ticks": [*range(0, 100, 10), *range(1000, 21_000, 1000)]}, "0.1s", 10),
        ("dense.mkv", "libx264", {"ticks": [*range(0, 26, 1), 1000, 2000, 3000, 4000], "bf": "3"}, "1s", 26),
    ],
)
def test_the_last_frame_before_a_stop_that_is_a_time_is_known_before_reading(
    video_file, clip, name, codec, how, stop, end
):
    with VideoReader(video_file(name, clip[:30], codec, **how), stop=stop) as video:
        expected = Expected.of(video)
        expected.refuse_beyond([0, end - 1])
        for frame in (end, end + 1, end + 3, 29):
            with refusal(InputError, f"frame {frame}, but --stop {stop} ends before it"):
                expected.refuse_beyond([frame])
        assert len(list(video)) == end


@pytest.mark.parametrize("part", [{"start": 8, "stop": "0.2s"}, {"stop": "0s"}, {"start": "0.2s", "stop": 3}])
def test_a_stop_before_the_start_is_no_range_also_where_one_is_a_time(video_file, clip, part):
    with refusal(FrameError, "is not a range"):
        list(VideoReader(video_file("clip.mp4", clip), **part))
