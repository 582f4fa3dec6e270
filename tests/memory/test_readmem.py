"""The diverse memory: which frames differ most."""

from dataclasses import replace
from itertools import combinations

import pytest
import torch
from frame_tokens import frame_tokens, joined, steps
from random_tokens import CK, same

from mnemask.memory.policies.whole_frames import DiverseMemory, similarities


def similarity_by_hand(first, second):
    """Σ (k·q)² over all pairs of cells, as a cosine."""

    def inner(one, other):
        return sum(float(torch.dot(k, q)) ** 2 for k in one for q in other)

    return inner(first, second) / (inner(first, first) * inner(second, second)) ** 0.5


def gram_of(frames):
    mean = torch.cat([frame.key for frame in frames]).mean(0)
    return torch.tensor(
        [[similarity_by_hand(one.key - mean, other.key - mean) for other in frames] for one in frames],
        dtype=torch.float64,
    )


def test_similarity_is_that_of_all_pairs_of_cells_and_knows_no_places():
    frames = [frame_tokens(step, 5) for step in range(4)]
    memory = joined(*frames)
    found = similarities(memory.key, memory.written_at, 4)
    torch.testing.assert_close(found, gram_of(frames), atol=1e-5, rtol=1e-4)
    moved = joined(frames[0], replace(frames[1], key=frames[0].key.roll(2, 0)))
    torch.testing.assert_close(similarities(moved.key, moved.written_at, 2), torch.ones(2, 2, dtype=torch.float64))


@pytest.mark.parametrize("seed", range(8))
def test_of_all_frames_but_the_new_one_that_goes_without_which_the_determinant_is_largest(seed):
    frames = [frame_tokens(step, 6, pinned=step == 0, seed=10 * seed + step) for step in range(5)]
    new = frame_tokens(5, 6, seed=99)
    gram = gram_of(frames)
    chosen = max(
        combinations(range(1, 5), 3), key=lambda some: float(torch.linalg.det(gram[[0, *some]][:, [0, *some]]))
    )
    kept = DiverseMemory(least_similar=0.0).update(joined(*frames), new, 30)
    assert same(kept, joined(frames[0], *(frames[index] for index in chosen), new))


def test_a_frame_like_another_one_goes_before_one_that_is_unlike():
    frames = [frame_tokens(step, 6, pinned=step == 0) for step in range(4)]
    frames[2] = replace(frames[2], key=frames[1].key + 0.01)
    kept = DiverseMemory(least_similar=0.0).update(joined(*frames), frame_tokens(4), 24)
    assert steps(kept) in ([0, 1, 3, 4], [0, 2, 3, 4])
    assert len(kept) == 24


def test_frames_that_have_nothing_in_common_with_annotated_ones_go_first():
    axis = torch.eye(CK)
    first = replace(frame_tokens(0, 6, pinned=True), key=axis[:2].repeat(3, 1))
    alike = replace(frame_tokens(1, 6), key=axis[:2].repeat(3, 1))
    strange = replace(frame_tokens(2, 6), key=-20 * axis[2:].repeat(3, 1))
    memory, new = joined(first, alike, strange), frame_tokens(3)
    assert steps(DiverseMemory(least_similar=0.99).update(memory, new, 18)) == [0, 1, 3]
    assert steps(DiverseMemory(least_similar=0.0).update(memory, new, 18)) == [0, 2, 3]


def test_a_frozen_picture_and_an_empty_one_do_no_harm():
    key = frame_tokens(0).key
    frozen = joined(*(frame_tokens(step, pinned=step == 0, key=key) for step in range(5)))
    assert len(DiverseMemory().update(frozen, frame_tokens(5, key=key), 18)) == 18
    blank = joined(*(frame_tokens(step, pinned=step == 0, key=torch.zeros(6, CK)) for step in range(5)))
    assert len(DiverseMemory().update(blank, frame_tokens(5), 18)) == 18


def test_pinned_tokens_of_a_frame_that_is_dropped_stay():
    corrected = replace(frame_tokens(5, 6), pins=torch.tensor([[True, False, True, False, False, False]]))
    memory = joined(frame_tokens(0, 6, pinned=True), corrected)
    kept = DiverseMemory().update(memory, frame_tokens(10), 17)
    assert same(kept[kept.written_at == 5], corrected[corrected.pinned])
    assert len(kept) == 14
