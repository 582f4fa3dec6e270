"""Videos made of masks that are there already."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
import torch
from refusals import refusal
from typer.testing import CliRunner

from mnemask.cli import app
from mnemask.errors import InputError, MaskError, ObjectIdError, OutputError
from mnemask.io import MaskWriter, VideoReader
from mnemask.io.edges import Cutout, Edges
from mnemask.io.sources import of_content
from mnemask.io.written import Written
from mnemask.pipeline import VideoOutputs
from mnemask.pipeline.render import StoredMasks, render
from mnemask.types import Frame, Masks, frame_name

SIZE = (48, 64)


def masks_of(frame):
    alpha = np.zeros(frame.size, np.float32)
    alpha[8:32, 10 + frame.index % 20 : 34 + frame.index % 20] = 1
    alpha = torch.from_numpy(cv2.GaussianBlur(alpha, (0, 0), 2))
    return Masks((alpha > 0.5).int() * 3, torch.stack((1 - alpha, alpha)), (3,), frame.index, frame.name)


def write_video(path, num_frames):
    noise = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    with av.open(str(path), "w") as target:
        stream = target.add_stream("libx264", rate=24)
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        for index in range(num_frames):
            target.mux(stream.encode(av.VideoFrame.from_ndarray(np.roll(noise, index, 1))))
        target.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("video") / "street.mp4", 16)


def write_masks(video, out, format="png"):
    with VideoReader(video) as frames, MaskWriter(out / "masks", format, written=Written(out)) as writer:
        for frame in frames:
            writer.write(masks_of(frame), frame)
    return out


@pytest.fixture
def out(video, tmp_path):
    (tmp_path / "out").mkdir()
    return write_masks(video, tmp_path / "out")


def rendered(video, out, *kinds, cutout=Cutout(), **how):
    with VideoReader(video, originals=True) as frames:
        return render(frames, out, VideoOutputs(kinds, cutout), **how)


def test_a_rendering_that_was_killed_between_two_names_is_repeated_by_the_same_command(video, out):
    whole = rendered(video, out, "matte", "green")
    before = {kind: path.read_bytes() for kind, path in whole.items()}
    with refusal(OutputError, "already exists"):
        rendered(video, out, "matte", "green")
    whole["green"].unlink()
    journal, written = out / "green.partial.0.nut", Written(out)
    written.claim(journal)
    journal.write_bytes(b"half of it")
    written.write(whole["matte"], before["matte"])  # which got its name after that
    assert {kind: path.read_bytes() for kind, path in rendered(video, out, "matte", "green").items()} == before


def test_a_killed_rendering_of_one_kind_takes_nothing_of_an_earlier_one(video, out):
    rendered(video, out, "matte")
    journal = out / "green.partial.0.nut"
    Written(out).claim(journal)
    journal.write_bytes(b"half of it")
    with refusal(OutputError, "matte.*already exists"):
        rendered(video, out, "matte", "green")


def luma(path):
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="gray") for frame in container.decode(video=0)]).astype(int)


@pytest.mark.parametrize(("format", "difference"), [("png", 100), ("ffv1", 100), ("rgba", 12)])
def test_a_matte_of_stored_masks_is_that_of_the_run(video, tmp_path, format, difference):
    write_masks(video, tmp_path / "out", format)
    with VideoReader(video) as frames, MaskWriter(tmp_path, "matte", footage=frames.facts.footage) as writer:
        for frame in frames:
            writer.write(masks_of(frame), frame)
    found = luma(rendered(video, tmp_path / "out", "matte")["matte"])
    expected = luma(tmp_path / "matte.mp4")
    assert found.shape == expected.shape
    # Label maps have lost how soft the edge was, cut-outs have not.
    assert np.abs(found - expected).max() <= difference
    assert (np.abs(found - expected) > 20).mean() < 0.2


def test_it_is_written_again_only_if_that_is_asked_for_and_the_users_files_never(video, out):
    first = rendered(video, out, "matte")["matte"].read_bytes()
    with refusal(OutputError, "matte.mp4", "--overwrite"):
        rendered(video, out, "matte")
    grown = rendered(video, out, "matte", cutout=Cutout(edges=Edges(grow=3)), overwrite=True)["matte"]
    assert grown.read_bytes() != first
    assert rendered(video, out, "matte", overwrite=True)["matte"].read_bytes() == first
    (out / "green.mp4").write_bytes(b"mine")
    with refusal(OutputError, "green.mp4"):
        rendered(video, out, "green", overwrite=True)
    assert (out / "green.mp4").read_bytes() == b"mine"


def test_the_video_that_is_read_is_not_written_over(video, out):
    overlay = rendered(video, out, "overlay")["overlay"]
    with refusal(OutputError, "overlay.mp4"):
        rendered(overlay, out, "overlay", overwrite=True, inputs=(overlay,))


def test_what_cannot_be_rendered_is_said(video, out, tmp_path):
    with refusal(InputError, "--as"):
        rendered(video, out)
    with refusal(MaskError, "masks"):
        rendered(video, tmp_path / "elsewhere", "matte")
    with refusal(ObjectIdError, "7", "3"):
        rendered(video, out, "matte", cutout=Cutout((7,)))
    (out / "masks/00012.png").unlink()
    with refusal(MaskError, "frame 12", "--stop"):
        rendered(video, out, "webm")
    assert not (out / "cutout.webm").exists()


def test_masks_of_a_proxy_are_scaled_to_the_original_and_those_of_another_shape_refused(video, out, tmp_path, caplog):
    for name, width in (("large", 2 * SIZE[1]), ("wide", 3 * SIZE[1])):
        (tmp_path / name).mkdir()
        with VideoReader(video, stop=3) as frames:
            for frame in frames:
                image = cv2.resize(frame.image.permute(1, 2, 0).numpy(), (width, 2 * SIZE[0]))
                cv2.imwrite(str(tmp_path / name / f"{frame.name}.png"), image)
    matte = luma(rendered(tmp_path / "large", out, "matte")["matte"])
    assert matte.shape == (3, 2 * SIZE[0], 2 * SIZE[1])
    assert (matte[0, 30:50, 40:60] > 230).all()
    assert matte[0, 80:].max() < 20
    assert "scaled" in caplog.text
    with refusal(MaskError, "192x96", "64x48"):
        rendered(tmp_path / "wide", out, "matte", overwrite=True)


def test_a_rendering_that_was_killed_is_done_again_to_the_same_bytes(tmp_path):
    video, out = write_video(tmp_path / "long.mp4", 120), tmp_path / "out"
    out.mkdir()
    write_masks(video, out)
    whole = rendered(video, out, "prores")["prores"].read_bytes()
    command = [sys.executable, "-m", "mnemask", "render", str(video), str(out), "--as", "prores", "--overwrite"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ})
    journal = out / "cutout.partial.0.mkv"
    while process.poll() is None and not (journal.is_file() and journal.stat().st_size):
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait(60) == -signal.SIGKILL
    assert (out / "cutout.mov").read_bytes() == whole
    assert rendered(video, out, "prores", overwrite=True)["prores"].read_bytes() == whole
    assert not journal.exists()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--as", "green", "--background", "nocolour"], "--background"),
        (["--as", "matte", "--fps", "24"], "--fps"),
        (["--as", "matte", "--grow", "1", "--shrink", "1"], "--shrink"),
        (["--as", "matte", "--fill-holes", "many"], "--fill-holes"),
        (["--feather", "2"], "--as"),
        (["--as", "matte", "--background", "blue"], "--background"),
    ],
)
def test_options_that_do_not_fit_end_the_command_in_a_sentence(video, out, options, named):
    result = CliRunner().invoke(app, ["render", str(video), str(out), *options])
    assert result.exit_code == 2
    assert named in re.sub(r"\s+", " ", result.output)


def test_a_video_that_is_shorter_than_that_of_the_run_is_doubted(video, out, tmp_path, caplog):
    (out / "report.json").write_text('{"frames": 16}')
    assert CliRunner().invoke(app, ["render", str(video), str(out), "--as", "matte"]).exit_code == 0
    assert not caplog.messages
    short = write_video(tmp_path / "short.mp4", 9)
    assert CliRunner().invoke(app, ["render", str(short), str(out), "--as", "matte", "--overwrite"]).exit_code == 0
    assert any("9" in message and "16" in message for message in caplog.messages)


def test_frames_of_a_folder_come_at_the_rate_that_is_given_or_that_of_the_run(video, tmp_path):
    frames, out = tmp_path / "frames", tmp_path / "out"
    frames.mkdir()
    with VideoReader(video, stop=12) as read:
        for frame in read:
            cv2.imwrite(str(frames / f"{frame.name}.png"), frame.image.permute(1, 2, 0).numpy()[..., ::-1])
    write_masks(frames, out)
    for given, rate in (("24", 24), ("24000/1001", Fraction(24000, 1001))):
        result = CliRunner().invoke(
            app, ["render", str(frames), str(out), "--as", "matte", "--fps", given, "--overwrite"]
        )
        assert result.exit_code == 0, result.output
        with av.open(str(out / "matte.mp4")) as container:
            assert container.streams.video[0].average_rate == rate
    for told, rate in ((24000 / 1001, Fraction(24000, 1001)), ("fast", 25), (-1, 25)):
        (out / "report.json").write_text(json.dumps({"settings": {"fps": told}}))
        result = CliRunner().invoke(app, ["render", str(frames), str(out), "--as", "matte", "--overwrite"])
        assert result.exit_code == 0, result.output
        with av.open(str(out / "matte.mp4")) as container:
            assert container.streams.video[0].average_rate == rate


def frames_called(folder, names):
    folder.mkdir()
    for index, name in enumerate(names):
        cv2.imwrite(str(folder / f"{name}.png"), np.random.default_rng(index).integers(0, 256, (*SIZE, 3), np.uint8))
    return folder


@pytest.mark.parametrize("format", ["png", "rgba"])
def test_a_picture_without_a_mask_gets_none_of_another_that_is_called_after_its_place(tmp_path, format):
    frames, out = frames_called(tmp_path / "frames", [f"{number:05d}" for number in range(4, 12)]), tmp_path / "out"
    with VideoReader(frames, stop=4) as read, MaskWriter(out / "masks", format) as writer:
        for frame in read:
            writer.write(masks_of(frame), frame)
    with refusal(MaskError, r"frame 4 \(00008\)"):
        rendered(frames, out, "matte")


def test_pictures_taken_of_a_video_have_its_masks_by_their_number(video, out, tmp_path):
    expected = rendered(video, out, "matte")["matte"]
    frames = tmp_path / "frames"
    frames.mkdir()
    with VideoReader(video) as read:
        for frame in read:
            cv2.imwrite(
                str(frames / f"shot_{frame.index + 1:03d}.png"), frame.image.permute(1, 2, 0).numpy()[..., ::-1]
            )
    found = rendered(frames, out, "matte", overwrite=True)["matte"]
    assert len(luma(found)) == 16
    assert expected == found


@pytest.mark.parametrize("format", ["png", "rgba"])
@pytest.mark.parametrize("written_as", [None, 180_000])
@pytest.mark.parametrize("read_as", [None, 180_000])
def test_masks_of_a_video_are_found_however_long_it_was_known_to_be(tmp_path, format, written_as, read_as):
    image = torch.zeros((3, *SIZE), dtype=torch.uint8)
    with MaskWriter(tmp_path / "masks", format) as writer:
        for index in (5, 100_000):
            frame = Frame(image, index, None, frame_name(index, written_as))
            writer.write(masks_of(frame), frame)
    stored = StoredMasks(tmp_path, None)
    for index in (5, 100_000):
        found = stored.of(Frame(image, index, None, frame_name(index, read_as)))
        assert found.labels.any()
        assert found.index == index
    with refusal(MaskError, "frame 6"):
        stored.of(Frame(image, 6, None, frame_name(6, read_as)))


def cut_outs(video, out, with_object, **report):
    """Writes RGBA cut-outs as a run does in which an object is tracked in these frames alone."""
    with VideoReader(video) as frames, MaskWriter(out / "masks", "rgba", written=Written(out)) as writer:
        for frame in frames:
            if frame.index in with_object:
                writer.write(masks_of(frame), frame)
    (out / "report.json").write_text(json.dumps(report))


@pytest.mark.parametrize("with_object", [range(4), range(5, 16)])
def test_frames_of_a_complete_run_in_which_nothing_was_tracked_are_rendered_empty(video, tmp_path, with_object):
    cut_outs(video, tmp_path, with_object, complete=True)
    matte = luma(rendered(video, tmp_path, "matte")["matte"])
    assert [bool((picture > 128).any()) for picture in matte] == [index in with_object for index in range(16)]


@pytest.mark.parametrize(
    "report", [{"complete": False}, {}, {"complete": True, "settings": {"start": "0", "stop": "9"}}]
)
def test_frames_that_a_run_did_not_come_to_have_no_cut_outs_and_are_no_empty_ones(video, tmp_path, report):
    cut_outs(video, tmp_path, range(9), **report)
    with refusal(MaskError, "frame 9"):
        rendered(video, tmp_path, "matte")


def test_a_cut_out_that_is_gone_is_no_frame_without_an_object(video, tmp_path):
    cut_outs(video, tmp_path, range(16), complete=True)
    (tmp_path / "masks/3/00012.png").unlink()
    with refusal(MaskError, "frame 12"):
        rendered(video, tmp_path, "matte")


@pytest.mark.parametrize(
    "report",
    ['{"settings": null}', '{"settings": [1]}', '{"objects": null}', '{"objects": [3]}', '{"objects": {"id": 1}}',
     '{"objects": [{"id": null}]}', '{"frames": "many"}', '{"frames": []}', "[]", "null"],
)  # fmt: skip
def test_a_report_that_garbles_what_it_says_stops_no_rendering(video, out, report):
    (out / "report.json").write_text(report)
    result = CliRunner().invoke(app, ["render", str(video), str(out), "--as", "matte"])
    assert result.exit_code == 0, result.output


def test_a_rendering_that_was_stopped_says_so_to_a_program(video, out, monkeypatch):
    monkeypatch.setattr("mnemask.io.stop_signals.StopSignals.__call__", lambda self: "SIGINT")
    result = CliRunner().invoke(app, ["render", str(video), str(out), "--as", "matte", "--json"])
    last = json.loads(result.stdout.splitlines()[-1])
    assert (last["type"], last["command"], last["complete"]) == ("result", "render", False)
    assert last["stopped_by"] == "SIGINT"


def test_a_mask_that_lay_among_the_frames_of_the_run_is_none_of_them(tmp_path):
    frames, out = frames_called(tmp_path / "frames", [f"{number:05d}" for number in range(6)]), tmp_path / "out"
    write_masks(frames, out)
    (frames / "00000_obj.jpg").write_bytes((frames / "00000.png").read_bytes())
    for name in ("mask", "at"):
        told = of_content(frames / "00000_obj.jpg")
        (out / "report.json").write_text(json.dumps({"settings": {name: [f"0={told}" if name == "at" else told]}}))
        command = ["render", str(frames), str(out), "--as", "matte", "--overwrite"]
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 0, result.output
        assert len(luma(out / "matte.mp4")) == 6
