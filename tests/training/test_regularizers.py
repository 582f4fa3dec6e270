"""The thesis's chapter 4, against loops over single numbers."""

import math

import pytest
import torch
from refusals import refusal

from mnemask.errors import InputError
from mnemask.memory.read import read_dense
from mnemask.training.regularizers import Dropout, Reallocation

NUM_QUERIES, NUM_MEMORIES = 5, 9
FORMS = ["literal", "ascending", "post-softmax"]


@pytest.fixture
def affinity():
    generator = torch.Generator().manual_seed(3)
    return -3 * torch.rand(2, NUM_QUERIES, NUM_MEMORIES, generator=generator)


@pytest.fixture
def inside():
    first = torch.tensor([True, False, True, True, False, False, True, False, True])
    return torch.stack((first, ~first))


def softmax(row):
    largest = max(row)
    parts = [math.exp(x - largest) for x in row]
    return [part / sum(parts) for part in parts]


def reallocated(affinity, inside, form):
    """What the thesis's text says, for one clip, number by number."""
    rows = [softmax(row) for row in affinity.tolist()] if form == "post-softmax" else affinity.tolist()
    members = [i for i in range(len(inside)) if inside[i]]
    attention = {i: sum(row[i] for row in rows) for i in members}
    ranked = sorted(members, key=lambda i: attention[i], reverse=form != "ascending")
    rank = {i: place + 1 for place, i in enumerate(ranked)}
    result = []
    for row in rows:
        new = [d * rank[i] / sum(rank.values()) if i in rank else d for i, d in enumerate(row)]
        if form == "post-softmax":
            scale = sum(row[i] for i in members) / sum(new[i] for i in members)
            new = [a * scale if i in rank else a for i, a in enumerate(new)]
        else:
            new = softmax(new)
        result.append(new)
    return torch.tensor(result)


@pytest.mark.parametrize("form", FORMS)
def test_reallocation_is_the_formula_inside_the_mask_and_nothing_outside(affinity, inside, form):
    expected = torch.stack([reallocated(*clip, form) for clip in zip(affinity, inside, strict=True)])
    torch.testing.assert_close(Reallocation(form).weights(affinity, inside), expected)


@pytest.mark.parametrize("form", FORMS)
def test_an_object_without_memories_or_with_one_is_left_alone(affinity, form):
    inside = torch.zeros(2, NUM_MEMORIES, dtype=torch.bool)
    inside[1, 4] = True
    torch.testing.assert_close(Reallocation(form).weights(affinity, inside), affinity.softmax(-1))


def test_reallocation_before_the_softmax_flattens_attention_and_after_it_lifts_the_least_attended():
    affinity = torch.tensor([[-1.0, -4.0, -9.0, -30.0], [-2.0, -5.0, -8.0, -25.0]])
    inside = torch.tensor([True, True, True, False])
    plain = affinity.softmax(-1)
    for form in ("literal", "ascending"):
        # Inside, the affinities became less different; the background, untouched, lost.
        found = Reallocation(form).weights(affinity, inside)
        assert (found[:, :3].max(1).values / found[:, :3].min(1).values < plain[:, 0] / plain[:, 2]).all()
    found = Reallocation("post-softmax").weights(affinity, inside)
    assert (found[:, 2] > plain[:, 2]).all()
    assert (found[:, 0] < plain[:, 0]).all()
    assert torch.equal(found[:, 3], plain[:, 3])
    torch.testing.assert_close(found.sum(1), torch.ones(2))


@pytest.mark.parametrize("q", [0.3, 0.5, 0.95])
def test_dropout_before_the_softmax_shares_the_attention_among_the_connections_that_are_left(affinity, q):
    torch.manual_seed(0)
    found = Dropout(q).weights(affinity)
    for row, weights in zip(affinity.flatten(0, 1).tolist(), found.flatten(0, 1).tolist(), strict=True):
        left = [i for i, weight in enumerate(weights) if weight > 0]
        assert [weights[i] for i in left] == pytest.approx(softmax([row[i] for i in left]), abs=1e-6)


def test_dropout_after_the_softmax_scales_the_weights_that_are_left(affinity):
    torch.manual_seed(0)
    found, plain = Dropout(0.5, after_softmax=True).weights(affinity), affinity.softmax(-1)
    dropped = found == 0
    assert dropped.any()
    assert not dropped.all()
    torch.testing.assert_close(found[~dropped], 2 * plain[~dropped])


@pytest.mark.parametrize("after_softmax", [False, True])
def test_dropout_drops_its_share_of_connections_and_each_time_others(after_softmax):
    torch.manual_seed(0)
    dropout = Dropout(0.3, after_softmax)
    first, second = (dropout.weights(torch.zeros(100, 200)) for _ in range(2))
    assert (first == 0).float().mean() == pytest.approx(0.3, abs=0.01)
    assert not torch.equal(first, second)


def test_a_query_that_loses_everything_keeps_one_connection_at_random():
    torch.manual_seed(0)
    found = Dropout(0.999).weights(torch.zeros(3000, 2))
    assert (found.sum(1) == 1).all()
    assert (found == 1).float().mean(0).tolist() == pytest.approx([0.5, 0.5], abs=0.05)


@pytest.mark.parametrize("after_softmax", [False, True])
def test_dropout_of_nothing_is_the_softmax(affinity, after_softmax):
    assert torch.equal(Dropout(0.0, after_softmax).weights(affinity), affinity.softmax(-1))


def test_the_same_seed_drops_the_same_connections(affinity):
    for dropout in (Dropout(), Dropout(after_softmax=True)):
        first, second = (dropout.weights(affinity) for _ in range(2) if torch.manual_seed(5))
        assert torch.equal(first, second)


ALL = [Dropout(), Dropout(0.8), Dropout(after_softmax=True), *map(Reallocation, FORMS)]


@pytest.mark.parametrize("regularizer", ALL, ids=str)
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_gradients_flow_and_stay_finite_for_any_distance(affinity, inside, regularizer, scale):
    torch.manual_seed(0)
    affinity = (scale * affinity).requires_grad_()
    arguments = (inside,) if isinstance(regularizer, Reallocation) else ()
    weights = regularizer.weights(affinity, *arguments)
    (weights * torch.rand_like(weights)).sum().backward()
    assert torch.isfinite(affinity.grad).all()
    assert scale > 1 or affinity.grad.abs().sum() > 0


def test_the_gradient_of_reallocation_is_that_of_the_formula_with_constant_ranks(affinity, inside):
    for form in FORMS:
        assert torch.autograd.gradcheck(
            lambda d, form=form: Reallocation(form).weights(d, inside), affinity.double().requires_grad_()
        )


def test_a_read_gives_a_regularizer_whole_distances():
    query, memory, value = torch.randn(4, 6), torch.randn(7, 6), torch.randn(7, 3)
    seen = []

    def weigh(affinity):
        seen.append(affinity)
        return affinity.softmax(-1)

    regularized = read_dense(query, memory, value, weigh=weigh)
    torch.testing.assert_close(seen[0], -torch.cdist(query, memory).square() / math.sqrt(6), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(regularized, read_dense(query, memory, value))


def test_keys_and_weights_are_float32_under_autocast():
    query, memory, value = torch.randn(4, 6), torch.randn(7, 6), torch.randn(7, 3)
    seen = []
    with torch.autocast("cpu", torch.bfloat16):
        found = read_dense(query, memory, value, weigh=lambda affinity: seen.append(affinity) or affinity.softmax(-1))
    assert seen[0].dtype == torch.float32
    assert found.dtype == torch.bfloat16
    exact = -torch.cdist(query, memory).square() / math.sqrt(6)
    torch.testing.assert_close(seen[0], exact, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("q", [-0.1, 1.0, float("nan")])
def test_an_impossible_dropout_is_refused(q):
    with refusal(InputError, "probability"):
        Dropout(q)


def test_an_unknown_form_is_refused(as_users_call_it):
    with refusal(InputError, "post-softmax"):
        Reallocation("descending")
