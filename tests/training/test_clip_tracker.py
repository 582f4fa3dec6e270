"""Training sees what tracking sees: the same equations give the same masks, and the memory keeps the same tokens."""

import pytest
import torch
from drawn_clip import drawn_clip
from refusals import refusal
from torch.nn import functional as F

import mnemask as mm
from mnemask.errors import BudgetError, InputError
from mnemask.memory.policies import LFU, Diverse, KeepAll
from mnemask.memory.read import read_dense
from mnemask.model.preprocess import cells, normalize
from mnemask.model.stcn import STCN, soft_aggregate
from mnemask.training.clip_tracker import ClipMemory, ClipTracker, MemoryPlan
from mnemask.training.regularizers import Dropout, Reallocation

SPARSE = MemoryPlan(reads=((0,), (0,), (0, 2)), kmn_sigma=0.3)  # of clips of 4 frames


def trainable(tiny_model):
    model = STCN(tiny_model.config)
    model.load_state_dict(tiny_model.state_dict())
    return model


def everyone(batch, num_objects):
    return torch.ones(batch, num_objects, dtype=torch.bool)


def batch_of(num_clips, num_frames, num_objects):
    """Normalised frames and first masks of several clips."""
    clips = [drawn_clip(num_frames, num_objects=num_objects, seed=seed) for seed in range(num_clips)]
    return (
        torch.stack([normalize(frames) for frames, _ in clips]),
        torch.stack([masks[0].float() for _, masks in clips]),
    )


def followed(model, frames, masks, policy, budget=None, top_k=10**6, kmn_sigma=0.0):
    """A tracker's memory and probabilities at each frame, and the soft masks that it started from."""
    tracker = mm.Tracker(model, policy=policy, budget=budget, top_k=top_k, short_side=None, kmn_sigma=kmn_sigma)
    first = {k + 1: masks[0, k] for k in range(masks.shape[1]) if masks[0, k].any()}
    probs, tokens = [tracker.step(frames[0], first).probs], []
    for frame in frames[1:]:
        tokens.append(tracker.memory.tokens)
        probs.append(tracker.step(frame).probs)
    # The given masks compete softly in both.
    return torch.stack(probs[1:]), probs[0][1:], tokens


@pytest.mark.parametrize("num_objects", [1, 3])
@torch.no_grad()
def test_a_training_clip_equals_the_tracker_that_reads_everything(tiny_model, num_objects):
    frames, masks = drawn_clip(4, num_objects=num_objects)
    expected, start, _ = followed(tiny_model, frames, masks, KeepAll(write_every=1))
    found = ClipTracker(tiny_model)(normalize(frames)[None], start[None], everyone(1, len(start)))[0]
    assert expected.std() > 0.05
    # Where two objects are both certain of a pixel, float32 alone moves the soft aggregation by 4e-4.
    assert (found - expected).abs().mean() < 1e-5
    assert torch.allclose(found, expected, atol=2e-3)


@pytest.mark.parametrize(
    ("policy", "capacity", "kmn_sigma"),
    [
        (LFU(write_every=1, pin=False), 2.0, 0.0),
        (LFU(write_every=1), 2.5, 0.0),
        (LFU(write_every=1, pin=False), 1.0, 0.5),
        (LFU(write_every=1), 3.0, 0.5),
        (Diverse(write_every=1), 2.0, 0.5),
    ],
)
@torch.no_grad()
def test_a_clip_with_a_small_memory_equals_the_tracker_with_the_same_budget(tiny_model, policy, capacity, kmn_sigma):
    frames, masks = drawn_clip(6, num_objects=2)
    expected, start, _ = followed(tiny_model, frames, masks, policy, mm.Budget(frames=capacity), kmn_sigma=kmn_sigma)
    clip_tracker = ClipTracker(
        tiny_model, plan=MemoryPlan(capacity=capacity, policy=policy, kmn_sigma=kmn_sigma), top_k=10**6
    )
    clip = normalize(frames)[None], start[None], everyone(1, 2)
    found = clip_tracker(*clip)[0]
    assert (found - expected).abs().mean() < 1e-5
    everything = ClipTracker(tiny_model, plan=MemoryPlan(kmn_sigma=kmn_sigma))(*clip)[0]
    assert (everything - expected).abs().mean() > 1e-4  # what was forgotten matters


@pytest.mark.parametrize("kmn_sigma", [0.0, 0.3])
@torch.no_grad()
def test_a_frame_reads_the_frames_of_its_plan_alone_as_a_tracker_that_was_given_those(tiny_model, kmn_sigma):
    frames, masks = drawn_clip(5)
    plan = MemoryPlan(reads=((0,), (0,), (0, 2), (0, 2)), kmn_sigma=kmn_sigma)
    found = ClipTracker(tiny_model, plan=plan)(normalize(frames)[None], masks[:1].float(), everyone(1, 1))[0]
    tracker = mm.Tracker(tiny_model, policy=KeepAll(write_every=2), top_k=10**6, short_side=None, kmn_sigma=kmn_sigma)
    expected = [tracker.step(frames[0], {1: masks[0, 0]}).probs, *(tracker.step(frame).probs for frame in frames[1:])]
    assert torch.allclose(found, torch.stack(expected[1:]), atol=2e-3)
    everything = ClipTracker(tiny_model)(normalize(frames)[None], masks[:1].float(), everyone(1, 1))[0]
    assert torch.equal(everything[0], found[0]) == (kmn_sigma == 0)
    assert (everything[-1] - found[-1]).abs().mean() > 1e-5


@torch.no_grad()
def test_a_frame_that_nobody_reads_is_not_written(tiny_model, monkeypatch):
    written, write = [], ClipMemory.write
    monkeypatch.setattr(
        ClipMemory, "write", lambda memory, frame, *what: written.append(frame) or write(memory, frame, *what)
    )
    ClipTracker(tiny_model, plan=SPARSE)(*batch_of(1, 4, 1), everyone(1, 1))
    assert written == [0, 2]


@torch.no_grad()
def test_what_is_kept_is_what_the_tracker_keeps_by_its_own_top_k(tiny_model, monkeypatch):
    frames, masks = drawn_clip(7)
    policy = LFU(write_every=1, pin=False)
    # Keys decide, and they do not depend on what was predicted.
    _, start, tokens = followed(tiny_model, frames, masks, policy, mm.Budget(frames=2.5), top_k=3)
    kept, read = [], ClipMemory.read
    monkeypatch.setattr(ClipMemory, "read", lambda memory, *args: kept.append(memory.kept()) or read(memory, *args))
    both = torch.stack((normalize(frames), normalize(frames).flip(1)))
    clip_tracker = ClipTracker(tiny_model, plan=MemoryPlan(capacity=2.5, policy=policy), top_k=3)
    clip_tracker(both, start.expand(2, -1, -1, -1), everyone(2, 1))
    for found, expected in zip(kept, tokens, strict=True):
        assert torch.equal(found[0], expected.frame * 24 + expected.cell)
    assert len(kept[-1].unique(dim=0)) == 2  # each clip forgets for itself
    assert kept[-1].shape == (2, 60)
    assert len((kept[-1][0] // 24).unique()) > 2


def test_padding_has_no_probability_and_changes_neither_outputs_nor_gradients(tiny_model):
    frames, masks = batch_of(2, 4, 3)
    valid = torch.tensor([[True, True, True], [True, False, False]])
    small = MemoryPlan(capacity=2.0, policy=LFU(pin=False))
    for options in ({}, {"plan": small}, {"plan": SPARSE}, {"regularizer": Reallocation()}):
        padded, alone = trainable(tiny_model), trainable(tiny_model)
        probs = ClipTracker(padded, **options)(frames, masks, valid)
        assert (probs[1, :, 2:] == 0).all()
        torch.testing.assert_close(probs.sum(2), torch.ones(2, 3, 64, 96))
        single = ClipTracker(alone, **options)(frames[1:], masks[1:, :1], valid[1:, :1])
        torch.testing.assert_close(probs[1:, :, :2], single, atol=1e-5, rtol=1e-4)
        (probs[1] ** 2).mean((1, 2, 3)).sum().mul(2).backward()
        (single[0] ** 2).mean((1, 2, 3)).sum().backward()
        found, expected = (torch.cat([p.grad.flatten() for p in model.parameters()]) for model in (padded, alone))
        assert (found - expected).norm() < 1e-3 * expected.norm()  # float32 alone makes it 1e-4


def test_gradients_reach_every_part_of_the_network_through_the_predicted_mask(tiny_model):
    plans = {"plan": MemoryPlan(capacity=1.5)}, {"plan": SPARSE}, {"plan": MemoryPlan(kmn_sigma=0.2)}
    regularizers = {"regularizer": Dropout()}, {"regularizer": Reallocation("post-softmax")}
    for options in ({}, *plans, *regularizers):
        model = trainable(tiny_model)
        frames, masks = batch_of(1, 4, 1)
        ClipTracker(model, **options)(frames, masks, everyone(1, 1))[:, -1, 1].mean().backward()
        untouched = [name for name, parameter in model.named_parameters() if parameter.grad is None]
        assert not untouched
        assert model.value_encoder.resnet.conv1.weight.grad[:, 3].abs().sum() > 0


@torch.no_grad()
def test_reallocation_weighs_each_object_by_its_own_mask(tiny_model):
    frames, masks = batch_of(2, 2, 2)
    regularizer = Reallocation()
    found = ClipTracker(tiny_model, regularizer)(frames, masks, everyone(2, 2))[:, 0]
    for clip in range(2):
        first, second = (tiny_model.encode_key(frames[clip, [t]]) for t in range(2))
        values = cells(tiny_model.encode_value(frames[clip, [0]], first, masks[[clip]]))[0]
        readouts = []
        for k in range(2):
            inside = F.avg_pool2d(masks[clip, k][None], 16).flatten() > 0.5
            assert inside.any()
            weigh = lambda affinity, inside=inside: regularizer.weights(affinity, inside)  # noqa: E731
            readouts.append(read_dense(cells(second.key)[0], cells(first.key)[0], values[k], weigh=weigh))
        planes = torch.stack(readouts).transpose(1, 2).unflatten(2, (4, 6))[None]
        expected = soft_aggregate(tiny_model.decode(planes, second)[0].sigmoid())
        torch.testing.assert_close(found[clip], expected, atol=1e-4, rtol=1e-3)


@torch.no_grad()
def test_a_regularizer_matters_in_training_mode_alone(tiny_model):
    clip = (*batch_of(1, 3, 2), everyone(1, 2))
    plain = ClipTracker(tiny_model)(*clip)
    for regularizer in (Dropout(), Reallocation()):
        clip_tracker = ClipTracker(tiny_model, regularizer)
        assert not torch.allclose(clip_tracker(*clip), plain, atol=1e-3)
        assert torch.equal(clip_tracker.eval()(*clip), plain)
        tiny_model.eval()


@torch.no_grad()
def test_a_clip_does_not_depend_on_what_else_is_in_the_batch(tiny_model):
    frames, masks = batch_of(3, 4, 2)
    clip_tracker = ClipTracker(tiny_model, plan=MemoryPlan(capacity=2.0))
    together = clip_tracker(frames, masks, everyone(3, 2))
    for clip in range(3):
        alone = clip_tracker(frames[[clip]], masks[[clip]], everyone(1, 2))
        torch.testing.assert_close(together[[clip]], alone, atol=1e-4, rtol=1e-3)


@torch.no_grad()
def test_under_autocast_keys_stay_float32_and_masks_stay_close(tiny_model, monkeypatch):
    clip = (*batch_of(1, 3, 2), everyone(1, 2))
    exact = ClipTracker(tiny_model)(*clip)
    keys, write = [], ClipMemory.write
    monkeypatch.setattr(ClipMemory, "write", lambda memory, *what: keys.append(what[1:]) or write(memory, *what))
    with torch.autocast("cpu", torch.bfloat16):
        ClipTracker(tiny_model, plan=MemoryPlan(capacity=1.5))(*clip)
        probs = ClipTracker(tiny_model)(*clip)
    assert {what[0].dtype for what in keys} == {torch.float32}
    assert {what[1].dtype for what in keys} == {torch.bfloat16}
    assert probs.dtype == torch.float32
    assert (probs - exact).abs().mean() < 0.05


def test_under_autocast_a_memory_that_evicts_holds_annotated_and_predicted_masks(tiny_model):
    frames, masks = batch_of(2, 5, 2)
    plan = MemoryPlan(capacity=1.5, policy=LFU(write_every=1, pin=False))
    with torch.autocast("cpu", torch.bfloat16):
        probs = ClipTracker(trainable(tiny_model), plan=plan)(frames, masks.bfloat16(), everyone(2, 2))
    assert torch.isfinite(probs).all()


def test_clips_that_cannot_be_tracked_and_memories_too_small_are_refused(tiny_model):
    with refusal(InputError, r"96×64"):
        ClipTracker(tiny_model)(torch.zeros(1, 1, 3, 64, 96), torch.zeros(1, 1, 64, 96), everyone(1, 1))
    with refusal(InputError, r"16"):
        ClipTracker(tiny_model)(torch.zeros(1, 2, 3, 64, 90), torch.zeros(1, 1, 64, 90), everyone(1, 1))
    clip_tracker = ClipTracker(tiny_model, plan=MemoryPlan(capacity=0.5))
    with refusal(BudgetError, r"24"):
        clip_tracker(torch.zeros(1, 2, 3, 64, 96), torch.zeros(1, 1, 64, 96), everyone(1, 1))
