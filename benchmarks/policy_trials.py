"""Memory policies that were tried to beat the thesis's LFU at the same capacity, and the hypothesis behind each.

`policy_lab.py` runs them. Policies that proved useful moved into the package; the others stay here, so that the table
can be rebuilt.
"""

from dataclasses import dataclass, field
from math import log

import torch
from condensed import Condensed
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

import mnemask as mm
from mnemask.memory.policies import LFU, AdaptiveFeatureBank, PerObject, Policy, WithLatest, keep_best
from mnemask.memory.policies.base import ages, room_beside_pins
from mnemask.memory.policies.scored import MASK, mixed
from mnemask.memory.policies.wrappers import Wrapper, owners
from mnemask.memory.read import affinity, key_energy, read_top_k
from mnemask.memory.tokens import Tokens

SEEN = 0.5 / 256  # of a cell: half a pixel


@dataclass(frozen=True)
class PartPinned(Policy):
    """Pins only part of the annotated frame: objects, the cells around them, and every `grid`-th cell in x and y."""

    grid: int = field(default=2, kw_only=True)

    def pinned_part(self, mask_fraction: Float[Tensor, "K h w"]) -> Bool[Tensor, "h w"]:
        objects = (mask_fraction.amax(0) > SEEN).float()[None]
        part = F.max_pool2d(objects, 3, stride=1, padding=1)[0] > 0
        part[:: self.grid, :: self.grid] = True
        return part


@dataclass(frozen=True)
class PartLeastUsed(PartPinned, LFU):
    """The thesis's LFU with a part of the annotated frame pinned."""


@dataclass(frozen=True)
class Fading(PartPinned):
    """LFU with forgetting: hits / age is halved for every `half_life` frames in which no query chose the token."""

    half_life: float = 10.0

    def update(self, memory: Tokens, new: Tokens, budget: int) -> Tokens:
        idle = (new.written_at[0] - memory.last_used).clamp_min(0)
        use = memory.topk_count / ages(memory, new) * 0.5 ** (idle / self.half_life)
        new = keep_best(new, new.mask_fraction.sum(0), room_beside_pins(memory, new, budget) + int(new.pinned.sum()))
        return keep_best(memory, use, budget - len(new)) + new


@dataclass(frozen=True)
class Sample(PartPinned):
    """A random sample of all cells ever written, by weight exp(time written / recency): new frames have no privilege.

    It uses the Gumbel-max trick: the largest log weights + Gumbel noise are a sample without replacement. The noise is
    a hash of frame and cell, so that the ranks of tokens among each other do not change.
    """

    recency: float = float("inf")
    objects: float = 1.0
    use: float = 0.0
    distance: float = 0.0
    chance: float = 1.0

    def update(self, memory: Tokens, new: Tokens, budget: int) -> Tokens:
        room_beside_pins(memory, new, budget)
        both = memory + new
        uniform = (mixed(mixed(both.frame) ^ both.cell).double() + 0.5) / (MASK + 1)
        owner = owners(both)
        newest = both.written_at.new_zeros(both.num_objects + 1).scatter_reduce(0, owner, both.written_at, "amax")
        weight = (both.written_at - newest[owner]) / self.recency - self.chance * (-uniform.log()).log()
        weight = weight + log(self.objects) * (owner > 0)
        if self.distance:
            order = torch.arange(len(both)).flip(0)
            order = order[torch.argsort((~both.pinned[order]).int(), stable=True)]
            far = torch.empty(len(both))
            far[order] = distance_to_seniors(both[order], 1, 0.0)
            weight = weight + self.distance * far.clamp(1e-3, 1e3).log()
        return keep_best(both, weight + self.use * rate(both, new).log(), budget)


@dataclass(frozen=True)
class DiverseTrial(PartPinned):
    """Evicts the tokens with the nearest neighbours among their seniors, including cells of new frames.

    Args:
        senior: "old" evicts tokens that are similar to an older one, "new" those similar to a newer one.
        copies: the distance is that to the `copies`-th nearest senior, so that this many similar tokens may stay.
        used: whether distances are multiplied by how often a token is read.
        label: how much a difference in mask fraction adds to the distance (in units of the affinity).
    """

    senior: str = "old"
    copies: int = 1
    used: bool = False
    label: float = 0.0

    def update(self, memory: Tokens, new: Tokens, budget: int) -> Tokens:
        room_beside_pins(memory, new, budget)
        both = memory + new
        if len(both) <= budget:
            return both
        order = torch.arange(len(both)) if self.senior == "old" else torch.arange(len(both)).flip(0)
        order = order[torch.argsort((~both.pinned[order]).int(), stable=True)]
        score = torch.empty(len(both))
        score[order] = distance_to_seniors(both[order], self.copies, self.label)
        if self.used:
            score = score * rate(both, new)
        return keep_best(both, score, budget)


def rate(both: Tokens, new: Tokens) -> Float[Tensor, " N"]:
    """Returns how often each token is read per frame, relative to the average; new tokens start at the average."""
    age = (new.written_at[0] - both.written_at).clamp_min(0)
    average = (both.topk_count.sum() / age.sum().clamp_min(1)).clamp_min(1e-6)
    return (both.topk_count / average + 5) / (age + 5)


def distance_to_seniors(tokens: Tokens, copies: int, label: float) -> Float[Tensor, " N"]:
    """Returns the distance of each token's `copies`-th nearest predecessor, in units of the affinity."""
    energy, scale = key_energy(tokens.key), tokens.key.shape[1] ** 0.5
    score = torch.full((len(tokens),), torch.inf)
    for start in range(0, len(tokens), 512):
        rows = slice(start, start + 512)
        before = slice(0, start + 512)
        far = energy[rows, None] / scale - affinity(tokens.key[rows], tokens.key[before], energy[before])
        far += label * (tokens.mask_fraction[:, rows, None] - tokens.mask_fraction[:, None, before]).abs().amax(0)
        later = torch.ones(far.shape, dtype=torch.bool).triu(start)
        far.masked_fill_(later, torch.inf)
        if far.shape[1] >= copies:
            score[rows] = far.topk(copies, largest=False).values[:, -1]
    return score


@dataclass(frozen=True)
class Margin(PartPinned):
    """Evicts by how much nearer a senior of the same owner is than any token of another owner.

    Unlike with `Condensed`, a repeated token is worth more the nearer it is to another owner.
    """

    margin: float = 1.0

    def update(self, memory: Tokens, new: Tokens, budget: int) -> Tokens:
        room_beside_pins(memory, new, budget)
        both = memory + new
        if len(both) <= budget:
            return both
        owner, energy, scale = owners(both), key_energy(both.key), both.key.shape[1] ** 0.5
        place = torch.arange(len(both))
        rank = place.masked_fill(both.pinned, len(both))
        score = torch.empty(len(both))
        for rows in place.split(512):
            far = energy[rows, None] / scale - affinity(both.key[rows], both.key, energy)
            alike = owner == owner[rows, None]
            same = far.masked_fill(~alike | (rank <= rows[:, None]), torch.inf).amin(1).clamp_max(50)
            other = far.masked_fill(alike, torch.inf).amin(1).clamp_max(50)
            score[rows] = same - self.margin * other
        return keep_best(both, score, budget)


@dataclass(frozen=True)
class Trusting(Wrapper):
    """Admits only cells of a new frame whose mask fraction agrees with that of pinned tokens with similar keys.

    A cell that is similar to no pinned token (distance above `known`) is admitted.
    """

    most: float = field(default=0.5, kw_only=True)
    known: float = field(default=4.0, kw_only=True)

    def update(self, memory: Tokens, new: Tokens, budget: int) -> Tokens:
        trusted = memory[memory.pinned]
        if not len(trusted):
            return self.inner.update(memory, new, budget)
        doubted = (disagreement(new, trusted, self.known) > self.most) & ~new.pinned
        if bool(doubted.all()):
            return memory if len(memory) <= budget else self.inner.update(memory, new, budget)
        return self.inner.update(memory, new[~doubted], budget)


def disagreement(new: Tokens, trusted: Tokens, known: float) -> Float[Tensor, " P"]:
    """Returns how much each new token's mask fraction differs from that read from trusted ones, 0 if these are far."""
    energy = key_energy(trusted.key)
    reading = read_top_k(new.key, trusted.key, energy, 20)
    said = (trusted.mask_fraction[:, reading.index] * reading.weight).sum(-1)
    nearest = (new.key - trusted.key[reading.index[:, 0]]).square().sum(1) / new.key.shape[1] ** 0.5
    return (said - new.mask_fraction).abs().amax(0) * (nearest < known)


@dataclass(frozen=True)
class SureLatest(WithLatest):
    """Keeps the latest frame for a while, objects first, if the masks of its cells are mostly certain."""

    sure: float = 0.3

    def update(self, memory: Tokens, new: Tokens, budget: int) -> Tokens:
        share = new.mask_fraction.amax(0)
        inside = (share > 0.1).sum().clamp_min(1)
        unsure = ((share > 0.2) & (share < 0.8)).sum() / inside.sqrt()  # the rim grows with the root of the area
        if bool(unsure > self.sure * 10) and not bool(new.pinned.any()):
            return memory
        return super().update(memory, new, budget)


@dataclass(frozen=True)
class Trial:
    """A policy and the hypothesis that it tests."""

    policy: Policy
    hypothesis: str


TRIALS = {
    "keep-all": Trial(mm.POLICIES["keep-all"], "reference: every fifth frame for ever"),
    "lfu": Trial(mm.POLICIES["lfu"], "reference: the thesis's"),
    "lfu-pinned": Trial(mm.POLICIES["lfu-pinned"], "reference: first frame pinned, newest fifth frame"),
    "first-and-latest": Trial(
        mm.POLICIES["first-and-latest"], "c: the whole first frame and the newest, written each frame"
    ),
    "afb": Trial(AdaptiveFeatureBank(), "a: like features merge"),
    "part": Trial(PartLeastUsed(), "b: part of the first frame pinned, rest LFU"),
    "fading": Trial(Fading(), "b, d: part of the first frame pinned, LFU that forgets old hits"),
    "part-per-object": Trial(
        PerObject(PartLeastUsed()), "b, d: part of the first frame pinned, LFU, objects do not compete"
    ),
    "sample": Trial(Sample(), "a: an unbiased thinning of every-5"),
    "sample-recent": Trial(Sample(recency=25.0), "a: the same, the recent past more densely"),
    "sample-10": Trial(Sample(recency=10.0), "a: the same, the recent past more densely"),
    "sample-50": Trial(Sample(recency=50.0), "a: the same, the recent past more densely"),
    "sample-objects": Trial(Sample(objects=4.0), "a, f: the same, objects four times as densely"),
    "sample-100-objects": Trial(Sample(recency=100.0, objects=4.0), "a, f: both"),
    "sample-100-objects-8": Trial(Sample(recency=100.0, objects=8.0), "a, f: both"),
    "sample-100-objects-2": Trial(
        Sample(recency=100.0, objects=2.0), "a, f: thinning, slow forgetting, objects twice as densely"
    ),
    "sample-distinct": Trial(Sample(distance=1.0), "a: thinning by likeness, and chance"),
    "sample-objects-distinct": Trial(
        Sample(objects=4.0, distance=1.0), "a, f: thinning by likeness and chance, objects more densely"
    ),
    "distinct-50": Trial(Sample(distance=1.0, chance=0.0, recency=50.0), "a: distance, fading"),
    "distinct-objects": Trial(Sample(distance=1.0, chance=0.0, objects=2.0), "a: distance, objects weigh more"),
    "distinct-objects-4": Trial(Sample(distance=1.0, chance=0.0, objects=4.0), "a: distance, objects weigh more"),
    "distinct-50-objects": Trial(Sample(distance=1.0, chance=0.0, recency=50.0, objects=2.0), "a: all of it"),
    "distinct-100": Trial(Sample(distance=1.0, chance=0.0, recency=100.0), "a: distance, fading"),
    "condensed": Trial(Condensed(), "e: what a read would go wrong without stays"),
    "margin": Trial(Margin(), "e: what is close to another object stays, even duplicates"),
    "margin-half": Trial(Margin(margin=0.5), "e: the same, less for being near to another owner"),
    "distinct-new-whole": Trial(DiverseTrial(senior="new", grid=1), "a, b: distinct beside the whole first frame"),
    "sample-100": Trial(Sample(recency=100.0), "a: thinning, with slow forgetting"),
    "per-object": Trial(mm.POLICIES["per-object"], "d: first frame pinned, objects do not compete"),
    "sample-10-objects": Trial(Sample(recency=10.0, objects=4.0), "a, f: both"),
    "sample-25-objects": Trial(Sample(recency=25.0, objects=4.0), "a, f: both"),
    "sample-25-objects-grid3": Trial(Sample(recency=25.0, objects=4.0, grid=3), "a, f: both, thinner"),
    "sample-25-whole": Trial(Sample(recency=25.0, grid=1), "b: the whole first frame pinned"),
    "sample-used": Trial(Sample(use=1.0), "a, e: what is read more is kept more densely"),
    "sample-25-used": Trial(Sample(recency=25.0, use=1.0), "a, e: what is read more is kept more densely"),
    "sample-per-object": Trial(PerObject(Sample()), "a, f: thinning, objects more densely (root of the area)"),
    "sample-equal": Trial(PerObject(Sample(), exponent=0.0), "a, f: thinning, half of the room for objects"),
    "sample-recent-per-object": Trial(PerObject(Sample(recency=25.0)), "a, f: the same, the recent past more densely"),
    "distinct-old": Trial(DiverseTrial(), "a: what is like something older goes"),
    "distinct-new": Trial(DiverseTrial(senior="new"), "a, b: what is like something newer goes; became `diverse`"),
    "diverse": Trial(mm.POLICIES["diverse"], "the default: `distinct-new`, written sooner where an object grows"),
    "distinct-new-4": Trial(DiverseTrial(senior="new", copies=4), "a: the same, four may be alike"),
    "distinct-label": Trial(
        DiverseTrial(senior="new", label=4.0),
        "a, e: what is like something newer, in key and in share of the object, goes",
    ),
    "distinct-used": Trial(DiverseTrial(senior="new", used=True), "a, e: distance × use = what a removal changes"),
    "distinct-per-object": Trial(PerObject(DiverseTrial(senior="new")), "a, f: distinct within each object's part"),
    "distinct-used-per-object": Trial(PerObject(DiverseTrial(senior="new", used=True)), "a, e, f: all of these"),
    "distinct-old-per-object": Trial(PerObject(DiverseTrial()), "a, f: what is like something older goes, by object"),
    "trusting-lfu-pinned": Trial(Trusting(LFU()), "c: doubtful cells of new frames stay out"),
    "trusting-sample": Trial(Trusting(PerObject(Sample(recency=25.0))), "c: the same with thinning"),
    "write-3": Trial(PerObject(Sample(recency=25.0), write_every=3), "c: a newer newest frame"),
    "sure-latest": Trial(SureLatest(PartLeastUsed(), share=0.25), "c: an eighth of the memory for a sure latest"),
}
