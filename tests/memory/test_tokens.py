import pytest
import torch
from random_tokens import CK, CV, random_frame, random_tokens, same

from mnemask.memory.tokens import Readers, Tokens, bytes_per_token, readers_of


def from_frame(num_objects=2):
    return Tokens.from_frame(
        *random_frame(5, num_objects, 0), frame=30, step=7, pins=torch.ones(num_objects, 5, dtype=torch.bool)
    )


def test_tokens_of_a_frame_know_where_and_when_they_come_from():
    tokens = from_frame()
    assert (len(tokens), tokens.num_objects) == (5, 2)
    assert tokens.valid.all()
    assert tokens.cell.tolist() == [0, 1, 2, 3, 4]
    assert tokens.frame.tolist() == [30] * 5
    assert tokens.written_at.tolist() == tokens.last_used.tolist() == [7] * 5
    assert tokens.topk_count.tolist() == tokens.attention_mass.tolist() == [0] * 5


def test_tokens_are_chosen_by_mask_by_index_and_by_slice():
    tokens = random_tokens([0, 0, 1, 2], [3, 2, 1, 0], [True, False, False, False], num_objects=2)
    by_mask = tokens[torch.tensor([False, True, True, False])]
    assert same(by_mask, tokens[torch.tensor([1, 2])])
    assert same(by_mask, tokens[1:3])
    assert torch.equal(by_mask.value, tokens.value[:, 1:3])
    assert by_mask.topk_count.tolist() == [2, 1]


def test_a_sum_is_older_tokens_then_newer_ones():
    older, newer = random_tokens([0, 1], [1, 2], [False, True]), random_tokens([5], [0], [False], seed=1)
    both = older + newer
    assert both.written_at.tolist() == [0, 1, 5]
    assert same(both[:2], older)
    assert same(both[2:], newer)
    assert same(older[:0] + newer, newer)


def test_a_new_object_is_covered_by_nothing_and_leaves_the_others_alone():
    tokens = from_frame()
    more = tokens.add_object()
    assert more.num_objects == 3
    assert not more.valid[2].any()
    assert torch.count_nonzero(more.value[2]) == 0
    assert torch.count_nonzero(more.mask_fraction[2]) == 0
    assert same(more.remove_object(2), tokens)


def test_removing_an_object_moves_later_rows_up():
    tokens = from_frame(3)
    rest = tokens.remove_object(1)
    assert torch.equal(rest.value, tokens.value[[0, 2]])
    assert torch.equal(rest.mask_fraction, tokens.mask_fraction[[0, 2]])


def test_removing_an_object_drops_the_tokens_that_no_other_object_reads():
    early = from_frame(1).add_object()
    late = Tokens.from_frame(*random_frame(5, 2, 1), frame=40, step=9, pins=torch.zeros(2, 5, dtype=torch.bool))
    rest = (early + late).remove_object(0)
    assert same(rest, late.remove_object(0))


@pytest.mark.parametrize("num_objects", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_bytes_of_a_token_are_those_of_its_tensors_and_its_energy(num_objects, dtype):
    key, value, mask_fraction = random_frame(5, num_objects, 0, dtype)
    tokens = Tokens.from_frame(
        key, value, mask_fraction, frame=0, step=0, pins=torch.zeros(num_objects, 5, dtype=torch.bool)
    )
    energy = 4
    assert tokens.num_bytes + 5 * energy == 5 * bytes_per_token(num_objects, CK, CV, value.element_size())


def test_objects_that_read_the_same_tokens_are_one_group_and_the_widest_is_first():
    valid = torch.zeros(6, 5, dtype=torch.bool)
    valid[[0, 2]] = True
    valid[1, 3:] = True
    valid[4, [0, 2, 4]] = True
    valid[5, 3:] = True
    assert readers_of(valid) == [
        Readers((0, 2), 5, slice(0, 5)),
        Readers((4,), 3, None),
        Readers((1, 5), 2, slice(3, 5)),
        Readers((3,), 0, slice(0, 0)),
    ]


@pytest.mark.parametrize("num_objects", [1, 3])
def test_chosen_tokens_before_newer_ones_are_those_of_choosing_and_adding(num_objects):
    older = random_tokens([0, 1, 1, 2], [1, 2, 3, 4], [False] * 4, num_objects)
    newer = random_tokens([5, 5], [0, 0], [True, False], num_objects, seed=1)
    for places in ([0, 3], [2], [], [0, 1, 2, 3]):
        which = torch.tensor(places, dtype=torch.int64)
        assert same(older.joined(which, newer), older[which] + newer)
