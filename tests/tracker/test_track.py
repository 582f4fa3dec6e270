"""A whole video in one call."""

import pytest
import torch
from refusals import refusal

import mnemask as mm
from mnemask.errors import InputError
from mnemask.memory.policies import LFU

CONFIG = mm.TrackerConfig("lfu", short_side=None)


def test_masks_are_those_of_the_tracker_frame_by_frame(clip, tiny_model):
    frames, masks = clip
    prompts = {0: {7: masks[0, 0]}, 3: {2: masks[3, 1]}}
    tracker = mm.Tracker(tiny_model, CONFIG)
    expected = [tracker.step(frame, prompts.get(index)).probs for index, frame in enumerate(frames)]
    for source in (prompts, lambda frame: prompts.get(frame.index)):
        found = [masks.probs for masks in mm.track(frames, tiny_model, source, CONFIG)]
        assert all(map(torch.equal, found, expected))
        assert len(found) == len(expected)


def test_frames_are_read_as_masks_are_asked_for(clip, tiny_model):
    frames, masks = clip
    read = []
    each = mm.track((read.append(frame) or frame for frame in frames), tiny_model, {0: {7: masks[0, 0]}}, CONFIG)
    assert next(each).object_ids == (7,)
    assert len(read) == 1


def test_a_video_file_is_opened_and_closed(tiny_model, tmp_path):
    video = mm.DrawnVideo(3, (64, 96), 1)
    with mm.MaskWriter(tmp_path / "clip.mp4", "overlay") as writer:
        for frame, _ in video:
            writer.write(
                mm.Masks(torch.zeros(64, 96, dtype=torch.int32), torch.ones(1, 64, 96), (), frame.index), frame
            )
    found = list(mm.track(tmp_path / "clip.mp4", tiny_model, {0: video[0][1]}, CONFIG))
    assert [masks.index for masks in found] == [0, 1, 2]


def test_a_prompt_for_a_frame_that_never_comes_is_said(clip, tiny_model):
    frames, masks = clip
    each = mm.track(frames[:2], tiny_model, {0: {7: masks[0, 0]}, 240: {8: masks[0, 1]}}, CONFIG)
    with refusal(InputError, "240", "last frame is 1"):
        list(each)
    with refusal(InputError, "frame 0", "no frames"):
        list(mm.track([], tiny_model, {0: {7: masks[0, 0]}}, CONFIG))


@pytest.mark.parametrize(
    ("prompts", "said"),
    [
        ([{}], "list"),
        (None, "NoneType"),
        ({-1: {}}, "-1"),
        ({"0": {}}, "'0'"),
        ({0.5: {}}, "0.5"),
        ({True: {}}, "True"),
    ],
)
def test_prompts_that_are_of_no_frame_are_refused_before_the_first(clip, tiny_model, prompts, said, as_users_call_it):
    with refusal(InputError, said):
        mm.track(clip[0], tiny_model, prompts, CONFIG)


def test_a_prompt_for_a_frame_that_is_passed_over_or_before_the_first_is_said(clip, tiny_model):
    frames, masks = clip
    numbered = [mm.Frame(frame, 10 + 2 * number) for number, frame in enumerate(frames[:3])]
    with refusal(InputError, "frame 13", "no such frame"):
        list(mm.track(numbered, tiny_model, {10: {7: masks[0, 0]}, 13: {7: masks[1, 0]}}, CONFIG))
    with refusal(InputError, "frame 0", "begins at 10"):
        next(mm.track(numbered, tiny_model, {0: {7: masks[0, 0]}}, CONFIG))
    assert len(list(mm.track(numbered[::-1], tiny_model, {14: {7: masks[2, 0]}, 10: {7: masks[0, 0]}}, CONFIG))) == 3


def test_a_tracker_that_goes_on_does_not_ask_for_the_frames_before(clip, tiny_model):
    frames, masks = clip
    tracker, prompts = mm.Tracker(tiny_model, CONFIG), {0: {7: masks[0, 0]}, 3: {7: masks[3, 0]}}
    whole = [answer.labels for _, answer in mm.Tracker(tiny_model, CONFIG).follow(frames[:5], prompts)]
    halves = [*tracker.follow(frames[:2], {0: prompts[0]}), *tracker.follow(frames[2:5], prompts)]
    assert all(torch.equal(one, answer.labels) for one, (_, answer) in zip(whole, halves, strict=True))


@pytest.mark.parametrize("video", [None, 7])
def test_what_is_no_video_is_refused_at_once(tiny_model, video, as_users_call_it):
    with refusal(InputError, type(video).__name__):
        mm.track(video, tiny_model, {}, CONFIG)


@pytest.mark.parametrize(
    "wrong",
    [
        {"policy": "none-such"}, {"policy": 3}, {"budget": 2}, {"write_every": 0}, {"write_every": True}, {"top_k": 0},
        {"write_on_growth": 1}, {"write_on_growth": False}, {"write_above_certainty": -0.1},
        {"write_above_certainty": None}, {"metric": "l3"}, {"kmn_sigma": 0.001},
        {"stride8_weight": -1}, {"stride8_weight": float("nan")}, {"short_side": 8},
    ],
)  # fmt: skip
def test_an_impossible_setting_is_refused_when_the_config_is_made(wrong):
    with pytest.raises((InputError, TypeError)):
        mm.TrackerConfig(**wrong)


@pytest.mark.parametrize(
    "config",
    [
        mm.TrackerConfig(),
        mm.TrackerConfig(LFU(pin=False, write_every=3), mm.Budget(bytes="20MiB"), top_k=7, metric="dot"),
        mm.TrackerConfig("afb", write_every=9, write_on_growth=0.7, write_above_certainty=0.9),
        mm.TrackerConfig("afb", write_every=2, kmn_sigma=0.15, stride8_weight=2.0, short_side=None),
    ],
)
def test_a_config_comes_back_from_its_dictionary(config):
    assert mm.TrackerConfig.from_dict(config.to_dict()).to_dict() == config.to_dict()
    filled = config.filled(0.2)
    assert filled.write_every == config.used_policy().write_every
    assert filled.filled(0.0) == filled
