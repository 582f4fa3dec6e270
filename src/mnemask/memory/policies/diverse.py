"""A memory of distinct tokens from all frames: tokens that resemble a newer one are evicted (the project's own)."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mnemask.memory.policies.base import Policy, best_places, room_beside_pins
from mnemask.memory.read import key_energy, temperature, tile_bytes
from mnemask.memory.tokens import Tokens, cells_around

GRID = 2


@dataclass(frozen=True)
class Diverse(Policy):
    """Evicts the tokens most similar to a newer or a pinned one; the tokens of a new frame compete like all others.

    Successive writes contain much the same features, and a read gains nothing from ten tokens of the same sky: what is
    distinct in all of them fits into two frames' worth of tokens. The score of a token is |m − s|² / √Ck, where s is
    the key of its nearest senior, on the scale on which a read compares keys. Its seniors are the pinned tokens and the
    newer ones, in the same frame those further on. So, of similar tokens, the newest stays; what is out of sight stays
    until something similar appears; and no frame is added or evicted as a whole. Of the first annotated frame, only a
    part is pinned: its objects, the cells around them, and of the rest every second cell in both directions; the whole
    frame would be half the memory.

    Since only what is new in a frame takes room, a frame is written earlier if an object is larger than ever before.
    """

    write_on_growth: float = 0.25

    def update(self, memory: Tokens, new: Tokens, budget: int) -> Tokens:
        """Returns the most distinct tokens of memory and new."""
        room_beside_pins(memory, new, budget)
        both = memory.without_values() + new.without_values()
        if len(both) <= budget:
            return memory + new
        places = best_places(both, distances_to_newer(both), budget)
        of_new = places >= len(memory)
        return memory.joined(places[~of_new], new[places[of_new] - len(memory)])

    def pinned_part(self, mask_fraction: Float[Tensor, "K h w"]) -> Bool[Tensor, "h w"]:
        """Returns the cells in and around objects, and a grid of the others."""
        part = cells_around(mask_fraction).any(0)
        part[::GRID, ::GRID] = True
        return part


def distances_to_newer(tokens: Tokens) -> Float[Tensor, " N"]:
    """Returns the affinity lost if each token's nearest senior is read instead of it; infinity if there is none.

    A token that does not cover all of its objects, such as a pinned one from before an object appeared, is no senior.
    """
    place = torch.arange(len(tokens), device=tokens.key.device)
    order = torch.cat((place[tokens.pinned], place[~tokens.pinned].flip(0)))  # seniors first
    key, known = tokens.key[order], tokens.valid[:, order].sum(0)  # all tokens since an object appeared cover it
    energy, nearest = key_energy(key), torch.empty_like(tokens.attention_mass)
    late = bool((known != known[:1]).any())  # some objects came late; tested once, since it waits for the device
    rows = max(1, tile_bytes(key.device) // (4 * len(tokens)))
    for start in range(0, len(tokens), rows):
        end = min(start + rows, len(tokens))
        apart = torch.addmm(energy[:end], key[start:end], key[:end].T, alpha=-2)
        itself_or_later = torch.ones_like(apart[:, start:], dtype=torch.bool).triu()
        apart[:, start:].masked_fill_(itself_or_later, torch.inf)
        if late:
            apart.masked_fill_(known[:end] < known[start:end, None], torch.inf)
        nearest[order[start:end]] = apart.amin(1) + energy[start:end]
    return nearest / temperature(key)
