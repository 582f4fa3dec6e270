"""Distinct: of what is alike the newest stays, and of the first frame a part is pinned."""

from dataclasses import replace

import torch
from hypothesis import given
from policy_cases import cases, places
from random_tokens import CK, random_tokens, same

from mnemask import Tracker
from mnemask.memory.policies import Diverse, PerObject, diverse


def by_hand(tokens):
    """Each token's squared distance to its nearest senior / √Ck, one pair at a time."""
    nearest = []
    for i in range(len(tokens)):
        apart = [
            (tokens.key[i] - tokens.key[j]).square().sum().item()
            for j in range(len(tokens))
            if j != i and (tokens.pinned[j] or j > i) and (tokens.valid[:, j] >= tokens.valid[:, i]).all()
        ]
        nearest.append(min(apart, default=float("inf")) / CK**0.5)
    return torch.tensor(nearest)


@given(cases())
def test_what_is_most_like_a_newer_or_pinned_token_goes(case):
    memory, new, budget = case
    both = memory + new
    if int(both.pinned.sum()) <= budget < len(both):
        free = torch.nonzero(~both.pinned)[:, 0]
        order = free[torch.argsort(by_hand(both)[free], stable=True)]
        gone = set(order[: len(both) - budget].tolist())
        assert places(Diverse().update(*case), both) == [i for i in range(len(both)) if i not in gone]


def test_distances_do_not_depend_on_how_many_fit_into_one_chunk(monkeypatch):
    tokens = random_tokens(range(23), [0] * 23, [i % 5 == 2 for i in range(23)], num_objects=2)
    tokens = replace(tokens, valid=torch.stack((torch.ones(23), torch.arange(23) > 9)).bool())
    evictable = ~tokens.pinned
    for num_bytes in (4, 4 * 23 * 4, 4 * 23 * 23):
        monkeypatch.setattr("mnemask.memory.read.AFFINITY_BYTES", num_bytes)
        found = diverse.distances_to_newer(tokens)
        torch.testing.assert_close(found[evictable], by_hand(tokens)[evictable], rtol=1e-5, atol=1e-5)


def test_of_ten_copies_of_a_sky_the_newest_stays_and_of_a_hidden_object_all():
    sky, thing = (random_tokens([0] * 3, [0] * 3, [False] * 3, seed=seed) for seed in (1, 2))
    memory = thing
    for step in range(1, 10):
        again = replace(sky, key=sky.key + 1e-3 * step, written_at=torch.full_like(sky.written_at, step))
        memory = Diverse().update(memory, again, 7)
    assert same(memory[:3], thing)
    assert memory.written_at.tolist()[-3:] == [9, 9, 9]


def test_a_pinned_token_from_before_an_object_appeared_does_not_stand_in_for_it():
    memory = random_tokens([0, 1], [0, 0], [True, False], num_objects=2)
    memory = replace(memory, valid=torch.tensor([[True, True], [False, False]]))
    new = replace(random_tokens([5], [0], [False], num_objects=2), key=memory.key[:1])
    assert Diverse().update(memory, new, 2).written_at.tolist() == [0, 5]


def test_the_objects_what_is_around_them_and_a_grid_of_the_rest_are_pinned():
    mask_fraction = torch.zeros(2, 7, 9)
    mask_fraction[0, 3, 3] = 1.0
    mask_fraction[1, 6, 8] = 0.01
    mask_fraction[1, 0, 7] = 1e-7  # what a soft mask leaves anywhere
    rows = ["#.#.#.#.#", ".........", "#.###.#.#", "..###....", "#.###.#.#", ".......##", "#.#.#.###"]
    assert ["".join(".#"[int(cell)] for cell in row) for row in Diverse().pinned_part(mask_fraction)] == rows


def test_a_tracker_pins_that_part_of_the_first_frame_and_keeps_to_two_frames(tiny_model):
    tracker = Tracker(tiny_model, policy=PerObject(Diverse(write_every=1)), short_side=None)
    frames = torch.randint(0, 255, (6, 3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(64, 96, dtype=torch.bool)
    mask[:16, 80:] = True
    tracker.step(frames[0], {1: mask})
    pinned = tracker.memory.tokens.pinned.view(4, 6)
    assert ["".join(".#"[int(cell)] for cell in row) for row in pinned] == ["#.#.##", "....##", "#.#.#.", "......"]
    for frame in frames[1:]:
        tracker.step(frame)
    tokens = tracker.memory.tokens
    assert len(tokens) == 2 * 24
    assert int(tokens.pinned.sum()) == int(pinned.sum())
    assert len(tokens.frame.unique()) > 2
