"""Saved trackers from strangers: whatever loads must also follow its video, or be refused."""

import hashlib
import json

import pytest
import torch
from drawn_clip import drawn_clip
from hostile import anything, bounded, garbled, mutations, outcome
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

import mnemask as mm
from mnemask.memory.introspection import read_provenance
from mnemask.memory.policies import LFU

FRAMES, MASKS = drawn_clip(14, num_objects=2)


@pytest.fixture(scope="module")
def saved(tiny_model, tmp_path_factory):
    """A saved tracker as tensors, facts and bytes."""
    path = tmp_path_factory.mktemp("saved") / "a.bank"
    tracker = mm.Tracker(tiny_model, policy=LFU(write_every=1), short_side=None)
    for t in range(4):
        tracker.step(FRAMES[t], {0: {7: MASKS[0, 0]}, 2: {3: MASKS[2, 1]}}.get(t))
    tracker.save(path)
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    return tensors, metadata, path.read_bytes()


def follow(place, model):
    """Loads a tracker and uses it in every way; each either works or is refused."""
    outcome(lambda: read_provenance(place))
    tracker = outcome(lambda: mm.Tracker.load(place, model))
    if tracker is None:
        return
    assert len(set(tracker.object_ids)) == len(tracker.object_ids)
    outcome(tracker.memory.stats)
    outcome(lambda: tracker.memory.provenance().box)
    for t in range(4, 7):
        frame = mm.Frame(FRAMES[t], index=t)
        masks = outcome(lambda: tracker.step(frame, {9: MASKS[4, 0]} if t == 6 else None))  # noqa: B023
        if masks is not None:
            assert bool(torch.isfinite(masks.probs).all())
            assert set(masks.labels.unique().tolist()) <= {0, *masks.object_ids}
            outcome(lambda: tracker.explain(10, 10))
    for object_id in tracker.object_ids:
        tracker.remove(object_id)
    tracker.save(place)


def write(place, tensors, facts, metadata):
    """Writes a bank as its owner would, the checksum included: it tells damage, not malice."""
    text, tensors = json.dumps(facts), {name: tensor.contiguous() for name, tensor in tensors.items()}
    digest = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    save_file(tensors, place, {**metadata, "facts": text, "sha256": digest.hexdigest()})


def test_a_bank_that_is_written_again_unchanged_follows(place, saved, tiny_model):
    tensors, metadata, _ = saved
    write(place, tensors, json.loads(metadata["facts"]), metadata)
    assert mm.Tracker.load(place, tiny_model).object_ids == (7, 3)


@bounded
@given(data=st.data())
def test_a_damaged_bank_follows_or_is_refused(place, saved, tiny_model, data):
    place.write_bytes(data.draw(st.one_of(st.binary(max_size=300), mutations(saved[2]))))
    follow(place, tiny_model)


@bounded
@given(data=st.data())
def test_any_facts_are_followed_or_refused(place, saved, tiny_model, data):
    tensors, metadata, _ = saved
    facts = data.draw(garbled(json.loads(metadata["facts"])))
    write(place, data.draw(st.sampled_from([tensors, {}])), facts, metadata)
    follow(place, tiny_model)


@bounded
@given(facts=anything)
def test_facts_of_another_kind_are_refused(place, saved, tiny_model, facts):
    write(place, saved[0], facts, saved[1])
    follow(place, tiny_model)


@pytest.mark.parametrize("policy", ["WithLatest", "PerObject", "LFU"])
def test_a_policy_within_a_thousand_others_is_refused(place, saved, tiny_model, policy):
    tensors, metadata, _ = saved
    facts = json.loads(metadata["facts"])
    for _ in range(900):
        facts["config"]["policy"] = {"name": policy, "inner": facts["config"]["policy"]}
    write(place, tensors, facts, metadata)
    with pytest.raises(mm.MnemaskError):
        mm.Tracker.load(place, tiny_model)


TYPES = [
    torch.float16,
    torch.float32,
    torch.float64,
    torch.bfloat16,
    torch.float8_e5m2,
    torch.bool,
    torch.uint8,
    torch.int32,
    torch.int64,
]
EXTREMES = [0, 1, -1, 255, 2**31, 2**62, 2**63 - 1, -(2**63), float("nan"), float("inf"), -1e38, 1e38, 1e-45]


def reshaped(tensor, how):
    """The tensor with an axis taken out, added, emptied, cut or doubled."""
    if how == "flat":
        return tensor.flatten()
    if how == "scalar":
        return tensor.flatten()[0]
    if how == "deeper":
        return tensor[None]
    axis = {"first": 0, "last": -1}[how.split()[1]]
    count = tensor.shape[axis]
    index = {"empty": [], "cut": range(count - 1), "double": [*range(count), *range(count)]}[how.split()[0]]
    return tensor.index_select(axis, torch.tensor(list(index), dtype=torch.int64))


SHAPES = [
    "flat",
    "scalar",
    "deeper",
    *(f"{what} {axis}" for what in ("empty", "cut", "double") for axis in ("first", "last")),
]


@st.composite
def bad_tensors(draw, tensors):
    tensors = dict(tensors)
    for _ in range(draw(st.integers(1, 2))):
        name = draw(st.sampled_from(sorted(tensors)))
        kind = draw(st.sampled_from(["type", "values", "one value", "shape", "gone", "extra"]))
        tensor = tensors[name].clone()
        if kind == "type":
            tensors[name] = tensor.to(draw(st.sampled_from(TYPES)))
        elif kind in ("values", "one value"):
            value = draw(st.sampled_from(EXTREMES))
            fits = tensor.is_floating_point() or (isinstance(value, int) and tensor.dtype == torch.int64)
            where = ... if kind == "values" else (0,) * tensor.ndim
            if tensor.numel():
                tensor[where] = value if fits else bool(value)
            tensors[name] = tensor
        elif kind == "shape":
            tensors[name] = reshaped(tensor, draw(st.sampled_from(SHAPES))) if tensor.numel() else tensor
        elif kind == "gone":
            del tensors[name]
        else:
            tensors["extra"] = tensor
    return tensors


@bounded
@given(data=st.data())
def test_any_tensors_follow_or_are_refused(place, saved, tiny_model, data):
    tensors, metadata, _ = saved
    write(place, data.draw(bad_tensors(tensors)), json.loads(metadata["facts"]), metadata)
    follow(place, tiny_model)


@pytest.mark.parametrize("how", SHAPES)
@pytest.mark.parametrize("names", [("key",), ("value",), ("value", "valid", "mask_fraction", "pins")], ids="-".join)
def test_banks_of_another_network_are_refused(place, saved, tiny_model, how, names):
    tensors, metadata, _ = saved
    changed = {name: reshaped(tensors[name], how) for name in names}
    write(place, {**tensors, **changed}, json.loads(metadata["facts"]), metadata)
    follow(place, tiny_model)
