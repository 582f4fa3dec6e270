"""Experiments carried out on drawn sequences with the shipped weights: tables, what is shared, what is refused."""

import csv
import json
import pickle
import shutil
import sys
import zipfile
from dataclasses import dataclass, replace

import pytest
import torch
from drawn_benchmark import draw_video, draw_youtube_vos
from drawn_davis import draw_davis_2016
from refusals import refusal

from mnemask.config import TrackerConfig
from mnemask.engines.parts import SharedWeights
from mnemask.errors import BudgetError, InputError, MissingExtraError
from mnemask.evaluation.benchmark import Benchmark
from mnemask.evaluation.runner import Job, TrackerFactory
from mnemask.experiments import Experiment, Run, rows, run_experiment
from mnemask.experiments.figures import Curves, Line
from mnemask.experiments.plan import COSTS, GROUPS, SHORT
from mnemask.experiments.rows import run_rows
from mnemask.experiments.run import Attempt, open_folder, refusal_of, trackers_of
from mnemask.memory.budget import Budget
from mnemask.memory.policies.base import Policy, make_room

SMALL = TrackerFactory(TrackerConfig(short_side=64), device="cpu")
ALL_MEMORY, ONE_FRAME = Run("all", "keep-all"), Run("all", "keep-all", frames=1)
OLDEST_FIRST = Run("oldest first", "fifo", frames=2)


class Watching:
    """Keeps what was told of the progress, and interrupts at one of the frames, as Ctrl-C does."""

    def __init__(self, interrupt_at=None):
        self.interrupt_at, self.found, self.total = interrupt_at, None, None

    def __call__(self, progress):
        self.found, self.total = progress.found, progress.total
        if progress.frames == self.interrupt_at:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def davis(tmp_path_factory):
    return Benchmark(draw_davis_2016(tmp_path_factory.mktemp("davis")), "davis2016")


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    return tmp_path_factory.mktemp("lab")


@pytest.fixture(scope="module")
def strategies(davis, lab):
    return run_experiment("table1", davis, lab, SMALL)


def test_the_thesis_figures_are_beside_ours(strategies):
    told = [(row["run"], row["source"]) for row in strategies.rows]
    assert told == [
        ("every-5", "this run"), ("every-5", "thesis, all 20"),
        ("first-and-latest", "this run"), ("first-and-latest", "thesis, all 20"),
        ("LFU (thesis)", "this run"), ("LFU (thesis)", "thesis, these 2"), ("LFU (thesis)", "thesis, all 20"),
    ]  # fmt: skip
    assert strategies.rows[-1]["J&F-Mean"] == 0.909
    assert strategies.rows[-2]["J-Mean"] == pytest.approx((0.968 + 0.958) / 2)
    ours = strategies.rows[0]
    assert 0.3 < ours["J-Mean"] < 1
    assert ours["gain"] == pytest.approx(ours["J&F-Mean"] - strategies.rows[2]["J&F-Mean"])
    assert ours["gain-Low"] <= ours["gain"] <= ours["gain-High"]


def test_over_the_whole_set_the_thesis_has_one_row(strategies, davis, lab, tmp_path, monkeypatch):
    shutil.copytree(lab, tmp_path / "lab")
    monkeypatch.setitem(rows.WHOLE_SETS, "davis2016", 2)
    told = [(row["run"], row["source"]) for row in run_experiment("table1", davis, tmp_path / "lab", SMALL).rows]
    assert told[4:] == [("LFU (thesis)", "this run"), ("LFU (thesis)", "thesis")]


def test_notes_say_what_sets_the_figures_apart(strategies):
    notes = "\n".join(strategies.notes)
    for part in (
        "PART OF THE DATA: 2 of the 20",
        "ANOTHER NETWORK",
        "ANOTHER SIZE",
        "ANOTHER READ: tokens are read near",
        "s012",
    ):
        assert part in notes


def test_runs_without_a_kernel_are_others_and_read_as_the_thesis_did(strategies, davis, lab, tmp_path):
    findings = run_experiment("table1", davis, tmp_path, replace(SMALL, config=replace(SMALL.config, kmn_sigma=0)))
    names = [{path.name for path in (folder / "runs").iterdir()} for folder in (lab, tmp_path)]
    assert len(names[1]) == 3
    assert not names[0] & names[1]
    assert "ANOTHER READ" not in "\n".join(findings.notes)


def test_a_run_that_says_its_kernel_has_it():
    common = replace(SMALL, config=replace(SMALL.config, kmn_sigma=0.3))
    own, given = trackers_of(OLDEST_FIRST, common), trackers_of(replace(OLDEST_FIRST, kmn_sigma=0), common)
    assert (own.used_kmn_sigma(), given.used_kmn_sigma()) == (0.3, 0)
    assert own.tracker().memory.kmn_sigma == 0.3
    assert given.tracker().memory.kmn_sigma == 0


def test_the_table_is_written_in_four_formats(strategies, lab):
    folder = lab / "strategies"
    assert [path.name for path in strategies.files] == [
        f"strategies.{suffix}" for suffix in ("csv", "json", "md", "tex")
    ]
    with (folder / "strategies.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[0]["J-Mean"]) == json.loads((folder / "strategies.json").read_text())[0]["J-Mean"]
    text = (folder / "strategies.md").read_text()
    assert "| LFU (thesis) | 2 frames | thesis, all 20 | 90.9 |" in text
    assert "PART OF THE DATA" in text
    assert r"\toprule" in (folder / "strategies.tex").read_text()


def test_runs_that_another_experiment_made_are_not_made_again(strategies, davis, lab):
    before = {path: path.stat().st_mtime_ns for path in lab.glob("runs/*/results/*/*")}
    assert len(before) == 6
    watching = Watching()
    findings = run_experiment("speed", davis, lab, SMALL, on_progress=watching)
    assert (watching.found, watching.total) == (6, 6)
    assert {path: path.stat().st_mtime_ns for path in lab.glob("runs/*/results/*/*")} == before
    assert [set(COSTS) <= set(row) for row in findings.rows] == [True] * 3
    assert "frames/s is that of the tracker alone, on cpu" in "\n".join(findings.notes)


def test_objects_stand_one_by_one_beside_the_thesis(strategies, davis, lab):
    *objects, overall = run_experiment("table8", davis, lab, SMALL).rows
    assert [(row["object"], row["thesis J"], row["thesis F"]) for row in objects] == [
        ("camel_1", 0.968, 0.994), ("dog_1", 0.958, 0.986),
    ]  # fmt: skip
    assert overall["thesis J"] == pytest.approx(0.963)
    assert overall["difference"] == pytest.approx(sum(row["difference"] for row in objects) / 2)


def test_an_interrupted_experiment_goes_on_where_it_stopped(strategies, davis, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run_experiment("table1", davis, tmp_path, SMALL, on_progress=Watching(interrupt_at=14))
    watching = Watching()
    findings = run_experiment("table1", davis, tmp_path, SMALL, on_progress=watching)
    assert (watching.found, watching.total) == (2, 6)
    assert findings.rows == strategies.rows


def test_a_policy_that_cannot_work_with_a_budget_is_told_and_tried_once(davis, lab):
    experiment = Experiment("own", "All memory in one frame", (ONE_FRAME, OLDEST_FIRST), run_rows)
    for found in (0, 4):
        watching = Watching()
        findings = run_experiment(experiment, davis, lab, SMALL, on_progress=watching)
        assert (watching.found, watching.total) == (found, 4)
        impossible, possible = findings.rows
        assert impossible == {"run": "all", "budget": "1 frame", "note": "impossible, see below"}
        assert possible["J-Mean"] > 0.3
        (reason,) = [note for note in findings.notes if "impossible" in note]
        assert "all, 1 frame is impossible: keep-all on camel" in reason
    assert not list(lab.glob("runs/1-frames*/masks/*/.*"))


def test_a_budget_that_is_too_small_for_one_video_is_so_for_no_other_and_no_longer_once_it_is_cut(tmp_path):
    for name, count in (("long", 7), ("short", 4)):  # keep-all writes frames 0 and 5
        draw_video(tmp_path / "videos" / name / "frames", tmp_path / "videos" / name / "masks", count)
    benchmark, experiment = Benchmark(tmp_path / "videos", "folder"), Experiment("own", "Own", (ONE_FRAME,), run_rows)

    def noted(*sequences):
        findings = run_experiment(experiment, benchmark, tmp_path / "lab", SMALL, sequences=sequences)
        (row,), notes = findings.rows, "\n".join(findings.notes)
        assert ("J-Mean" in row) == ("impossible" not in notes)
        return notes

    assert "keep-all on long" in noted("short", "long")
    assert "impossible" not in noted("short")
    assert "keep-all on long" in noted("long")
    for part in ("frames", "masks"):
        for path in (tmp_path / "videos/long" / part).glob("0000[5-6].*"):
            path.unlink()
    assert "impossible" not in noted()


class NoMemoryLeft(SharedWeights):
    """A network on a device that has no memory left."""

    def encode_value(self, image, features, masks):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


class TrackersWithoutMemory(TrackerFactory):
    def tracker(self):
        tracker = super().tracker()
        tracker.model = NoMemoryLeft(tracker.model)
        return tracker


def test_a_device_without_memory_is_an_error_and_not_a_policy_that_cannot_work(davis, tmp_path):
    trackers = trackers_of(OLDEST_FIRST, SMALL)
    folder = open_folder(tmp_path, davis, trackers, SMALL.settings())
    sequence = davis.open()[0]
    with refusal(BudgetError, "device"):
        Attempt(Job(sequence, "fifo", TrackersWithoutMemory(trackers.config, device="cpu"), folder)).run(lambda: None)
    assert refusal_of(Job(sequence, "fifo", trackers, folder)) is None


@dataclass(frozen=True)
class Wilful(Policy):
    """A policy of somebody's own that gives up, or not."""

    gives_up: bool = True

    def update(self, memory, new, budget):
        if self.gives_up and len(memory) > budget // 2:
            raise BudgetError("not today", "come back tomorrow")
        return make_room(memory, memory.written_at, new, budget)


def test_ones_own_policy_is_tried_again_once_it_was_corrected(davis, tmp_path):
    sequence = davis.open()[0]

    def attempt(policy):
        config = replace(SMALL.config, policy=policy, budget=Budget(frames=2), write_every=1)
        trackers = replace(SMALL, config=config)
        return Job(sequence, "wilful", trackers, open_folder(tmp_path, davis, trackers, SMALL.settings()))

    first, corrected = attempt(Wilful()), attempt(Wilful(gives_up=False))
    assert first.folder.out == corrected.folder.out
    assert "not today" in Attempt(first).run(lambda: None)
    assert "not today" in refusal_of(first)
    assert refusal_of(corrected) is None
    assert Attempt(corrected).run(lambda: None).report.j_and_f > 0


def test_a_line_is_drawn_over_a_setting(davis, lab):
    points = (("1", ONE_FRAME), ("2", OLDEST_FIRST))
    experiment = Experiment(
        "line", "How much is enough", (ALL_MEMORY, ONE_FRAME, OLDEST_FIRST), run_rows, baseline=ALL_MEMORY,
        picture=Curves("frames", (Line("some", points),), (ALL_MEMORY,)),
    )  # fmt: skip
    findings = run_experiment(experiment, davis, lab, SMALL)
    png, svg = findings.files[-2:]
    assert png.stat().st_size > 10_000
    text = svg.read_text()
    for part in ("How much is enough", "some", "all", "J&amp;F above all", "frames"):
        assert f">{part}<" in text
    assert f"![line]({png.name})" in (lab / "line/line.md").read_text()
    run_experiment(experiment, davis, lab, SMALL)
    assert svg.read_text() == text


def test_without_matplotlib_an_experiment_with_pictures_says_so_before_it_computes(davis, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with refusal(MissingExtraError, "install"):
        run_experiment("fig11", davis, tmp_path, SMALL)
    assert not list(tmp_path.iterdir())


def test_secret_masks_give_a_zip_for_each_run(tmp_path):
    secret = Benchmark(draw_youtube_vos(tmp_path / "yv"), "youtube-vos")
    experiment = Experiment("own", "Two runs", (OLDEST_FIRST, ALL_MEMORY), run_rows)
    findings = run_experiment(experiment, secret, tmp_path / "lab", replace(SMALL, config=TrackerConfig(short_side=48)))
    zips = [path for path in findings.files if path.suffix == ".zip"]
    assert [path.name for path in zips] == ["oldest first, 2 frames.zip", "all, no limit.zip"]
    assert len(zipfile.ZipFile(zips[0]).namelist()) == 5
    assert "J-Mean" not in findings.rows[0]
    assert any("secret" in note for note in findings.notes)


def test_kinds_that_training_shows_are_those_of_the_present_data_set(tmp_path):
    root = draw_youtube_vos(tmp_path / "yv")
    shutil.copytree(root / "train", root / "held-out")
    benchmark, small = Benchmark(root, "youtube-vos", "held-out"), replace(SMALL, config=TrackerConfig(short_side=48))
    experiment = Experiment("own", "One run", (OLDEST_FIRST,), run_rows, (*SHORT, *GROUPS))

    def kinds():
        (row,) = run_experiment(experiment, benchmark, tmp_path / "lab", small).rows
        return [name for name in GROUPS if row[name] is not None]

    assert kinds() == ["J-seen", "F-seen"]
    meta = root / "train/meta.json"
    meta.write_text(meta.read_text().replace('"ape"', '"bat"'))
    assert kinds() == list(GROUPS)


def test_an_attempt_reaches_another_process_whole(davis, tmp_path):
    common = TrackerFactory(device="cpu")
    trackers = trackers_of(Run("any", "lfu", metric="dot"), common)
    folder = open_folder(tmp_path, davis, trackers, common.settings())
    attempt = Attempt(Job(davis.open()[0], "lfu", trackers, folder))
    assert pickle.loads(pickle.dumps(attempt)) == attempt


def test_no_processes_are_refused(davis, tmp_path):
    with refusal(InputError, "processes"):
        run_experiment("table1", davis, tmp_path, SMALL, processes=0)
