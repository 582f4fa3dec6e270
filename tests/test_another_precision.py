"""What is saved in one precision opens in another: the weights decide, and the file and the report say which it was."""

import json

import pytest
import torch
from drawn_clip import drawn_clip
from refusals import refusal

import mnemask as mm
from mnemask.errors import CheckpointError
from mnemask.model.checkpoints import fingerprint, save_model
from mnemask.pipeline import find_checkpoint

pytestmark = pytest.mark.precision

PRECISIONS = (torch.float32, torch.bfloat16, torch.float16)


@pytest.fixture(scope="module")
def models(tiny_model, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_model(tiny_model, path, dtype=torch.float32)
    return {dtype: mm.load_model(path, device="cpu", dtype=dtype) for dtype in PRECISIONS}


def names(*dtypes):
    return tuple(str(dtype).removeprefix("torch.") for dtype in dtypes)


def test_weights_are_known_by_their_content_in_any_precision(models, tiny_model):
    assert len({fingerprint(model) for model in models.values()}) == 1
    assert fingerprint(models[torch.bfloat16]) == fingerprint(tiny_model)


def test_weights_that_were_changed_are_other_weights(models, tmp_path):
    path = tmp_path / "same.safetensors"
    save_model(models[torch.float32], path, dtype=torch.float32)
    model = mm.load_model(path, device="cpu", dtype=torch.float32)
    before = fingerprint(model)
    assert before == fingerprint(models[torch.float32])
    model.decoder.pred.bias.add_(1)  # the keys are as they were
    assert fingerprint(model) != before


@pytest.mark.parametrize("written", PRECISIONS)
@pytest.mark.parametrize("read", PRECISIONS)
def test_a_bank_goes_on_in_any_precision(models, tmp_path, written, read):
    frames, masks = drawn_clip(6)
    tracker = mm.Tracker(models[written], short_side=None)
    tracker.step(frames[0], {1: masks[0, 0]})
    tracker.save(tmp_path / "half.bank")
    loaded = mm.Tracker.load(tmp_path / "half.bank", models[read])
    assert loaded.memory.tokens.value.dtype == read
    assert loaded.precisions == (names(read) if read == written else names(written, read))
    agreement = [(tracker.step(f).labels == loaded.step(f).labels).float().mean().item() for f in frames[1:]]
    assert min(agreement) == 1 if read == written else min(agreement) > 0.9
    loaded.save(tmp_path / "later.bank")
    assert mm.Tracker.load(tmp_path / "later.bank", models[written]).precisions[-1:] == names(written)


def test_a_tracker_warm_starts_from_memories_of_another_precision(models):
    frames, masks = drawn_clip(6)
    before = mm.Tracker(models[torch.float32], short_side=None)
    before.step(frames[0], {1: masks[0, 0]})
    tracker = mm.Tracker(models[torch.bfloat16], short_side=None)
    tracker.warm_start(before)
    assert tracker.step(frames[1]).object_ids == (1,)
    assert tracker.precisions == ("float32", "bfloat16")


def test_values_that_another_precision_cannot_hold_are_refused(models):
    frames, masks = drawn_clip(1)
    tracker = mm.Tracker(models[torch.float32], short_side=None)
    tracker.step(frames[0], {1: masks[0, 0]})
    tracker.memory.tokens.value.mul_(1e9)
    with refusal(CheckpointError, r"float16"):
        mm.Tracker.from_state(tracker.state(), models[torch.float16])


def test_a_run_that_goes_on_in_another_precision_says_so_in_its_report(models, tmp_path, caplog):
    frames, masks = drawn_clip(8)
    pictures = [mm.Frame(frame, index) for index, frame in enumerate(frames)]
    prompts = {0: {1: masks[0, 0]}}
    stopped = iter([None] * 4 + ["enough"])

    def run(tracker, **how):
        mm.segment(pictures, tracker, tmp_path / "out", lambda frame: prompts.get(frame.index), **how)
        return json.loads((tmp_path / "out/report.json").read_text())["computed_on"]

    first = run(mm.Tracker(models[torch.float32], short_side=None), stop=lambda: next(stopped), checkpoint_every=0.0)
    assert [(each["from_frame"], each["precision"]) for each in first] == [(0, "float32")]
    checkpoint = find_checkpoint(tmp_path / "out", torch.device("cpu"), {})
    both = run(mm.Tracker.from_state(checkpoint.state, models[torch.bfloat16]), resume=checkpoint)
    assert [(each["from_frame"], each["precision"]) for each in both] == [(0, "float32"), (4, "bfloat16")]
    assert "precision 'float32' before and 'bfloat16' now" in caplog.text
