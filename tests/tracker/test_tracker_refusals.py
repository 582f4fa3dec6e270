from copy import deepcopy

import numpy as np
import pytest
import torch
from refusals import refusal
from tracking import CELLS, assert_same_state, equal

from mnemask import Budget, Tracker, load_model
from mnemask.errors import BudgetError, FrameError, InputError, MaskError, ObjectIdError
from mnemask.memory.bank import MemoryBank
from mnemask.memory.policies import LFU, FirstAndLatest, KeepAll
from mnemask.model import preprocess
from mnemask.model.stcn import STCN
from mnemask.prompts.clicks import ClickSegmenter


def bad_calls(frames, masks):
    """Name, frame, prompts and the error of every kind of call that must be refused."""
    picture, mask = frames[3], masks[3, 1]
    nothing = torch.zeros_like(mask)
    return [
        ("another size", frames[3][:, :48], None, FrameError, r"96×48 pixels.*96×64 pixels"),
        ("float pixels", picture.float() / 255, None, FrameError, r"float32.*uint8.*255 \*"),
        ("float bytes", picture.float(), None, FrameError, r"float32.*uint8.*0 to 255 with x\.round"),
        ("four channels", torch.cat((picture, picture[:1])), None, FrameError, r"\(4, 64, 96\)"),
        ("grey", picture[0], None, FrameError, r"\(64, 96\)"),
        ("batch", picture[None], None, FrameError, r"\(1, 3, 64, 96\)"),
        ("empty frame", picture[:, :0], None, FrameError, r"\(3, 0, 96\)"),
        ("channels last tensor", picture.permute(1, 2, 0), None, FrameError, r"\(64, 96, 3\)"),
        ("channels first array", picture.numpy(), None, FrameError, "height, width, 3|3, 64, 96|96, 3, 64"),
        ("float array", picture.permute(1, 2, 0).numpy() / 255, None, FrameError, "float64"),
        ("grey array", picture[0].numpy(), None, FrameError, r"\(64, 96\)"),
        ("no picture", None, None, FrameError, "NoneType"),
        ("a path", "frame.png", None, FrameError, "str"),
        ("empty mask", picture, {1: nothing}, MaskError, "object 1 in frame 3 is empty"),
        ("one empty of two", picture, {2: mask, 1: nothing}, MaskError, "object 1 in frame 3 is empty"),
        ("small mask", picture, {2: mask[:32]}, MaskError, r"\(32, 96\).*\(64, 96\)"),
        ("mask of numbers", picture, {2: mask.to(torch.uint8)}, MaskError, r"uint8.*bool"),
        ("array of numbers", picture, {2: 255 * mask.numpy().astype(np.uint8)}, MaskError, r"uint8.*bool"),
        ("array of the other byte order", picture, {2: mask.numpy().astype(">i4")}, MaskError, r">i4.*bool"),
        ("array of objects", picture, {2: mask.numpy().astype(object)}, MaskError, r"object of shape.*bool"),
        ("mask of channels", picture, {2: mask[None]}, MaskError, r"\(1, 64, 96\)"),
        ("an unknown object gone", picture, {2: None}, ObjectIdError, "object id 2 is not tracked"),
        ("a list", picture, {2: mask.tolist()}, MaskError, "list"),
        ("a bare mask", picture, mask, MaskError, "without the id"),
        ("a list of masks", picture, [mask], MaskError, "list"),
        ("a small label map", picture, mask[:32].int(), MaskError, r"\(32, 96\).*\(64, 96\)"),
        ("a label map of fractions", picture, mask.float(), MaskError, "float32"),
        ("an empty label map", picture, nothing.int(), MaskError, "marks no object"),
        ("a negative label", picture, -mask.numpy().astype(np.int32), ObjectIdError, "object id -1"),
        ("id 0", picture, {0: mask}, ObjectIdError, "object id 0 .*background"),
        ("id -1", picture, {-1: mask}, ObjectIdError, "object id -1"),
        ("id too large", picture, {65536: mask}, ObjectIdError, "65536.*65535"),
        ("id of another kind", picture, {1.5: mask}, ObjectIdError, "1.5"),
        ("id as text", picture, {"car": mask}, ObjectIdError, "'car'"),
        ("id True", picture, {True: mask}, ObjectIdError, "True"),
        ("good and bad id", picture, {2: mask, 0: ~mask}, ObjectIdError, "object id 0"),
    ]


@pytest.fixture(scope="module")
def under_way(tiny_model, clip):
    """Two trackers that have seen three frames and follow object 1, to be forked; they have no tensor in common."""
    trackers = [Tracker(tiny_model, policy="lfu", short_side=None) for _ in range(2)]
    for t in range(3):
        for tracker in trackers:
            tracker.step(clip[0][t], {1: clip[1][0, 0]} if t == 0 else None)
    return trackers


@pytest.mark.parametrize("number", range(36))
def test_a_call_that_cannot_be_answered_is_refused_in_a_sentence_and_leaves_no_trace(
    under_way, clip, number, as_users_call_it
):
    frames, masks = clip
    assert number < len(bad_calls(frames, masks)) <= 36
    name, picture, prompts, error, message = bad_calls(frames, masks)[number]
    tracker, twin = (each.fork() for each in under_way)
    with pytest.raises(error, match=message) as caught:
        tracker.step(picture, prompts)
    assert "\n" not in str(caught.value), name
    assert_same_state(tracker, twin)
    assert equal(tracker.step(frames[3], {1: masks[3, 0]}), twin.step(frames[3], {1: masks[3, 0]}))
    assert_same_state(tracker, twin)


def test_a_bad_first_call_leaves_a_tracker_that_has_seen_nothing(make, clip, as_users_call_it):
    frames, masks = clip
    tracker = make()
    for _, picture, prompts, error, _ in bad_calls(frames, masks)[1:]:
        with pytest.raises(error):
            tracker.step(picture, prompts)
    assert_same_state(tracker, make())


@pytest.mark.parametrize(
    ("policy", "budget", "frame"),
    [
        (KeepAll(), Budget(frames=2), 10),
        (KeepAll(write_every=100), Budget(frames=1.5), 4),
        (LFU(), Budget(frames=1), 4),
        (FirstAndLatest(), Budget(frames=1), 4),
        (LFU(), Budget(bytes=None, tokens=CELLS + 3), 4),
    ],
)
def test_a_frame_that_does_not_fit_the_budget_leaves_no_trace(make, clip, policy, budget, frame):
    frames, masks = clip
    prompts = {0: {1: masks[0, 0]}, 4: {2: masks[4, 1]}} if frame == 4 else {0: {1: masks[0, 0]}}
    tracker, twin = make(policy, budget=budget), make(policy, budget=budget)
    for t in range(frame):
        for each in (tracker, twin):
            each.step(frames[t], prompts.get(t))
    for _ in range(2):
        with refusal(BudgetError, "budget") as caught:
            tracker.step(frames[frame], prompts.get(frame))
        assert "\n" not in str(caught.value)
        assert_same_state(tracker, twin)
    if frame == 4:
        assert equal(tracker.step(frames[4]), twin.step(frames[4]))


@pytest.mark.parametrize("budget", [Budget(frames=0.5), Budget(tokens=CELLS - 1), Budget(bytes="1MiB")])
def test_a_budget_below_one_frame_is_refused_at_the_first_prompt(make, clip, budget):
    frames, masks = clip
    tracker = make(budget=budget)
    tracker.step(frames[0])
    for _ in range(2):
        with refusal(BudgetError, r"24"):
            tracker.step(frames[1], {1: masks[1, 0]})
        assert tracker.object_ids == ()
        assert tracker.memory.tokens is None
    assert torch.count_nonzero(tracker.step(frames[1]).labels) == 0


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (STCN, "encode_key"),
        (MemoryBank, "read"),
        (STCN, "decode"),
        (STCN, "encode_value"),
        (LFU, "update"),
        (preprocess, "unpad"),
    ],
)
def test_a_call_that_is_interrupted_anywhere_leaves_no_trace(make, clip, monkeypatch, owner, name):
    frames, masks = clip
    tracker, twin = make(), make()
    for each in (tracker, twin):
        each.step(frames[0], {1: masks[0, 0]})

    def interrupt(*_args, **_settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(owner, name, interrupt)
    with pytest.raises(KeyboardInterrupt):
        tracker.step(frames[1], {2: masks[1, 1]})
    monkeypatch.undo()
    assert_same_state(tracker, twin)
    assert equal(tracker.step(frames[1]), twin.step(frames[1]))


def test_a_frame_that_would_be_enlarged_beyond_all_bounds_is_refused(make):
    sliver = torch.zeros(3, 1, 500, dtype=torch.uint8)
    with refusal(FrameError, r"500×1", r"--size"):
        make(short_side=480).step(sliver)


@pytest.mark.parametrize("object_id", [2, 0, 70000, None])
def test_removing_what_is_not_tracked_is_refused(make, clip, object_id, as_users_call_it):
    frames, masks = clip
    tracker, twin = make(), make()
    for each in (tracker, twin):
        each.step(frames[0], {1: masks[0, 0]})
    with refusal(ObjectIdError, r"\[1\]"):
        tracker.remove(object_id)
    assert_same_state(tracker, twin)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"policy": "newest"}, "newest"),
        ({"top_k": 0}, "top_k is 0"),
        ({"top_k": 2.5}, "top_k is 2.5"),
        ({"metric": "euclid"}, "euclid"),
        ({"short_side": 8}, "short_side is 8"),
        ({"short_side": -1}, "short_side is -1"),
        ({"policy": LFU}, "policy"),
        ({"budget": 2}, "budget"),
        ({"budget": "64MiB"}, "budget"),
        ({"size": 64}, "'size'.*short_side"),
    ],
)
def test_impossible_settings_are_refused(make, settings, message, as_users_call_it):
    with refusal(InputError, message):
        make(**settings)


def test_what_is_no_network_is_refused_with_what_is(tiny_model, as_users_call_it):
    for wrong, said in (
        ("compact", "'compact'"),
        (None, "NoneType"),
        (torch.nn.DataParallel(tiny_model), "model.module"),
        (deepcopy(tiny_model).to("meta"), "meta"),
    ):
        for use in (Tracker, ClickSegmenter):
            with refusal(InputError, said):
                use(wrong)
    with refusal(InputError, "'compact'"):
        Tracker.load("any.bank", "compact")
    with refusal(InputError, "Tracker.load"):
        Tracker(tiny_model).warm_start("any.bank")
    for dtype in ("float32", torch.int8):
        with refusal(InputError, "dtype"):
            load_model(dtype=dtype)
    assert Tracker(torch.compile(tiny_model, backend="eager"), short_side=None).config.short_side is None
