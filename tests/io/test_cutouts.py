"""Videos for editing programs: what is decoded again is the mask, the source's colours, its times and its sound."""

import io
import json
from contextlib import ExitStack
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from encoding import encode
from PIL import Image
from refusals import refusal

from mnemask.doctor.video import diagnose_video
from mnemask.errors import InputError, OutputError
from mnemask.io import MaskWriter, VideoReader
from mnemask.io.atomic import Writing
from mnemask.io.cutouts import to_limited_range
from mnemask.io.edges import ALL, Cutout, Edges, Smoother
from mnemask.io.footage import Footage
from mnemask.io.video_formats import VideoFile
from mnemask.io.written import Unlisted
from mnemask.types import Frame, Masks

FILES = {
    "overlay": "overlay.mp4",
    "prores": "cutout.mov",
    "webm": "cutout.webm",
    "matte": "matte.mp4",
    "green": "green.mp4",
}
RATE = Fraction(24000, 1001)
BT709, BT601, PQ, UNSAID = (1, 1, 1, 1), (6, 6, 6, 1), (9, 16, 9, 1), (2, 2, 2, 0)
OBJECT, BEHIND = (200, 40, 40), (40, 60, 190)
SIZE = (48, 64)


def picture(index, size=SIZE):
    """A red square that wanders over blue, and where it is."""
    mask = np.zeros(size, bool)
    mask[8:32, 10 + index % 20 : 34 + index % 20] = True
    return np.where(mask[..., None], np.uint8(OBJECT), np.uint8(BEHIND)), mask


def write_source(
    path, num_frames=30, *, size=SIZE, colours=BT709, pixel_format="yuv420p", codec="libx264", ticks=None, sound="aac",
    tone_from=0.0, aspect=None, timecode=None, **options,
):  # fmt: skip
    """Writes a clip of `picture`, and beside it a tone that begins after so many seconds."""
    with av.open(str(path), "w", options={"video_track_timescale": "24000"} if path.suffix == ".mp4" else {}) as target:
        video = target.add_stream(codec, rate=RATE, options={"bf": "0", "crf": "4", **options})
        video.height, video.width, video.pix_fmt = *size, pixel_format
        if timecode:
            video.metadata["timecode"] = timecode
        context = video.codec_context
        context.color_primaries, context.color_trc, context.colorspace, context.color_range = colours
        context.time_base = Fraction(1, 24000)
        if aspect:
            context.sample_aspect_ratio = aspect
        audio = target.add_stream(sound, rate=48000, layout="stereo") if sound else None
        for index in range(num_frames):
            frame = av.VideoFrame.from_ndarray(picture(index, size)[0])
            frame = frame.reformat(
                format=pixel_format,
                dst_colorspace={6: 5, 2: 5}.get(colours[2], colours[2]),
                dst_color_range=colours[3] or 1,
            )
            frame.pts = 1001 * index if ticks is None else ticks[index]
            frame.time_base = Fraction(1, 24000)
            target.mux(video.encode(frame))
        target.mux(video.encode(None))
        if audio is not None:
            resampler = av.AudioResampler(audio.codec_context.format.name, "stereo", 48000)
            for start in range(0, round(num_frames / RATE * 48000), 2000):
                at = np.arange(start, min(start + 2000, round(num_frames / RATE * 48000))) / 48000
                tone = (0.5 * np.sin(2 * np.pi * 440 * at) * (at >= tone_from)).astype(np.float32)
                frame = av.AudioFrame.from_ndarray(np.stack([tone, tone]), "fltp", "stereo")
                frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
                for each in resampler.resample(frame):
                    target.mux(audio.encode(each))
            target.mux(audio.encode(None))
    return path


def masks_of(frame, soft=False):
    _, mask = picture(frame.index, frame.size)
    alpha = torch.from_numpy(mask).float()
    if soft:
        alpha = torch.nn.functional.avg_pool2d(alpha[None, None], 5, 1, 2, count_include_pad=False)[0, 0]
    return Masks((alpha > 0.5).int(), torch.stack((1 - alpha, alpha)), (1,), frame.index, frame.name)


def cut(source, out, kind, *, soft=False, cutout=None, **how):
    """Writes one kind of video of a source; returns its path."""
    with VideoReader(source, originals=True, **how) as video, ExitStack() as stack:
        writer = stack.enter_context(MaskWriter(out, kind, footage=video.facts.footage, cutout=cutout))
        for frame in video:
            writer.write(masks_of(frame, soft), frame)
    return out / FILES[kind]


def decoded(path, bits=8):
    """Returns the planes of all frames, at full resolution; alpha is that of libvpx where there is some."""
    name = "yuva444p" if path.suffix == ".webm" else "yuva444p10le" if bits == 10 else "yuv444p"
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        if path.suffix == ".webm":
            context = av.CodecContext.create("libvpx-vp9", "r")
        frames = [frame for packet in container.demux(stream) if packet.size for frame in context.decode(packet)]
        frames += context.decode(None)
    kind = np.uint16 if bits == 10 else np.uint8
    planes = []
    for frame in frames:
        levels = int(frame.color_range) or 1
        full = frame.reformat(format=name, src_color_range=levels, dst_color_range=levels)
        planes.append([np.frombuffer(each, kind).reshape(each.height, -1)[:, : frame.width] for each in full.planes])
    return planes


def packets(path, kind):
    with av.open(str(path)) as container:
        stream = container.streams.get({kind: 0})[0]
        return [
            (packet.pts * stream.time_base, bytes(packet)) for packet in container.demux(stream) if packet.size
        ], stream.codec_context.name


def heard(path):
    """Returns the loudness of a file's sound in each millisecond from 0 on."""
    with av.open(str(path)) as container:
        samples = np.zeros(48 * 3000, np.float32)
        for frame in container.decode(audio=0):
            values = av.AudioResampler("fltp", "mono", 48000).resample(frame)[0].to_ndarray()[0]
            start = round(frame.pts * frame.time_base * 48000)
            values = values[max(-start, 0) :]
            samples[max(start, 0) : max(start, 0) + len(values)] = values
    return np.abs(samples.reshape(-1, 48)).max(1)


@pytest.mark.parametrize(("kind", "bits"), [("prores", 10), ("webm", 8)])
def test_alpha_is_the_probability_also_in_odd_sizes(tmp_path, kind, bits):
    source = write_source(tmp_path / "s.mkv", 4, size=(47, 65), pixel_format="yuv444p", sound=None)
    planes = decoded(cut(source, tmp_path / "out", kind, soft=True), bits)
    top = 2**bits - 1
    for index, (*_, alpha) in enumerate(planes):
        with VideoReader(source) as video:
            frame = list(video)[index]
        found = alpha[:47, :65].astype(float) / top
        assert np.abs(found - masks_of(frame, soft=True).probs[1].numpy()).max() < 0.05
        assert np.abs(found - masks_of(frame, soft=True).probs[1].numpy()).mean() < 0.005


def timecode(path):
    with av.open(str(path)) as container:
        return container.streams.video[0].metadata.get("timecode")


def test_a_cut_out_has_the_timecode_of_its_first_frame(tmp_path):
    source = write_source(tmp_path / "s.mov", 20, timecode="01:00:59:20")
    assert timecode(cut(source, tmp_path / "whole", "prores")) == "01:00:59:20"
    assert timecode(cut(source, tmp_path / "part", "prores", start=10)) == "01:01:00:06"


@pytest.mark.parametrize(
    ("before", "frames", "rate", "after"),
    [
        ("01:00:59;28", 2, Fraction(30000, 1001), "01:01:00;02"),
        ("00:09:59;29", 1, Fraction(30000, 1001), "00:10:00;00"),
        ("00:00:00;00", 107892, Fraction(30000, 1001), "01:00:00;00"),
        ("23:59:59:24", 1, Fraction(25), "00:00:00:00"),
        ("rubbish", 1, Fraction(25), ""),
    ],
)
def test_timecode_is_counted_as_editors_count_it(before, frames, rate, after):
    assert Footage(rate=rate, timecode=before).timecode_at(float(frames / rate)) == after


@pytest.mark.parametrize(
    ("size", "pixel_format", "rate", "begins"),
    [
        ((576, 720), "yuv420p", Fraction(25), "01:00:00:10"),
        ((480, 720), "yuv411p", Fraction(30000, 1001), "01:00:00;10"),
    ],
)
def test_raw_dv_has_the_rate_of_its_pictures_and_not_that_of_its_clock(tmp_path, size, pixel_format, rate, begins):
    source = tmp_path / "s.dv"
    with av.open(str(source), "w", format="dv") as target:
        stream = target.add_stream("dvvideo", rate=rate)
        stream.height, stream.width, stream.pix_fmt = *size, pixel_format
        stream.metadata["timecode"] = begins
        for index in range(12):
            frame = av.VideoFrame.from_ndarray(picture(index, size)[0]).reformat(format=pixel_format)
            frame.pts, frame.time_base = index, 1 / rate
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    with VideoReader(source) as video:
        assert video.frames_per_second == pytest.approx(float(rate))
        assert video.facts.footage.rate == rate
    path = cut(source, tmp_path / "out", "prores", start=3)
    assert timecode(path) == begins[:-2] + "13"
    with av.open(str(path)) as container:
        made = container.streams.video[0]
        assert (made.average_rate, made.duration * made.time_base) == (rate, 9 / rate)


def write_fields(path, codec, interlaced, size=(96, 128), pixel_format="yuv422p", **options):
    """Writes a clip, marked as made of fields or not."""
    with av.open(str(path), "w") as target:
        stream = target.add_stream(codec, rate=25, options={**options, "flags": "+ildct" if interlaced else "0"})
        stream.height, stream.width, stream.pix_fmt = *size, pixel_format
        for index in range(3):
            frame = av.VideoFrame.from_ndarray(picture(index, size)[0]).reformat(format=pixel_format)
            frame.pts, frame.time_base = index, Fraction(1, 25)
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("name", "codec", "interlaced", "how"),
    [
        ("s.mov", "prores_ks", True, {"pixel_format": "yuv422p10le"}),
        ("s.mkv", "mpeg2video", True, {}),
        ("s.mov", "dvvideo", True, {"size": (576, 720), "pixel_format": "yuv420p"}),
        ("s.mov", "prores_ks", False, {"pixel_format": "yuv422p10le"}),
        ("s.mkv", "mpeg2video", False, {}),
        ("s.avi", "mjpeg", False, {"pixel_format": "yuvj422p"}),
    ],
)
def test_that_the_fields_of_a_video_are_not_kept_is_said(tmp_path, name, codec, interlaced, how, caplog):
    source = write_fields(tmp_path / name, codec, interlaced, **how)
    for kind in ("prores", "overlay"):
        cut(source, tmp_path / "out", kind)
        said = [all(word in each for word in (name, FILES[kind], "progressive", "yadif")) for each in caplog.messages]
        assert said == [True] * interlaced
        caplog.clear()
    with VideoReader(source) as video, MaskWriter(tmp_path / "out", "ffv1", footage=video.facts.footage) as writer:
        for frame in video:
            writer.write(masks_of(frame), frame)
    assert not caplog.messages
    said = [finding.severity for finding in diagnose_video(source) if "interlaced" in finding.what]
    assert said == ["warning"] * interlaced


@pytest.mark.parametrize(
    ("given", "rate"),
    [
        (23.976, Fraction(24000, 1001)),
        (24000 / 1001, Fraction(24000, 1001)),
        (29.97, Fraction(30000, 1001)),
        (59.94, Fraction(60000, 1001)),
        (24.0, Fraction(24)),
        (25.0, Fraction(25)),
        (30.0, Fraction(30)),
        (12.5, Fraction(25, 2)),
    ],
)
def test_a_folder_gets_the_rate_that_is_meant(tmp_path, given, rate):
    with MaskWriter(tmp_path, "matte", frames_per_second=given) as writer:
        for index in range(3):
            frame = Frame(torch.zeros((3, *SIZE), dtype=torch.uint8), index)
            writer.write(masks_of(frame), frame)
    with av.open(str(tmp_path / "matte.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.average_rate, stream.duration * stream.time_base) == (rate, 3 / rate)


def test_a_rate_that_matroska_rounds_is_that_of_ntsc(tmp_path):
    rate, source = Fraction(60000, 1001), tmp_path / "s.mkv"
    with av.open(str(source), "w") as target:
        stream = target.add_stream("libx264", rate=rate)
        stream.height, stream.width = SIZE
        for index in range(16):
            frame = av.VideoFrame.from_ndarray(picture(index)[0])
            frame.pts, frame.time_base = index, 1 / rate
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    with VideoReader(source) as video:
        assert video.facts.footage.rate == rate
    times, _ = packets(cut(source, tmp_path / "out", "green"), "video")
    assert [time for time, _ in times] == [index / rate for index in range(16)]


def test_an_editing_program_is_told_of_the_alpha(tmp_path):
    path = cut(write_source(tmp_path / "s.mp4", 2, sound=None), tmp_path / "out", "prores")
    content = path.read_bytes()
    entry = content.index(b"ap4h", content.index(b"stsd"))
    assert content[entry + 78 : entry + 80] == (32).to_bytes(2, "big")  # bits a pixel, of QuickTime's description


def test_a_browser_is_told_of_the_alpha(tmp_path):
    path = cut(write_source(tmp_path / "s.mp4", 2, sound=None), tmp_path / "out", "webm")
    alpha_mode = bytes.fromhex("53c081") + b"\x01"  # of Matroska's elements
    assert alpha_mode in path.read_bytes()[:2000]


def test_each_track_of_a_camera_that_does_not_say_where_it_is_heard_is_kept(tmp_path):
    silent, source = write_source(tmp_path / "silent.mp4", 10, sound=None), tmp_path / "s.mov"
    with av.open(str(silent)) as shown, av.open(str(source), "w") as target:
        video = target.add_stream_from_template(shown.streams.video[0])
        tracks = [target.add_stream("pcm_s16le", rate=48000, layout="mono") for _ in range(2)]
        for packet in shown.demux(video=0):
            if packet.pts is not None:
                packet.stream = video
                target.mux(packet)
        for track in tracks:
            frame = av.AudioFrame.from_ndarray(np.full((1, 16_000), 9000, np.int16), "s16", "mono")
            frame.sample_rate, frame.pts = 48000, 0
            target.mux([*track.encode(frame), *track.encode(None)])
    with av.open(str(source)) as container:
        assert [stream.layout.name for stream in container.streams.audio] == ["1 channels"] * 2
    with av.open(str(cut(source, tmp_path / "out", "green"))) as container:
        assert [(s.codec_context.name, s.layout.name) for s in container.streams.audio] == [("aac", "mono")] * 2


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("colours", [BT709, BT601, PQ])
def test_times_colours_and_sound_are_those_of_the_source(tmp_path, kind, colours):
    source = write_source(tmp_path / "s.mp4", 30, colours=colours, aspect=Fraction(16, 15))
    path = cut(source, tmp_path / "out", kind)
    tolerance = 0.001 if kind == "webm" else 0
    times, expected = packets(path, "video")[0], packets(source, "video")[0]
    assert [float(time) for time, _ in times] == pytest.approx([float(time) for time, _ in expected], abs=tolerance)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        found = (context.color_primaries, context.color_trc, context.colorspace, context.color_range)
        assert tuple(map(int, found)) == colours
        shown = Fraction(context.width * (stream.sample_aspect_ratio or 1), context.height)
        assert float(shown) == pytest.approx(64 / 48 * 16 / 15, rel=0.01)
        assert stream.average_rate == RATE
    if kind != "webm":
        assert packets(path, "audio") == packets(source, "audio")
    else:
        assert packets(path, "audio")[1] == "opus"


def test_uneven_times_are_kept(tmp_path):
    ticks = [0, 700, 2500, 2900, 6000, 6100, 9000, 9500]
    source = write_source(tmp_path / "s.mp4", 8, ticks=ticks, sound=None)
    for kind in ("prores", "green"):
        times, _ = packets(cut(source, tmp_path / kind, kind), "video")
        assert [time * 24000 for time, _ in times] == ticks


UNIT = Fraction(1, 90000)
LASTS = Fraction(5, 2)  # seconds


def write_slides(path, num_frames=8):
    """Writes frames at uneven times, of which the last lasts long, and sound that is as long; returns its samples."""
    times = [Fraction(3 * index, 10) + Fraction(index % 4, 20) for index in range(num_frames)]
    ends = [*times[1:], times[-1] + LASTS]
    num_samples = round(ends[-1] * 8000)
    with av.open(str(path), "w") as target:
        video = target.add_stream("libx264", rate=25, options={"bf": "0"})
        video.height, video.width, video.pix_fmt = *SIZE, "yuv420p"
        video.codec_context.time_base = UNIT
        audio = target.add_stream("pcm_s16le", rate=8000, layout="mono")
        encoded = []
        for index, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(picture(index)[0])
            frame.pts, frame.time_base = round(time / UNIT), UNIT
            encoded += video.encode(frame)
        for packet, time, end in zip((*encoded, *video.encode(None)), times, ends, strict=True):
            packet.duration = round((end - time) / UNIT)
            target.mux(packet)
        sound = av.AudioFrame.from_ndarray(np.arange(num_samples, dtype=np.int16)[None], "s16", "mono")
        sound.sample_rate, sound.pts = 8000, 0
        target.mux(audio.encode(sound))
    return num_samples


def durations(path):
    with av.open(str(path)) as container:
        return [stream.duration * stream.time_base for stream in container.streams]


@pytest.mark.parametrize("cutout", [None, Cutout(edges=Edges(smooth=5))])
def test_at_a_variable_rate_the_last_frame_lasts_and_sounds_as_long_as_in_the_source(tmp_path, cutout):
    source = tmp_path / "slides.mov"
    num_samples = write_slides(source)
    found = cut(source, tmp_path / "out", "prores", cutout=cutout)
    assert durations(found) == durations(source)
    with av.open(str(found)) as container:
        assert sum(frame.samples for frame in container.decode(audio=0)) == num_samples
    assert durations(cut(source, tmp_path / "out", "matte", cutout=cutout))[0] == durations(source)[0]
    # It ends where the next frame, which is not read, begins.
    assert durations(cut(source, tmp_path / "some", "prores", cutout=cutout, stop=3))[0] == Fraction(21, 20)


@pytest.mark.parametrize(("name", "how"), [("a.gif", {}), ("a.webp", {"lossless": True}), ("a.png", {})])
def test_an_animation_with_a_pause_at_the_end_keeps_it(tmp_path, name, how):
    pages = [Image.fromarray(picture(index)[0]) for index in range(4)]
    pages[0].save(tmp_path / name, save_all=True, append_images=pages[1:], duration=[100, 100, 300, 2500], **how)
    assert durations(cut(tmp_path / name, tmp_path / "out", "overlay")) == [3]


@pytest.mark.parametrize("cutout", [None, Cutout(edges=Edges(smooth=5))])
def test_the_last_frame_lasts_as_long_after_a_resume(tmp_path, cutout):
    write_slides(tmp_path / "slides.mov", 48)  # the last of them is in the checkpoint
    whole = cut(tmp_path / "slides.mov", tmp_path / "whole", "prores", cutout=cutout)
    (tmp_path / "journal").mkdir()
    how = {"journal": tmp_path / "journal", "cutout": cutout}
    with VideoReader(tmp_path / "slides.mov", originals=True) as video:
        how["footage"] = video.facts.footage
        writer = MaskWriter(tmp_path / "parts", "prores", **how)
        for frame in video:
            writer.write(masks_of(frame), frame)
    state = writer.resume_state().result()
    writer.close()
    (tmp_path / "parts/cutout.mov").unlink()
    MaskWriter(tmp_path / "parts", "prores", resume_state=state, **how).close()
    assert (tmp_path / "parts/cutout.mov").read_bytes() == whole.read_bytes()
    assert durations(whole) == durations(tmp_path / "slides.mov")


@pytest.mark.parametrize("colours", [BT709, BT601, UNSAID])
@pytest.mark.parametrize("kind", ["green", "overlay"])
def test_a_known_colour_stays_it_with_either_matrix(tmp_path, kind, colours):
    source = write_source(tmp_path / "s.mp4", 3, colours=colours, sound=None)
    with VideoReader(cut(source, tmp_path / "out", kind)) as video:
        image = next(iter(video)).image.permute(1, 2, 0).numpy().astype(int)
    inside = {"green": OBJECT, "overlay": (0.55 * np.array(OBJECT) + 0.45 * np.array((128, 0, 0)))}[kind]
    outside = {"green": (0, 255, 0), "overlay": BEHIND}[kind]
    assert np.abs(image[20, 20] - inside).max() <= 5
    assert np.abs(image[44, 60] - outside).max() <= 5


def test_a_video_in_hd_that_does_not_say_its_colours_is_taken_as_players_take_it(tmp_path):
    # As if it had been made with the matrix of HD, of which nothing is said in it.
    source = write_source(tmp_path / "s.mp4", 1, size=(640, 64), colours=BT709, sound=None)
    with av.open(str(source)) as said, av.open(str(tmp_path / "u.mp4"), "w") as unsaid:
        stream = unsaid.add_stream("libx264", rate=24, options={"crf": "4"})
        stream.height, stream.width, stream.pix_fmt = 640, 64, "yuv420p"
        frame = next(said.decode(video=0))
        frame.colorspace = frame.color_primaries = frame.color_trc = 2
        unsaid.mux(stream.encode(frame))
        unsaid.mux(stream.encode(None))
    path = cut(tmp_path / "u.mp4", tmp_path / "out", "green")
    for video, place, colour in ((tmp_path / "u.mp4", 600, BEHIND), (path, 600, (0, 255, 0)), (path, 20, OBJECT)):
        with VideoReader(video) as frames:
            image = next(iter(frames)).image.permute(1, 2, 0).numpy().astype(int)
        assert np.abs(image[place, 20] - colour).max() <= 5


def test_ten_bits_stay_ten_bits(tmp_path):
    source = write_source(tmp_path / "s.mkv", 2, pixel_format="yuv444p10le", codec="ffv1", sound=None)
    with VideoReader(source, originals=True) as video:
        stored = next(iter(video)).ycbcr
    assert stored.dtype == np.uint16
    planes = decoded(cut(source, tmp_path / "out", "prores"), 10)
    inside = np.s_[12:28, 14:30]
    for found, expected in zip(planes[0], stored, strict=False):
        assert np.abs(found[inside].astype(int) - expected[inside]).max() <= 3


def write_deep(path, pixel_format, values):
    """Writes two equal frames of 10 or 16 bits, [H W] for grey or [H W 3], without loss."""
    with av.open(str(path), "w") as target:
        video = target.add_stream("ffv1", rate=25)
        video.height, video.width, video.pix_fmt = *values.shape[:2], pixel_format
        for index in range(2):
            frame = av.VideoFrame.from_ndarray(values, format=pixel_format)
            frame.pts, frame.time_base = index, Fraction(1, 25)
            target.mux(video.encode(frame))
        target.mux(video.encode(None))
    return path


def whole_picture(source, out, originals=True):
    """Returns the planes of the first frame of a ProRes that shows all of its source."""
    with VideoReader(source, originals=originals) as video, ExitStack() as stack:
        writer = stack.enter_context(MaskWriter(out, "prores", footage=video.facts.footage))
        for frame in video:
            shown = torch.ones(frame.size)
            writer.write(Masks(shown.int(), torch.stack((1 - shown, shown)), (1,), frame.index), frame)
    return [plane.astype(int) for plane in decoded(out / "cutout.mov", 10)[0][:3]]


@pytest.mark.parametrize(
    ("pixel_format", "white"),
    [("gbrp10le", 1023), ("gray10le", 1023), ("gbrp16le", 65535), ("gray16le", 65535), ("gray16le", 4095)],
)
def test_a_smooth_gradient_of_rgb_or_grey_keeps_10_bits(tmp_path, pixel_format, white, caplog):
    ramp = np.tile(np.linspace(300, 400, 1024), (24, 1))
    values = ramp if pixel_format.startswith("gray") else np.stack([ramp, ramp, ramp + 200], axis=-1)
    values[:8], values[8:16] = 0, 1023
    source = write_deep(tmp_path / "s.mkv", pixel_format, (values * (white / 1023)).round().astype(np.uint16))
    planes = whole_picture(source, tmp_path / "out")
    assert not caplog.messages
    assert len(np.unique(planes[0][20])) >= 80
    assert [np.unique(plane[at]).tolist() for plane in planes[:1] for at in (4, 12)] == [[64], [940]]
    for plane, of_8_bits in zip(planes, whole_picture(source, tmp_path / "eight", originals=False), strict=True):
        assert np.abs(plane - of_8_bits).max() <= 6  # rounded to 8 bits, twice
        assert abs(plane.mean() - of_8_bits.mean()) < 1
    assert ["8 bits" in message for message in caplog.messages] == [True]


@pytest.mark.parametrize(("depth", "lost"), [(np.uint16, True), (np.uint8, False)])
def test_a_folder_of_16_bits_is_said_to_be_written_with_8(tmp_path, depth, lost, caplog):
    (tmp_path / "s").mkdir()
    ramp = np.linspace(0, np.iinfo(depth).max, SIZE[0] * SIZE[1]).reshape(SIZE).astype(depth)
    for number in range(3):
        Image.fromarray(ramp).save(tmp_path / "s" / f"{number}.png")
    path = cut(tmp_path / "s", tmp_path / "out", "prores")
    assert [("cutout.mov" in message and "8 bits" in message) for message in caplog.messages] == [True] * lost
    with av.open(str(path)) as container:
        assert container.streams.video[0].average_rate == 25


def test_a_turned_video_is_upright(tmp_path):
    encode(str(tmp_path / "s.mp4"), [picture(0)[0]] * 2, matrix=(0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30), crf="4")
    with VideoReader(tmp_path / "s.mp4", originals=True) as video:
        frame = next(iter(video))
    assert frame.size == frame.ycbcr.shape[1:] == (64, 48)
    red = frame.image[0].numpy()
    assert np.corrcoef(red.ravel(), frame.ycbcr[2].ravel())[0, 1] > 0.9
    with av.open(str(cut(tmp_path / "s.mp4", tmp_path / "out", "prores"))) as container:
        assert (container.streams.video[0].height, container.streams.video[0].width) == (64, 48)


def test_full_range_becomes_limited_in_prores_which_cannot_say_it(tmp_path):
    source = write_source(tmp_path / "s.mp4", 2, pixel_format="yuvj420p", colours=(1, 1, 1, 2), sound=None)
    with VideoReader(cut(source, tmp_path / "out", "prores")) as video:
        image = next(iter(video)).image.permute(1, 2, 0).numpy().astype(int)
    assert np.abs(image[20, 20] - OBJECT).max() <= 1


@pytest.mark.parametrize(("bits", "kind"), [(8, np.uint8), (10, np.uint16)])
def test_black_grey_and_white_of_full_range_are_those_of_limited_range(bits, kind):
    top = 2**bits - 1
    planes = np.array([[[0, top]], [[0, top // 2 + 1]], [[top // 2 + 1, top]]], kind)
    (luma,), (blue,), (red,) = to_limited_range(planes).tolist()
    assert luma == [64, 940]
    assert blue == pytest.approx([64, 512], abs=2)
    assert red == pytest.approx([512, 960], abs=2)


def test_nothing_of_what_was_behind_shows_at_a_soft_edge(tmp_path):
    source = write_source(tmp_path / "s.mp4", 2, pixel_format="yuv444p", sound=None)
    luma, blue, red, alpha = (
        plane.astype(float) for plane in decoded(cut(source, tmp_path / "out", "prores", soft=True), 10)[0]
    )
    edge = (alpha > 20) & (alpha < 1000)
    assert edge.any()
    inside = np.s_[16:24, 18:26]
    for plane in (luma, blue, red):
        assert np.abs(plane[edge] - plane[inside].mean()).max() < 60
    far = np.s_[44:, 60:]
    assert luma[far].max() < 80  # black, and not the picture


@pytest.mark.parametrize("kind", FILES)
def test_sound_is_cut_with_the_pictures(tmp_path, kind):
    source = write_source(tmp_path / "s.mp4", 40, tone_from=float(25 / RATE))
    path = cut(source, tmp_path / "out", kind, start=15, stop=35)
    with av.open(str(path)) as container:
        ends = {
            stream.type: max(
                float((p.pts + (p.duration or 0)) * p.time_base) for p in container.demux(stream) if p.size
            )
            for stream in (container.streams.audio[0],)
        }
    assert abs(ends["audio"] - 20 / RATE) <= 1 / RATE
    loud = heard(path)
    begins = np.flatnonzero(loud > 0.1)[0] / 1000
    assert abs(begins - 10 / RATE) <= 0.5 / RATE


@pytest.mark.parametrize("kind", ["overlay", "prores"])
def test_a_run_that_goes_on_has_all_of_the_sound(tmp_path, kind):
    source = write_source(tmp_path / "s.mp4", 60, tone_from=0.5)
    whole = cut(source, tmp_path / "whole", kind, start=5).read_bytes()
    journal, state = tmp_path / "journal", None
    journal.mkdir()
    for begin, end in ((5, 53), (53, 60)):
        with VideoReader(source, originals=True, start=begin, stop=end) as video, ExitStack() as stack:
            how = {"footage": video.facts.footage, "journal": journal, "resume_state": state}
            writer = stack.enter_context(MaskWriter(tmp_path / "parts", kind, **how))
            for frame in video:
                writer.write(masks_of(frame), frame)
            state = writer.resume_state().result() if begin == 5 else None
            writer.sync()
    assert (tmp_path / "parts" / FILES[kind]).read_bytes() == whole


def test_sound_that_a_container_does_not_hold_is_encoded_and_that_is_said(tmp_path, caplog):
    source = write_source(tmp_path / "s.mkv", 24, sound="flac", tone_from=0.5)
    path = cut(source, tmp_path / "out", "matte", start=6)
    assert packets(path, "audio")[1] == "aac"
    assert "flac" in caplog.text
    begins = np.flatnonzero(heard(path) > 0.1)[0] / 1000
    assert abs(begins - (0.5 - 6 / RATE)) <= 0.5 / RATE


def test_pcm_stays_the_same_samples_in_mov(tmp_path):
    source = write_source(tmp_path / "s.mkv", 12, sound="pcm_s16le")
    path = cut(source, tmp_path / "out", "prores")
    assert packets(path, "audio")[1] == "pcm_s16le"
    expected = b"".join(data for _, data in packets(source, "audio")[0])
    assert b"".join(data for _, data in packets(path, "audio")[0]) == expected[: round(12 / RATE * 48000) * 4]


def test_a_video_without_sound_has_none(tmp_path):
    source = write_source(tmp_path / "s.mp4", 3, sound=None)
    with av.open(str(cut(source, tmp_path / "out", "overlay"))) as container:
        assert [stream.type for stream in container.streams] == ["video"]


def test_a_matte_of_one_object_shows_it_alone(tmp_path):
    source = write_source(tmp_path / "s.mp4", 2, sound=None)
    assert decoded(cut(source, tmp_path / "all", "matte"))[0][0][20, 20] == 235
    assert decoded(cut(source, tmp_path / "other", "matte", cutout=Cutout((2,))))[0][0].max() == 16


def shaped(alpha, edges):
    alpha = torch.from_numpy(np.float32(alpha))
    masks = Masks((alpha > 0.5).int(), torch.stack((1 - alpha, alpha)), (1,))
    return edges.apply(masks).probs[1].numpy()


def test_parts_holes_and_edges_are_as_asked():
    alpha = np.zeros((40, 60), np.float32)
    alpha[5:30, 5:30] = 1
    alpha[10:14, 10:14] = 0
    alpha[20:22, 50:52] = 0.8
    alpha[19, 50] = 0.3  # a soft edge of the small part goes with it
    largest = shaped(alpha, Edges(largest=True))
    assert largest[:, 45:].max() == 0
    assert (largest[:, :45] == alpha[:, :45]).all()
    assert (shaped(alpha, Edges(fill_holes=16))[5:30, 5:30] == 1).all()
    assert (shaped(alpha, Edges(fill_holes=15)) == alpha).all()
    assert (shaped(alpha, Edges(fill_holes=ALL))[5:30, 5:30] == 1).all()
    assert shaped(alpha, Edges(grow=2))[17, 31] == 1
    assert shaped(alpha, Edges(grow=-2))[17, 28] == 0
    soft = shaped(alpha, Edges(feather=4))[17, 20:42]
    assert (np.diff(soft) <= 1e-3).all()
    assert ((soft > 0.05) & (soft < 0.95)).sum() >= 4
    assert shaped(alpha, Edges(largest=True, fill_holes=ALL, grow=1, feather=2)).max() <= 1


def test_shrinking_does_not_part_an_object_from_the_edge_of_the_picture():
    alpha = np.zeros((20, 20), np.float32)
    alpha[:, :10] = 1
    assert (shaped(alpha, Edges(grow=-2))[:, :7] == 1).all()


def smoothed(clip, frames, saved_at=None):
    smoother, given = Smoother(frames), []
    for index, alpha in enumerate(clip):
        probs = torch.from_numpy(np.stack((1 - alpha, alpha)))
        masks = Masks((probs[1] > 0.5).int(), probs, (1,), index)
        given += smoother.add(masks, None)
        if index == saved_at:
            smoother = Smoother(frames, smoother.save())
    return [masks for masks, _ in (*given, *smoother.flush())]


def test_the_median_of_frames_takes_a_flicker_out_and_loses_no_frame():
    clip = np.zeros((9, 4, 4), np.float32)
    clip[:, 0] = 1
    clip[4] = 1 - clip[4]
    found = smoothed(clip, 3)
    assert [masks.index for masks in found] == list(range(9))
    assert all((masks.probs[1].numpy()[0] == 1).all() and masks.probs[1].numpy()[1:].max() == 0 for masks in found)


@pytest.mark.parametrize("frames", [3, 5])
def test_what_a_smoother_saves_goes_on_as_if_nothing_had_been(frames):
    clip = np.random.default_rng(0).random((11, 3, 5), np.float32)
    whole = smoothed(clip, frames)
    for saved_at in (0, 1, 6, 10):
        for one, other in zip(whole, smoothed(clip, frames, saved_at), strict=True):
            assert torch.equal(one.probs, other.probs)
    middle = np.median(np.round(clip[3 : 3 + frames] * 255), axis=0) / 255
    assert np.abs(whole[3 + frames // 2].probs[1].numpy() - middle).max() < 1e-6


def test_a_smoother_goes_on_from_what_an_earlier_version_saved():
    image = torch.zeros((3, *SIZE), dtype=torch.uint8)
    smoother = Smoother(3)
    assert not list(smoother.add(masks_of(Frame(image, 0)), Frame(image, 0, 0.5, duration=2.0)))
    with np.load(io.BytesIO(smoother.save())) as arrays:
        saved = dict(arrays)
    facts, (fact,) = json.loads(str(saved["facts"]))
    earlier = io.BytesIO()
    np.savez(earlier, **{**saved, "facts": np.array(json.dumps([facts, [fact[:4]]]))})
    for content, duration in ((smoother.save(), 2.0), (earlier.getvalue(), None)):
        ((_, frame),) = Smoother(3, content).flush()
        assert (frame.seconds, frame.duration) == (0.5, duration)


@pytest.mark.parametrize(
    "wrong", [{"smooth": 2}, {"smooth": 11}, {"grow": 1000}, {"feather": -1.0}, {"fill_holes": -2}]
)
def test_edges_out_of_range_are_refused(wrong):
    with refusal(InputError):
        Edges(**wrong)


def test_an_encoder_that_is_missing_is_said_before_the_first_frame(tmp_path):
    class Unknown(VideoFile):
        encoder, options, single_file = "nosuch", {}, "x.mov"

    with refusal(OutputError, "nosuch", "x.mov"):
        Unknown.check()
    with refusal(OutputError, "nosuch", "x.mov"):
        Unknown(tmp_path, Writing(Unlisted(False)))
    assert not list(tmp_path.iterdir())
