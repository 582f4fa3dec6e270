import json

import cv2
import pytest
import torch
from drawn_clip import drawn_clip
from PIL import Image
from refusals import refusal

from mnemask import Budget, Frame, InputError, Tracker
from mnemask.errors import CheckpointError, FrameError, OutputError
from mnemask.inspection import inspect_bank, inspect_video
from mnemask.io import VideoReader
from mnemask.io.written import Written
from mnemask.memory.policies import LFU
from mnemask.memory.storage import load_bank, save_bank


@pytest.fixture
def clip():
    """Eight frames that can be read again and again, and what is known of them."""
    frames, masks = drawn_clip(8, num_objects=2)
    return [Frame(frame, t) for t, frame in enumerate(frames)], {0: {1: masks[0, 0]}, 3: {2: masks[3, 1]}}


@pytest.fixture
def tracker(tiny_model):
    return Tracker(tiny_model, policy=LFU(write_every=2), budget=Budget(frames=3), short_side=None)


def given(prompts):
    return lambda frame: prompts.get(frame.index)


def test_each_look_leaves_its_pictures_and_numbers(clip, tracker, tmp_path):
    frames, prompts = clip
    seen = []
    written = inspect_video(
        frames,
        tracker,
        given(prompts),
        tmp_path / "out",
        at_frames=[5, 2],
        pixels=[(20, 30)],
        settings={"size": 64},
        on_frame=lambda frame: seen.append(frame.index),
    )
    assert seen == [0, 1, 2, 3, 4, 5]  # nothing is computed beyond the last look
    names = ["memory-000002.png", "pixel-000002-x20-y30.png", "memory-000005.png", "pixel-000005-x20-y30.png"]
    assert [path.name for path in written] == [*names, "memory.json"]
    for path in written[:-1]:
        assert cv2.imread(str(path)).shape[1] == 1280
    told = json.loads(written[-1].read_text())
    assert told["settings"] == {"size": 64}
    first, second = told["looks"]
    assert (first["frame"], second["frame"]) == (2, 5)
    assert (first["object_ids"], second["object_ids"]) == ([1], [1, 2])
    memory = tracker.memory.provenance()
    for name in ("frame", "cell", "topk_count", "age", "pinned"):
        assert second["memory"][name] == getattr(memory, name).tolist()
    explained = tracker.explain(30, 20)
    assert second["explained"] == [json.loads(json.dumps(explained.to_dict()))]


def test_the_last_frame_is_looked_at_by_default_and_looking_changes_no_mask(clip, tracker, tiny_model, tmp_path):
    frames, prompts = clip
    written = inspect_video(frames, tracker, given(prompts), tmp_path)
    assert [path.name for path in written] == ["memory-000007.png", "memory.json"]
    twin = Tracker(tiny_model, policy=LFU(write_every=2), budget=Budget(frames=3), short_side=None)
    for frame in frames:
        twin.step(frame, prompts.get(frame.index))
    assert twin.memory.provenance().columns() == tracker.memory.provenance().columns()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"at_frames": [5, 80]}, "frame 80 was to be inspected, but the video's last frame is 7"),
        ({"pixels": [(96, 0)]}, "outside the frame"),
        ({"at_frames": [0], "pixels": [(1, 1)]}, "no read to explain"),
    ],
)
def test_what_cannot_be_looked_at_is_refused(clip, tracker, tmp_path, arguments, sentence):
    frames, prompts = clip
    with refusal(InputError, sentence):
        inspect_video(frames, tracker, given(prompts), tmp_path, **arguments)
    assert list(tmp_path.iterdir()) == []


def test_frames_that_come_only_once_are_refused_before_anything_is_computed(clip, tracker, tmp_path):
    frames, prompts = clip
    with refusal(InputError, "only"):
        inspect_video(iter(frames), tracker, given(prompts), tmp_path)
    assert tracker.steps == 0


def test_an_inspection_is_not_written_over_another_unless_asked(clip, tracker, tmp_path):
    frames, prompts = clip
    (tmp_path / "memory.json").write_text("precious")
    with refusal(OutputError, "the"):
        inspect_video(frames, tracker, given(prompts), tmp_path, overwrite=True)
    assert tracker.steps == 0
    (tmp_path / "memory.json").unlink()
    inspect_video(frames, tracker, given(prompts), tmp_path, at_frames=[0])
    with refusal(OutputError, "inspection"):
        inspect_video(frames, tracker, given(prompts), tmp_path, at_frames=[1])
    assert (tmp_path / "memory-000000.png").exists()
    assert tracker.steps == 1


def test_no_inspection_takes_the_place_of_a_run(clip, tracker, tmp_path):
    frames, prompts = clip
    Written(tmp_path).write(tmp_path / "report.json", "{}")
    with refusal(OutputError, "run"):
        inspect_video(frames, tracker, given(prompts), tmp_path, overwrite=True)
    assert (tmp_path / "report.json").exists()


def test_a_saved_tracker_is_looked_into_with_and_without_its_video(clip, tracker, tmp_path):
    frames, prompts = clip
    for frame in frames:
        tracker.step(frame, prompts.get(frame.index))
    tracker.save(tmp_path / "a.bank")
    plain = inspect_bank(tmp_path / "a.bank", tmp_path / "plain")
    pictured = inspect_bank(tmp_path / "a.bank", tmp_path / "pictured", frames)
    assert [path.name for path in plain] == ["memory.png", "memory.json"]
    one, other = (cv2.imread(str(written[0])) for written in (plain, pictured))
    assert one.shape == other.shape
    assert (one != other).any()
    look = json.loads(plain[1].read_text())["looks"][0]
    assert look["object_ids"] == [1, 2]
    assert look["memory"]["topk_count"] == tracker.memory.provenance().topk_count.tolist()
    with refusal(InputError, "could"):
        inspect_bank(tmp_path / "a.bank", tmp_path / "short", frames[:1])
    small = [Frame(frame.image[:, :32], frame.index) for frame in frames]
    with refusal(InputError, "video"):
        inspect_bank(tmp_path / "a.bank", tmp_path / "small", small)


def test_a_saved_tracker_that_garbles_its_policy_is_looked_into_all_the_same(clip, tracker, tmp_path):
    frames, prompts = clip
    tracker.step(frames[0], prompts[0])
    tracker.save(tmp_path / "a.bank")
    tokens, facts = load_bank(tmp_path / "a.bank", torch.device("cpu"))
    save_bank(tmp_path / "b.bank", tokens, facts | {"config": facts["config"] | {"policy": ["garbled"]}})
    assert len(inspect_bank(tmp_path / "b.bank", tmp_path / "out")) == 2


@pytest.mark.parametrize("size", [[10**9, 10**9], [0, 64], [64, -64]])
def test_a_saved_tracker_that_claims_impossible_frames_is_refused(clip, tracker, tmp_path, size):
    frames, prompts = clip
    tracker.step(frames[0], prompts[0])
    tracker.save(tmp_path / "a.bank")
    tokens, facts = load_bank(tmp_path / "a.bank", torch.device("cpu"))
    save_bank(tmp_path / "b.bank", tokens, facts | {"size": size})
    with refusal((FrameError, CheckpointError), r"b\.bank"):
        inspect_bank(tmp_path / "b.bank", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_masks_beyond_the_end_of_frames_of_unknown_number_are_refused_before_anything_is_written(
    clip, tracker, tmp_path
):
    frames, prompts = clip

    def of_frame(frame):
        of_frame.to_come.pop(frame.index, None)
        return prompts.get(frame.index)

    of_frame.to_come = {0: (1,), 3: (2,), 8: (1,)}
    with refusal(InputError, "frame 8", "8 frames"):
        inspect_video(frames, tracker, of_frame, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_frame_from_the_stop_of_the_reader_on_is_refused_with_the_stop(clip, tracker, tmp_path):
    frames, prompts = clip
    for frame in frames:
        Image.fromarray(frame.image.permute(1, 2, 0).numpy()).save(tmp_path / f"{frame.index}.png")
    with VideoReader(tmp_path, stop=4) as video, refusal(InputError, "frame 5", "stop=4"):
        inspect_video(video, tracker, given(prompts), tmp_path / "out", at_frames=[5])
    assert not (tmp_path / "out").exists()
