"""The examples run, and what they say is true."""

import runpy
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def test_a_policy_of_ones_own_works_beside_the_packages():
    scores = runpy.run_path(str(EXAMPLES / "own_policy.py"))["main"](num_frames=8)
    assert set(scores) == {"newest", "lfu-pinned", "keep-all"}
    assert min(scores.values()) > 0.8


def test_saving_and_resuming_gives_identical_masks():
    assert runpy.run_path(str(EXAMPLES / "save_and_resume.py"))["main"](num_frames=8)
