"""Prototypes: who becomes one, what value it takes, and what stays whole."""

from dataclasses import replace

import pytest
import torch
from frame_tokens import frame_tokens, joined, steps
from random_tokens import CK, same
from refusals import refusal
from thorough import thorough_but

from mnemask.errors import InputError
from mnemask.memory.policies.xmem import Prototypes


def used(*frames):
    """The frames as one memory, with random use."""
    memory = joined(*frames)
    attention_mass = torch.rand(len(memory), generator=torch.Generator().manual_seed(3))
    return replace(memory, attention_mass=attention_mass)


def read_by_hand(memory, row, prototype, sources):
    """What a prototype's key reads from the candidates that cover the object."""
    sources = [source for source in sources if bool(memory.valid[row, source])]
    distance = torch.stack([(memory.key[source] - memory.key[prototype]).square().sum() for source in sources])
    return torch.softmax(-distance / CK**0.5, 0) @ memory.value[row, sources]


def test_where_all_fits_all_is_kept():
    memory, new = used(frame_tokens(0, pinned=True), frame_tokens(5)), frame_tokens(10)
    assert same(Prototypes().update(memory, new, 18), memory + new)


@pytest.mark.parametrize("count", [1, 3, 5])
def test_the_most_used_candidates_become_prototypes_with_what_they_read_from_all(count):
    first, *others = (frame_tokens(step, 6, 2, pinned=step == 0) for step in range(0, 25, 5))
    memory, new = used(first, *others), frame_tokens(25, 6, 2)
    policy = Prototypes(recent=0.6, long_term=0.4, prototypes=(count - 1) / 12)
    kept = policy.update(memory, new, 30)  # recent: pinned, steps 20 and 25 → candidates are steps 5, 10, 15
    candidates = range(6, 24)
    count = int((count - 1) / 12 * 18 + 1)
    use = memory.attention_mass / (25 - memory.written_at)
    chosen = sorted(sorted(candidates, key=lambda token: -float(use[token]))[:count])
    assert same(kept[:6], memory[:6])
    assert same(kept[6 + count :], memory[24:] + new)
    for position, token in enumerate(chosen, start=6):
        for row in range(2):
            expected = read_by_hand(memory, row, token, candidates)
            torch.testing.assert_close(kept.value[row, position], expected, atol=1e-5, rtol=1e-4)
    where = torch.tensor(chosen)
    unchanged = memory[where].tensors() | {"value": kept.value[:, 6 : 6 + count]}
    assert same(kept[6 : 6 + count], replace(memory[where], **unchanged))


def test_an_object_reads_only_candidates_that_cover_it():
    early = joined(frame_tokens(0, 6, pinned=True), frame_tokens(5, 6)).add_object()
    memory, new = used(early, frame_tokens(10, 6, 2)), frame_tokens(15, 6, 2)
    kept = Prototypes(recent=0.5, long_term=0.5, prototypes=0.5).update(memory, new, 20)
    prototypes = torch.nonzero((kept.written_at == 5) | (kept.written_at == 10))[:, 0].tolist()
    assert {5, 10} == {int(kept.written_at[position]) for position in prototypes}
    for position in prototypes:
        token = int(
            torch.nonzero((memory.written_at == kept.written_at[position]) & (memory.cell == kept.cell[position]))
        )
        for row in range(2):
            if not bool(kept.valid[row, position]):
                assert torch.count_nonzero(kept.value[row, position]) == 0
                continue
            expected = read_by_hand(memory, row, token, range(6, 18))
            torch.testing.assert_close(kept.value[row, position], expected, atol=1e-5, rtol=1e-4)


def test_long_queues_of_prototypes_are_read_in_chunks(monkeypatch):
    memory, new = used(frame_tokens(0, 6, pinned=True), *(frame_tokens(step, 6) for step in (5, 10))), frame_tokens(15)
    policy = Prototypes(prototypes=1.0)
    whole = policy.update(memory, new, 20)
    monkeypatch.setattr("mnemask.memory.policies.xmem.AFFINITY_BYTES", 150)
    torch.testing.assert_close(policy.update(memory, new, 20).value, whole.value)


def test_the_least_used_prototypes_make_room_for_new_ones():
    first, frames = frame_tokens(0, 6, pinned=True), [frame_tokens(step, 6) for step in (5, 10)]
    old = replace(frame_tokens(1, 6)[:3], attention_mass=torch.tensor([9.0, 1.0, 5.0]))  # half of a frame: prototypes
    memory = joined(first, old, *(replace(frame, attention_mass=torch.rand(6)) for frame in frames))
    kept = Prototypes(recent=0.7, long_term=0.1, prototypes=0.0).update(memory, frame_tokens(15, 6), 26)
    # Room for pinned, one of the frames, the new one and 2 prototypes, of which one is new.
    assert kept.written_at.bincount().tolist() == [6, 1, 0, 0, 0, 1, 0, 0, 0, 0, 6, 0, 0, 0, 0, 6]
    assert kept[kept.written_at == 1].cell.tolist() == [0]


@pytest.mark.parametrize("frames", thorough_but(2, [1, 1.5, 2, 3, 8]))
def test_it_works_with_every_budget_with_several_objects_and_late_ones(fill_bank, frames):
    bank = fill_bank(Prototypes(prototypes=0.2), frames, 30, 15, newcomer_pins=4 if frames >= 2 else 0)
    tokens = bank.tokens
    assert torch.equal(tokens.key[:10], frame_tokens(0, 10).key)
    assert torch.count_nonzero(tokens.value[~tokens.valid]) == 0
    if frames == 8:
        assert len(steps(tokens)) > 10  # many frames left something
        assert tokens.written_at.bincount()[-3:].tolist() == [10, 10, 10]  # and the latest are whole
    if frames >= 2:
        corrected = tokens[tokens.pins[2]]
        assert torch.equal(corrected.value, frame_tokens(15, 10, 3).value[:, :4])


@pytest.mark.parametrize(
    "shares", [(0.7, 0.4, 0.1), (-0.1, 0.4, 0.1), (0.5, -0.1, 0.1), (0.5, 0.3, -1.0), (0.5, 0.3, float("nan"))]
)
def test_shares_that_make_no_sense_are_refused(shares):
    with refusal(InputError, "negative"):
        Prototypes(recent=shares[0], long_term=shares[1], prototypes=shares[2])
