"""Memories are read near the place where they fit best (KMN)."""

import pytest
import torch
from refusals import refusal

from mnemask.config import TrackerConfig
from mnemask.errors import InputError
from mnemask.memory import read as reading
from mnemask.memory.bank import MemoryBank
from mnemask.memory.budget import Budget
from mnemask.memory.policies import KeepAll
from mnemask.memory.read import KMNKernel, affinity, check_kmn_sigma, key_energy, read_top_k
from mnemask.memory.tokens import CellGrid

ROWS, COLUMNS = 5, 8
METRICS = ["l2", "dot", "cosine"]


def keys(num_memories=60, seed=0):
    torch.manual_seed(seed)
    return torch.randn(ROWS * COLUMNS, 6), torch.randn(num_memories, 6)


def by_definition(query_key, memory_key, metric, sigma):
    """The weights of all memories, one query and one memory at a time."""
    alike = affinity(query_key, memory_key, key_energy(memory_key), metric)
    if metric == "l2":
        alike = alike - key_energy(query_key)[:, None] / query_key.shape[1] ** 0.5
    for memory in range(len(memory_key)):
        best = int(alike[:, memory].argmax())
        for query in range(len(query_key)):
            rows, columns = query // COLUMNS - best // COLUMNS, query % COLUMNS - best % COLUMNS
            alike[query, memory] -= (rows**2 + columns**2) / (2 * sigma**2)
    return alike.softmax(1)


def dense(found, num_memories):
    return torch.zeros(len(found.index), num_memories).scatter(1, found.index, found.weight)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("sigma", [0.7, 2.5])
def test_a_read_is_the_formula(metric, sigma):
    query, memory = keys()
    found = read_top_k(query, memory, key_energy(memory), len(memory), metric, KMNKernel(sigma, COLUMNS))
    expected = by_definition(query, memory, metric, sigma)
    torch.testing.assert_close(dense(found, len(memory)), expected, atol=1e-5, rtol=1e-4)


def test_the_k_best_are_chosen_with_the_kmn_kernel():
    query, memory = keys()
    few = read_top_k(query, memory, key_energy(memory), 4, "l2", KMNKernel(1.5, COLUMNS))
    everything = read_top_k(query, memory, key_energy(memory), len(memory), "l2", KMNKernel(1.5, COLUMNS))
    assert torch.equal(few.index, everything.index[:, :4])


@pytest.mark.parametrize("size", [4 * 40, 4 * 7, 4 * 2000])
def test_tiles_do_not_change_what_is_read(size, monkeypatch):
    query, memory = keys(200)
    whole = read_top_k(query, memory, key_energy(memory), 5, "l2", KMNKernel(2.0, COLUMNS))
    monkeypatch.setattr(reading, "AFFINITY_BYTES", size)
    monkeypatch.setattr(reading, "TILE_COLUMNS", 33)
    tiled = read_top_k(query, memory, key_energy(memory), 5, "l2", KMNKernel(2.0, COLUMNS))
    assert torch.equal(whole.index, tiled.index)
    torch.testing.assert_close(whole.weight, tiled.weight)


def test_a_very_wide_kmn_kernel_is_none():
    query, memory = keys()
    wide = read_top_k(query, memory, key_energy(memory), 5, "l2", KMNKernel(1e4, COLUMNS))
    none = read_top_k(query, memory, key_energy(memory), 5)
    assert torch.equal(wide.index, none.index)
    torch.testing.assert_close(wide.weight, none.weight, atol=1e-5, rtol=1e-5)


def test_what_looks_like_the_object_elsewhere_reads_the_background():
    # Nothing in memory looks like the second thing as much as the object does, yet the object is seen in its place.
    query = torch.zeros(ROWS * COLUMNS, 6)
    here, there = 0, ROWS * COLUMNS - 1
    query[here, 0], query[there, 0] = 3.0, 2.8
    memory = torch.zeros(2, 6)
    memory[0, 0], memory[1, 1] = 3.0, 0.1  # the object, and background that fits everywhere else
    of_object = {}
    for kernel in (None, KMNKernel(1.0, COLUMNS)):
        found = read_top_k(query, memory, key_energy(memory), 2, "l2", kernel)
        of_object[kernel] = dense(found, 2)[:, 0]
    assert of_object[None][there] > 0.9
    assert of_object[KMNKernel(1.0, COLUMNS)][there] < 0.01
    assert of_object[KMNKernel(1.0, COLUMNS)][here] > 0.9


@pytest.mark.parametrize("share", [-0.1, 0.005, float("nan"), float("inf"), True, "0.15", None])
def test_an_impossible_sigma_is_refused(share):
    with refusal(InputError, "kernel"):
        check_kmn_sigma(share)


@pytest.mark.parametrize("share", [0, 0.0, 0.01, 1, 0.15])
def test_a_possible_sigma_is_taken(share):
    check_kmn_sigma(share)


def test_sigma_is_a_share_of_the_shorter_side():
    assert KMNKernel.from_sigma(0.2, (10, 20)) == KMNKernel(2.0, 20)
    assert KMNKernel.from_sigma(0.2, (20, 10)) == KMNKernel(2.0, 10)
    assert KMNKernel.from_sigma(0, (10, 20)) is None


def bank_of(kmn_sigma, budget=None):
    bank = MemoryBank(TrackerConfig(KeepAll(), budget or Budget(), top_k=4, kmn_sigma=kmn_sigma))
    query, memory = keys(ROWS * COLUMNS)
    pins = torch.zeros(1, len(memory), dtype=torch.bool)
    value = torch.arange(len(memory), dtype=torch.float32)[None, :, None]
    bank.write(memory, value, torch.ones(1, len(memory)), frame=0, step=0, pins=pins)
    return bank, query


def test_a_bank_reads_with_the_kmn_kernel_of_its_grid():
    bank, query = bank_of(0.3)
    bank.grid = CellGrid((16 * ROWS, 16 * COLUMNS), None)
    tokens = bank.tokens
    found = read_top_k(query, tokens.key, key_energy(tokens.key), 4, "l2", KMNKernel(0.3 * ROWS, COLUMNS))
    torch.testing.assert_close(bank.read(query, 1)[0], found.gather(tokens.value[:1])[0])
    assert torch.equal(bank.tokens.topk_count, torch.bincount(found.index.flatten(), minlength=len(tokens)))


def test_a_bank_that_knows_no_grid_says_so():
    bank, query = bank_of(0.3)
    with refusal(InputError, r"memory\.grid"):
        bank.read(query, 1)
    plain, query = bank_of(0)
    assert plain.read(query, 1).shape == (1, len(query), 1)


def test_a_budget_counts_the_places_of_memories():
    with_kernel, _ = bank_of(0.3, Budget(bytes="32MiB"))
    without, _ = bank_of(0, Budget(bytes="32MiB"))
    per_token = [bank.bytes_per_token(1, 64, 256, 4) for bank in (with_kernel, without)]
    assert per_token[0] - per_token[1] == reading.PLACE_BYTES
    assert with_kernel.stats().capacity < without.stats().capacity
