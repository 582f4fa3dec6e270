"""Strips of frames: which frames, how objects are drawn, and the picture of a sequence."""

import numpy as np
import pytest
from drawn_davis import draw_davis_2016
from PIL import Image

from mnemask.config import TrackerConfig
from mnemask.evaluation.benchmark import Benchmark
from mnemask.evaluation.runner import TrackerFactory
from mnemask.experiments import Experiment, Run, run_experiment
from mnemask.experiments.figures import Strips, _overlap, in_common, outlined, where_they_part
from mnemask.experiments.rows import run_rows


def square(top, left, label=1):
    labels = np.zeros((60, 80), np.uint8)
    labels[top : top + 20, left : left + 20] = label
    return labels


def test_of_each_stretch_the_frame_is_taken_in_which_the_runs_part_most():
    alike = [0.0, 0.9, 0.2, 0.9, 0.9, 0.8, 0.1]
    assert where_they_part(alike, 2) == [2, 6]
    assert where_they_part(alike, 1) == [6]


def test_where_all_runs_agree_the_middle_of_each_stretch_is_taken():
    assert where_they_part([1.0] * 11, 2) == [3, 8]


def test_a_short_video_gives_all_its_frames_but_the_first():
    assert where_they_part([1.0] * 4, 6) == [1, 2, 3]


def test_masks_have_in_common_what_all_say_alike():
    assert in_common([square(10, 10), square(10, 10)]) == 1
    assert in_common([square(10, 10), square(10, 20)]) == pytest.approx(200 / 600)
    assert in_common([square(10, 10), square(10, 10, label=2)]) == 0
    assert in_common([np.zeros((60, 80), np.uint8)] * 2) == 1


def test_objects_are_filled_lightly_and_outlined_in_colours_of_their_own():
    image = np.full((60, 80, 3), 100, np.uint8)
    labels = square(5, 5) + square(30, 50, label=2)
    labels[0, 0] = 255
    drawn = outlined(image, labels, void=255)
    assert (image == 100).all()
    assert (drawn[0, 0] == 100).all(), "void is no object"
    assert (drawn[50, 10] == 100).all()
    first, second = drawn[15, 15].astype(int), drawn[40, 60].astype(int)
    assert abs(first - second).max() > 30
    assert abs(first - 100).max() < 60
    assert abs(drawn[5, 15].astype(int) - 100).max() > abs(first - 100).max()


def test_a_picture_of_each_sequence_has_the_frames_the_truth_and_the_runs_in_rows(tmp_path):
    davis = Benchmark(draw_davis_2016(tmp_path / "davis", names=("camel",)), "davis2016")
    run, trackers = Run("oldest first", "fifo", frames=2), TrackerFactory(TrackerConfig(short_side=64), device="cpu")
    pictures = {}
    for columns in (2, 3):
        experiment = Experiment("own", "Frames", (run,), run_rows, picture=Strips((run,), columns))
        findings = run_experiment(experiment, davis, tmp_path / "lab", trackers)
        (path,) = [path for path in findings.files if path.suffix == ".png"]
        assert path.name == "own-camel.png"
        pictures[columns] = np.asarray(Image.open(path).convert("RGB"))
    assert pictures[3].shape[0] == pictures[2].shape[0]
    assert pictures[3].shape[1] > 1.3 * pictures[2].shape[1]
    assert (pictures[2].std((1, 2)) > 0).mean() > 0.9, "tiles fill the sheet from top to bottom"


def test_any_object_counts_where_the_truth_shows_none():
    truth = np.zeros((4, 4), np.uint8)
    assert _overlap(truth, truth, None) == 1
    assert _overlap(np.full((4, 4), 2, np.uint8), truth, None) == 0
    truth[:2] = 255
    assert _overlap(np.zeros_like(truth), truth, void=255) == 1
    assert _overlap(truth // 255, truth, void=255) == 1, "void counts for nothing"


def test_an_object_255_is_drawn_and_counts():
    truth = square(5, 5, label=85) + square(30, 50, label=255)
    image = np.full((60, 80, 3), 100, np.uint8)
    assert (outlined(image, truth, void=None)[40, 60] != 100).any()
    lost = np.where(truth == 255, 0, truth)
    assert _overlap(lost, truth, void=None) == 0.5
    assert _overlap(lost, truth, void=255) == 1
