import csv
import json

import numpy as np
import pytest
import torch
from compared_clip import first_masks, tiny_trackers, write_clip
from drawn_clip import drawn_clip, write_video
from PIL import Image
from refusals import refusal

import mnemask as mm
from mnemask.comparison import compare_video
from mnemask.comparison.track import read_labels
from mnemask.config import TrackerConfig
from mnemask.evaluation.runner import TrackerFactory
from mnemask.evaluation.score import score_folder
from mnemask.memory.policies import LFU, POLICIES
from mnemask.metrics import region_similarity

COMPARED = ["lfu", "keep-all"]


@pytest.fixture(scope="module")
def files(tmp_path_factory, tiny_model):
    """Video, true masks and tracker settings."""
    folder = tmp_path_factory.mktemp("clip")
    return *write_clip(folder), tiny_trackers(tiny_model, folder)


@pytest.fixture(scope="module")
def compared(files, tmp_path_factory):
    """A comparison without true masks, and its folder."""
    video, truth, trackers = files
    out = tmp_path_factory.mktemp("out")
    return compare_video(video, first_masks(truth), COMPARED, out, trackers), out


def stages(seen):
    return list(dict.fromkeys(seen))


def test_the_masks_are_those_that_segment_writes(files, compared, tmp_path):
    video, truth, trackers = files
    with mm.VideoReader(video) as reader:
        mm.segment(reader, trackers.with_policy("lfu").tracker(), tmp_path, first_masks(truth)())
    mine = compared[1] / "policies/lfu/masks"
    names = sorted(path.name for path in mine.iterdir())
    assert names == [f"{index:05d}.png" for index in range(8)]
    assert all((mine / name).read_bytes() == (tmp_path / "masks" / name).read_bytes() for name in names)


def test_it_leaves_a_page_numbers_and_overlays_and_nothing_else(compared):
    comparison, out = compared
    assert {path.name for path in out.glob("[!.]*")} == {
        "compare.html",
        "compare.json",
        "compare.csv",
        "frames.csv",
        "policies",
    }
    assert {path.name for path in (out / "policies").glob("[!.]*")} == {*COMPARED, "settings.json"}
    assert (out / "policies/lfu/overlay.mp4").stat().st_size > 0
    told = json.loads((out / "compare.json").read_text())
    assert [each["policy"] for each in told["policies"]] == COMPARED
    assert told["ranked_by"] == "consistency"
    assert told["agreement"][0]["mean"] == pytest.approx(comparison.agreement_of("lfu"))
    with (out / "frames.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["frame"]) for row in rows] == list(range(8))
    assert [int(row["lfu bytes"]) for row in rows] == comparison.runs["lfu"].bank_bytes


def test_consistency_is_j_of_the_given_masks_found_again_from_the_last_mask(files, compared):
    video, truth, trackers = files
    comparison, out = compared
    masks = out / "policies/lfu/masks"
    last = read_labels(masks / "00007.png")
    tracker = trackers.with_policy("lfu").tracker()
    with mm.VideoReader(video) as reader:
        frames = list(reader)[::-1]
    visible = [i for i in (1, 2) if (last == i).any()]
    assert visible
    for step, frame in enumerate(frames):
        answer = tracker.step(frame.image, {i: last == i for i in visible} if step == 0 else None)
    found, given = answer.labels.numpy(), read_labels(truth / "00000.png")
    way_back = comparison.ways_back["lfu"]
    for i in (1, 2):
        expected = region_similarity(found == i, given == i) if i in visible else 0.0
        # On the way back frames are JPEGs of quality 95, which may move a pixel of an outline.
        assert way_back.objects[i] == pytest.approx(expected, abs=0.1)
    assert way_back.frames[-1] == pytest.approx(1, abs=0.02)  # the last mask was given
    assert comparison.quality("lfu") == pytest.approx(np.mean(list(way_back.objects.values())))


def test_what_is_finished_is_not_tracked_again_and_policies_can_be_added(files, compared):
    video, truth, trackers = files
    out = compared[1]
    written = (out / "policies/lfu/result.json").stat().st_mtime_ns
    seen, reused = [], []

    def listen(progress):
        seen.append(progress.stage)
        reused[:] = progress.reused

    comparison = compare_video(video, first_masks(truth), [*COMPARED, "fifo"], out, trackers, on_progress=listen)
    assert stages(seen) == ["reading", "fifo", "fifo, back", "comparing"]
    assert reused == COMPARED
    assert (out / "policies/lfu/result.json").stat().st_mtime_ns == written
    assert len(comparison.agreement) == 3
    assert [row["policy"] for row in comparison.rows()] == [*COMPARED, "fifo"]


def test_true_masks_are_scored_as_the_score_command_does(files, compared):
    video, truth, trackers = files
    out = compared[1]
    comparison = compare_video(video, first_masks(truth), COMPARED, out, trackers, gt=truth)
    for policy in COMPARED:
        expected = score_folder(truth, out / "policies" / policy / "masks")
        assert comparison.scores[policy].rows()[-1] == expected.rows()[-1]
        curve = comparison.curves[policy]
        assert (curve[0], curve[-1]) == (None, None)
        mean = np.mean([(s.region_frames, s.boundary_frames) for s in expected.objects], axis=(0, 1))
        np.testing.assert_allclose(curve[1:-1], mean)
    assert comparison.measure == "J&F"


def test_an_interrupted_run_keeps_the_finished_policies_and_leaves_no_frames(files, tmp_path):
    video, truth, trackers = files
    calls = []

    def prompts():
        calls.append(1)
        return first_masks(truth)() if len(calls) == 1 else stopping

    def stopping(frame):
        if frame.index == 3:
            raise KeyboardInterrupt
        return first_masks(truth)()(frame)

    with pytest.raises(KeyboardInterrupt):
        compare_video(video, prompts, COMPARED, tmp_path, trackers, consistency=False)
    assert (tmp_path / "policies/lfu/result.json").exists()
    assert not (tmp_path / "policies/keep-all").exists()
    assert not (tmp_path / ".frames.partial").exists()
    seen = []
    compare_video(
        video,
        first_masks(truth),
        COMPARED,
        tmp_path,
        trackers,
        consistency=False,
        on_progress=lambda progress: seen.append(progress.stage),
    )
    assert stages(seen) == ["reading", "keep-all", "comparing"]
    assert {path.name for path in (tmp_path / "policies").glob("[!.]*")} == {*COMPARED, "settings.json"}


def test_other_settings_are_refused_unless_it_is_to_begin_anew(files, compared, tmp_path):
    video, truth, trackers = files
    mine = tmp_path / "policies/mine.txt"
    compare_video(video, first_masks(truth), ["fifo"], tmp_path, trackers, consistency=False)
    mine.write_text("kept")
    other = {"consistency": False, "settings": {"mask": "another"}}
    with refusal(mm.InputError, "another"):
        compare_video(video, first_masks(truth), ["fifo"], tmp_path, trackers, **other)
    compare_video(video, first_masks(truth), ["fifo"], tmp_path, trackers, overwrite=True, **other)
    assert mine.read_text() == "kept"


def test_another_policy_of_a_name_that_is_not_built_in_is_not_taken_for_the_one_before(files, tmp_path, monkeypatch):
    video, truth, trackers = files
    monkeypatch.setitem(POLICIES, "mine", LFU(write_every=2))
    compare_video(video, first_masks(truth), ["mine"], tmp_path, trackers, consistency=False)
    monkeypatch.setitem(POLICIES, "mine", LFU(write_every=7))
    with refusal(mm.InputError, "mine", "--overwrite"):
        compare_video(video, first_masks(truth), ["mine"], tmp_path, trackers, consistency=False)


def test_another_video_of_the_same_name_is_not_taken_for_the_one_before(files, tmp_path, tiny_model):
    video, truth = write_clip(tmp_path)
    trackers, out = tiny_trackers(tiny_model, tmp_path), tmp_path / "out"
    compare_video(video, first_masks(truth), ["fifo"], out, trackers, consistency=False)
    (video / "00007.png").unlink()
    with refusal(mm.InputError, r"--overwrite"):
        compare_video(video, first_masks(truth), ["fifo"], out, trackers, consistency=False)
    compare_video(video, first_masks(truth), ["fifo"], out, trackers, consistency=False, overwrite=True)


def test_an_object_that_came_late_does_not_count_against_the_way_back_before_it_came(tmp_path):
    video, truth = write_clip(tmp_path, num_frames=4)
    early, late = (read_labels(truth / f"0000{index}.png") for index in (0, 2))

    def prompts():
        given = {0: {1: torch.from_numpy(early == 1)}, 2: {2: torch.from_numpy(late == 2)}}
        return lambda frame: given.get(frame.index)

    trackers = TrackerFactory(
        TrackerConfig(short_side=64), device="cpu"
    )  # the shipped weights, which follow object 2 back to frame 0
    comparison = compare_video(video, prompts, ["keep-all"], tmp_path / "out", trackers)
    back = comparison.ways_back["keep-all"]
    assert comparison.runs["keep-all"].given == {0: [1], 2: [2]}
    # In frame 0 only object 1 was there on the way there.
    assert back.frames[0] == pytest.approx(back.objects[1])


def test_a_budget_limits_only_policies_that_forget(files, tmp_path, tiny_model):
    video, truth, _ = files
    trackers = tiny_trackers(tiny_model, tmp_path, budget=mm.Budget(frames=2.0))
    comparison = compare_video(video, first_masks(truth), COMPARED, tmp_path, trackers, consistency=False)
    lfu, keep_all = comparison.rows()
    assert (lfu["budget"], keep_all["budget"]) == ("2 frames", "no limit")
    assert max(comparison.runs["lfu"].frames_held) <= 2 < max(comparison.runs["keep-all"].frames_held)


def test_what_cannot_be_compared_is_refused_before_anything_is_tracked(files, tmp_path):
    video, truth, trackers = files

    def compare(**changed):
        arguments = {"source": video, "policies": ["fifo"], "gt": None, "new_prompts": first_masks(truth)} | changed
        compare_video(out=tmp_path, trackers=trackers, **arguments)

    with refusal(mm.InputError, "compare"):
        compare(policies=[])
    with refusal(mm.InputError, "nonsense"):
        compare(policies=["nonsense"])
    with refusal(mm.InputError, "nothing"):
        compare(source=video / "00000.png")
    with refusal(mm.InputError, "folder"):
        compare(gt=tmp_path / "nothing")
    (tmp_path / "few").mkdir()
    with refusal(mm.InputError, r"00000.png", r"00007.png"):
        compare(gt=tmp_path / "few")
    (tmp_path / "others").mkdir()
    for path in truth.glob("*.png"):
        with Image.open(path) as image:
            sevens = np.where(np.asarray(image) > 0, 7, 0).astype(np.uint8)
        Image.fromarray(sevens).save(tmp_path / "others" / path.name)

    def of_object_1():
        def prompts(frame):
            return {}

        prompts.to_come = {0: (1,)}
        return prompts

    with refusal(mm.InputError, "object 1 is given", "show 7"):
        compare(gt=tmp_path / "others", new_prompts=of_object_1)
    assert not (tmp_path / "policies/fifo").exists()


def test_a_damaged_result_is_named(files, tmp_path):
    video, truth, trackers = files
    broken = tmp_path / "policies/fifo/result.json"
    broken.parent.mkdir(parents=True)
    broken.write_text("{}")
    with refusal(mm.InputError, "result"):
        compare_video(video, first_masks(truth), ["fifo"], tmp_path, trackers)


def test_masks_just_beyond_the_end_of_a_video_of_about_that_length_are_refused_before_anything_is_tracked(
    files, tmp_path, monkeypatch
):
    _, truth, trackers = files
    video = write_video(tmp_path / "clip.mkv", drawn_clip(4)[0])
    monkeypatch.setattr("mnemask.pipeline.expected.most_frames", lambda path: None)

    def prompts():
        given = first_masks(truth)()

        def of_frame(frame):
            return given(frame)

        of_frame.to_come = {0: (1, 2), 4: (1,)}
        return of_frame

    with refusal(mm.InputError, "frame 4", "4 frames"):
        compare_video(video, prompts, ["fifo"], tmp_path / "out", trackers, consistency=False)
    assert not list((tmp_path / "out/policies").glob("[!.]*/"))
