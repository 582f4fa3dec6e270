"""Runs that are killed, stopped and resumed as their user does it."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import av
import cv2
import numpy as np
import pytest
import torch
from command_line import mnemask
from drawn_clip import drawn_clip
from PIL import Image

import mnemask as mm
from mnemask.model.checkpoints import save_model

pytestmark = pytest.mark.precision

NUM_FRAMES = {"long": 70, "short": 20}  # ffv1 is written in stretches of 48 frames


@pytest.fixture(scope="module")
def files(tmp_path_factory, tiny_model):
    folder = tmp_path_factory.mktemp("long")
    frames, masks = drawn_clip(NUM_FRAMES["long"], 32, 48, num_objects=2, seed=2)
    for video, length in NUM_FRAMES.items():
        (folder / video).mkdir()
        for index, frame in enumerate(frames[:length]):
            cv2.imwrite(str(folder / video / f"{index:05d}.png"), frame.permute(1, 2, 0).numpy()[..., ::-1])
    Image.fromarray((masks[0, 0] + 2 * masks[0, 1]).byte().numpy()).save(folder / "first.png")
    late = np.zeros((32, 48), np.uint8)
    late[:12, :12] = 3
    Image.fromarray(late).save(folder / "late.png")
    save_model(tiny_model, folder / "tiny.safetensors", dtype=torch.float32)
    return folder


def arguments(files, out, *more, video="long"):
    late = f"{NUM_FRAMES[video] - 10}={files / 'late.png'}"
    line = ["segment", files / video, "-o", out, "--mask", files / "first.png", "--at", late]
    line += ["--model", files / "tiny.safetensors", "--size", 32, "--frames", 4, "--checkpoint-every", 0, *more]
    return [str(part) for part in line]


def signalled(line, out, number):
    """Runs a command and sends it a signal when it has made a checkpoint; returns its exit code."""
    one_thread = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen(
        [sys.executable, "-m", "mnemask", *line], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env=one_thread,
    )  # fmt: skip
    while process.poll() is None:
        if any(int(path.stem) >= 3 for path in (out / "checkpoint").glob("*.bank")):
            process.send_signal(number)
            break
        time.sleep(0.002)
    return process.wait(timeout=300)


def content(out):
    paths = (path for path in out.rglob("*") if path.is_file() and path.name not in ("report.json", ".mnemask-written"))
    return {str(path.relative_to(out)): path.read_bytes() for path in paths}


@pytest.mark.parametrize(
    ("number", "code", "more"),
    [
        (
            signal.SIGKILL,
            -signal.SIGKILL,
            ["--format", "ffv1", "--overlay", "--as", "prores", "--as", "webm", "--as", "matte", "--smooth", "5"],
        ),
        pytest.param(signal.SIGINT, 130, ["--format", "rle"], marks=pytest.mark.thorough),
    ],
)
def test_a_run_that_was_signalled_resumes_to_the_same_bytes(files, tmp_path, number, code, more):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert mnemask(*arguments(files, whole, *more))[0] == 0
    assert signalled(arguments(files, cut, *more), cut, number) == code
    if code > 0:
        report = json.loads((cut / "report.json").read_text())
        assert (report["complete"], report["stopped_by"]) == (False, number.name)
    assert mnemask(*arguments(files, cut, *more))[0] == 2  # not overwritten unasked
    exit_code, output = mnemask(*arguments(files, cut, "--resume", *more))
    assert exit_code == 0, output
    assert "resuming at frame" in output
    assert content(cut) == content(whole)
    assert json.loads((cut / "report.json").read_text())["frames"] == NUM_FRAMES["long"]
    exit_code, output = mnemask(*arguments(files, cut, "--resume", *more))
    assert (exit_code, "is complete" in output) == (0, True)


def test_resume_where_there_is_no_run_begins_one(files, tmp_path):
    assert mnemask(*arguments(files, tmp_path / "out", "--resume", video="short"))[0] == 0
    assert len(list((tmp_path / "out/masks").iterdir())) == NUM_FRAMES["short"]


@pytest.fixture(params=[("short", "png"), ("long", "ffv1")], ids=["png", "ffv1"])
def killed(files, tmp_path, tiny_model, request):
    """The folder of a run without checkpoints, as of a pipe, at the moment when it is killed, and its video."""
    video, mask_format = request.param
    out, cut = tmp_path / "pipe", tmp_path / "out"
    first = np.asarray(Image.open(files / "first.png"))

    def copy(progress, masks):
        if masks.index == NUM_FRAMES[video] - 2:
            shutil.copytree(out, cut, ignore=shutil.ignore_patterns(".mnemask-lock", ".mnemask-*.partial.*"))

    with mm.VideoReader(files / video) as frames:
        mm.segment(
            frames, mm.Tracker(tiny_model, short_side=32), out, lambda frame: {0: {1: first == 1}}.get(frame.index),
            mask_format=mask_format, checkpoint_every=None, on_frame=copy, preview=lambda frame, given: b"preview",
        )  # fmt: skip
    return cut, video


def test_masks_of_a_run_that_left_no_checkpoint_are_not_removed_by_resume(files, killed):
    out, video = killed
    before = content(out)
    exit_code, output = mnemask(*arguments(files, out, "--resume", video=video))
    assert (exit_code, "left no checkpoint" in output) == (2, True), output
    assert content(out) == before
    assert mnemask(*arguments(files, out, "--overwrite", video=video))[0] == 0
    assert len(list((out / "masks").iterdir())) == NUM_FRAMES[video]


def test_a_run_that_left_no_checkpoint_and_no_mask_is_begun_again_by_resume(files, killed):
    out, video = killed
    shutil.rmtree(out / "masks")
    assert (out / "preview.png").exists()
    exit_code, output = mnemask(*arguments(files, out, "--resume", video=video))
    assert exit_code == 0, output
    assert len(list((out / "masks").iterdir())) == NUM_FRAMES[video]


@pytest.mark.parametrize("moved", [True, False])
def test_masks_in_a_folder_are_not_matched_to_a_followed_folder_that_lost_pictures(files, tmp_path, moved):
    folder, masks, out = tmp_path / "frames", tmp_path / "masks", tmp_path / "out"
    folder.mkdir()
    masks.mkdir()
    for number in range(8):
        shutil.copy(files / f"long/{number:05d}.png", folder)
    shutil.copy(files / "first.png", masks / "00000.png")
    shutil.copy(files / "first.png", masks / "00007.png")
    (folder / "00005.png").write_bytes(b"damaged")
    line = ["segment", folder, "-o", out, "--mask", masks, "--model", files / "tiny.safetensors", "--size", 32]
    assert mnemask(*line, "--follow")[0] == 2
    shutil.copy(files / "long/00005.png", folder)
    if moved:
        (folder / "00003.png").unlink()
    exit_code, output = mnemask(*line, "--follow", "--resume")
    assert exit_code == (2 if moved else 0), output
    assert ("lost or gained pictures before '00004'" in output) == moved


@pytest.fixture
def unfinished(files, tmp_path):
    """A run that broke off because its video did."""
    shorter = tmp_path / "frames"
    shorter.mkdir()
    for path in sorted((files / "long").iterdir())[:6]:
        (shorter / path.name).write_bytes(path.read_bytes())
    (shorter / "00004.png").write_bytes(b"damaged")
    line = arguments(files, tmp_path / "out")
    line[1] = str(shorter)
    line = [part for part in line if part != "--at" and not part.startswith("60=")]
    exit_code, output = mnemask(*line)
    assert exit_code == 2, output
    return line, tmp_path / "out", shorter


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (["--policy", "lfu"], r"policy 'diverse' \(--policy\) .* 'lfu'"),
        (["--top-k", "7"], r"top_k 20 \(--top-k\) .* 7"),
        (["--size", "64"], r"short_side \d+ \(--size\) .* 64"),
        (["--format", "rle"], "format 'png' .* 'rle'"),
        (["--box", "1,2,9,9"], "boxes"),
    ],
)
def test_a_run_does_not_go_on_with_other_settings(unfinished, change, named):
    line, _, _ = unfinished
    exit_code, output = mnemask(*line, "--resume", *change)
    assert exit_code == 2
    assert re.search(f"started with {named}", output), output


def test_nor_with_another_video_mask_or_model(unfinished, files, tmp_path):
    line, _, frames = unfinished
    (frames / "00004.png").write_bytes((files / "long/00004.png").read_bytes())
    exit_code, output = mnemask(*line, "--resume")
    assert (exit_code, "started with video" in output) == (2, True)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--trace", "trace.jsonl"], "a trace cannot be resumed"),
        (["--overwrite"], "give only one of them"),
        (["--live"], "with --live cannot be resumed"),
    ],
)
def test_what_cannot_be_resumed_is_said(unfinished, more, sentence):
    line, _, _ = unfinished
    exit_code, output = mnemask(*line, "--resume", *more)
    assert (exit_code, sentence in output) == (2, True), output


@pytest.mark.parametrize("video", ["-", "camera:0", "rtsp://user:secret@host/live"])
def test_sources_that_come_once_cannot_be_resumed(files, tmp_path, video):
    exit_code, output = mnemask("segment", video, "--mask", files / "first.png", "-o", tmp_path / "out", "--resume")
    assert (exit_code, "cannot be resumed" in output) == (2, True), output


def test_nor_can_an_address_that_sends_without_an_end(files, tmp_path):
    stream = io.BytesIO()
    with av.open(stream, "w", format="mpegts") as container:
        video = container.add_stream("mpeg2video", rate=25, width=48, height=32)
        frames = [av.VideoFrame.from_ndarray(np.zeros((32, 48, 3), np.uint8)) for _ in range(9)]
        container.mux([packet for frame in [*frames, None] for packet in video.encode(frame)])

    class Endless(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(stream.getvalue())

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Endless) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        line = arguments(files, tmp_path / "out")
        line[1] = f"http://user:secret@127.0.0.1:{server.server_port}/live"
        exit_code, output = mnemask(*line, "--resume")
        server.shutdown()
    assert exit_code == 2
    assert "does not give the same frames again" in output
    assert "secret" not in output
    assert not (tmp_path / "out").exists()


def test_a_limit_on_memory_is_kept_before_anything_is_computed(files, tmp_path):
    exit_code, output = mnemask(*arguments(files, tmp_path / "out", "--max-memory", "20MiB", video="short"))
    assert (exit_code, "--max-memory" in output) == (2, True), output
    assert mnemask(*arguments(files, tmp_path / "out", "--max-memory", "200GiB", video="short"))[0] == 0


def test_a_bank_stands_in_for_the_first_mask(files, tmp_path, tiny_model):
    frames, masks = drawn_clip(3, 32, 48, num_objects=1)
    tracker = mm.Tracker(tiny_model, budget=mm.Budget(frames=4), short_side=32)
    tracker.step(frames[0], {5: masks[0, 0]})
    tracker.save(tmp_path / "object.bank")
    line = arguments(files, tmp_path / "out", "--bank", tmp_path / "object.bank")
    line = [part for part in line if part not in ("--mask", "--at") and not part.endswith(("first.png", "late.png"))]
    exit_code, output = mnemask(*line)
    assert exit_code == 0, output
    assert "objects 5" in output
