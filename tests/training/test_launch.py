"""Runs as users start them: interrupted, taken up again, scored on the way."""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import timedelta

import numpy as np
import torch
from lightning_fabric import Fabric
from PIL import Image
from refusals import refusal
from test_data import draw_own_video
from training_run import TINY, Squares, recipe

from mnemask.engines import load_model
from mnemask.errors import FrameError, InputError, MaskError, OutputError
from mnemask.model.checkpoints import save_model
from mnemask.model.stcn import STCN
from mnemask.training.launch import Hardware, Validation, launch
from mnemask.training.trainer import RunOptions

CPU = Hardware("cpu")


def start(out, steps=3, **options):
    return launch(recipe(steps), Squares, lambda: STCN(TINY), out, hardware=CPU, **options)


def test_a_run_is_not_overwritten_but_taken_up_if_asked(tmp_path):
    start(tmp_path / "run")
    with refusal(InputError, r"--resume"):
        start(tmp_path / "run")
    assert start(tmp_path / "run", resume=True).finished


def test_a_place_that_cannot_be_written_to_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with refusal(OutputError, "cannot"):
        start(tmp_path / "file" / "run")


def test_scores_on_videos_are_logged(tmp_path):
    draw_own_video(tmp_path / "videos" / "square", [1])
    validation = Validation(tmp_path / "videos", num_frames=3)
    assert [len(video.frames) for video in validation.videos] == [3]
    start(tmp_path / "run", validate=validation)
    (line,) = (tmp_path / "run" / "validation.jsonl").read_text().splitlines()
    entry = json.loads(line)
    assert entry["step"] == 3
    assert 0 <= entry["validation/J"] <= 100


def test_an_interrupted_command_saves_and_goes_on(tmp_path):
    draw_own_video(tmp_path / "videos" / "square", [1])
    model = STCN(TINY)
    torch.manual_seed(0)
    save_model(model, tmp_path / "tiny.safetensors")
    options = ["--steps=2000", "--batch=1", "--workers=0", "--accelerator=cpu", "--weights=tiny.safetensors"]
    command = [sys.executable, "-m", "mnemask", "finetune", "videos", "-o", "run", *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        deadline = time.monotonic() + 200
        while not (tmp_path / "run" / "log.jsonl").exists():
            assert run.poll() is None, run.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        run.send_signal(signal.SIGTERM)
        said, _ = run.communicate(timeout=100)
    assert run.returncode == 143
    assert "resume with the same command and --resume" in said
    assert (tmp_path / "run" / "latest.safetensors").exists()


def test_videos_that_cannot_be_scored_are_refused_before_training(tmp_path):
    for part in ("frames", "masks"):
        (tmp_path / part).mkdir()
        for index in range(3 if part == "frames" else 2):
            Image.fromarray(np.eye(48, dtype=np.uint8)).save(tmp_path / part / f"{index}.png")
    with refusal(InputError, "2 frames", "--validate"):
        Validation(tmp_path)


def test_a_mask_that_does_not_fit_its_frame_is_refused_before_training(tmp_path):
    draw_own_video(tmp_path, [1])
    mask = tmp_path / "masks" / "002.png"
    Image.open(mask).resize((48, 32), Image.Resampling.NEAREST).save(mask)
    with refusal(MaskError, r"masks.002\.png", "48x32", "96x64"):
        Validation(tmp_path)


def test_weights_are_saved_before_they_are_scored_the_last_time(tmp_path):
    def fail(model):
        raise FrameError("001.jpg cannot be read", "restore it")

    with refusal(FrameError, "001"):
        start(tmp_path, validate=fail)
    assert load_model(tmp_path / "model.safetensors").config == TINY


def test_a_scoring_that_failed_is_made_up_once_at_whatever_step(tmp_path):
    def fail(model):
        raise FrameError("001.jpg cannot be read", "restore it")

    def scored():
        return [json.loads(line)["step"] for line in (tmp_path / "validation.jsonl").read_text().splitlines()]

    def resume(validate):
        start(tmp_path, steps=4, validate=validate, options=RunOptions(validate_every=2), resume=True)

    with refusal(FrameError, "001"):
        resume(fail)  # at step 2
    scores = iter([{"J": 1.0}])
    with refusal(FrameError, "001"):
        resume(lambda model: next(scores, None) or fail(model))  # at step 4
    assert scored() == [2]
    for _ in range(2):
        resume(lambda model: {"J": 1.0})
        assert scored() == [2, 4]


def test_a_finished_run_that_was_not_scored_is_scored_if_asked(tmp_path):
    start(tmp_path)
    start(tmp_path, validate=lambda model: {"J": 1.0}, resume=True)
    assert json.loads((tmp_path / "validation.jsonl").read_text()) == {"step": 3, "J": 1.0}


def test_nothing_is_scored_before_the_first_step(tmp_path):
    start(tmp_path, validate=lambda model: {"J": 1.0}, options=RunOptions(minutes=0.0, validate_every=5))
    assert not (tmp_path / "validation.jsonl").exists()


def test_processes_wait_for_one_that_validates_for_hours(monkeypatch):
    made = []

    class NoFabric(Fabric):
        def __init__(self, **settings):
            made.append(settings["strategy"])

        def launch(self):
            pass

    monkeypatch.setattr("mnemask.training.launch.Fabric", NoFabric)
    threads = torch.get_num_threads()
    try:
        Hardware("cpu", devices=2).fabric()
        Hardware("cpu").fabric()
    finally:
        torch.set_num_threads(threads)
    assert made[0]._timeout >= timedelta(days=1)
    assert made[1] == "auto"
