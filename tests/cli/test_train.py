"""`mnemask train real-video` as it is used: a trunk that is stopped, a candidate off it, and what is refused."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from drawn_data import draw_photographs, draw_video, write
from safetensors import safe_open

import mnemask as mm
from mnemask.cli import main
from mnemask.datasets.video_sets import CUSTOM_VIDEO_SETS
from mnemask.model.checkpoints import SIZES, save_model
from mnemask.training.recipes import RECIPES, Phase, real_video


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data")
    draw_photographs(root)
    draw_video(root)
    for index in range(8):
        frame, mask = np.full((64, 80, 3), 90, np.uint8), np.zeros((64, 80), np.uint8)
        cv2.circle(frame, (20 + 3 * index, 32), 12, (200, 220, 240), -1)
        cv2.circle(mask, (20 + 3 * index, 32), 12, 255, -1)
        write(root / "video_train" / "davis2016_train" / "disc" / "frames" / f"{index:05d}.webp", frame)
        write(root / "video_train" / "davis2016_train" / "disc" / "masks" / f"{index:05d}.png", mask)
    return root


def run(monkeypatch, *arguments) -> int:
    monkeypatch.setattr(sys, "argv", ["mnemask", "train", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code or 0


def test_a_candidate_branches_off_a_trunk_that_was_stopped(tmp_path, monkeypatch, data, tiny_model):
    monkeypatch.setitem(SIZES, "compact", tiny_model.config)
    monkeypatch.setitem(RECIPES, "real-video", lambda *steps: replace(real_video(*steps), phases=(Phase(1.0, 96),)))
    save_model(tiny_model, tmp_path / "tiny.safetensors")
    trunk, candidate = tmp_path / "trunk", tmp_path / "candidate"
    small = ("--data", data, "--batch", 1, "--workers", 0)
    start = ("real-video", *small, "--weights", tmp_path / "tiny.safetensors", "-o", trunk, "--minutes", 0)
    assert run(monkeypatch, *start) == 0
    assert run(monkeypatch, *start) == 2  # it is not begun again unasked
    assert run(monkeypatch, *start, "--resume") == 0
    latest = trunk / "latest.safetensors"
    with safe_open(latest, "pt") as file:
        assert file.metadata()["step"] == "2"
    assert not (trunk / "model.safetensors").exists()

    branch = ("real-video", *small, "--branch", latest, "--decay", "--steps", 2, "--without", "pasted")
    assert run(monkeypatch, *branch, "-o", candidate) == 0
    mm.load_model(candidate / "model.safetensors")
    rates = [json.loads(line)["rate"] for line in (candidate / "log.jsonl").read_text().splitlines()]
    assert rates == pytest.approx([1.5e-4, (1 - 0.5**0.5) * 1.5e-4])


@pytest.mark.parametrize(
    "wrong",
    [
        (),
        ("--data", "nothing"),
        ("--data", "DUTS-TR=/data"),
        ("--data", "{data}", "--without", "rain"),
        ("--data", "{data}", "--decay"),
        ("--data", "{data}", "--branch", "run.safetensors", "--weights", "compact"),
        ("--data", "{data}", "--branch", "no-run.safetensors"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_trained(tmp_path, monkeypatch, data, wrong):
    words = [word.format(data=data) for word in wrong]
    begin = () if "--branch" in wrong else ("--weights", "compact")
    assert run(monkeypatch, "real-video", *words, *begin, "-o", tmp_path / "run") == 2
    assert not (tmp_path / "run" / "latest.safetensors").exists()


@pytest.mark.parametrize("recipe", ["real-video", "compact"])
def test_a_key_encoder_that_is_not_trained_needs_weights(tmp_path, monkeypatch, capsys, data, recipe):
    given = data if recipe == "real-video" else f"composites={data}"
    assert run(monkeypatch, recipe, "--data", given, "-o", tmp_path / "run") == 2
    assert "no weights are given" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_the_code_of_a_data_set_of_ones_own_is_among_what_a_resumed_run_compares(tmp_path, monkeypatch):
    begun = []

    def launch(*_, origin, **__):
        begun.append(origin)
        raise mm.InputError("this is a test", "do not train")

    monkeypatch.setattr("mnemask.training.launch.launch", launch)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for videos in ("[]", "[]", "list(root)"):
        (tmp_path / "edited.py").write_text(f"def clips(root): return {videos}\n")
        run(monkeypatch, "main", "--data", f"{tmp_path / 'edited.py'}:clips={tmp_path}", "-o", tmp_path / "run")
        del sys.modules["edited"], CUSTOM_VIDEO_SETS.known["edited:clips"]  # as in a new process
    first, same, other = (origin["data's code"] for origin in begun)
    assert first
    assert first == same != other
