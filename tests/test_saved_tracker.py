"""A tracker that was saved goes on as if nothing had happened; a file that is not one is refused."""

import json
import os
import resource
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from drawn_clip import drawn_clip
from refusals import refusal
from safetensors import safe_open
from safetensors.torch import save_file

import mnemask as mm
from mnemask.errors import CheckpointError, OutputError
from mnemask.memory.policies import LFU, PerObject, RandomEviction, RestrictedMemory
from mnemask.memory.storage import FORMAT, digest_of
from mnemask.model.stcn import STCN


@pytest.fixture
def half_way(tiny_model, tmp_path):
    """A tracker after 12 of 20 frames, its file, and the frames to come."""
    frames, masks = drawn_clip(20, num_objects=2)
    tracker = mm.Tracker(tiny_model, short_side=None)
    tracker.step(frames[0], {7: masks[0, 0]})
    for t in range(1, 12):
        tracker.step(frames[t], {3: masks[t, 1]} if t == 6 else None)
    tracker.save(tmp_path / "half.bank")
    return tracker, tmp_path / "half.bank", frames[12:]


def test_a_loaded_tracker_gives_identical_masks(half_way, tiny_model):
    tracker, path, rest = half_way
    loaded = mm.Tracker.load(path, tiny_model)
    assert loaded.object_ids == (7, 3)
    assert loaded.memory.stats() == tracker.memory.stats()
    for frame in rest:
        before, after = tracker.step(frame), loaded.step(frame)
        assert torch.equal(before.probs, after.probs)
        assert torch.equal(before.labels, after.labels)
    assert loaded.memory.stats() == tracker.memory.stats()


def test_a_tracker_that_has_seen_nothing_can_be_saved(tiny_model, tmp_path):
    mm.Tracker(tiny_model, short_side=None).save(tmp_path / "new.bank")
    frames, masks = drawn_clip(1)
    loaded = mm.Tracker.load(tmp_path / "new.bank", tiny_model)
    assert loaded.step(frames[0], {1: masks[0, 0]}).object_ids == (1,)


def test_settings_come_back(tiny_model, tmp_path):
    tracker = mm.Tracker(
        tiny_model,
        policy=LFU(pin=False, write_every=3),
        budget=mm.Budget(bytes="20MiB"),
        top_k=7,
        metric="dot",
        short_side=96,
    )
    tracker.save(tmp_path / "set.bank")
    loaded = mm.Tracker.load(tmp_path / "set.bank", tiny_model)
    assert loaded.policy == tracker.policy
    assert loaded.memory.budget == tracker.memory.budget
    assert loaded.config == tracker.config


def test_a_policy_of_numpy_numbers_comes_back(tiny_model, tmp_path, as_users_call_it):
    for given, meant in (
        (LFU(write_every=np.int64(3)), LFU(write_every=3)),
        (RestrictedMemory(freshness=np.float32(1.5)), RestrictedMemory(freshness=1.5)),
        (RandomEviction(seed=np.uint8(7)), RandomEviction(seed=7)),
        (PerObject(LFU(), pin=np.bool_(False)), PerObject(LFU(), pin=False)),
    ):
        mm.Tracker(tiny_model, policy=given).save(tmp_path / "numpy.bank")
        given.check_fields()
        assert repr(mm.Tracker.load(tmp_path / "numpy.bank", tiny_model).policy) == repr(meant)


def test_a_policy_of_ones_own_must_be_given_again(tiny_model, tmp_path):
    @dataclass(frozen=True)
    class Newest(mm.Policy):
        def update(self, memory, new, budget):
            both = memory + new
            return mm.keep_best(both, both.written_at.float(), budget)

    mm.Tracker(tiny_model, policy=Newest()).save(tmp_path / "own.bank")
    with refusal(CheckpointError, "Newest'"):
        mm.Tracker.load(tmp_path / "own.bank", tiny_model)
    assert mm.Tracker.load(tmp_path / "own.bank", tiny_model, policy=Newest()).policy == Newest()


def test_a_file_that_is_cut_off_is_refused(half_way, tiny_model):
    _, path, _ = half_way
    path.write_bytes(path.read_bytes()[:-100])
    with refusal(CheckpointError, "damaged"):
        mm.Tracker.load(path, tiny_model)


@pytest.mark.parametrize("place", [0.3, 0.6, 0.99])
def test_a_single_bit_that_changed_is_noticed(half_way, tiny_model, place):
    _, path, _ = half_way
    content = bytearray(path.read_bytes())
    content[int(len(content) * place)] ^= 1
    path.write_bytes(content)
    with refusal(CheckpointError, "checksum"):
        mm.Tracker.load(path, tiny_model)


def test_a_file_of_another_version_is_refused(half_way, tiny_model):
    _, path, _ = half_way
    path.write_bytes(path.read_bytes().replace(FORMAT.encode(), b"mnemask-bank-1"))
    with refusal(CheckpointError, r"'mnemask-bank-1'", r"'mnemask-bank-\d'"):
        mm.Tracker.load(path, tiny_model)


def test_a_place_that_cannot_be_written_to_is_said_and_the_file_before_stays(half_way, tmp_path):
    tracker, path, _ = half_way
    with refusal(OutputError, "nowhere"):
        tracker.save(tmp_path / "nowhere/tracker.bank")
    before, (soft, hard) = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with refusal(OutputError, "written"):
            tracker.save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["half.bank"]


def test_a_file_of_something_else_is_never_replaced(half_way, tmp_path):
    tracker, path, _ = half_way
    tracker.save(path)
    (tmp_path / "new.bank").touch()
    tracker.save(tmp_path / "new.bank")
    save_file({}, tmp_path / "weights.safetensors", {"format": "pt"})
    (tmp_path / "first.png").write_bytes(b"a picture")
    for place in (tmp_path / "weights.safetensors", tmp_path / "first.png"):
        before = place.read_bytes()
        with refusal(OutputError, "never replaced"):
            tracker.save(place)
        assert place.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"not a bank", b"\x80\x04cos\nsystem\n"])
def test_a_file_of_something_else_is_refused(content, tiny_model, tmp_path):
    (tmp_path / "foreign").write_bytes(content)
    with pytest.raises(CheckpointError):
        mm.Tracker.load(tmp_path / "foreign", tiny_model)


@pytest.mark.parametrize("facts", ["", "{", "[1]", "[" * 100_000])
def test_garbled_facts_are_refused(facts, tiny_model, tmp_path):
    save_file({}, tmp_path / "odd.bank", {"format": FORMAT, "facts": facts, "sha256": digest_of(facts, {})})
    with refusal(CheckpointError, "facts"):
        mm.Tracker.load(tmp_path / "odd.bank", tiny_model)


def test_a_missing_file_is_named(tiny_model, tmp_path):
    with refusal(CheckpointError, r"nowhere\.bank"):
        mm.Tracker.load(tmp_path / "nowhere.bank", tiny_model)


def rewrite(path, change_tensors=lambda tensors: None, change_facts=lambda facts: None):
    with safe_open(path, "pt") as file:
        metadata = dict(file.metadata())
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    facts = json.loads(metadata["facts"])
    change_tensors(tensors)
    change_facts(facts)
    text = json.dumps(facts)
    save_file(tensors, path, {**metadata, "facts": text, "sha256": digest_of(text, tensors)})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda tensors: tensors.pop("topk_count"), "holds"),
        (lambda tensors: tensors.update(topk_count=tensors["topk_count"][:-1].clone()), "topk_count"),
        (lambda tensors: tensors.update(pins=tensors["pins"].float()), "pins"),
        (lambda tensors: tensors.update(key=tensors["key"] * torch.nan), "key"),
        (lambda tensors: tensors.update(value=tensors["value"][:1].clone()), "value"),
    ],
)
def test_tensors_that_do_not_fit_together_are_refused(half_way, tiny_model, change, sentence):
    _, path, _ = half_way
    rewrite(path, change_tensors=change)
    with refusal(CheckpointError, sentence):
        mm.Tracker.load(path, tiny_model)


@pytest.mark.parametrize(
    "change",
    [
        lambda facts: facts.pop("steps"),
        lambda facts: facts.update(object_ids=[7]),
        lambda facts: facts.update(object_ids=["x", 3]),
        lambda facts: facts.update(size="large"),
        lambda facts: facts["config"].update(budget={"frames": -1}),
        lambda facts: facts["config"].update(policy={"name": "LFU", "nonsense": 1}),
        lambda facts: facts["config"].update(nonsense=1),
        lambda facts: facts["config"].pop("policy"),
        lambda facts: facts.update(config=[]),
        lambda facts: facts.update(model="another"),
        lambda facts: facts["config"].update(top_k="many"),
        lambda facts: facts["config"].update(metric="manhattan"),
    ],
)
def test_facts_that_make_no_sense_are_refused(half_way, tiny_model, change):
    _, path, _ = half_way
    rewrite(path, change_facts=change)
    with pytest.raises(mm.MnemaskError):
        mm.Tracker.load(path, tiny_model)


def test_another_model_is_refused(half_way, tiny_model):
    other = STCN(tiny_model.config).eval()
    _, path, _ = half_way
    with refusal(CheckpointError, "another"):
        mm.Tracker.load(path, other)


def test_what_is_no_plain_file_is_never_replaced_and_a_link_stays(tmp_path, tiny_model):
    tracker = mm.Tracker(tiny_model, short_side=48)
    os.mkfifo(tmp_path / "pipe")
    with refusal(OutputError, "pipe"):
        tracker.save(tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo()
    (tmp_path / "link").symlink_to(tmp_path / "real.bank")
    tracker.save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real.bank").is_file()
