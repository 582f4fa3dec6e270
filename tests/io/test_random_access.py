from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from PIL import Image
from refusals import refusal

import mnemask as mm
from mnemask.errors import FrameError
from mnemask.io.random_access import FrameAccess

QUARTER_TURN = [0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30]


def write_video(path, codec="libx264", options=None, num_frames=70, size=(48, 64), matrix=None, aspect=None):
    """Noise that moves, so that every frame differs from the others; B-frames where the codec has them."""
    rng = np.random.default_rng(0)
    ground = rng.integers(0, 256, (size[0], size[1] * 2, 3)).astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(25), options=options or {})
        stream.width, stream.height, stream.pix_fmt = size[1], size[0], "yuv420p"
        if matrix:
            stream.set_display_matrix(matrix)
            stream.codec_context.sample_aspect_ratio = aspect
        for index in range(num_frames):
            frame = av.VideoFrame.from_ndarray(np.roll(ground, -index, axis=1)[:, : size[1]].copy(), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


VIDEOS = {
    "b-frames.mp4": ("libx264", {"g": "12", "bf": "2"}),
    "one-keyframe.mkv": ("libx264", {"g": "1000"}),
    "mpeg4.avi": ("mpeg4", {"g": "10", "bf": "0"}),
    "vp9.webm": ("libvpx-vp9", {"g": "15", "deadline": "realtime", "cpu-used": "8"}),
    "b-frames.ts": ("libx264", {"g": "12", "bf": "3", "b-adapt": "0"}),
    "mpeg2.mpg": ("mpeg2video", {"g": "12", "bf": "2"}),
    "b-frames.avi": ("libx264", {"g": "12", "bf": "3", "b-adapt": "0"}),
    "open-gop.avi": ("libx264", {"x264-params": "keyint=12:min-keyint=12:bframes=3:b-adapt=0:open-gop=1:scenecut=0"}),
    "mpeg4-b-frames.avi": ("mpeg4", {"g": "12", "bf": "2"}),
}


@pytest.mark.parametrize("name", VIDEOS)
def test_frames_by_number_are_those_of_a_reader_in_any_order(tmp_path, name):
    path = write_video(tmp_path / name, *VIDEOS[name])
    with mm.VideoReader(path) as reader:
        expected = list(reader)
    with FrameAccess(path, cache_bytes=6 * 48 * 64 * 3) as frames:
        assert frames.num_frames == len(expected) == 70
        for index in [69, 0, 35, 34, 36, 12, 11, 13, 50, 69, 1]:
            assert frames[index].index == index
            assert torch.equal(frames[index].image, expected[index].image), index
            assert frames[index].seconds == pytest.approx(expected[index].seconds)
            assert frames[index].name == expected[index].name


@pytest.mark.parametrize("name", [name for name in VIDEOS if name.endswith(".avi")])
def test_frames_of_an_avi_which_states_no_times_are_shown_evenly(tmp_path, name):
    path = write_video(tmp_path / name, *VIDEOS[name])
    with mm.VideoReader(path) as reader:
        assert [frame.seconds for frame in reader] == pytest.approx([index / 25 for index in range(70)])
    assert next(iter(mm.VideoReader(path, start="2s"))).index == 50


def check_against_reader(path, num_frames, policy="stop"):
    """Checks that the frames by number are those of a reader, forwards and backwards."""
    with mm.VideoReader(path, on_corrupt=policy) as reader:
        expected = list(reader)
    events = reader.events.to_dict()
    assert len(expected) == num_frames
    for order in (range(num_frames), range(num_frames - 1, -1, -7)):
        with FrameAccess(path, cache_bytes=6 * 48 * 64 * 3) as frames:
            assert frames.num_frames == num_frames
            for index in order:
                frame = frames.held(index)
                assert torch.equal(frame.image, expected[index].image), index
                assert frame.seconds == pytest.approx(expected[index].seconds)
    return events


def copied_packets(source, target, chosen):
    """Writes those packets of a video of which `chosen`, called with number and packet, is true."""
    with av.open(str(source)) as read, av.open(str(target), "w") as written:
        copied = written.add_stream_from_template(read.streams.video[0])
        packets = [packet for packet in read.demux(video=0) if packet.size]
        for packet in [packet for number, packet in enumerate(packets) if chosen(number, packet)]:
            packet.stream = copied
            written.mux(packet)
    return target


@pytest.mark.parametrize("ending", ["ts", "mkv"])
def test_frames_that_are_predicted_from_what_was_cut_off_have_no_number(tmp_path, ending):
    whole = write_video(tmp_path / "whole.mkv", "mpeg2video", {"g": "12", "bf": "2"})
    keys: list[int] = []

    def from_second_key(number, packet):
        keys.extend([number] if packet.is_keyframe else [])
        return len(keys) > 1

    cut = copied_packets(whole, tmp_path / f"cut.{ending}", from_second_key)
    check_against_reader(cut, 70 - keys[1] - 2)


def test_a_broadcast_that_was_joined_between_keyframes_begins_with_the_first_frame_that_is_shown(tmp_path):
    path = write_video(tmp_path / "joined.ts", options={"g": "30", "bf": "2"})
    data = path.read_bytes()
    path.write_bytes(data[len(data) // 188 // 3 * 188 :])
    with mm.VideoReader(path, on_corrupt="hold") as reader:
        num_frames = len(list(reader))
    assert num_frames < 50
    check_against_reader(path, num_frames)


def test_packets_of_vp8_that_only_help_to_predict_others_are_no_frames(tmp_path):
    whole = write_video(tmp_path / "whole.webm", "libvpx", {"g": "30", "deadline": "realtime", "cpu-used": "8"}, 90)
    path = tmp_path / "hidden.webm"
    with av.open(str(whole)) as read, av.open(str(path), "w") as written:
        copied = written.add_stream_from_template(read.streams.video[0])
        for number, packet in enumerate(packet for packet in read.demux(video=0) if packet.size):
            if number in (10, 75):
                data = bytes(packet)
                hidden = av.Packet(bytes([data[0] & 0xEF]) + data[1:])
                hidden.pts = hidden.dts = packet.pts - 20
                hidden.time_base, hidden.stream = packet.time_base, copied
                written.mux(hidden)
            packet.stream = copied
            written.mux(packet)
    check_against_reader(path, 90)


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
@pytest.mark.parametrize("lost", [3, 40])
def test_frames_that_a_reception_error_damaged_keep_their_numbers(tmp_path, codec, lost):
    path = write_video(tmp_path / "received.ts", codec, {"g": "12", "bf": "2"}, num_frames=100)
    data = path.read_bytes()
    half = len(data) // 188 // 2 * 188
    path.write_bytes(data[:half] + data[half + lost * 188 :])
    with mm.VideoReader(path, on_corrupt="hold") as reader:
        num_frames = len(list(reader))
    assert check_against_reader(path, num_frames, "hold")["held"]["count"]


@pytest.mark.parametrize("bf", ["0", "2"])
def test_frames_of_an_avi_after_packets_that_are_lost_keep_the_numbers_of_a_reader(tmp_path, bf):
    path = write_video(tmp_path / "hole.avi", "mpeg4", {"g": "12", "bf": bf})
    with av.open(str(path)) as container:
        lost = [packet for packet in container.demux() if packet.size][20]
        place = lost.pos
        assert place
    data = bytearray(path.read_bytes())
    data[place - 8 : place + lost.size] = bytes(8 + lost.size)
    path.write_bytes(data)
    with mm.VideoReader(path, on_corrupt="hold") as reader:
        num_frames = len(list(reader))
    assert num_frames < 70
    check_against_reader(path, num_frames, "hold")


def test_the_frames_of_joined_recordings_whose_clocks_differ_are_numbered_in_their_order(tmp_path):
    one = write_video(tmp_path / "one.ts", num_frames=30, options={"bf": "2"})
    two = write_video(tmp_path / "two.ts", num_frames=30, options={"bf": "2"})
    joined = tmp_path / "joined.ts"
    joined.write_bytes(one.read_bytes() + two.read_bytes())
    with mm.VideoReader(joined, on_corrupt="hold") as reader:
        num_frames = len(list(reader))
    check_against_reader(joined, num_frames, "hold")


def test_a_video_that_was_cut_between_key_frames_is_read_from_its_first_shown_one(tmp_path):
    whole = write_video(tmp_path / "whole.mp4", options={"g": "15", "bf": "0"})
    cut = tmp_path / "cut.mp4"
    with av.open(str(whole)) as source, av.open(str(cut), "w") as target:
        copied = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.pts, packet.dts = (ticks - 6 * packet.duration for ticks in (packet.pts, packet.dts))
                packet.stream = copied
                target.mux(packet)
    with mm.VideoReader(cut) as reader:
        expected = list(reader)
    with FrameAccess(cut) as frames:
        assert frames.num_frames == len(expected) == 64
        assert not frames.notes
        for index in (0, 3, 8, 9, 30, 63, 1):
            assert torch.equal(frames[index].image, expected[index].image), index


@pytest.mark.parametrize("cached", [2, 7, 1000])
def test_running_backwards_gives_every_frame_once_whatever_is_cached(tmp_path, cached):
    path = write_video(tmp_path / "clip.mp4", options={"g": "20"})
    with mm.VideoReader(path) as reader:
        expected = [frame.image for frame in reader]
    with FrameAccess(path, cache_bytes=cached * 48 * 64 * 3) as frames:
        seen = list(frames.run(69, 3))
        assert [frame.index for frame in seen] == list(range(69, 2, -1))
        assert all(torch.equal(frame.image, expected[frame.index]) for frame in seen)
        assert [frame.index for frame in frames.run(3, 6)] == [3, 4, 5, 6]


def test_no_more_frames_are_held_than_the_cache_may(tmp_path):
    path = write_video(tmp_path / "clip.mp4", options={"g": "1000"})
    with FrameAccess(path, cache_bytes=5 * 48 * 64 * 3) as frames:
        for _ in frames.run(69, 0):
            assert len(frames._cache) <= 5


def test_a_good_frame_after_a_damaged_one_is_given_at_once(tmp_path):
    rng = np.random.default_rng(0)
    for index in range(5):
        pixels = rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{index:05d}.png")
    damaged = tmp_path / "00002.png"
    damaged.write_bytes(damaged.read_bytes()[:1000])
    with FrameAccess(tmp_path) as frames:
        assert frames[1].index == 1
        with refusal(FrameError, "00002.png"):
            frames[2]
        assert frames[3].index == 3


def test_going_through_a_video_the_last_good_picture_stands_in_for_damaged_frames_and_one_damaged_packet_costs_few(
    tmp_path, caplog
):
    path = write_video(tmp_path / "clip.mkv", "mjpeg", {"strict": "unofficial"}, num_frames=20)
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux() if packet.size][8]
        data = bytes(packet)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(data, bytes(len(data))))
    with FrameAccess(path) as frames:
        good = [frames[index].image for index in (7, 9)]
        for _ in range(2):
            with refusal(FrameError, "frame 8"):
                frames[8]
        for run in (frames.run(5, 12), frames.run(8, 10), frames.run(12, 5)):
            seen = {frame.index: frame for frame in run}
            assert torch.equal(seen[8].image, good[0])
            assert torch.equal(seen[9].image, good[1])
            assert seen[8].seconds == pytest.approx(0.32)
            assert seen[8].name == "00008"
        assert "frame 7 takes its place" in caplog.text
        path.write_bytes(whole)
        frames.forget()
        assert frames[8].index == 8


def test_the_first_good_picture_stands_in_where_none_is_before_and_none_where_too_many_are_damaged(
    tmp_path, monkeypatch
):
    for index in range(6):
        Image.new("RGB", (40, 30), (0, 0, 40 * index)).save(tmp_path / f"{index:05d}.png")
    for index in (0, 3, 4, 5):
        (tmp_path / f"{index:05d}.png").write_bytes((tmp_path / f"{index:05d}.png").read_bytes()[:60])
    monkeypatch.setattr("mnemask.io.random_access.MOST_HELD", 2)
    with FrameAccess(tmp_path) as frames:
        assert frames.size == (30, 40)
        assert int(frames.held(0).image[2, 0, 0]) == 40
        assert [frame.name for frame in frames.run(0, 4)] == [f"{index:05d}" for index in range(5)]
        with refusal(FrameError, "00005"):
            frames.held(5)


def test_pixels_of_a_turned_video_are_as_wide_as_they_are_shown(tmp_path):
    path = write_video(tmp_path / "clip.mp4", num_frames=3, matrix=QUARTER_TURN, aspect=Fraction(16, 11))
    with FrameAccess(path) as frames, mm.VideoReader(path) as reader:
        assert frames.pixel_aspect == next(iter(reader)).pixel_aspect == Fraction(11, 16)


def test_a_frame_that_there_is_not_is_refused(tmp_path):
    path = write_video(tmp_path / "clip.mp4")
    with FrameAccess(path) as frames:
        for index in (-1, 70):
            with pytest.raises(mm.InputError):
                frames[index]


def test_what_cannot_be_read_twice_is_refused(tmp_path):
    with pytest.raises(mm.InputError):
        FrameAccess(tmp_path / "missing.mp4")
    (tmp_path / "not.mp4").write_bytes(b"no video at all" * 100)
    with pytest.raises(mm.InputError):
        FrameAccess(tmp_path / "not.mp4")


@pytest.mark.parametrize("intra", [True, False])
def test_frames_that_share_a_time_are_those_of_a_reader(tmp_path, intra):
    path = tmp_path / "fast.mkv"  # whose clock has 1000 ticks a second
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1" if intra else "libx264", rate=2500, options={} if intra else {"g": "9"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(40):
            picture = np.full((48, 64, 3), 6 * index, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    with mm.VideoReader(path) as reader:
        expected = [frame.image for frame in reader]
    with FrameAccess(path, cache_bytes=6 * 48 * 64 * 3) as frames:
        assert frames.num_frames == len(expected) == 40
        for index in [39, 0, 20, 19, 21, 38, 37, 1, 2, 10]:
            assert torch.equal(frames[index].image, expected[index]), index


def test_a_video_that_is_gone_is_refused_and_read_again_once_it_is_back(tmp_path):
    path, away = write_video(tmp_path / "clip.mp4", options={"g": "12"}), tmp_path / "away.mp4"
    with FrameAccess(path) as frames:
        expected = frames[20].image
        frames.forget()
        path.rename(away)
        for read in (frames.__getitem__, frames.held, lambda index: list(frames.run(25, index))):
            with refusal(FrameError, "clip.mp4", "no longer there", "put it back"):
                read(20)
        away.rename(path)
        assert torch.equal(frames.held(20).image, expected)


def test_pictures_that_are_gone_are_refused_and_read_again_once_they_are_back(tmp_path):
    folder, away = tmp_path / "clip", tmp_path / "away"
    folder.mkdir()
    for index in range(6):
        Image.new("RGB", (40, 30), (0, 0, 40 * index)).save(folder / f"{index:05d}.png")
    with FrameAccess(folder) as frames:
        folder.rename(away)
        for read in (frames.__getitem__, frames.held):
            with refusal(FrameError, "00003.png", "no longer there", "put it back"):
                read(3)
        away.rename(folder)
        assert int(frames.held(3).image[2, 0, 0]) == 120
