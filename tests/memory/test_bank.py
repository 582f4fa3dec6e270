import copy
from dataclasses import replace

import pytest
import torch
from random_tokens import CK, CV, random_frame, same, write
from refusals import refusal
from thorough import thorough_but
from torch.profiler import ProfilerActivity, profile

from mnemask.config import TrackerConfig
from mnemask.errors import BudgetError, PolicyError
from mnemask.memory import budget as budgets
from mnemask.memory import read as reading
from mnemask.memory.bank import MemoryBank, update_usage
from mnemask.memory.budget import Budget, read_buffer_bytes
from mnemask.memory.policies import LFU, POLICIES, KeepAll
from mnemask.memory.read import Reading, key_energy, read_top_k

K_READ = 3


def queries(seed=99, num_cells=6):
    return torch.randn(num_cells, CK, generator=torch.Generator().manual_seed(seed))


def mixture(query, key, value):
    """What a query reads from these tokens, one query at a time."""
    out = []
    for q in query:
        distance = (key - q).square().sum(1) / CK**0.5
        nearest = torch.argsort(distance)[:K_READ]
        out.append(torch.softmax(-distance[nearest], 0) @ value[nearest])
    return torch.stack(out)


@pytest.fixture
def bank():
    return MemoryBank(TrackerConfig(KeepAll(), Budget(), top_k=K_READ))


def test_a_read_mixes_the_values_of_each_object(bank):
    for step in range(3):
        write(bank, step, num_objects=2)
    readout = bank.read(queries(), 5)
    assert readout.shape == (2, 6, CV)
    for row in range(2):
        expected = mixture(queries(), bank.tokens.key, bank.tokens.value[row])
        torch.testing.assert_close(readout[row], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("metric", ["l2", "dot", "cosine"])
def test_hits_mass_and_last_hit_are_those_of_a_count_by_hand(metric):
    bank = MemoryBank(TrackerConfig(KeepAll(), Budget(), top_k=K_READ, metric=metric))
    write(bank, 0)
    write(bank, 1)
    topk_count, attention_mass, last = [0] * 12, [0.0] * 12, [0] * 6 + [1] * 6
    for step in range(2, 6):
        query = queries(step)
        bank.read(query, step)
        key = bank.tokens.key
        found = read_top_k(query, key, key_energy(key), K_READ, metric)
        for index, weight in zip(found.index.tolist(), found.weight.tolist(), strict=True):
            for token, mask_fraction in zip(index, weight, strict=True):
                topk_count[token] += 1
                attention_mass[token] += mask_fraction
                last[token] = step
    assert bank.tokens.topk_count.tolist() == topk_count
    assert bank.tokens.attention_mass.tolist() == pytest.approx(attention_mass, abs=1e-5)
    assert bank.tokens.last_used.tolist() == last
    assert sum(topk_count) == 4 * 6 * K_READ
    assert sum(attention_mass) == pytest.approx(4 * 6)


def test_the_mass_keeps_growing_after_very_many_frames(bank):
    write(bank, 0)
    many = torch.full((1000, 1), 0.05)
    same_token = Reading(torch.zeros(1000, 1, dtype=torch.int64), many)
    used = replace(bank.tokens, attention_mass=torch.full((6,), 2.0**20))  # next to which 0.05 is less than a rounding
    for step in range(1, 5):
        used = update_usage(used, same_token, step)
    assert used.attention_mass.tolist() == pytest.approx([2.0**20 + 4 * 50, *[2.0**20] * 5], abs=0.5)


def test_a_late_object_reads_only_what_was_written_since_it_exists(bank):
    write(bank, 0)
    bank.add_object()
    assert torch.count_nonzero(bank.read(queries(), 1)[1]) == 0
    write(bank, 1, num_objects=2)
    bank.add_object()
    write(bank, 2, num_objects=3)
    readout = bank.read(queries(), 3)
    for row in range(3):
        key, value = bank.tokens.key[6 * row :], bank.tokens.value[row, 6 * row :]
        torch.testing.assert_close(readout[row], mixture(queries(), key, value), atol=1e-5, rtol=1e-4)


def test_each_query_is_counted_once_however_many_objects_there_are(bank):
    alone = MemoryBank(TrackerConfig(KeepAll(), Budget(), top_k=K_READ))
    for step, num_objects in enumerate((1, 3)):
        write(bank, step, num_objects=num_objects)
        write(alone, step, num_objects=1)
        if step == 0:
            bank.add_object()
            bank.add_object()
    for step in range(2, 5):
        bank.read(queries(step), step)
        alone.read(queries(step), step)
    for name in ("topk_count", "attention_mass", "last_used"):  # of the same keys: random_frame draws them first
        assert torch.equal(getattr(bank.tokens, name), getattr(alone.tokens, name))
    assert int(bank.tokens.topk_count.sum()) == 3 * 6 * K_READ


@pytest.mark.parametrize("removed", [0, 1, 2])
def test_removing_an_object_leaves_what_the_others_read_to_the_last_bit(bank, removed):
    write(bank, 0, num_objects=1)
    bank.add_object()
    write(bank, 1, num_objects=2)
    bank.add_object()
    write(bank, 2, num_objects=3)
    before = bank.read(queries(), 3)
    bank.remove_object(removed)
    assert torch.equal(bank.read(queries(), 4), before[[row for row in range(3) if row != removed]])


def test_removing_an_object_frees_what_only_it_could_read():
    bank = MemoryBank(TrackerConfig(LFU(), Budget(tokens=12), top_k=K_READ))
    write(bank, 0, pinned=True)
    bank.add_object()
    write(bank, 1, num_objects=2, pinned=True)
    bank.remove_object(0)
    assert bank.tokens.frame.tolist() == [10] * 6
    bank.add_object()
    write(bank, 2, num_objects=2, pinned=True)
    assert bank.tokens.frame.tolist() == [10] * 6 + [20] * 6
    bank.remove_object(0)
    bank.remove_object(0)
    assert bank.tokens is None
    assert bank.stats().tokens == 0


def test_a_memory_of_which_nothing_was_kept_reads_as_nothing():
    class Forgetful(LFU):
        def update(self, memory, new, budget):
            return new[:0]

    bank = MemoryBank(TrackerConfig(Forgetful(), Budget(), top_k=K_READ))
    write(bank, 0, num_objects=2)
    assert torch.equal(bank.read(queries(), 1), torch.zeros(2, 6, CV))
    assert bank.stats().tokens == 0


def test_a_read_changes_no_tokens_that_were_taken_before(bank):
    write(bank, 0)
    taken = bank.tokens
    before = copy.deepcopy(taken)
    bank.read(queries(), 1)
    assert same(taken, before)
    assert not same(bank.tokens, before)


def test_a_write_that_does_not_fit_leaves_the_memory_as_it_was():
    bank = MemoryBank(TrackerConfig(KeepAll(), Budget(tokens=7), top_k=K_READ))
    write(bank, 0)
    bank.read(queries(), 1)
    twin = copy.deepcopy(bank)
    with pytest.raises(BudgetError):
        write(bank, 5)
    assert same(bank.tokens, twin.tokens)
    assert bank.stats() == twin.stats()
    assert torch.equal(bank.read(queries(), 2), twin.read(queries(), 2))


class Greedy(LFU):
    def update(self, memory, new, budget):
        return memory + new


def test_a_policy_that_keeps_too_much_is_named():
    bank = MemoryBank(TrackerConfig(Greedy(), Budget(tokens=7), top_k=K_READ))
    write(bank, 0)
    twin = copy.deepcopy(bank)
    with refusal(PolicyError, r"12", "frame 50"):
        write(bank, 5)
    assert same(bank.tokens, twin.tokens)


def test_stats_count_what_happened():
    bank = MemoryBank(TrackerConfig(LFU(), Budget(frames=2), top_k=K_READ))
    for step in range(4):
        write(bank, step, pinned=step == 0)
    bank.read(queries(), 4)
    stats = bank.stats()
    assert (stats.tokens, stats.frames, stats.pinned, stats.capacity) == (12, 2.0, 6, 12)
    assert (stats.writes, stats.reads, stats.evictions) == (4, 1, 12)
    assert MemoryBank(TrackerConfig(KeepAll(), Budget())).stats().capacity is None


def held_bytes(bank):
    """The bytes of all memory that a bank keeps alive, whole storages where it holds a part of one."""
    tensors = [bank._energy, *bank.tokens.tensors().values()]
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


def peak_bytes(call):
    """The most bytes that a call had allocated at one time, by PyTorch's own account."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        result = call()
    events = [event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    assert peak > 0
    return peak, result


@pytest.mark.parametrize("name", thorough_but(2, POLICIES))
@pytest.mark.parametrize("dtype", thorough_but(1, [torch.float32, torch.bfloat16]))
def test_a_budget_in_bytes_is_never_exceeded(name, dtype, monkeypatch):
    for module in (budgets, reading):
        monkeypatch.setattr(module, "AFFINITY_BYTES", 2048)
    budget = Budget(bytes=20_000)
    bank = MemoryBank(TrackerConfig(POLICIES[name], budget, top_k=K_READ))
    num_objects, full = 1, False
    for step in range(60):
        if step in (10, 20):
            bank.add_object()
            num_objects += 1
        try:
            write(bank, step, num_objects=num_objects, pinned=step in (0, 10, 20), dtype=dtype)
        except BudgetError:
            full = True
            break
        stats = bank.stats()
        assert stats.bank_bytes == held_bytes(bank)
        assert stats.bank_bytes + stats.buffer_bytes <= budget.max_bytes
        bank.read(queries(step), step)
        assert held_bytes(bank) + stats.buffer_bytes <= budget.max_bytes
    assert full == (name == "keep-all")
    if name in ("lfu-pinned", "lfu"):
        assert stats.bank_bytes + stats.buffer_bytes > 0.95 * budget.max_bytes


@pytest.mark.parametrize("metric", ["l2", "dot", "cosine"])
def test_a_read_needs_no_more_buffers_than_the_budget_counts(metric):
    num_queries, num_tokens = 600, 6000  # 14 MB of affinities: two chunks
    query, memory = torch.randn(num_queries, 32), torch.randn(num_tokens, 32)
    energy = key_energy(memory)
    peak, found = peak_bytes(lambda: read_top_k(query, memory, energy, 20, metric))
    assert found.index.shape == (num_queries, 20)
    assert reading.AFFINITY_BYTES / 2 < peak <= read_buffer_bytes(num_queries, 20)


def test_a_read_of_a_memory_of_any_size_needs_the_same_buffers():
    query, memory = torch.randn(100, 16), torch.randn(3 * reading.TILE_COLUMNS, 16)
    energy = key_energy(memory)
    peaks = [
        peak_bytes(lambda m=m, e=e: read_top_k(query, m, e, 20))[0]
        for m, e in ((memory[: len(memory) // 3], energy[: len(memory) // 3]), (memory, energy))
    ]
    assert peaks[1] < 1.1 * peaks[0] <= 1.1 * read_buffer_bytes(100, 20)


def test_a_write_to_a_full_memory_needs_no_more_than_the_memory_that_comes_of_it():
    bank, num_cells = MemoryBank(TrackerConfig(LFU(), Budget(frames=4), top_k=K_READ)), 200
    pins = torch.zeros(2, num_cells, dtype=torch.bool)

    def write_large(step):
        frame = torch.randn(num_cells, CK), torch.randn(2, num_cells, 256), torch.rand(2, num_cells)
        return peak_bytes(lambda: bank.write(*frame, frame=step, step=step, pins=pins))[0]

    assert [write_large(step) for step in range(8)][-1] < 1.1 * bank.stats().bank_bytes


def test_memory_that_a_write_leaves_behind_is_only_the_tokens():
    key, value, mask_fraction = random_frame(6, 1, 0)
    backing = torch.zeros(CK, 1000)  # keys as the network gives them: a view of something larger
    backing[:, :6] = key.T
    bank = MemoryBank(TrackerConfig(LFU(), Budget(frames=2), top_k=K_READ))
    bank.write(backing.T[:6], value, mask_fraction, frame=0, step=0, pins=torch.zeros(1, 6, dtype=torch.bool))
    assert held_bytes(bank) == bank.stats().bank_bytes
