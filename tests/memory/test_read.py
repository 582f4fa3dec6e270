import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mnemask.memory import read as reading
from mnemask.memory.read import FOLDS, KMNKernel, Reading, affinity, key_energy, largest, read_dense, read_top_k

METRICS = ["l2", "dot", "cosine"]


def brute_force(query_key, memory_key, metric):
    """The affinity of one query and one memory at a time, in Python floats."""
    rows = []
    for q in query_key.tolist():
        row = []
        for m in memory_key.tolist():
            dot = sum(a * b for a, b in zip(q, m, strict=True))
            if metric == "l2":
                row.append(-sum((a - b) ** 2 for a, b in zip(q, m, strict=True)) / math.sqrt(len(q)))
            elif metric == "dot":
                row.append(dot / math.sqrt(len(q)))
            else:
                row.append(dot / math.sqrt(sum(a * a for a in q) * sum(b * b for b in m)))
        rows.append(row)
    return torch.tensor(rows)


@pytest.mark.parametrize("metric", METRICS)
def test_affinity_is_the_formula(metric):
    torch.manual_seed(0)
    query, memory = torch.randn(7, 5), torch.randn(11, 5)
    found, expected = affinity(query, memory, key_energy(memory), metric), brute_force(query, memory, metric)
    if metric == "l2":  # up to a constant for each query, which a softmax over memories does not see
        constant = (found - expected).mean(1, keepdim=True)
        torch.testing.assert_close(constant[:, 0], query.square().sum(1) / math.sqrt(5))
        found = found - constant
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("metric", METRICS)
def test_affinity_treats_the_members_of_a_batch_alike(metric):
    query, memory = torch.randn(2, 3, 7, 5), torch.randn(2, 3, 11, 5)
    together = affinity(query, memory, key_energy(memory), metric)
    alone = affinity(query[1, 2], memory[1, 2], key_energy(memory[1, 2]), metric)
    torch.testing.assert_close(together[1, 2], alone)


@pytest.mark.parametrize("metric", METRICS)
def test_affinity_leaves_its_inputs_alone_and_can_be_differentiated(metric):
    query, memory = torch.randn(4, 5, requires_grad=True), torch.randn(6, 5, requires_grad=True)
    before = query.detach().clone(), memory.detach().clone()
    assert torch.autograd.gradcheck(
        lambda q, m: affinity(q, m, key_energy(m), metric), (query.double(), memory.double()), atol=1e-4
    )
    assert torch.equal(query, before[0])
    assert torch.equal(memory, before[1])


def dense_top_k(query_key, memory_key, memory_value, k, metric):
    """Softmax over the k best, scattered into a matrix of zeros, times all values."""
    scores = brute_force(query_key, memory_key, metric)
    best, index = scores.topk(min(k, len(memory_key)), dim=1)
    weight = torch.zeros_like(scores).scatter(1, index, best.softmax(1))
    return weight, weight @ memory_value


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("k", [1, 4, 11, 20])
def test_a_top_k_read_equals_a_dense_softmax_that_is_zero_elsewhere(metric, k):
    torch.manual_seed(0)
    query, memory, value = torch.randn(7, 5), torch.randn(11, 5), torch.randn(11, 3)
    found = read_top_k(query, memory, key_energy(memory), k, metric)
    weight, mixture = dense_top_k(query, memory, value, k, metric)
    assert found.index.shape == found.weight.shape == (7, min(k, 11))
    torch.testing.assert_close(torch.zeros(7, 11).scatter(1, found.index, found.weight), weight, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.gather(value[None])[0], mixture, atol=1e-5, rtol=1e-4)
    assert (found.weight[:, :-1] >= found.weight[:, 1:]).all()


def test_a_read_of_every_memory_equals_the_dense_read_of_training():
    torch.manual_seed(0)
    query, memory, value = torch.randn(7, 5), torch.randn(11, 5), torch.randn(11, 3)
    sparse = read_top_k(query, memory, key_energy(memory), 11).gather(value[None])[0]
    torch.testing.assert_close(sparse, read_dense(query, memory, value), atol=1e-5, rtol=1e-5)


def test_weights_of_a_regularizer_get_whole_affinities_with_the_kernel_too():
    torch.manual_seed(0)
    query, memory, value = torch.randn(12, 5), torch.randn(9, 5), torch.randn(9, 3)
    kernel, seen = KMNKernel(1.5, columns=4), []
    read_dense(query, memory, value, weigh=lambda alike: seen.append(alike) or alike.softmax(-1), kernel=kernel)
    alike = brute_force(query, memory, "l2")
    cells = torch.tensor([divmod(cell, 4) for cell in range(12)]).float()
    distance = torch.cdist(cells, cells[alike.argmax(0)])
    torch.testing.assert_close(seen[0], alike - distance.square() / (2 * 1.5**2), atol=1e-4, rtol=1e-4)


@given(st.integers(1, 40), st.integers(1, 30), st.integers(1, 8), st.integers(1, 4000), st.integers(1, 40))
def test_tiles_of_any_size_give_the_same_result(num_queries, num_memories, k, tile_bytes, tile_columns):
    generator = torch.Generator().manual_seed(num_queries)
    query, memory = torch.randn(num_queries, 4, generator=generator), torch.randn(num_memories, 4, generator=generator)
    whole = read_top_k(query, memory, key_energy(memory), k)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "AFFINITY_BYTES", tile_bytes)
        patch.setattr(reading, "TILE_COLUMNS", tile_columns)
        tiled = read_top_k(query, memory, key_energy(memory), k)
    assert torch.equal(tiled.index, whole.index)
    torch.testing.assert_close(tiled.weight, whole.weight)


@given(st.integers(1, 12), st.integers(1, 40 * FOLDS), st.integers(1, 6))
def test_the_largest_of_each_row_are_those_of_a_plain_search(num_rows, num_columns, k):
    rows = torch.randn(num_rows, num_columns, generator=torch.Generator().manual_seed(num_columns))
    best, index = largest(rows, k)
    expected = rows.topk(min(k, num_columns), dim=1)
    assert torch.equal(best, expected.values)
    assert torch.equal(index, expected.indices)


@pytest.mark.parametrize("num_columns", [100, 50 * FOLDS + 3])
@pytest.mark.parametrize("rows", [torch.zeros(2, 1), torch.full((2, 1), -torch.inf), torch.tensor([[0.0, 1.0]] * 2)])
def test_among_equals_the_largest_are_all_different_columns(num_columns, rows):
    rows = rows.repeat(1, num_columns // rows.shape[1])
    best, index = largest(rows, 4)
    assert torch.equal(best, rows.topk(4, dim=1).values)
    assert torch.equal(rows.gather(1, index), best)
    assert all(len(set(row)) == 4 for row in index.tolist())


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e3, 1e6, 1e9])
def test_keys_of_any_length_give_finite_weights(metric, scale):
    torch.manual_seed(0)
    query, memory = scale * torch.randn(9, 8), scale * torch.randn(30, 8)
    found = read_top_k(query, memory, key_energy(memory), 5, metric)
    assert torch.isfinite(found.weight).all()
    torch.testing.assert_close(found.weight.sum(1), torch.ones(9))
    assert torch.isfinite(read_dense(query, memory, torch.randn(30, 2))).all()


def test_values_keep_their_precision_and_are_mixed_by_weight():
    found = Reading(torch.tensor([[2, 0], [1, 1]]), torch.tensor([[0.75, 0.25], [0.5, 0.5]]))
    value = torch.tensor([[0.0, 4.0], [1.0, 1.0], [8.0, 0.0]])
    for dtype in (torch.float32, torch.bfloat16):
        mixed = found.gather(value.to(dtype)[None])[0]
        assert mixed.dtype == dtype
        assert mixed.tolist() == [[6.0, 1.0], [1.0, 1.0]]
