"""The examples run, and what they say is true."""

import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def test_a_policy_of_ones_own_works_beside_the_packages():
    scores = runpy.run_path(str(EXAMPLES / "own_policy.py"))["main"](num_frames=8)
    assert set(scores) == {"newest", "lfu-pinned", "keep-all"}
    assert min(scores.values()) > 0.8


def test_saving_and_resuming_gives_identical_masks():
    assert runpy.run_path(str(EXAMPLES / "save_and_resume.py"))["main"](num_frames=8)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The template of a package of one's own, copied and installed into a folder that Python searches."""
    copy, target = tmp_path / "mine", tmp_path / "site"
    shutil.copytree(EXAMPLES / "plugin", copy)
    quiet = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    subprocess.run([sys.executable, "-m", "pip", "install", *quiet, "--target", target, copy], check=True)
    monkeypatch.setattr(sys, "path", [*sys.path, str(target)])
    yield copy
    sys.modules.pop("newest_first", None)


def test_a_package_of_ones_own_brings_all_it_names_once_it_is_installed(installed, monkeypatch):
    from mnemask.datasets.video_sets import CUSTOM_VIDEO_SETS
    from mnemask.memory.policies import policy_named
    from mnemask.training.custom import LOSSES, REGULARIZERS

    assert policy_named("newest(second_chance=3)").second_chance == 3
    assert LOSSES.named("focal(gamma=1)").name == "focal(gamma=1)"
    assert REGULARIZERS.named("tempered").name == "tempered"
    assert "side-by-side" in CUSTOM_VIDEO_SETS.names()
    tests = runpy.run_path(str(installed / "tests/test_newest_first.py"))
    tests["test_the_policy_keeps_the_contract"]()
    tests["test_the_policy_tracks"]()
    tests["test_the_loss_and_the_regularizer_can_be_trained_with"]()
    (installed / "clips").mkdir()
    tests["test_the_data_set_finds_masks_beside_their_frames"](installed / "clips")
    (video,) = CUSTOM_VIDEO_SETS.named("side-by-side")(installed / "clips")
    assert video.name == "cat"
