"""Which KMN σ a tracker has, and that it stays with it."""

import pytest
import torch
from refusals import refusal
from tracking import followed

import mnemask as mm
from mnemask.memory.storage import load_bank, save_bank
from mnemask.model.stcn import COMPACT, PAPER, STCN


def test_compact_has_a_kmn_sigma_and_the_published_network_none():
    assert mm.Tracker(mm.load_model("compact")).memory.kmn_sigma == 0.2
    with torch.device("meta"):
        assert STCN(COMPACT).kmn_sigma == 0.2
        assert STCN(PAPER).kmn_sigma == 0


def test_the_sigma_given_is_the_one_used(tiny_model):
    plain, narrow, wide = (followed(tiny_model, 8, kmn_sigma=kmn_sigma) for kmn_sigma in (0, 0.15, 1000))
    assert torch.equal(plain[1].probs, followed(tiny_model, 8)[1].probs)
    assert not torch.equal(plain[1].probs, narrow[1].probs)
    torch.testing.assert_close(plain[1].probs, wide[1].probs, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("kmn_sigma", [-1, 0.001, "0.15", [0.1]])
def test_a_saved_memory_with_an_impossible_sigma_is_refused(kmn_sigma, tiny_model, tmp_path):
    path = tmp_path / "bad.bank"
    followed(tiny_model, 6)[0].save(path)
    tokens, facts = load_bank(path, torch.device("cpu"))
    save_bank(path, tokens, {**facts, "config": {**facts["config"], "kmn_sigma": kmn_sigma}})
    with refusal(mm.MnemaskError):
        mm.Tracker.load(path, tiny_model)


@pytest.mark.parametrize("kmn_sigma", [-0.1, 0.001, float("nan"), True])
def test_an_impossible_sigma_is_refused_before_a_frame(kmn_sigma, tiny_model):
    with refusal(mm.InputError, r"0\.2"):
        mm.Tracker(tiny_model, kmn_sigma=kmn_sigma)
