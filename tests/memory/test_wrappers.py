"""Policies around policies: the contract whatever is inside, saving, settings."""

import json
from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given, settings
from policy_cases import cases, places, pure, updated
from random_tokens import random_tokens, same
from refusals import refusal
from thorough import thorough_but

import mnemask as mm
from mnemask.errors import CheckpointError, InputError
from mnemask.memory.policies import (
    LFU,
    POLICIES,
    Diverse,
    Fifo,
    KeepAll,
    PerObject,
    Pinned,
    Policy,
    RandomEviction,
    WithLatest,
    restored_policy,
    saved_policy,
)

WRAPPERS = (Pinned, WithLatest, PerObject)
COMPOSED = {
    f"{wrapper.__name__}({name})": wrapper(policy) for wrapper in WRAPPERS for name, policy in POLICIES.items()
} | {
    "Pinned(WithLatest(PerObject(lfu)))": Pinned(WithLatest(PerObject(LFU()))),
    "PerObject(Pinned(WithLatest(random)))": PerObject(Pinned(WithLatest(RandomEviction(), share=0.2)), exponent=1.0),
    "WithLatest(PerObject(Pinned(fifo)))": WithLatest(PerObject(Pinned(Fifo()), exponent=0.0), share=1.0),
}
BLENDED = {"afb": ("key", "value", "mask_fraction"), "prototypes": ("value",)}


@dataclass(frozen=True)
class Newest(Policy):
    """What a user may write: it knows nothing of pins."""

    def update(self, memory, new, budget):
        both = memory + new
        return both[max(0, len(both) - budget) :]


@pytest.mark.parametrize("name", thorough_but(5, COMPOSED))
@settings(max_examples=10)
@given(cases())
def test_a_composition_keeps_the_contract(name, case):
    policy, (memory, new, budget), both = COMPOSED[name], case, case[0] + case[1]
    kept = updated(policy, *case)
    if kept is None:
        pinned = int(both.pinned.sum())
        assert "keep-all" in name or pinned > budget
    else:
        assert len(kept) <= budget
        where = places(kept, both)
        assert where == sorted(set(where))
        source = both[torch.tensor(where, dtype=torch.int64)]
        blended = next((fields for inner, fields in BLENDED.items() if f"({inner})" in name), ())
        assert same(replace(kept, **{field: getattr(source, field) for field in blended}), source)
        assert same(kept[kept.pinned], both[both.pinned])
    assert pure(policy, (memory, new, budget))


@pytest.mark.parametrize("name", COMPOSED)
def test_a_composition_remembers_the_first_frame_whole(name):
    for pinned in (True, False):
        new = random_tokens([0] * 5, [0] * 5, [pinned] * 5, num_objects=2)
        assert same(COMPOSED[name].update(new[:0], new, 5), new)


@pytest.mark.parametrize("name", COMPOSED)
def test_a_composition_comes_back_from_json(name):
    assert restored_policy(json.loads(json.dumps(saved_policy(COMPOSED[name])))) == COMPOSED[name]


def test_a_saved_tracker_goes_on_with_its_composition_and_one_of_ones_own_is_asked_for(tiny_model, tmp_path):
    policy = PerObject(Pinned(LFU(pin=False, write_every=2)), exponent=0.25)
    mm.Tracker(tiny_model, policy=policy).save(tmp_path / "composed.bank")
    assert mm.Tracker.load(tmp_path / "composed.bank", tiny_model).policy == policy
    mm.Tracker(tiny_model, policy=Pinned(Newest())).save(tmp_path / "own.bank")
    with refusal(CheckpointError, r":Newest'"):
        mm.Tracker.load(tmp_path / "own.bank", tiny_model)


def test_a_wrapper_writes_pins_and_asks_for_room_as_the_policy_inside_unless_told_otherwise():
    inner = LFU(write_every=3, pin=False, default_frames=4.0)
    for wrapper in (PerObject(inner), PerObject(PerObject(inner))):
        assert (wrapper.write_every, wrapper.pin, wrapper.default_frames) == (3, False, 4.0)
    assert (Pinned(inner).write_every, Pinned(inner).pin) == (3, True)
    assert (WithLatest(inner).write_every, WithLatest(inner).pin) == (1, False)
    assert WithLatest(KeepAll()).default_frames is None
    own = [wrapper(Diverse()).write_on_growth for wrapper in (Pinned, PerObject, WithLatest)]
    assert own == [Diverse().write_on_growth, Diverse().write_on_growth, 0]
    assert PerObject(Diverse(), write_on_growth=0.0).write_on_growth == 0
    changed = replace(PerObject(inner), write_every=7)
    assert (changed.write_every, changed.pin, changed.inner) == (7, False, inner)


def test_policies_are_nested_to_a_limit():
    policy = LFU()
    for _ in range(20):
        policy = Pinned(policy)
    with refusal(InputError, "more than 20", r"Pinned\(LFU\(\)\)"):
        WithLatest(policy)


@pytest.mark.parametrize("kind", WRAPPERS)
@pytest.mark.parametrize("inner", ["lfu-pinned", LFU, None])
def test_what_is_no_policy_cannot_be_wrapped(kind, inner, as_users_call_it):
    with refusal(InputError, rf"{kind.__name__}", r"LFU\(\)"):
        kind(inner)
