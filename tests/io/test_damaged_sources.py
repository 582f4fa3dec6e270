"""Faults put into real files, and what each policy makes of them."""

import io
import json
from itertools import pairwise

import av
import numpy as np
import pytest
from encoding import encode
from PIL import Image
from refusals import refusal

from mnemask.doctor import diagnose
from mnemask.errors import FrameError
from mnemask.io import VideoReader
from mnemask.io.decoder import ReadSoFar
from mnemask.io.pictures import EventLog
from mnemask.io.random_access import FrameAccess
from mnemask.io.stream import Clock

DAMAGE = 3000


def rgb(frame):
    return frame.image.permute(1, 2, 0).numpy()


def wrong(frames, whole):
    """The numbers of the frames that are not what they were before the damage."""
    return [frame.index for frame in frames if not np.array_equal(rgb(frame), rgb(whole[frame.index]))]


def damage(path, position=0.5):
    data = bytearray(path.read_bytes())
    start = int(position * len(data))
    data[start : start + DAMAGE] = np.random.default_rng(0).bytes(DAMAGE)
    path.write_bytes(data)


@pytest.fixture
def images(tmp_path, clip):
    """A folder of five images, the third of them cut off."""
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(5):
        Image.fromarray(clip[number]).save(folder / f"{number:05d}.png")
    third = folder / "00002.png"
    third.write_bytes(third.read_bytes()[:600])
    return folder


# Damaged frames


def test_a_recording_that_follows_a_damaged_one_adds_no_frames_that_are_none(video_file, noise):
    path = video_file("v.ts", noise, bf="0", g="12", sc_threshold="0", format="mpegts")
    whole = path.read_bytes()
    slices = [at for at in range(len(whole) - 3) if whole.startswith(b"\0\0\1", at) and whole[at + 3] & 31 == 1]
    broken = bytearray(whole)
    broken[slices[3] + 4 : slices[3] + 24] = b"\xff" * 20
    path.write_bytes(bytes(broken) + whole)
    assert len(list(VideoReader(path, on_corrupt="hold"))) == 2 * len(noise)


@pytest.mark.parametrize(("name", "how"), [("v.mp4", {}), ("v.ts", {"format": "mpegts"})])
@pytest.mark.parametrize("position", [0.3, 0.5, 0.7])
def test_skip_leaves_a_gap_where_frames_are_damaged_and_keeps_all_other_numbers(video_file, noise, name, how, position):
    path = video_file(name, noise, bf="0", g="5", **how)
    whole = list(VideoReader(path))
    damage(path, position)
    reader = VideoReader(path, on_corrupt="skip")
    frames = list(reader)
    events = reader.events
    assert 1 <= events.corrupt.count <= 5
    assert events.corrupt == events.skipped
    assert sorted([*events.skipped.frames, *(frame.index for frame in frames)]) == list(range(30))
    assert frames[-1].index == 29
    # H.264 has no checksum: a neighbour may pass, and those up to the next key frame are predicted from the damage.
    first = events.corrupt.frames[0]
    assert set(wrong(frames, whole)) <= set(range(first - 1, first + 8))
    assert [frame.seconds for frame in frames] == [whole[frame.index].seconds for frame in frames]


@pytest.mark.parametrize(("name", "how"), [("v.mp4", {}), ("v.ts", {"format": "mpegts"})])
def test_hold_gives_the_last_good_frame_again(video_file, noise, name, how):
    path = video_file(name, noise, bf="0", g="5", **how)
    damage(path)
    reader = VideoReader(path, on_corrupt="hold")
    frames = list(reader)
    assert [frame.index for frame in frames] == list(range(30))
    assert reader.events.held == reader.events.corrupt
    for index in reader.events.held.frames:
        assert np.array_equal(rgb(frames[index]), rgb(frames[index - 1]))
        assert frames[index].image.data_ptr() != frames[index - 1].image.data_ptr()
    assert not reader.events.clock_jumps.count


@pytest.mark.parametrize("ticks", [None, [40 * index + 15 * (index % 3) for index in range(12)]])
def test_a_lost_frame_that_is_stored_before_others_shown_earlier_is_missed_where_it_is_shown(video_file, clip, ticks):
    path = video_file("v.mp4", clip[:12], bf="3", g="12", b_strategy="0", sc_threshold="0", ticks=ticks)
    whole = list(VideoReader(path))
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    at = next(i for i, packet in enumerate(packets) if i and packet.pts > packets[i + 1].pts)
    lost = sorted(packet.pts for packet in packets).index(packets[at].pts)
    data = bytearray(path.read_bytes())
    data[packets[at].pos : packets[at].pos + packets[at].size] = bytes([255]) * packets[at].size
    path.write_bytes(data)
    reader = VideoReader(path, on_corrupt="hold")
    frames = list(reader)
    assert reader.events.held.frames == (lost,)
    assert [frame.index for frame in frames] == list(range(12))
    assert [frame.seconds for frame in frames] == [frame.seconds for frame in whole]
    with FrameAccess(path) as by_number, pytest.raises(FrameError):
        by_number[lost]
    assert np.array_equal(rgb(frames[lost]), rgb(frames[lost - 1]))


def test_missing_frames_are_counted_from_gaps_and_not_from_a_rate_that_is_nearly_right(video_file, noise, tmp_path):
    """100 frames at 24.5 frames/s in a file that says 25: counted from the start, two would seem to be missing."""
    path = video_file("v.mp4", noise, bf="0", g="5")
    with av.open(str(path)) as container:
        progress = ReadSoFar(container, container.streams.video[0])
    for number in range(100):
        assert progress.count_missing(number / 24.5) == 0
        progress.add_frame(number / 24.5)
    assert progress.count_missing(103 / 24.5) == 3
    progress.add_frame(None)
    progress.add_frame(None)
    progress.add_frame(None)
    progress.add_frame(103 / 24.5)
    progress.add_frame(None)  # told of too early: the frame after the next is the one that is missing
    assert progress.count_missing(104 / 24.5) == 0
    progress.add_frame(104 / 24.5)
    assert progress.count_missing(106 / 24.5) == 0


def test_an_mp4_without_its_index_is_told_as_that(video_file, noise):
    path = video_file("v.mp4", noise)
    data = path.read_bytes()
    assert data.index(b"moov") > data.index(b"mdat")
    path.write_bytes(data[: data.index(b"moov") - 4])
    with refusal(FrameError, r"no index \(moov\)", r"fetch it again"):
        VideoReader(path)
    path.write_bytes(data[:20])
    with refusal(FrameError, r"v.mp4"):
        VideoReader(path)


def test_stop_raises_at_the_first_damaged_frame_and_says_how_to_go_on(video_file, noise):
    path = video_file("v.ts", noise, bf="0", format="mpegts")
    whole = list(VideoReader(path))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    frames = []
    with refusal(FrameError, r"--on-corrupt hold or skip"):
        frames.extend(VideoReader(path))
    assert len(frames) > 5
    assert not wrong(frames, whole)


@pytest.mark.parametrize("policy", ["skip", "hold"])
def test_frames_that_are_built_on_a_damaged_one_are_noted_up_to_the_next_key_frame(video_file, noise, policy):
    path = video_file("v.mp4", noise, bf="0", g="10", sc_threshold="0")
    whole = list(VideoReader(path))
    damage(path, 0.45)
    reader = VideoReader(path, on_corrupt=policy)
    differ = wrong(reader, whole)
    first, *_ = reader.events.corrupt.frames
    assert 10 < first < 19
    assert reader.events.doubtful.frames == tuple(
        index for index in range(first, 20) if index not in reader.events.corrupt.frames
    )
    # A decoder may not notice the damage in the frame in which it begins.
    assert set(differ) <= {first - 1, *reader.events.doubtful.frames, *reader.events.held.frames}


# Frames that never came


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv"])
def test_of_a_cut_off_video_with_frames_out_of_order_every_policy_gives_all_that_are_good(video_file, clip, name):
    path = video_file(name, clip, bf="3", container_options={"movflags": "faststart"} if name == "v.mp4" else {})
    whole, data = list(VideoReader(path)), path.read_bytes()
    for share in (0.6, 0.7, 0.75, 0.8, 0.85, 0.9):
        path.write_bytes(data[: int(share * len(data))])
        stopped = []
        with refusal(FrameError, "cut"):
            stopped.extend(VideoReader(path))
        assert not wrong(stopped, whole), share
        skipped = list(VideoReader(path, on_corrupt="skip"))
        assert len(skipped) >= len(stopped)
        # A frame that others before it are missing of has its own number all the same.
        assert [frame.seconds for frame in skipped] == [whole[frame.index].seconds for frame in skipped], share
        reader = VideoReader(path, on_corrupt="hold")
        held = list(reader)
        assert [frame.index for frame in held] == list(range(len(held)))
        assert not set(wrong(held, whole)) - set(reader.events.held.frames), share


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv", "v.ts"])
@pytest.mark.parametrize("shown", [[*range(19), 22], [*range(18), 20, 21], [0, 1, 3]])
def test_a_whole_video_with_a_longer_gap_at_its_end_is_read_to_the_end(tmp_path, clip, name, shown):
    path = tmp_path / name
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"bf": "3", "b-adapt": "0"})
        stream.height, stream.width = clip[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for index, at in enumerate(shown):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(clip[index]), format="rgb24")
            frame.pts = at
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert len(list(VideoReader(path))) == len(shown)


@pytest.mark.parametrize(("name", "codec"), [("v.mp4", "libx264"), ("v.mkv", "libx264"), ("v.avi", "mpeg4")])
@pytest.mark.parametrize("policy", ["skip", "hold"])
def test_a_cut_off_video_ends_where_it_does_and_that_is_noted(video_file, noise, name, codec, policy):
    path = video_file(name, noise, codec, container_options={"movflags": "faststart"} if name == "v.mp4" else {})
    whole = list(VideoReader(path))
    path.write_bytes(path.read_bytes()[: int(0.7 * path.stat().st_size)])
    reader = VideoReader(path, on_corrupt=policy)
    frames = list(reader)
    assert 10 < len(frames) < 30
    assert reader.events.cut_off.count == 1
    assert abs(reader.events.cut_off.frames[0] - len(frames)) <= 1
    assert set(wrong(frames, whole)) <= set(reader.events.held.frames)


def test_gaps_in_the_numbers_of_a_folder_are_noted_and_warned_of(tmp_path, clip, caplog):
    for number in (1, 2, 3, 5, 6, 10):
        Image.fromarray(clip[number]).save(tmp_path / f"{number:05d}.png")
    reader = VideoReader(tmp_path)
    assert [frame.name for frame in reader] == ["00001", "00002", "00003", "00005", "00006", "00010"]
    assert reader.events.to_dict() == {"missing": {"count": 2, "frames": [3, 5]}}
    assert "its numbers jump 2 times, first from 3 to 5" in caplog.text


@pytest.mark.parametrize(
    "names",
    [
        ["0", "5", "10", "15"],
        ["1700000000", "1700000317", "1700000925"],
        ["a", "b", "d"],
        [f"frame_{0.04 * number:g}" for number in range(8)],
        [f"t{number / 20:.2f}".rstrip("0").rstrip(".") for number in range(30)],
        *([f"Sequence {shot}{number}" for number in range(5, 15)] for shot in ("01", "1")),
    ],
)
def test_even_steps_times_and_names_without_numbers_lack_nothing(tmp_path, clip, names):
    for name in names:
        Image.fromarray(clip[0]).save(tmp_path / f"{name}.png")
    reader = VideoReader(tmp_path)
    list(reader)
    assert not reader.events.to_dict()


def test_numbers_that_may_have_begun_anew_are_named_as_such(tmp_path, clip, caplog):
    for number in (1, 2, 3, 4, 9996, 9997, 9998, 9999):
        Image.fromarray(clip[0]).save(tmp_path / f"IMG_{number:04d}.png")
    list(VideoReader(tmp_path))
    assert "numbers jump from 4 to 9996: the camera's counter may have begun anew; if so, rename" in caplog.text
    assert "lacks frames" not in caplog.text
    assert "counter may have begun anew" in " ".join(finding.what for finding in diagnose(tmp_path))


# Images


def test_an_unreadable_image_stops_is_skipped_or_is_held(images, clip):
    frames = []
    with refusal(FrameError, r"00002\.png"):
        frames.extend(VideoReader(images))
    assert [frame.index for frame in frames] == [0, 1]
    skipping = VideoReader(images, on_corrupt="skip")
    assert [(frame.index, frame.name) for frame in skipping] == [
        (0, "00000"),
        (1, "00001"),
        (3, "00003"),
        (4, "00004"),
    ]
    noted = {"count": 1, "frames": [2]}
    assert skipping.events.to_dict() == {"corrupt": noted, "skipped": noted}
    holding = VideoReader(images, on_corrupt="hold")
    frames = list(holding)
    assert [(frame.index, frame.name) for frame in frames] == [(number, f"{number:05d}") for number in range(5)]
    assert np.array_equal(rgb(frames[2]), clip[1])
    assert json.loads(json.dumps(holding.events.to_dict())) == {"corrupt": noted, "held": noted}


def test_where_there_is_no_good_frame_yet_hold_skips(images):
    (images / "00000.png").write_bytes(b"no image")
    reader = VideoReader(images, on_corrupt="hold")
    assert [frame.index for frame in reader] == [1, 2, 3, 4]
    assert reader.events.skipped.frames == (0,)


def test_hold_looks_for_a_good_frame_before_the_start(images, clip):
    reader = VideoReader(images, start=2, on_corrupt="hold")
    frames = list(reader)
    assert [frame.index for frame in frames] == [2, 3, 4]
    assert np.array_equal(rgb(frames[0]), clip[1])


def test_a_video_of_which_nothing_can_be_read_is_an_error_under_every_policy(images):
    for path in images.iterdir():
        path.write_bytes(b"no image")
    for policy in ("skip", "hold"):
        with refusal(FrameError, "frames"):
            list(VideoReader(images, on_corrupt=policy))


def test_events_are_those_of_the_last_iteration_and_name_100_frames_at_most(tmp_path, clip):
    buffer = io.BytesIO()
    Image.fromarray(clip[0]).save(buffer, "PNG")
    for number in range(120):
        (tmp_path / f"{number}.png").write_bytes(buffer.getvalue() if number == 0 else b"no image")
    reader = VideoReader(tmp_path, on_corrupt="skip")
    for _ in range(2):
        assert len(list(reader)) == 1
        assert reader.events.skipped.count == 119
        assert reader.events.skipped.frames == tuple(range(1, 101))


# Sizes and times


@pytest.mark.parametrize("policy", ["stop", "skip", "hold"])
def test_a_size_change_in_mid_stream_is_an_error_under_every_policy_after_all_frames_before(tmp_path, clip, policy):
    path = tmp_path / "joined.h264"
    with path.open("wb") as joined:
        for part in (clip[:4], [np.tile(picture, (2, 2, 1)) for picture in clip[:4]]):
            encode(joined, part, format="h264", bf="0")
    frames = []
    with refusal(FrameError, r"128x96", r"64x48"):
        frames.extend(VideoReader(path, on_corrupt=policy))
    assert [frame.index for frame in frames] == [0, 1, 2, 3]


def test_a_leap_of_the_clock_is_noted_and_kept(video_file, clip):
    path = video_file("leap.mkv", clip[:5], ticks=[0, 40, 80, 60_080, 60_120])
    reader = VideoReader(path)
    assert [frame.seconds for frame in reader] == pytest.approx([0, 0.04, 0.08, 60.08, 60.12])
    assert reader.events.to_dict() == {"clock_jumps": {"count": 1, "frames": [3]}}


def test_a_clock_that_is_set_back_is_noted_and_counted_on(tmp_path, clip):
    data = io.BytesIO()
    encode(data, clip[:10], "mpeg2video", format="mpegts", g="1", bf="0")
    path = tmp_path / "joined.ts"
    path.write_bytes(2 * data.getvalue())
    with av.open(str(path)) as container:
        raw = [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]
    assert any(after < before for before, after in pairwise(raw)), "the file does go back"
    reader = VideoReader(path, on_corrupt="skip")
    seconds = [frame.seconds for frame in reader]
    assert all(after > before for before, after in pairwise(seconds))
    assert reader.events.clock_jumps.count == 1
    later = VideoReader(path, on_corrupt="skip", start=12)
    assert [frame.seconds for frame in later] == seconds[-8:], "whatever the start, the times are the same"
    assert not later.events.clock_jumps.count


def test_a_clock_counts_on_with_its_usual_step():
    log = EventLog()
    clock = Clock(log)
    times = [clock.of(seconds, index) for index, seconds in enumerate([5.0, 5.5, None, 1.0, 1.5, 30.0])]
    assert times == [5.0, 5.5, None, 6.0, 6.5, 35.0]
    assert log.events().clock_jumps.frames == (3, 5)


@pytest.mark.parametrize("name", ["clip.mp4", "frames"])
def test_a_file_without_bytes_is_said_to_be_empty(tmp_path, name):
    (tmp_path / "frames").mkdir()
    for empty in "clip.mp4", "frames/00000.png":
        (tmp_path / empty).touch()
    with refusal(FrameError, "is empty"), VideoReader(tmp_path / name) as video:
        list(video)
