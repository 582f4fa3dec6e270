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
