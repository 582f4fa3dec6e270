import copy
import gc
import weakref

import numpy as np
import pytest
import torch
from drawn_clip import drawn_clip

from mnemask import Budget, FirstAndLatest, Frame, KeepAll, LeastUsed, Tracker
from mnemask.errors import BudgetError, FrameError, InputError, MaskError, ObjectIdError
from mnemask.memory.policies import POLICIES

CELLS = 24  # of a frame of 64×96


@pytest.fixture(scope="module")
def clip():
    """Twelve frames and the masks of three objects."""
    return drawn_clip(12, num_objects=3)


@pytest.fixture
def make(tiny_model):
    """Makes a tracker of the tiny network; frames are processed as they are."""
    return lambda policy="thesis", **settings: Tracker(tiny_model, policy, **{"short_side": None, **settings})


def run(tracker, frames, prompts=None):
    """The masks of all frames; prompts by position."""
    return [tracker.step(frame, (prompts or {}).get(t)) for t, frame in enumerate(frames)]


def equal(first, second):
    """Whether two answers are the same to the last bit."""
    return (
        first.object_ids == second.object_ids
        and torch.equal(first.labels, second.labels)
        and torch.equal(first.probs, second.probs)
    )


def state(tracker):
    """Everything that a tracker knows, but for the network."""
    tokens = tracker.memory.tokens
    return {
        "ids": tracker.object_ids,
        "steps": (tracker.steps, tracker.last_write, tracker.size),
        "stats": tracker.memory.stats(),
        "tokens": tokens if tokens is None else {name: t.clone() for name, t in tokens.tensors().items()},
    }


def assert_same_state(first, second):
    first, second = state(first), state(second)
    assert {k: v for k, v in first.items() if k != "tokens"} == {k: v for k, v in second.items() if k != "tokens"}
    assert (first["tokens"] is None) == (second["tokens"] is None)
    for name in first["tokens"] or {}:
        assert torch.equal(first["tokens"][name], second["tokens"][name]), name


# What comes out


def test_the_answer_has_labels_probabilities_and_the_frames_name(make, clip):
    frames, masks = clip
    tracker = make()
    first = tracker.step(Frame(frames[0], 40, name="left"), {7: masks[0, 0], 300: masks[0, 1]})
    assert (first.index, first.name, first.object_ids) == (40, "left", (7, 300))
    for t in range(1, 5):
        found = tracker.step(frames[t])
        assert (found.index, found.name) == (t, f"0000{t}")
        assert found.labels.shape == (64, 96)
        assert found.labels.dtype == torch.int32
        assert found.probs.shape == (3, 64, 96)
        torch.testing.assert_close(found.probs.sum(0), torch.ones(64, 96))
        assert torch.equal(found.labels, torch.tensor([0, 7, 300], dtype=torch.int32)[found.probs.argmax(0)])
        assert torch.equal(found.of(300), found.labels == 300)
    assert float(found.probs.std()) > 0.05


def test_a_prompted_frame_is_answered_with_the_masks_given(make, clip):
    frames, masks = clip
    found = make().step(frames[0], {3: masks[0, 0], 1: masks[0, 1], 2: masks[0, 2]})
    for object_id, k in ((3, 0), (1, 1), (2, 2)):
        assert torch.equal(found.of(object_id), masks[0, k])
        assert float(found.probs[k + 1][masks[0, k]].min()) > 0.99


def test_where_prompts_overlap_the_first_given_wins(make, clip):
    frames, _ = clip
    left, right = torch.zeros(2, 64, 96, dtype=torch.bool)
    left[10:40, 10:60], right[20:50, 40:90] = True, True
    found = make().step(frames[0], {5: left, 4: right})
    assert torch.equal(found.of(5), left)
    assert torch.equal(found.of(4), right & ~left)


def test_overlapping_prompts_are_remembered_as_they_are_answered(make, clip):
    frames, _ = clip
    left, right = torch.zeros(2, 64, 96, dtype=torch.bool)
    left[16:48, 16:64], right[16:48, 48:96] = True, True
    overlapping, apart = make(), make()
    overlapping.step(frames[0], {5: left, 4: right})
    apart.step(frames[0], {5: left, 4: right & ~left})
    assert_same_state(overlapping, apart)


def test_frames_before_the_first_prompt_are_background(make, clip):
    frames, masks = clip
    tracker = make()
    for t in range(7):
        found = tracker.step(frames[t])
        assert found.object_ids == ()
        assert torch.count_nonzero(found.labels) == 0
        assert torch.equal(found.probs, torch.ones(1, 64, 96))
        assert tracker.memory.tokens is None
    tracker.step(frames[7], {1: masks[7, 0]})
    assert tracker.memory.tokens.born.unique().tolist() == [7]


def test_the_answer_may_be_changed_in_place(make, clip):
    frames, masks = clip
    tracker, twin = make(), make()
    for t in range(7):
        prompts = {1: masks[0, 0]} if t == 0 else None
        found, expected = tracker.step(frames[t], prompts), twin.step(frames[t], prompts)
        assert equal(found, expected)
        found.labels[:] = 9
        found.probs[:] = 0


@pytest.mark.parametrize("size", [(50, 301), (17, 16), (301, 50), (16, 16), (1, 40), (64, 96)])
@pytest.mark.parametrize("short_side", [None, 32])
def test_frames_of_any_size_and_shape_are_answered_at_their_own(make, size, short_side):
    frames, masks = drawn_clip(3, *size)
    masks[0, 0, : max(1, size[0] // 2), : size[1] // 2] = True
    tracker = make("keep-all", short_side=short_side)
    for t, frame in enumerate(frames):
        found = tracker.step(frame, {1: masks[0, 0]} if t == 0 else None)
        assert found.labels.shape == size
        assert found.probs.shape == (2, *size)
        torch.testing.assert_close(found.probs.sum(0), torch.ones(size))
        assert torch.isfinite(found.probs).all()
    assert torch.equal(tracker.step(frames[0], {1: masks[0, 0]}).of(1), masks[0, 0])


# What goes in


def test_numpy_pictures_and_tensors_give_the_same_masks(make, clip):
    frames, masks = clip
    tensors, arrays = make(), make()
    for t in range(7):
        prompts = {1: masks[0, 0]} if t == 0 else None
        expected = tensors.step(frames[t], prompts)
        found = arrays.step(
            np.ascontiguousarray(frames[t].permute(1, 2, 0).numpy()), prompts and {1: prompts[1].numpy()}
        )
        assert equal(found, expected)


def test_pictures_that_are_read_only_or_reversed_views_are_taken(make, clip):
    frames, masks = clip
    picture, mask = frames[0].permute(1, 2, 0).numpy().copy(), masks[0, 0].numpy().copy()
    expected = make().step(picture, {1: mask})
    picture.flags.writeable = mask.flags.writeable = False
    assert equal(make().step(picture, {1: mask}), expected)
    bgr, upside_down = np.ascontiguousarray(picture[..., ::-1]), np.ascontiguousarray(mask[::-1])
    assert equal(make().step(bgr[..., ::-1], {1: upside_down[::-1]}), expected)


def test_the_callers_pictures_and_masks_are_not_changed_and_not_kept(make, clip):
    frames, masks = clip
    frame, mask = frames[0].clone(), masks[0, 0].clone()
    tracker, twin = make(), make()
    first = tracker.step(frame, {1: mask})
    expected = twin.step(frames[0], {1: masks[0, 0]})
    assert torch.equal(frame, frames[0])
    assert torch.equal(mask, masks[0, 0])
    frame.zero_()
    mask.zero_()
    assert equal(first, expected)
    assert equal(tracker.step(frames[1]), twin.step(frames[1]))


def test_ids_are_the_callers_in_any_order_up_to_65535(make, clip, as_users_call_it):
    frames, masks = clip
    few, many = make(), make()
    few.step(frames[0], {1: masks[0, 0], 2: masks[0, 1], 3: masks[0, 2]})
    many.step(frames[0], {65535: masks[0, 0], 2: masks[0, 1], np.uint8(40): masks[0, 2]})
    assert many.object_ids == (65535, 2, 40)
    for t in range(1, 7):
        plain, found = few.step(frames[t]), many.step(frames[t])
        assert torch.equal(found.probs, plain.probs)
        names = torch.tensor([0, 65535, 2, 40], dtype=torch.int32)
        assert torch.equal(found.labels, names[plain.labels.long()])


# Objects that come and go


@pytest.mark.parametrize("policy", POLICIES)
def test_a_late_object_joins_and_the_others_do_not_notice_until_they_compete(make, clip, policy):
    frames, masks = clip
    tracker = make(policy, budget=Budget(frames=6))
    prompts = {0: {1: masks[0, 0]}, 3: {9: masks[3, 1]}, 6: {4: masks[6, 2]}}
    for t, frame in enumerate(frames):
        found = tracker.step(frame, prompts.get(t))
        assert found.object_ids == (1, 9, 4)[: 1 + (t >= 3) + (t >= 6)]
        for object_id in prompts.get(t, {}):
            assert found.of(object_id).any()
    tokens = tracker.memory.tokens
    for row, since in enumerate((0, 3, 6)):
        assert torch.equal(tokens.covers[row], tokens.born >= since)
        assert torch.count_nonzero(tokens.value[row, ~tokens.covers[row]]) == 0


def test_a_late_object_is_the_same_as_one_that_was_there_alone(make, clip):
    # One key bank serves all: what another object left behind must not be read by a late one.
    frames, masks = clip
    both, alone = make("keep-all"), make("keep-all")
    both.step(frames[0], {1: masks[0, 0]})
    both.step(frames[1])
    both.remove(1)
    assert both.memory.tokens is None
    alone.step(frames[0])
    alone.step(frames[1])
    for t in range(2, 9):
        prompts = {2: masks[2, 1]} if t == 2 else None
        assert equal(both.step(frames[t], prompts), alone.step(frames[t], prompts))


def test_an_id_that_was_removed_and_comes_again_is_a_new_object(make, clip):
    frames, masks = clip
    again, never = make("keep-all"), make("keep-all")
    for tracker, object_id in ((again, 1), (never, 8)):
        tracker.step(frames[0], {object_id: masks[0, 0], 2: masks[0, 1]})
        for t in range(1, 6):
            tracker.step(frames[t])
        tracker.remove(object_id)
        assert tracker.object_ids == (2,)
    for t in range(6, 12):
        prompts = {1: masks[6, 2]} if t == 6 else None
        assert equal(again.step(frames[t], prompts), never.step(frames[t], prompts))


def test_removing_one_object_leaves_the_others_where_they_were(make, clip):
    frames, masks = clip
    tracker = make("keep-all")
    tracker.step(frames[0], {k + 1: masks[0, k] for k in range(3)})
    twin = copy.deepcopy(tracker)
    tracker.remove(2)
    found, expected = tracker.step(frames[1]), twin.step(frames[1])
    assert found.object_ids == (1, 3)
    assert found.probs.shape == (3, 64, 96)
    # Odds against the background: of each object alone, and of the others' competition in the background only.
    assert not torch.equal(found.probs[0], expected.probs[0])
    for row, was in ((1, 1), (2, 3)):
        ratio = (found.probs[row] / found.probs[0]) / (expected.probs[was] / expected.probs[0])
        assert (ratio <= 1 + 1e-3).all()  # without the removed object there is more background


def test_objects_that_come_and_go_do_not_use_the_budget_up(make, clip):
    frames, masks = clip
    tracker = make("least-used", budget=Budget(frames=2))
    for t in range(40):
        prompts = {t + 1: masks[t % 12, t % 3]} if t % 2 == 0 else None
        tracker.step(frames[t % 12], prompts)
        if t % 2 == 0 and t > 0:
            tracker.remove(t - 1)
    assert tracker.memory.stats().pinned <= 2 * CELLS


def test_without_objects_left_all_is_background_again(make, clip):
    frames, masks = clip
    tracker = make()
    tracker.step(frames[0], {1: masks[0, 0]})
    tracker.step(frames[1])
    tracker.remove(1)
    found = tracker.step(frames[2])
    assert found.object_ids == ()
    assert torch.count_nonzero(found.labels) == 0
    assert tracker.memory.stats().tokens == 0


# What is remembered, and when


@pytest.mark.parametrize(
    ("write_every", "prompted", "expected"),
    [
        (5, (0,), [0, 5, 10]),
        (5, (0, 3), [0, 3, 8]),
        (5, (2, 9), [2, 7, 9]),
        (1, (0,), list(range(12))),
        (3, (4, 5), [4, 5, 8, 11]),
    ],
)
def test_a_frame_is_written_so_many_frames_after_the_last_and_a_prompt_starts_anew(
    make, clip, write_every, prompted, expected
):
    frames, masks = clip
    tracker = make(KeepAll(write_every=write_every))
    run(tracker, frames, {t: {1: masks[t, 0]} for t in prompted})
    assert tracker.memory.tokens.frame.unique().tolist() == expected
    assert len(tracker.memory.tokens) == CELLS * len(expected)


def test_a_correction_is_memory_at_once(make, clip):
    frames, masks = clip
    tracker, twin = make(KeepAll(write_every=100)), make(KeepAll(write_every=100))
    for t in range(3):
        tracker.step(frames[t], {1: masks[0, 0]} if t == 0 else None)
        twin.step(frames[t], {1: masks[0, 0]} if t == 0 else None)
    corrected = tracker.step(frames[3], {1: masks[3, 1]})
    twin.step(frames[3])
    assert torch.equal(corrected.of(1), masks[3, 1])
    assert tracker.object_ids == (1,)
    assert tracker.memory.tokens.frame.unique().tolist() == [0, 3]
    with_it, without = tracker.step(frames[4]), twin.step(frames[4])
    assert float((with_it.probs - without.probs).abs().max()) > 0.05
    # the frame that was corrected now reads as it was given
    share = tracker.memory.tokens[tracker.memory.tokens.frame == 3].share[0].view(4, 6)
    given = torch.nn.functional.avg_pool2d(masks[3, 1].float()[None], 16)[0]
    torch.testing.assert_close(share, given, atol=1e-4, rtol=0)


def test_the_first_annotated_frame_is_pinned_whole_and_a_later_one_around_its_object(make, clip):
    frames, _ = clip
    mask = torch.zeros(64, 96, dtype=torch.bool)
    mask[:16, :16] = True
    tracker = make(LeastUsed(), budget=Budget(frames=4))
    run(tracker, frames[:4], {0: {1: mask.flip(0)}, 2: {2: mask}})
    tokens = tracker.memory.tokens
    assert tokens.pinned[tokens.frame == 0].all()
    corner = torch.zeros(4, 6, dtype=torch.bool)
    corner[:2, :2] = True
    assert torch.equal(tokens.pinned[tokens.frame == 2].view(4, 6), corner)
    unpinned = make("thesis")
    run(unpinned, frames[:4], {0: {1: mask}})
    assert not unpinned.memory.tokens.pinned.any()


@pytest.mark.parametrize("policy", ["least-used", "thesis", "first-and-latest"])
def test_memory_never_grows_beyond_the_budget(make, clip, policy):
    frames, masks = clip
    tracker = make(policy, budget=Budget(frames=2.5))
    prompts = {0: {1: masks[0, 0]}, 20: {2: masks[8, 1]}, 41: {1: masks[5, 0]}}
    for t in range(60):
        tracker.step(frames[t % 12], prompts.get(t))
        assert len(tracker.memory.tokens) <= 2.5 * CELLS
    assert len(tracker.memory.tokens) == 2.5 * CELLS
    assert tracker.memory.stats().evictions > 0


def reachable(root):
    """All tensors that an object keeps alive by way of Python attributes and containers."""
    seen, found, queue = set(), [], [root]
    while queue:
        item = queue.pop()
        if id(item) in seen or isinstance(item, type | torch.nn.Module):
            continue
        seen.add(id(item))
        if isinstance(item, torch.Tensor):
            found.append(item)
        elif isinstance(item, dict | list | tuple | set) or type(item).__module__.startswith("mnemask"):
            queue.extend(gc.get_referents(item))
    return found


def test_a_tracker_holds_on_to_nothing_but_its_memory(make, clip):
    frames, masks = clip
    tracker, watched = make("thesis"), []
    for t in range(12):
        frame = frames[t].clone()
        found = tracker.step(frame, {1: masks[0, 0].clone()} if t == 0 else None)
        watched += [weakref.ref(item) for item in (frame, found.labels, found.probs)]
        del frame, found
    gc.collect()
    assert [ref for ref in watched if ref() is not None] == []
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in reachable(tracker)}
    assert sum(storages.values()) == tracker.memory.stats().bank_bytes


@pytest.mark.parametrize("policy", POLICIES)
def test_two_runs_are_equal_to_the_last_bit(make, clip, policy):
    frames, masks = clip
    prompts = {0: {1: masks[0, 0], 2: masks[0, 1]}, 7: {3: masks[7, 2]}}
    first, second = make(policy, budget=Budget(frames=5)), make(policy, budget=Budget(frames=5))
    for a, b in zip(run(first, frames, prompts), run(second, frames, prompts), strict=True):
        assert equal(a, b)
    assert_same_state(first, second)


# What cannot be done


def bad_calls(frames, masks):
    """Name, frame, prompts and the error of every kind of call that must be refused."""
    picture, mask = frames[3], masks[3, 1]
    nothing = torch.zeros_like(mask)
    return [
        ("another size", frames[3][:, :48], None, FrameError, r"96×48 pixels.*96×64 pixels"),
        ("float pixels", picture.float() / 255, None, FrameError, r"float32.*uint8"),
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
        ("mask of channels", picture, {2: mask[None]}, MaskError, r"\(1, 64, 96\)"),
        ("no mask", picture, {2: None}, MaskError, "NoneType"),
        ("a list", picture, {2: mask.tolist()}, MaskError, "list"),
        ("a bare mask", picture, mask, MaskError, "Tensor"),
        ("id 0", picture, {0: mask}, ObjectIdError, "object id 0 .*background"),
        ("id -1", picture, {-1: mask}, ObjectIdError, "object id -1"),
        ("id too large", picture, {65536: mask}, ObjectIdError, "65536.*65535"),
        ("id of another kind", picture, {1.5: mask}, ObjectIdError, "1.5"),
        ("id as text", picture, {"car": mask}, ObjectIdError, "'car'"),
        ("id True", picture, {True: mask}, ObjectIdError, "True"),
        ("good and bad id", picture, {2: mask, 0: mask}, ObjectIdError, "object id 0"),
    ]


@pytest.mark.parametrize("number", range(28))
def test_a_call_that_cannot_be_answered_is_refused_in_a_sentence_and_leaves_no_trace(
    make, clip, number, as_users_call_it
):
    frames, masks = clip
    assert number < len(bad_calls(frames, masks)) <= 28
    name, picture, prompts, error, message = bad_calls(frames, masks)[number]
    tracker, twin = make(), make()
    for t in range(3):
        for each in (tracker, twin):
            each.step(frames[t], {1: masks[0, 0]} if t == 0 else None)
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
        (LeastUsed(), Budget(frames=1), 4),
        (FirstAndLatest(), Budget(frames=1), 4),
        (LeastUsed(), Budget(bytes=None, tokens=CELLS + 3), 4),
    ],
)
def test_a_frame_that_does_not_fit_the_budget_leaves_no_trace(make, clip, policy, budget, frame):
    frames, masks = clip
    prompts = {0: {1: masks[0, 0]}, 4: {2: masks[4, 1]}} if frame == 4 else {0: {1: masks[0, 0]}}
    tracker, twin = make(policy, budget=budget), make(policy, budget=budget)
    for t in range(frame):
        tracker.step(frames[t], prompts.get(t))
        twin.step(frames[t], prompts.get(t))
    for _ in range(2):
        with pytest.raises(BudgetError, match="budget is") as caught:
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
        with pytest.raises(BudgetError, match="one frame has 24"):
            tracker.step(frames[1], {1: masks[1, 0]})
        assert tracker.object_ids == ()
        assert tracker.memory.tokens is None
    assert torch.count_nonzero(tracker.step(frames[1]).labels) == 0


def test_an_interrupted_call_leaves_no_trace(make, clip, tiny_model):
    frames, masks = clip
    tracker, twin = make(), make()
    for each in (tracker, twin):
        each.step(frames[0], {1: masks[0, 0]})

    def interrupt(*_):
        raise KeyboardInterrupt

    hook = tiny_model.value_encoder.register_forward_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        tracker.step(frames[1], {2: masks[1, 1]})
    hook.remove()
    assert_same_state(tracker, twin)
    assert equal(tracker.step(frames[1]), twin.step(frames[1]))


@pytest.mark.parametrize("object_id", [2, 0, 70000, None])
def test_removing_what_is_not_tracked_is_refused(make, clip, object_id, as_users_call_it):
    frames, masks = clip
    tracker, twin = make(), make()
    for each in (tracker, twin):
        each.step(frames[0], {1: masks[0, 0]})
    with pytest.raises(ObjectIdError, match=r"not tracked; tracked are \[1\]"):
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
        ({"policy": LeastUsed}, "policy"),
        ({"budget": 2}, "budget"),
        ({"budget": "64MiB"}, "budget"),
    ],
)
def test_impossible_settings_are_refused(make, settings, message, as_users_call_it):
    with pytest.raises(InputError, match=message):
        make(**settings)
