"""Random tokens for the tests of the memory."""

import torch

from mnemask.memory.tokens import Tokens

CK, CV = 4, 6


def random_frame(num_cells, num_objects, seed, dtype=torch.float32):
    """Returns key [P Ck], value [K P Cv] and share [K P] of a frame that does not exist."""
    generator = torch.Generator().manual_seed(seed)
    key = torch.randn(num_cells, CK, generator=generator)
    value = torch.randn(num_objects, num_cells, CV, generator=generator).to(dtype)
    return key, value, torch.rand(num_objects, num_cells, generator=generator)


def write(bank, step, num_cells=6, num_objects=1, pinned=False, seed=None, dtype=torch.float32):
    """Writes a random frame to a bank."""
    key, value, mask_fraction = random_frame(num_cells, num_objects, step if seed is None else seed, dtype)
    bank.write(key, value, mask_fraction, frame=10 * step, step=step, pins=torch.full((num_objects, num_cells), pinned))


def random_tokens(written_at, topk_count, pinned, num_objects=1, seed=0):
    """Returns tokens with these steps of writing, hits and pins; the rest is random."""
    generator = torch.Generator().manual_seed(seed)
    written_at, num_tokens = torch.tensor(written_at, dtype=torch.int64), len(written_at)
    return Tokens(
        key=torch.randn(num_tokens, CK, generator=generator),
        value=torch.randn(num_objects, num_tokens, CV, generator=generator),
        valid=torch.ones(num_objects, num_tokens, dtype=torch.bool),
        mask_fraction=torch.rand(num_objects, num_tokens, generator=generator),
        frame=3 * written_at,
        cell=torch.arange(num_tokens),
        written_at=written_at,
        topk_count=torch.tensor(topk_count, dtype=torch.int64),
        attention_mass=torch.rand(num_tokens, generator=generator),
        last_used=written_at + 1,
        pins=torch.tensor(pinned, dtype=torch.bool).expand(num_objects, -1).clone(),
        detail=torch.randn(num_tokens, 4, 3, generator=generator).half(),
    )


def same(first, second):
    """Whether two sets of tokens are the same to the last bit."""
    theirs = second.tensors()
    return all(
        tensor.dtype == theirs[name].dtype and torch.equal(tensor, theirs[name])
        for name, tensor in first.tensors().items()
    )
