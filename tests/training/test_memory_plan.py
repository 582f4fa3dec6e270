"""Which earlier frames are read: the first always, the one just before in a part of the steps, others at random."""

import numpy as np
import pytest
from refusals import refusal

from mnemask.errors import InputError
from mnemask.memory.policies import LFU
from mnemask.training.clip_tracker import MemoryInUse, MemoryPlan


def plans(memory, count=2000, num_frames=6):
    return [memory.plan(np.random.default_rng(seed), num_frames) for seed in range(count)]


def test_by_default_every_frame_reads_all_earlier_ones():
    (plan,) = set(plans(MemoryInUse(), 50, 4))
    assert plan.reads == ((0,), (0, 1), (0, 1, 2))
    assert [MemoryPlan().read_by(frame) for frame in (1, 2, 3)] == list(plan.reads)


def test_the_first_frame_is_always_read_and_the_one_before_in_a_part_of_the_steps():
    drawn = plans(MemoryInUse(keep=0.5, latest=0.25))
    latest = []
    for plan in drawn:
        assert all(read[0] == 0 and list(read) == sorted(set(read)) for read in plan.reads)
        assert all(max(read) < frame for frame, read in enumerate(plan.reads, 1))
        before = {frame - 1 in read for frame, read in enumerate(plan.reads, 1) if frame > 1}
        assert len(before) == 1  # all frames of a clip or none
        latest += before
    assert 0.2 < np.mean(latest) < 0.3
    assert 0.45 < np.mean([t in plan.reads[4] for plan in drawn for t in (1, 2, 3)]) < 0.55


def test_a_frame_that_would_read_the_first_one_alone_mostly_reads_a_mask_of_the_network_s_own_too():
    drawn = plans(MemoryInUse(keep=0.5, latest=0.5, own=0.8))
    alone = [read == (0,) for plan in drawn for read in plan.reads[1:]]
    without = [read == (0,) for plan in plans(MemoryInUse(keep=0.5, latest=0.5)) for read in plan.reads[1:]]
    assert np.mean(alone) == pytest.approx(0.2 * np.mean(without), rel=0.3)
    assert all(plan.reads[0] == (0,) and plan.reads[1] in ((0,), (0, 1)) for plan in drawn)
    assert {read for plan in drawn for read in (plan.reads[3],)} >= {(0, 1), (0, 2), (0, 3)}


def test_without_others_a_frame_reads_the_first_and_the_one_before_it():
    assert {plan.reads for plan in plans(MemoryInUse(keep=0.0), 20, 4)} == {((0,), (0, 1), (0, 2))}


def test_budgets_policies_and_kmn_sigmas_come_in_their_parts():
    memory = MemoryInUse(bounded=0.5, capacities=(1.5, 2.0), policies=(LFU(), LFU(pin=False)), kmn_sigma=0.2)
    drawn = plans(memory)
    bounded = [plan for plan in drawn if plan.capacity is not None]
    assert 0.45 < len(bounded) / len(drawn) < 0.55
    assert {(plan.capacity, plan.policy.pin) for plan in bounded} == {(c, p) for c in (1.5, 2.0) for p in (True, False)}
    assert all(plan.reads is None for plan in bounded)
    assert 0.45 < np.mean([plan.kmn_sigma == 0.2 for plan in drawn]) < 0.55
    assert {plan.kmn_sigma for plan in drawn} == {0.0, 0.2}


def test_a_plan_depends_on_the_generator_alone():
    memory = MemoryInUse(keep=0.5, latest=0.5, bounded=0.3, kmn_sigma=0.2)
    assert plans(memory) == plans(memory)


def test_a_frame_is_read_if_a_later_one_reads_it():
    plan = MemoryPlan(reads=((0,), (0,), (0, 2)))
    assert [plan.is_read(frame, 4) for frame in range(4)] == [True, False, True, False]


@pytest.mark.parametrize(
    "wrong",
    [
        {"keep": 1.5},
        {"latest": -0.1},
        {"own": 2.0},
        {"capacities": (0.5,)},
        {"kmn_sigma": -1.0},
        {"bounded": 1.0, "policies": ()},
    ],
)
def test_memories_that_cannot_be_are_refused(wrong):
    with pytest.raises(InputError):
        MemoryInUse(**wrong)


def test_a_plan_has_frames_to_read_or_a_budget():
    with refusal(InputError, "give"):
        MemoryPlan(reads=((0,),), capacity=2.0)
