import pytest
import torch
from random_tokens import CK, random_frame
from torch.nn import functional as F

from mnemask.config import TrackerConfig
from mnemask.memory.bank import MemoryBank
from mnemask.memory.budget import Budget
from mnemask.memory.policies import POLICIES, Fifo, KeepAll, policy_named
from mnemask.memory.read import CHANNELS, key_energy, random_signs, read_top_k, rerank, stride8_windows

H, W, K_READ = 3, 4, 5


def stride8(seed, channels=128, height=H, width=W):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(channels, 2 * height, 2 * width, generator=generator).relu()


def write(bank, step, num_objects=1):
    key, value, share = random_frame(H * W, num_objects, step)
    pins = torch.zeros(num_objects, H * W, dtype=torch.bool)
    bank.write(key, value, share, frame=step, step=step, pins=pins, stride8=stride8(step))


def queries(seed=99):
    return torch.randn(H * W, CK, generator=torch.Generator().manual_seed(seed))


def windows_by_hand(features, row, column):
    """The projected features of a cell's four windows, before they are standardised."""
    places = [(2 * row + y, 2 * column + x) for y in (0, 1) for x in (0, 1)]
    return torch.stack([features[:, y, x] @ random_signs(len(features)) for y, x in places])


@pytest.mark.parametrize("channels", [128, 512])
def test_a_cells_detail_is_its_four_windows_standardised_over_the_frame(channels):
    features = stride8(0, channels)
    detail = stride8_windows(features)
    assert detail.shape == (H * W, 4, CHANNELS)
    by_hand = torch.stack([windows_by_hand(features, row, column) for row in range(H) for column in range(W)])
    everywhere = by_hand.flatten(0, 1)
    by_hand = (by_hand - everywhere.mean(0)) / torch.pdist(everywhere).square().sum().mul(2 / 48**2).sqrt()
    torch.testing.assert_close(detail.float(), by_hand, atol=2e-3, rtol=2e-3)


def test_detail_does_not_change_with_the_brightness_or_the_contrast_of_the_features():
    torch.testing.assert_close(stride8_windows(3 * stride8(1) + 5), stride8_windows(stride8(1)), atol=2e-3, rtol=2e-3)


def test_a_frame_of_one_colour_has_finite_detail():
    assert torch.isfinite(stride8_windows(torch.full((128, 2 * H, 2 * W), 7.0))).all()


@pytest.mark.parametrize("num_bytes", [1, 9000, 2**23])
def test_refined_weights_are_those_of_a_count_by_hand(num_bytes, monkeypatch):
    monkeypatch.setattr("mnemask.memory.read.AFFINITY_BYTES", num_bytes)
    key = torch.cat([random_frame(H * W, 1, seed)[0] for seed in (1, 2)])
    memory, query = torch.cat([stride8_windows(stride8(seed)) for seed in (1, 2)]), stride8_windows(stride8(3))
    found = read_top_k(queries(), key, key_energy(key), K_READ)
    reading = rerank(found, query, memory, weight=8.0)
    assert torch.equal(reading.index, found.index)
    for p, q in enumerate(queries()):
        logits = []
        for token in found.index[p].tolist():
            alike = -(key[token] - q).square().sum() / CK**0.5
            to_nearest = [min((a - b).square().sum() for b in memory[token].float()) for a in query[p].float()]
            logits.append(alike - 8.0 * sum(to_nearest) / 4)
        torch.testing.assert_close(reading.weight[p], torch.stack(logits).softmax(0), atol=1e-4, rtol=1e-3)


def test_of_two_cells_with_one_key_a_query_reads_the_one_that_looks_like_it():
    bank = MemoryBank(TrackerConfig(KeepAll(), Budget(), top_k=H * W, stride8_weight=8.0))
    value = F.one_hot(torch.arange(H * W)).float()[None]
    nobody = torch.zeros(1, H * W, dtype=torch.bool)
    bank.write(torch.ones(H * W, CK), value, value[:, :, 0], frame=0, step=0, pins=nobody, stride8=stride8(7))
    readout = bank.read(torch.ones(H * W, CK), 1, stride8(7))[0]
    assert readout.argmax(1).tolist() == list(range(H * W))
    assert readout.diagonal().min() > 0.5


def test_objects_that_see_different_tokens_are_refined_by_their_own():
    bank = MemoryBank(TrackerConfig(KeepAll(), Budget(), top_k=K_READ, stride8_weight=4.0))
    write(bank, 0)
    bank.add_object()
    write(bank, 1, num_objects=2)
    tokens, query = bank.tokens, stride8_windows(stride8(5))
    readout = bank.read(queries(), 2, stride8(5))
    for row, seen in ((0, slice(0, 2 * H * W)), (1, slice(H * W, 2 * H * W))):
        key = tokens.key[seen]
        reading = rerank(read_top_k(queries(), key, key_energy(key), K_READ), query, tokens.detail[seen], 4.0)
        torch.testing.assert_close(readout[row], reading.gather(tokens.value[row, seen][None])[0])


def test_without_refinement_features_at_stride_8_change_nothing():
    plain, told = (MemoryBank(TrackerConfig(Fifo(), Budget(frames=2), top_k=K_READ)) for _ in range(2))
    for step in range(4):
        key, value, share = random_frame(H * W, 1, step)
        pins = torch.zeros(1, H * W, dtype=torch.bool)
        plain.write(key, value, share, frame=step, step=step, pins=pins)
        told.write(key, value, share, frame=step, step=step, pins=pins, stride8=stride8(step))
        assert torch.equal(plain.read(queries(), step), told.read(queries(), step, stride8(9)))
    assert told.tokens.detail.shape == (2 * H * W, 4, 0)
    assert plain.stats() == told.stats()


@pytest.mark.parametrize("name", list(POLICIES))
def test_each_policy_keeps_the_detail_of_a_token_with_it(name):
    policy = policy_named(name)
    budget = Budget(frames=2 if policy.default_frames else None)
    bank = MemoryBank(TrackerConfig(policy, budget, top_k=K_READ, stride8_weight=8.0))
    for step in range(5):
        write(bank, step)
        bank.read(queries(step), step, stride8(step))
    from_frame = {step: stride8_windows(stride8(step)) for step in range(5)}
    tokens = bank.tokens
    assert bank.evictions or budget == Budget()
    for frame, cell, detail in zip(tokens.frame.tolist(), tokens.cell.tolist(), tokens.detail, strict=True):
        assert torch.equal(detail, from_frame[frame][cell])


def test_a_budget_of_bytes_counts_the_detail():
    budget = Budget(bytes=2**24 + 40_000)
    plain, fine = (
        MemoryBank(TrackerConfig(Fifo(), budget, top_k=K_READ, stride8_weight=stride8_weight))
        for stride8_weight in (0.0, 8.0)
    )
    for step in range(40):
        write(plain, step)
        write(fine, step)
    assert len(fine.tokens) < len(plain.tokens)
    for bank in (plain, fine):
        stats = bank.stats()
        assert stats.capacity == stats.tokens
        one_more = (stats.bank_bytes + stats.buffer_bytes) + stats.bank_bytes // stats.tokens
        assert stats.bank_bytes + stats.buffer_bytes <= budget.max_bytes < one_more


def test_tiles_of_the_comparison_are_those_of_the_budget(monkeypatch):
    asked = []
    monkeypatch.setattr(
        "mnemask.memory.read.tile_bytes", lambda device, max_bytes=None: asked.append(max_bytes) or 2**23
    )
    bank = MemoryBank(TrackerConfig(KeepAll(), Budget(bytes="40MiB"), top_k=K_READ, stride8_weight=8.0))
    write(bank, 0)
    bank.read(queries(), 1, stride8(1))
    assert set(asked) == {40 * 2**20}
