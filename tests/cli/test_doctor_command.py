"""`mnemask doctor` as it is used: exit codes, findings for people and for programs."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def mask(tmp_path):
    labels = np.zeros((64, 96), np.uint8)
    labels[16:48, 20:60] = 1
    Image.fromarray(labels).save(tmp_path / "mask.png")
    return tmp_path / "mask.png"


def doctor(*arguments):
    command = [sys.executable, "-m", "mnemask", "doctor", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_a_good_mask_is_no_problem(mask):
    done = doctor(mask)
    assert (done.returncode, done.stderr) == (0, "")
    assert "object 1" in done.stdout


def test_problems_end_with_1_and_each_says_what_to_do(mask, tmp_path):
    (tmp_path / "video.mp4").write_bytes(b"no video" * 20)
    done = doctor(mask, tmp_path / "video.mp4", tmp_path / "absent.png", "--json")
    assert done.returncode == 1
    *findings, result = map(json.loads, done.stdout.splitlines())
    problems = [finding for finding in findings if finding["severity"] == "problem"]
    assert [finding["file"].rpartition("/")[2] for finding in problems] == ["video.mp4", "absent.png"]
    assert all(finding["what"] and finding["remedy"] for finding in problems)
    assert (result["ok"], result["problems"]) == (False, 2)


def test_without_a_file_the_installation_is_tried(mask):
    done = doctor("--json")
    assert done.returncode == 0, done.stdout
    *findings, result = map(json.loads, done.stdout.splitlines())
    assert result["ok"]
    assert any("tracked" in finding["what"] for finding in findings)
