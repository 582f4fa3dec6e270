"""Whole frames of tokens for the tests of policies that compare, merge or drop frames."""

from dataclasses import replace

import torch
from random_tokens import CK, CV

from mnemask.memory.tokens import Tokens


def frame_tokens(step, num_cells=6, num_objects=1, pinned=False, seed=None, key=None, attention_mass=0.0, topk_count=0):
    """Returns the tokens of one frame; what is not given is random."""
    generator = torch.Generator().manual_seed(step if seed is None else seed)
    random_key = torch.randn(num_cells, CK, generator=generator)
    tokens = Tokens.from_frame(
        random_key if key is None else key,
        torch.randn(num_objects, num_cells, CV, generator=generator),
        torch.rand(num_objects, num_cells, generator=generator),
        frame=10 * step,
        step=step,
        pins=torch.full((num_objects, num_cells), pinned),
    )
    return replace(
        tokens,
        attention_mass=torch.full_like(tokens.attention_mass, attention_mass),
        topk_count=torch.full_like(tokens.topk_count, topk_count),
    )


def joined(*frames):
    """Returns frames of tokens, oldest first, as one memory."""
    memory = frames[0]
    for frame in frames[1:]:
        memory = memory + frame
    return memory


def steps(tokens):
    """Returns when the tokens were written, each step once."""
    return tokens.written_at.unique().tolist()
