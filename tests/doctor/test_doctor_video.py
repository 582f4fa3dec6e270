from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from mnemask.doctor import diagnose

RNG = np.random.default_rng(0)


def write_video(path, size=(48, 64), frames=20, ticks=None, pix_fmt="yuv420p", **stream_options):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = *size, pix_fmt
        stream.codec_context.time_base = Fraction(1, 1000)
        for name, value in stream_options.items():
            getattr(stream, name)(value)
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(RNG.integers(0, 256, (*size, 3), np.uint8))
            frame.pts, frame.time_base = (ticks or range(0, 40 * frames, 40))[index], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_frames(folder, names, size=(48, 64)):
    folder.mkdir(exist_ok=True)
    for name in names:
        Image.fromarray(RNG.integers(0, 256, (*size, 3), np.uint8)).save(folder / name)
    return folder


def said(findings, severity):
    return [finding.what for finding in findings if finding.severity == severity]


def test_a_good_video_is_described_and_nothing_else(tmp_path):
    findings = diagnose(write_video(tmp_path / "v.mp4"))
    assert [finding.severity for finding in findings] == ["ok", "ok"]
    assert "h264, 64x48 pixels, yuv420p" in findings[0].what
    assert findings[1].what == "20 frames can be read at 25 frames/s"


def test_a_cut_video_is_a_problem_that_tells_how_far_it_goes(tmp_path):
    path = write_video(tmp_path / "v.mkv")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    findings = diagnose(path)
    assert any("frames can be read" in what for what in said(findings, "ok"))
    (problem,) = [finding for finding in findings if finding.severity == "problem"]
    assert "it ends at frame" in problem.what
    assert "--on-corrupt" in problem.remedy


def test_damaged_frames_are_counted_and_those_behind_them_read(tmp_path):
    path = write_video(tmp_path / "v.mp4")
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 3000] = RNG.bytes(3000)
    path.write_bytes(data)
    findings = diagnose(path)
    (problem,) = said(findings, "problem")
    assert "damaged" in problem
    (count,) = [int(what.split()[0]) for what in said(findings, "ok") if "can be read" in what]
    assert 20 - 8 < count < 20


def test_an_uneven_rate_and_a_gap_are_told(tmp_path):
    ticks = [0, 40, 80, 120, 150, 230, 260, 2260, 2300, 2340]
    findings = diagnose(write_video(tmp_path / "v.mp4", frames=10, ticks=ticks))
    assert "the frame rate varies: 30 to 2000 ms between two frames" in said(findings, "ok")
    assert said(findings, "warning") == ["there is no frame for 2.0 s"]


def test_rotation_and_odd_sizes_are_told(tmp_path):
    quarter = [0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30]
    findings = diagnose(write_video(tmp_path / "v.mp4", (49, 63), pix_fmt="yuv444p", set_display_matrix=quarter))
    assert "recorded rotated by 90 degrees; frames and masks are upright" in said(findings, "ok")
    assert any("size is odd" in what for what in said(findings, "ok"))


@pytest.mark.parametrize("content", [b"", b"not a video at all", bytes(4000)])
def test_what_is_not_a_video_is_a_problem(tmp_path, content):
    (tmp_path / "v.mp4").write_bytes(content)
    (finding,) = diagnose(tmp_path / "v.mp4")
    assert finding.severity == "problem"


def test_a_good_folder_is_described_and_nothing_else(tmp_path):
    findings = diagnose(write_frames(tmp_path / "frames", [f"{i:05d}.jpg" for i in range(0, 50, 5)]))
    assert [(finding.severity, finding.what) for finding in findings] == [
        ("ok", "10 images from 00000.jpg to 00045.jpg"),
        ("ok", "all of 64x48 pixels"),
    ]


def test_other_sizes_missing_numbers_and_broken_files_are_told(tmp_path):
    folder = write_frames(tmp_path / "frames", [f"frame{i}.png" for i in (0, 1, 2, 3, 7, 8, 9, 11)])
    write_frames(folder, ["frame2.png"], (48, 70))
    (folder / "frame9.png").write_bytes((folder / "frame9.png").read_bytes()[:900])
    findings = diagnose(folder)
    assert "6 images are 64x48, but not frame2.png (70x48)" in said(findings, "problem")
    assert any("frame9.png" in what for what in said(findings, "problem"))
    assert said(findings, "warning") == ["the numbers jump from 3 to 7, 9 to 11: frames may be missing"]


def test_a_folder_of_masks_or_of_nothing_is_told(tmp_path):
    masks = tmp_path / "masks"
    masks.mkdir()
    for i in range(3):
        Image.fromarray(np.eye(48, dtype=np.uint8)).convert("P").save(masks / f"{i}.png")
    assert "3 masks from 0.png to 2.png, for --mask" in said(diagnose(masks), "ok")[0]
    (tmp_path / "empty").mkdir()
    assert "holds no image" in said(diagnose(tmp_path / "empty"), "problem")[0]
