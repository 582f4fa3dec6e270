"""Sources that wait, break off and come back, and what is slower than they are."""

import io
import os
import subprocess
import sys
import threading
import time
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from refusals import refusal

from mnemask.errors import FrameError
from mnemask.io import VideoReader, prefetch, stream
from mnemask.io.growing import GrowingFolder
from mnemask.io.images import read_picture
from mnemask.io.live import Backoff, Camera, latest_frame
from mnemask.io.pictures import DecodedPicture, EventLog

FRAGMENTED = {"movflags": "frag_every_frame+empty_moov"}


def rgb(frame):
    return frame.image.permute(1, 2, 0).numpy()


def equal(frames, others):
    return all(np.array_equal(rgb(one), rgb(other)) for one, other in zip(frames, others, strict=True))


def wait_until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("mnemask")]


@pytest.fixture
def in_background():
    """Starts a function in a thread, which ends with the test."""
    started = []

    def start(function, *arguments):
        started.append(threading.Thread(target=function, args=arguments))
        started[-1].start()

    yield start
    for thread in started:
        thread.join()


@pytest.fixture
def open_pipe():
    """A pipe that nobody has closed yet, and the end to feed it by."""
    read_end, write_end = os.pipe()
    with os.fdopen(read_end, "rb") as pipe, os.fdopen(write_end, "wb", buffering=0) as feed:
        yield pipe, feed


# Pipes


def test_a_pipe_that_is_fed_slowly_gives_every_frame(video_file, clip):
    path = video_file("clip.mkv", clip)
    whole = list(VideoReader(path))
    feed = (
        "import sys, time\ndata = open(sys.argv[1], 'rb').read()\nstep = len(data) // 8 + 1\n"
        "for at in range(0, len(data), step):\n"
        "    sys.stdout.buffer.write(data[at:at + step]), sys.stdout.flush(), time.sleep(0.05)"
    )
    with subprocess.Popen([sys.executable, "-S", "-c", feed, str(path)], stdout=subprocess.PIPE) as process:
        assert equal(VideoReader(process.stdout), whole)


def test_a_killed_decoder_leaves_its_good_frames_and_an_error(video_file, noise):
    path = video_file("clip.mkv", noise)
    whole = list(VideoReader(path))
    feed = (
        "import os, sys\ndata = open(sys.argv[1], 'rb').read()\n"
        "sys.stdout.buffer.write(data[:len(data) // 2]), sys.stdout.flush(), os.kill(os.getpid(), 9)"
    )
    frames = []
    with (
        subprocess.Popen([sys.executable, "-S", "-c", feed, str(path)], stdout=subprocess.PIPE) as process,
        refusal(FrameError, r"30"),
    ):
        frames.extend(VideoReader(process.stdout))
    assert process.returncode == -9
    assert 5 < len(frames) < 30
    assert equal(frames, whole[: len(frames)])


def test_a_silent_pipe_can_be_interrupted(video_file, clip, open_pipe, in_background):
    pipe, feed = open_pipe
    data = video_file("clip.mkv", clip).read_bytes()
    feed.write(data[: len(data) // 2])
    reader = VideoReader(pipe, on_corrupt="skip")

    def interrupt_when_silent():
        time.sleep(0.5)
        reader.interrupt()

    in_background(interrupt_when_silent)
    assert 0 < len(list(reader)) < 30


def test_prefetching_a_silent_pipe_can_be_stopped(video_file, clip, open_pipe):
    pipe, feed = open_pipe
    data = video_file("clip.mkv", clip).read_bytes()
    feed.write(data[: len(data) // 2])
    frames = prefetch(VideoReader(pipe))
    next(frames)
    frames.close()
    assert not threads()


# Live


def test_whoever_is_slower_than_a_live_source_gets_its_first_and_then_its_newest_frame(video_file, clip, open_pipe):
    path = video_file("clip.mkv", clip)
    whole = list(VideoReader(path))
    pipe, feed = open_pipe
    feed.write(path.read_bytes())
    feed.close()
    reader = VideoReader(pipe, live=True)
    frames = iter(reader)
    first = next(frames)
    wait_until(lambda: reader.events.dropped.count == 28)
    (last,) = frames
    assert (first.index, last.index) == (0, 29)
    assert last.seconds == whole[29].seconds
    assert equal([first, last], [whole[0], whole[29]])
    assert reader.events.to_dict() == {"dropped": {"count": 28, "frames": list(range(1, 29))}}
    assert not threads()


def test_whoever_is_faster_than_a_live_source_gets_all():
    wanted = threading.Semaphore(0)

    def pictures():
        for number in range(20):
            yield DecodedPicture(torch.zeros(3, 1, 1, dtype=torch.uint8), number, None, "")
            assert wanted.acquire(timeout=20)

    log, indices = EventLog(), []
    for picture in latest_frame(pictures(), log, lambda: None):
        indices.append(picture.index)
        wanted.release()
    assert indices == list(range(20))
    assert not log.events().to_dict()


def test_a_live_source_that_is_left_early_leaves_no_thread(video_file, clip, open_pipe):
    pipe, feed = open_pipe
    data = video_file("clip.mkv", clip).read_bytes()
    feed.write(data[: len(data) // 2])
    frames = iter(VideoReader(pipe, live=True))
    next(frames)
    frames.close()
    assert not threads()


def test_what_ends_a_live_source_is_raised(video_file, clip, open_pipe):
    pipe, feed = open_pipe
    data = video_file("clip.mkv", clip).read_bytes()
    feed.write(data[: len(data) // 2])
    feed.close()
    with refusal(FrameError, r"30"):
        list(VideoReader(pipe, live=True))


# Files and folders that grow


@pytest.mark.parametrize(
    ("name", "how"),
    [("clip.mkv", {}), ("clip.ts", {"format": "mpegts"}), ("clip.mp4", {"container_options": FRAGMENTED})],
)
def test_a_file_is_followed_while_it_is_written(video_file, clip, tmp_path, in_background, name, how):
    path, growing = video_file(name, clip, **how), tmp_path / f"growing{name}"
    whole, data = list(VideoReader(path)), path.read_bytes()
    growing.write_bytes(data[:100])

    def write():
        step = len(data) // 5
        for at in range(100, len(data), step):
            time.sleep(0.05)
            with growing.open("ab") as file:
                file.write(data[at : at + step])

    in_background(write)
    assert equal(VideoReader(growing, follow=True, quiet_seconds=2.0), whole)


def test_a_followed_file_that_stops_within_a_frame_is_cut_off(video_file, noise, tmp_path):
    path = video_file("clip.ts", noise, format="mpegts")
    whole = list(VideoReader(path))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    frames = []
    with refusal(FrameError, "damaged"):
        frames.extend(VideoReader(path, follow=True, quiet_seconds=0.2))
    assert 5 < len(frames) < 30
    assert equal(frames, whole[: len(frames)])


def test_a_folder_is_followed_and_half_an_image_waited_for(tmp_path, clip, in_background):
    folder = tmp_path / "frames"
    folder.mkdir()
    images = []
    for picture in clip[:4]:
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "PNG")
        images.append(buffer.getvalue())
    (folder / "0.png").write_bytes(images[0])
    (folder / "1.png").write_bytes(images[1][:500])

    def write():
        time.sleep(0.3)
        (folder / "1.png").write_bytes(images[1])
        time.sleep(0.1)
        (folder / "2.png").write_bytes(images[2])
        (folder / "10.png").write_bytes(images[3])

    in_background(write)
    frames = list(VideoReader(folder, follow=True, quiet_seconds=1.5))
    assert [(frame.index, frame.name) for frame in frames] == [(0, "0"), (1, "1"), (2, "2"), (3, "10")]
    assert all(np.array_equal(rgb(frame), picture) for frame, picture in zip(frames, clip, strict=False))


def test_a_folder_that_is_followed_from_a_later_image_does_not_decode_those_before(tmp_path, clip, monkeypatch):
    for t, picture in enumerate(clip[:6]):
        Image.fromarray(picture).save(tmp_path / f"{t}.png")
    decoded = []
    monkeypatch.setattr(
        "mnemask.io.growing.read_picture", lambda path, *how: decoded.append(path.name) or read_picture(path, *how)
    )
    frames = list(VideoReader(tmp_path, follow=True, start=4, quiet_seconds=0.2))
    assert [(frame.index, frame.name) for frame in frames] == [(4, "4"), (5, "5")]
    assert decoded == ["4.png", "5.png"]


def test_a_folder_whose_pictures_are_removed_once_read_is_followed_in_order(tmp_path, caplog):
    def write(*names):
        for name in names:
            Image.fromarray(NOISE[0]).save(tmp_path / f"{name}.png")

    write(8, 9)
    given = []
    for frame in VideoReader(tmp_path, follow=True, quiet_seconds=0.2):
        given.append((frame.index, frame.name))
        if frame.name == "9":
            for path in tmp_path.iterdir():
                path.unlink()
            write(7, 10)
    assert given == [(0, "8"), (1, "9"), (2, "10")]
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path / '7.png'} appeared after its successors were read and is left out"
    ]


def test_names_of_pictures_that_were_removed_are_not_kept(tmp_path, monkeypatch):
    seen = []
    after = GrowingFolder._after
    monkeypatch.setattr(
        GrowingFolder,
        "_after",
        lambda self, last, images, names: seen.append(names) or after(self, last, images, names),
    )
    Image.fromarray(NOISE[0]).save(tmp_path / "0.png")
    for number, frame in enumerate(VideoReader(tmp_path, follow=True, quiet_seconds=0.2)):
        (tmp_path / f"{frame.name}.png").unlink()
        if number < 9:
            Image.fromarray(NOISE[0]).save(tmp_path / f"{number + 1}.png")
    assert number == 9
    assert not seen[-1]


def turn(folder, number):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 3
    Image.fromarray(NOISE[number]).save(folder / f"{number}.jpg", exif=exif)


def save(folder, *names):
    for number, name in enumerate(names):
        Image.fromarray(NOISE[number]).save(folder / name)


def save_masks(folder, number):
    save(folder, f"{number}.jpg")
    Image.fromarray(LABELS).save(folder / f"{number}_mask.png")


NOISE = np.random.default_rng(0).integers(0, 256, (10, 24, 32, 3), np.uint8)
LABELS = np.pad(np.ones((8, 8), np.uint8), ((8, 8), (12, 12)))
NOTED = {
    "turned pictures": lambda folder, t: turn(folder, t),
    "two series": lambda folder, t: save(folder, f"{t}_L.png", f"{t}_R.png"),
    "masks": save_masks,
    "second pictures": lambda folder, t: save(folder, f"{t}.png", f"{t}.pgm"),
    "two doubts of one kind": lambda folder, t: save(folder, f"x_-{t + 1}_y_-{t + 1}.png"),
    "a cover": lambda folder, t: save(folder, f"frame{t}.png", "cover.png"),
    "copies": lambda folder, t: save(folder, f"{t}.png", f"{t} (1).png"),
    "unread pictures": lambda folder, t: save(folder, f"{t}.png") or (folder / f"{t}.heic").write_bytes(b""),
    "hidden ones": lambda folder, t: save(folder, f"{t}.png", ".5.png"),
}


@pytest.mark.parametrize("kind", NOTED)
def test_what_is_noted_of_a_folder_is_noted_once_when_it_is_followed(tmp_path, caplog, kind):
    for t in range(9):
        NOTED[kind](tmp_path, t)
    whole = VideoReader(tmp_path).facts.notes
    assert whole
    caplog.clear()
    reader = VideoReader(tmp_path, follow=True, quiet_seconds=0.1)
    for _ in (*reader, *reader):
        pass
    assert sorted(reader.facts.notes) == sorted(whole)
    assert sorted(record.getMessage() for record in caplog.records) == [
        f"{tmp_path.name}: {each}" for each in sorted(whole)
    ]


@pytest.mark.parametrize("kind", NOTED)
def test_a_note_on_a_followed_folder_is_not_repeated_as_it_grows(tmp_path, caplog, kind):
    NOTED[kind](tmp_path, 0)
    reader = VideoReader(tmp_path, follow=True, quiet_seconds=0.1)
    frames = iter(reader)
    for t in range(1, 9):
        next(frames)
        NOTED[kind](tmp_path, t)
    for _ in frames:
        pass
    assert 1 <= len(reader.facts.notes) <= 2
    assert len([record for record in caplog.records if "appeared" not in record.getMessage()]) == len(
        reader.facts.notes
    )


# Connections


class Broken(BaseHTTPRequestHandler):
    """Sends so many bytes of the server's data to each connection in turn, the last of `parts` to all further ones.

    A server that falls silent then keeps the connection open until the test ends.
    """

    def do_GET(self):
        data = self.server.data
        share = self.server.parts.pop(0) if len(self.server.parts) > 1 else self.server.parts[0]
        if share is None:
            self.send_error(503)
            return
        self.send_response(200)
        if self.server.tells_length:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: int(share * len(data))])
        if self.server.silent:
            self.server.over.wait(20)

    def log_message(self, *_):
        pass


@pytest.fixture
def serve():
    """Returns a function that serves data as Broken does, and gives the address."""
    servers = []

    def start(data, parts, tells_length=True, silent=False):
        httpd = ThreadingHTTPServer(("127.0.0.1", 0), Broken)
        httpd.data, httpd.parts, httpd.tells_length = data, parts, tells_length
        httpd.silent, httpd.over = silent, threading.Event()
        thread = threading.Thread(target=partial(httpd.serve_forever, poll_interval=0.02))
        thread.start()
        servers.append((httpd, thread))
        return f"http://127.0.0.1:{httpd.server_port}/clip"

    yield start
    for httpd, thread in servers:
        httpd.over.set()
        httpd.shutdown()
        thread.join()
        httpd.server_close()


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv"])
def test_a_recording_whose_connection_breaks_twice_comes_whole(video_file, noise, serve, name):
    path = video_file(name, noise, container_options={"movflags": "faststart"})
    address = serve(path.read_bytes(), [0.4, 0.6, None, 1.0])
    reader = VideoReader(address, reconnect=10.0)
    frames = list(reader)
    assert equal(frames, VideoReader(path))
    assert [frame.index for frame in frames] == list(range(30))
    assert reader.events.reconnects.count == 2
    assert reader.events.reconnects.frames[0] < reader.events.reconnects.frames[1]


def test_a_connection_that_does_not_come_back_is_given_up_after_the_stated_time(video_file, noise, serve):
    path = video_file("clip.mkv", noise)
    frames, address = [], serve(path.read_bytes(), [0.5, None])
    began = time.monotonic()
    with refusal(FrameError, r"0\.6"):
        frames.extend(VideoReader(address, reconnect=0.6))
    assert 0.6 <= time.monotonic() - began < 10
    assert 5 < len(frames) < 30
    assert equal(frames, list(VideoReader(path))[: len(frames)])


def test_a_connection_that_always_breaks_at_the_same_place_is_given_up(video_file, noise, serve):
    with refusal(FrameError, "reconnect"):
        list(VideoReader(serve(video_file("clip.mkv", noise).read_bytes(), [0.5]), reconnect=1.0))


def test_without_reconnect_a_broken_connection_is_an_error_after_the_good_frames(video_file, noise, serve):
    address = serve(video_file("clip.mkv", noise).read_bytes(), [0.5, 1.0])
    with refusal(FrameError, r"30"):
        list(VideoReader(address))


@pytest.mark.parametrize(("part", "tells_length"), [(0.5, True), (1.0, False)])
def test_a_server_that_falls_silent_is_named_as_that_after_the_good_frames(
    video_file, noise, serve, monkeypatch, part, tells_length
):
    monkeypatch.setattr(stream, "_READ_SECONDS", 0.5)
    data, frames = video_file("clip.mkv", noise).read_bytes(), []
    with refusal(FrameError, r"nothing for 0\.5 s", "of 30 frames", "--reconnect") as caught:
        frames.extend(VideoReader(serve(data, [part], tells_length, silent=True)))
    assert 5 < len(frames) <= 30
    assert "damaged" not in str(caught.value)


def test_a_reader_that_is_interrupted_while_a_server_is_silent_ends_like_the_video(
    video_file, noise, serve, monkeypatch
):
    monkeypatch.setattr(stream, "_READ_SECONDS", 0.5)
    reader = VideoReader(serve(video_file("clip.mkv", noise).read_bytes(), [0.5], silent=True))
    frames = iter(reader)
    next(frames)
    reading = threading.Timer(0.25, reader.interrupt)
    reading.start()
    assert 5 < 1 + len(list(frames)) < 30
    reading.join()


def test_a_server_that_sends_nothing_at_all_is_named_as_that(serve, monkeypatch):
    monkeypatch.setattr(stream, "_OPEN_SECONDS", 0.5)
    with refusal(FrameError, r"nothing for 0\.5 s", "address"):
        VideoReader(serve(b"", [1.0], tells_length=False, silent=True))


@pytest.mark.parametrize(("name", "how"), [("clip.mkv", {}), ("clip.ts", {"format": "mpegts"})])
def test_a_server_that_tells_no_length_ends_a_video_by_closing(video_file, clip, serve, name, how):
    path = video_file(name, clip, **how)
    assert equal(VideoReader(serve(path.read_bytes(), [1.0], tells_length=False)), VideoReader(path))
    if name == "clip.mkv":
        reader = VideoReader(serve(path.read_bytes(), [0.5, 1.0], tells_length=False), reconnect=5.0)
        assert equal(reader, VideoReader(path))
        assert reader.events.reconnects.count == 1


@pytest.mark.parametrize("name", ["clip.mkv", "clip.ts"])
def test_what_comes_again_is_repeatable_and_a_broadcast_is_not(video_file, clip, serve, name):
    path = video_file(name, clip, **({"format": "mpegts"} if name == "clip.ts" else {}))
    data = path.read_bytes()

    def is_repeatable(source, **how):
        with VideoReader(source, **how) as reader:
            return reader.repeatable

    assert is_repeatable(path)
    assert is_repeatable(path, follow=True)
    assert is_repeatable(serve(data, [1.0]))
    header_tells_its_end = name == "clip.mkv"
    assert is_repeatable(serve(data, [1.0], tells_length=False)) == header_tells_its_end
    assert not is_repeatable(io.BytesIO(data))


def test_an_mp4_with_its_index_at_the_end_is_told_from_a_damaged_one_where_the_server_cannot_seek(video_file, serve):
    large = list(np.random.default_rng(0).integers(0, 256, (8, 240, 320, 3), np.uint8))
    with refusal(FrameError, "frame"):
        list(VideoReader(serve(video_file("end.mp4", large).read_bytes(), [1.0])))
    front = video_file("front.mp4", large, container_options={"movflags": "faststart"})
    assert equal(VideoReader(serve(front.read_bytes(), [1.0])), VideoReader(front))


def test_a_broadcast_goes_on_counting_after_a_reconnect(video_file, clip, serve):
    data = video_file("clip.ts", clip, format="mpegts", bf="0").read_bytes()
    address = serve(data, [1.0, 1.0, None], tells_length=False)
    reader, frames = VideoReader(address, reconnect=0.6), []
    with refusal(FrameError, r"60"):
        frames.extend(reader)
    assert [frame.index for frame in frames] == list(range(60))
    seconds = [frame.seconds for frame in frames]
    assert all(after > before for before, after in pairwise(seconds))
    assert reader.events.to_dict() == {
        "reconnects": {"count": 1, "frames": [30]},
        "clock_jumps": {"count": 1, "frames": [30]},
    }


class FileCamera(Camera):
    """A camera that gives the pictures of a video file each time it is opened, and then nothing."""

    def __init__(self, path, **how):
        self.path, self.opened = path, 0
        super().__init__(0, **how)

    def _open(self):
        self.opened += 1
        return cv2.VideoCapture(str(self.path if self.opened != 2 else "nowhere"))


def test_a_camera_that_comes_back_goes_on_counting(video_file, clip):
    log, interrupted = EventLog(), threading.Event()
    camera = FileCamera(video_file("clip.mkv", clip[:5]), backoff=Backoff(10.0, interrupted, first=0.01), log=log)
    indices = []
    for picture in camera.pictures(start=2):
        indices.append(picture.index)
        if picture.index == 9:
            break
    camera.close()
    assert indices == list(range(2, 10))
    assert log.events().reconnects.frames == (5,)


def test_a_camera_without_patience_ends_with_an_error(video_file, clip):
    camera = FileCamera(video_file("clip.mkv", clip[:5]))
    with refusal(FrameError, "picture"):
        list(camera.pictures(start=0))


# Waiting


def test_patience_doubles_its_steps_up_to_a_limit_and_ends_on_time():
    steps = []

    class Recorded(threading.Event):
        def wait(self, timeout=None):
            steps.append(timeout)
            return super().wait(timeout)

    interrupted = Recorded()
    backoff = Backoff(0.2, interrupted, first=0.01, longest=0.04)
    while backoff.wait():
        pass
    assert steps[:4] == [0.01, 0.02, 0.04, 0.04]
    assert sum(steps) < 0.25
    backoff.succeeded()
    interrupted.set()
    assert not backoff.wait()


# What an option is for


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("file", {"live": True}, r"live \(--live\); this option is for cameras"),
        ("file", {"reconnect": 5.0}, r"reconnect \(--reconnect\); this option is for cameras and addresses"),
        ("folder", {"reconnect": 5.0}, "reconnect"),
        ("image", {"follow": True}, r"follow \(--follow\); this option is for video files and folders"),
        ("pipe", {"follow": True}, "follow"),
        ("file", {"on_corrupt": "ignore"}, "one of stop, skip, hold"),
        ("file", {"reconnect": -1.0}, "number of seconds"),
        ("file", {"reconnect": float("nan")}, "number of seconds"),
        ("file", {"follow": True, "quiet_seconds": 0.0}, "above 0"),
    ],
)
def test_an_option_that_means_nothing_for_a_source_is_refused(video_file, clip, tmp_path, kind, options, message):
    Image.fromarray(clip[0]).save(tmp_path / "0.png")
    source = {
        "file": lambda: video_file("clip.mkv", clip[:2]),
        "folder": lambda: tmp_path,
        "image": lambda: tmp_path / "0.png",
        "pipe": lambda: io.BytesIO(b""),
    }[kind]()
    with refusal(FrameError, message):
        VideoReader(source, **options)
