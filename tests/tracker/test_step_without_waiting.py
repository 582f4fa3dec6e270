"""A step that does not write to memory, whatever its masks are, never makes the host wait for the device."""

from collections import Counter

import pytest
import torch
from refusals import refusal
from torch.utils._python_dispatch import TorchDispatchMode
from tracking import assert_same_state

import mnemask as mm
from mnemask.errors import FrameError
from mnemask.memory import read
from mnemask.model import devices
from mnemask.model.stcn import STCN

WAITING = ("_local_scalar_dense", "nonzero", "item", "is_nonzero", "bincount", "unique", "masked_select", "equal")


class Calls(TorchDispatchMode):
    """Counts the operators that are called within it."""

    def __init__(self):
        super().__init__()
        self.count = Counter()

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        self.count[operator.overloadpacket.__name__.removesuffix(".default")] += 1
        return operator(*args, **(kwargs or {}))

    @property
    def waiting(self):
        return {name: number for name, number in self.count.items() if name in WAITING}


@pytest.mark.parametrize(
    ("policy", "settings"),
    [
        ("diverse", {"write_on_growth": 0}),
        ("lfu", {"kmn_sigma": 0.2}),
        ("keep-all", {"stride8_weight": 4.0}),
        ("fifo", {"metric": "cosine"}),
    ],
)
def test_a_step_that_does_not_write_reads_nothing_back(make, clip, policy, settings):
    frames, masks = clip
    tracker = make(policy, **settings)
    tracker.step(frames[0], {7: masks[0, 0]})
    tracker.step(frames[1], {3: masks[1, 1]})  # a late object reads other tokens than the first one
    tracker.step(frames[2])  # works out who reads what
    with Calls() as calls:
        tracker.step(frames[3])
    assert calls.count["topk"] > 0
    assert calls.waiting == {}


def test_one_gather_serves_all_objects_on_a_gpu_with_the_same_masks(make, clip, monkeypatch):
    frames, masks = clip
    given = {0: {7: masks[0, 0], 3: masks[0, 1]}, 1: {5: masks[1, 2]}}  # two groups, of two objects and of one
    one_by_one, together = make("lfu"), make("lfu")
    expected = [one_by_one.step(frame, given.get(index)).probs for index, frame in enumerate(frames[:4])]
    monkeypatch.setattr(read.Reading, "objects_at_once", lambda reading, max_bytes=None: 8)
    found = [together.step(frame, given.get(index)).probs for index, frame in enumerate(frames[:3])]
    with Calls() as calls:
        found.append(together.step(frames[3]).probs)
    assert sum(number for name, number in calls.count.items() if "embedding_bag" in name) == 2
    assert calls.waiting == {}
    assert all(map(torch.equal, found, expected))


def test_what_reads_back_is_counted():
    with Calls() as calls:
        torch.ones(3).nonzero()
        bool(torch.ones(1))
    assert set(calls.waiting) == {"nonzero", "_local_scalar_dense"}


def test_on_a_gpu_numbers_that_are_not_finite_are_found_with_the_next_frame_and_undone(
    make, clip, tiny_model, monkeypatch
):
    monkeypatch.setattr(devices, "DEFERRED", ("cpu",))
    frames, masks = clip
    tracker, twin = make("lfu"), make("lfu")
    for each in (tracker, twin):
        each.step(frames[0], {7: masks[0, 0]})
        each.step(frames[1])
    weight = tiny_model.decoder.pred.weight
    before = weight.clone()
    weight.fill_(torch.nan)
    tracker.step(frames[2])
    weight.copy_(before)
    with refusal(FrameError, "masks", "frame 2"):
        tracker.step(frames[3])
    assert tracker.steps == 2
    assert torch.equal(tracker.step(frames[2]).probs, twin.step(frames[2]).probs)


def test_values_that_are_not_finite_are_not_remembered(make, clip, tiny_model):
    frames, masks = clip
    tracker, twin = make("lfu", write_every=2), make("lfu", write_every=2)
    for each in (tracker, twin):
        each.step(frames[0], {7: masks[0, 0]})
        each.step(frames[1])
    bias = tiny_model.value_encoder.fuser.block2.conv2.bias
    before = bias.clone()
    bias[0] = torch.inf
    with refusal(FrameError, "values", "frame 2"):
        tracker.step(frames[2])
    bias.copy_(before)
    assert_same_state(tracker, twin)


def test_the_answer_of_another_gpu_than_the_current_one_is_waited_for_there(monkeypatch):
    class Elsewhere(torch.Tensor):
        is_cuda, device = True, torch.device("cuda:1")

    class Event:
        def record(self, stream):
            recorded.append(stream)

        def synchronize(self):
            recorded.append("waited")

    recorded = []
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"stream of {device}")
    devices.FiniteCheck(0, keys=torch.zeros(3).as_subclass(Elsewhere)).require()
    assert recorded == ["stream of cuda:1", "waited"]


def test_what_a_caller_does_between_two_steps_outlives_a_step_that_is_undone_late(make, clip, tiny_model, monkeypatch):
    monkeypatch.setattr(devices, "DEFERRED", ("cpu",))
    frames, masks = clip
    weight = tiny_model.decoder.pred.weight
    before = weight.clone()

    def spoilt():
        tracker = make("lfu")
        tracker.step(frames[0], {7: masks[0, 0], 8: masks[0, 1]})
        weight.fill_(torch.nan)
        tracker.step(frames[1])
        weight.copy_(before)
        return tracker

    for ask in (lambda tracker: tracker.remove(8), mm.Tracker.state, lambda tracker: tracker.explain(0, 0)):
        tracker = spoilt()
        assert tracker.stats().tokens == tracker.memory.stats().tokens  # which waits for nothing
        with refusal(FrameError, "frame 1"):
            ask(tracker)
        assert (tracker.steps, tracker.object_ids) == (1, (7, 8))
        tracker.remove(8)
        assert tracker.object_ids == (7,)
    tracker = spoilt()
    tracker.memory.frozen = True
    with refusal(FrameError, "frame 1"):
        tracker.step(frames[2])
    assert tracker.memory.frozen


def test_of_the_last_frame_too_it_is_told_whether_its_numbers_are_finite(make, clip, tiny_model, monkeypatch):
    monkeypatch.setattr(devices, "DEFERRED", ("cpu",))
    frames, masks = clip
    tracker, weight, seen = make("lfu"), tiny_model.decoder.pred.weight, []
    before = weight.clone()
    with refusal(FrameError, "frame 1"):
        for frame, _ in tracker.follow(frames[:2], {0: {7: masks[0, 0]}}):
            seen.append(frame.index)
            weight.fill_(torch.nan)
    weight.copy_(before)
    assert seen == [0, 1]
    assert tracker.steps == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU to wait for")
def test_a_gpu_is_not_waited_for(tiny_model, clip):
    frames, masks = clip
    model = STCN(tiny_model.config).requires_grad_(False).eval()
    model.load_state_dict(tiny_model.state_dict())
    tracker = mm.Tracker(model.cuda(), write_on_growth=0, short_side=None)
    tracker.step(frames[0], {7: masks[0, 0]})
    tracker.step(frames[1])
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        tracker.step(frames[2])
    finally:
        torch.cuda.set_sync_debug_mode(before)
