"""Regularizers of the affinity that the thesis tried to make the network rely on more of its memory (chapter 4).

Both are for training only; a tracker never uses them. The thesis reports that neither helps and that both do harm with
several objects (tables 5 and 6).
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from mnemask.errors import InputError

Form = Literal["literal", "ascending", "post-softmax"]


@dataclass(frozen=True, slots=True)
class Dropout:
    """Disables random connections between queries and tokens, the same ones for all objects of a clip.

    The thesis puts "a Dropout layer after calculating the affinity matrix", which "shifts attention to remaining
    features". Before the softmax a dropped connection is excluded (−∞; a 0 would be a perfect match), so the remaining
    ones share its attention. After the softmax it is an ordinary dropout layer: the remaining weights are scaled by
    1/(1 − q) and not renormalised, so they sum to 1 only on average.

    Draws from torch's random generator of the device.

    Attributes:
        q: probability that a connection is dropped, from 0 to less than 1.
        after_softmax: whether connections are dropped after the softmax.

    Raises:
        InputError: q is not such a probability.
    """

    q: float = 0.5
    after_softmax: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.q < 1:
            raise InputError(f"dropout of {self.q!r} is not a probability", "give one from 0 to below 1")

    def weights(self, affinity: Float[Tensor, "*B P N"]) -> Float[Tensor, "*B P N"]:
        """Returns the weight of each token at each query."""
        if self.after_softmax:
            return F.dropout(affinity.softmax(-1), self.q)
        drawn = torch.rand_like(affinity)
        # A query that would lose all connections keeps a random one: a softmax over nothing is NaN.
        kept = (drawn >= self.q) | (drawn == drawn.amax(-1, keepdim=True))
        return affinity.masked_fill(~kept, -torch.inf).softmax(-1)


@dataclass(frozen=True, slots=True)
class Reallocation:
    """Reweights the tokens of an object by the rank of the attention they get: d_ij · w_i / Σw.

    The attention of token i is A_i = Σ_j d_ij over all queries j, its rank w_i is from 1 to n among the n tokens
    inside the object's mask. The others keep their d_ij, since "most of the pixels belong to the background". No
    gradient flows through ranks.

    Attributes:
        form: "literal" is the thesis's formula on the affinity, before the softmax, with the most attended token
            ranked 1. As d is never positive and w/Σw is about 1/n, all affinities inside the mask come close to 0,
            their maximum: attention becomes almost uniform inside and leaves the outside. The compact weights, trained
            without it, then assign the whole picture to the object.
            "ascending" is the same with the least attended token ranked 1, which gives it the highest affinity.
            "post-softmax" does what the text describes: d is the softmax's weight, and the most attended token is
            ranked 1 and so loses weight to the others. The weights are renormalised inside the mask, so the total
            weight that a query gives to the object does not change.

    Raises:
        InputError: the form is unknown.
    """

    form: Form = "literal"

    def __post_init__(self) -> None:
        if self.form not in get_args(Form):
            raise InputError(f"reallocation {self.form!r} is unknown", f"choose one of {', '.join(get_args(Form))}")

    def weights(self, affinity: Float[Tensor, "*B P N"], inside: Bool[Tensor, "*B N"]) -> Float[Tensor, "*B P N"]:
        """Returns the weight of each token at each query.

        Args:
            affinity: the complete affinity −‖m − q‖² / √Ck, which is never positive.
            inside: which tokens belong to the object.
        """
        there = inside.unsqueeze(-2)
        if self.form != "post-softmax":
            rank = ranks(affinity.detach().sum(-2), inside, descending=self.form == "literal")
            share = rank / (rank * inside).sum(-1, keepdim=True).clamp_min(1)
            return torch.where(there, affinity * share.unsqueeze(-2), affinity).softmax(-1)
        weights = affinity.softmax(-1)
        # Σw is the same for all tokens and cancels when the weights are renormalised.
        rank = ranks(weights.detach().sum(-2), inside, descending=True).unsqueeze(-2)
        before = (weights * there).sum(-1, keepdim=True)
        after = (weights * there * rank).sum(-1, keepdim=True)
        return torch.where(there, weights * rank * (before / after.clamp_min(1e-12)), weights)


Regularizer = Dropout | Reallocation


def ranks(attention: Float[Tensor, "*B N"], inside: Bool[Tensor, "*B N"], *, descending: bool) -> Float[Tensor, "*B N"]:
    """Returns the ranks of the tokens inside among themselves, from 1; those outside have larger ranks."""
    last = attention.new_tensor(-torch.inf if descending else torch.inf)
    order = torch.where(inside, attention, last).argsort(dim=-1, descending=descending, stable=True)
    places = torch.arange(1, attention.shape[-1] + 1, dtype=attention.dtype, device=attention.device)
    return torch.empty_like(attention).scatter_(-1, order, places.expand_as(attention))
