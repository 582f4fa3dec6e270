"""Modes of torch that a program around mnemask may have set: the masks are the same in all of them."""

from contextlib import contextmanager
from functools import cache

import pytest
import torch
from drawn_clip import drawn_clip

import mnemask as mm
from mnemask.model.preprocess import normalize
from mnemask.model.stcn import most_probable
from mnemask.prompts.clicks import ClickSegmenter

pytestmark = pytest.mark.precision


@contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def default_device(device):
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@contextmanager
def matrix_products(precision):
    torch.set_float32_matmul_precision(precision)
    try:
        yield
        assert torch.get_float32_matmul_precision() == precision, "the mode is the caller's"
    finally:
        torch.set_float32_matmul_precision("highest")


MODES = {
    "autocast to bfloat16": lambda: torch.autocast("cpu", torch.bfloat16),
    "autocast to float16": lambda: torch.autocast("cpu", torch.float16),
    "default float64": lambda: default_dtype(torch.float64),
    "default bfloat16": lambda: default_dtype(torch.bfloat16),
    "default device meta": lambda: default_device("meta"),
    "within a device": lambda: torch.device("meta"),
    "gradients": torch.enable_grad,
    "inference mode": torch.inference_mode,
    "deterministic algorithms": deterministic,
    "matrix products in bfloat16": lambda: matrix_products("medium"),
}


@pytest.fixture(params=MODES)
def mode(request):
    return MODES[request.param]


def followed(model, policy, **settings):
    """All masks of two objects, of which one comes late, is corrected, and goes."""
    frames, masks = drawn_clip(9, num_objects=2)
    tracker = mm.Tracker(model, policy=policy, short_side=48, **settings)
    prompts = {0: {7: masks[0, 0]}, 3: {3: masks[3, 1].numpy()}, 5: {3: masks[5, 1]}}
    answers = []
    for t, frame in enumerate(frames):
        answers.append(tracker.step(frame, prompts.get(t)))
        if t == 7:
            tracker.remove(7)
    return answers


# What each model gives in no mode, computed once.
expected_of = cache(followed)
load_compact = cache(lambda: mm.load_model("compact"))


def same(first, second):
    return all(
        one.object_ids == other.object_ids
        and torch.equal(one.labels, other.labels)
        and torch.equal(one.probs, other.probs)
        for one, other in zip(first, second, strict=True)
    )


@pytest.mark.parametrize("policy", mm.POLICIES)
@pytest.mark.parametrize("name", ["autocast to bfloat16", "default float64"])
def test_no_policy_minds_the_mode(tiny_model, policy, name):
    settings = {"budget": mm.Budget(frames=4), "stride8_weight": 1.0, "kmn_sigma": 0.2}
    expected = expected_of(tiny_model, policy, **settings)
    with MODES[name]():
        assert same(followed(tiny_model, policy, **settings), expected)


def test_masks_are_the_same_in_any_mode(tiny_model, mode):
    expected = expected_of(tiny_model, "lfu")
    with mode():
        found = followed(tiny_model, "lfu")
    assert same(found, expected)
    assert not any(answer.probs.requires_grad or answer.probs.is_inference() for answer in found)


def test_a_model_that_was_loaded_in_any_mode_gives_the_same_masks(mode):
    expected = expected_of(load_compact(), "lfu")
    with mode():
        model = mm.load_model("compact")
        assert same(followed(model, "lfu"), expected)
    assert same(followed(model, "lfu"), expected)


def test_a_batch_and_a_saved_tracker_do_not_mind_the_mode(tiny_model, tmp_path, mode):
    frames, masks = drawn_clip(4)

    def stepped(path):
        batch = mm.TrackerBatch(mm.Tracker(tiny_model, short_side=None) for _ in range(2))
        batch.step([frames[0], frames[1]], [{1: masks[0, 0]}, {1: masks[1, 0]}])
        batch.trackers[0].save(path)
        return [*batch.step([frames[2], frames[3]]), mm.Tracker.load(path, tiny_model).fork().step(frames[2])]

    expected = stepped(tmp_path / "one.bank")
    with mode():
        found = stepped(tmp_path / "other.bank")
    assert same(found, expected)


def clicked(model, frame):
    return mm.mask_from_clicks(frame, [(51, 46)], [(2, 2)], box=(30, 30, 40, 34), model=model)


@cache
def clicked_in_no_mode():
    """A model, a frame, the mask of clicks on it, and the weights of the head for clicks."""
    model, frame = load_compact(), drawn_clip(1)[0][0]
    return model, frame, clicked(model, frame), ClickSegmenter(model).head.state_dict()


def test_clicks_do_not_mind_the_mode(mode):
    model, frame, expected, weights = clicked_in_no_mode()
    with mode():
        found = clicked(model, frame)
        head = ClickSegmenter(model).head
    assert all(torch.equal(value, weights[name]) for name, value in head.state_dict().items())
    assert torch.equal(found, expected)
    found &= ~found  # a mask is the caller's, to be changed in place


def test_an_explanation_and_a_drawn_prompt_do_not_mind_the_mode(tiny_model, mode):
    frames, masks = drawn_clip(2)
    expected_box = mm.mask_from_box(frames[0], (10, 10, 40, 40))
    tracker = mm.Tracker(tiny_model, short_side=None)
    with mode():
        assert torch.equal(mm.mask_from_box(frames[0], (10, 10, 40, 40)), expected_box)
        tracker.step(frames[0], {1: masks[0, 0]})
        tracker.step(frames[1])
        found = tracker.explain(20, 20)
    assert found.to_dict() == tracker.explain(20, 20).to_dict()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch's, of what it cannot compile
def test_a_step_that_is_compiled_gives_the_same_masks(tiny_model, as_users_call_it):
    frames, masks = drawn_clip(2)

    def stepped(compiled):
        tracker = mm.Tracker(tiny_model, short_side=48)
        step = torch.compile(tracker.step, backend="eager") if compiled else tracker.step
        return [step(frames[0], {1: masks[0, 0]}), step(frames[1])]

    assert same(stepped(compiled=True), stepped(compiled=False))
    torch.compiler.reset()


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("function", [normalize, lambda image: most_probable(image, (0, 1, 2))])
def test_what_makes_constants_can_be_compiled(function, as_users_call_it):
    image = torch.rand(3, 4, 4)
    assert torch.equal(torch.compile(function, backend="eager")(image), function(image))
    torch.compiler.reset()
