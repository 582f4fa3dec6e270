"""The fast path gives the plain path's masks."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from plain import PlainSTCN, agreement, plain_answer, plain_read

import mnemask as mm
from mnemask.memory.read import key_energy, read_top_k
from mnemask.model.stcn import STCN, STCNConfig, soft_aggregate

SIZE = (96, 160)


@pytest.fixture(scope="module")
def compact():
    return mm.load_model("compact", device="cpu", dtype=torch.float32)


@pytest.mark.parametrize("num_objects", [1, 2])
def test_fast_and_plain_masks_are_the_same(compact, num_objects):
    alike = agreement(compact, PlainSTCN(compact), mm.DrawnVideo(8, SIZE, num_objects), short_side=96)
    assert alike.iou > 0.995
    assert alike.largest_difference < 0.01


def test_they_are_the_same_where_frames_are_resized(compact):
    alike = agreement(compact, PlainSTCN(compact), mm.DrawnVideo(3, SIZE, 1), short_side=80)
    assert alike.iou > 0.995


def test_a_network_of_bottlenecks_is_the_same():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = STCNConfig(key_depth=50, key_channels=8, value_channels=16, decoder_channels=(8, 8, 8))
        model = STCN(config).eval().requires_grad_(False)
        image = torch.randn(1, 3, 48, 64)
    fast, slow = model.encode_key(image), PlainSTCN(model).encode_key(image)
    for name in ("key", "compressed", "stride16", "stride8", "stride4"):
        assert torch.allclose(getattr(fast, name), getattr(slow, name), atol=1e-4), name


def test_the_dense_read_is_the_read_of_the_k_best():
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randn(30, 8, generator=generator), torch.randn(200, 8, generator=generator)
    value = torch.randn(2, 200, 5, generator=generator)
    dense = plain_read(query.T, key.T, value.movedim(2, 1).flatten(0, 1), 7)
    reading = read_top_k(query, key, key_energy(key), 7)
    for k in range(2):
        assert torch.allclose(dense.unflatten(0, (2, 5))[k].T, reading.gather(value)[k], atol=1e-5)


def test_the_plain_answer_is_the_soft_aggregation():
    probs = torch.rand(3, 48, 64, generator=torch.Generator().manual_seed(0))
    answer, rows = plain_answer(probs, (40, 60), (40, 60))
    assert torch.allclose(answer.sum(0), torch.ones(40, 60))
    assert torch.allclose(answer, soft_aggregate(probs)[:, 4:44, 2:62], atol=1e-6)
    assert torch.equal(rows, answer.max(0).indices)
