"""Losses (bootstrapped cross-entropy, thesis 4.2, soft dice and others), schedules, optimizer and EMA.

All pictures have the same weight, whatever they show, so the mean over a batch is the mean of its parts' means, and a
run on several processes minimises the same as a run on one. A picture is a frame of a clip: B may be clips × frames.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from mnemask.errors import InputError
from mnemask.metrics import VOID

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from mnemask.training.recipes import Recipe


def bootstrapped_cross_entropy(
    probs: Float[Tensor, "B C H W"], labels: Int64[Tensor, "B H W"], hardest: float
) -> Float[Tensor, ""]:
    """Returns the mean over pictures of the mean of −log p over the hardest fraction of their pixels.

    Ignored pixels do not count, neither as easy ones nor in the fraction; a picture with no other pixels has loss 0.

    Args:
        probs: soft-aggregated probabilities, background first.
        labels: true class of each pixel; 255 is ignored.
        hardest: fraction of the pixels, more than 0; 1 means all.
    """
    # Soft aggregation gives each class at least 1e-14; a higher bound would remove the gradient of the worst pixels.
    loss = F.nll_loss(probs.clamp_min(1e-14).log(), labels, ignore_index=VOID, reduction="none").flatten(1)
    num_counted = (labels != VOID).sum((1, 2))
    if hardest >= 1:
        return (loss.sum(1) / num_counted.clamp_min(1)).mean()
    most = max(1, int(loss.shape[1] * hardest))
    chosen = (num_counted * hardest).long().clamp(1, most)  # [B]
    # Ignored pixels have loss 0 and come last; a picture with ignored pixels uses fewer of the first ones.
    worst = loss.topk(most, dim=1).values
    worst = worst * (torch.arange(most, device=loss.device) < chosen[:, None])
    return (worst.sum(1) / chosen).mean()


def normalized_focal(logits: Float[Tensor, "B H W"], labels: Int64[Tensor, "B H W"]) -> Float[Tensor, ""]:
    """Returns the mean over pictures of Σ wᵢ·bceᵢ / Σ wᵢ with wᵢ = (1 − pᵢ)², p the probability of the true class.

    RITM's loss for masks from clicks (Sofiiuk et al. 2021): as a picture becomes easy, its hard pixels keep their
    weight.

    Args:
        logits: logits of the object.
        labels: 1 on the object, 0 elsewhere; 255 is ignored.
    """
    known = labels != VOID
    loss = F.binary_cross_entropy_with_logits(logits, (labels == 1).to(logits.dtype), reduction="none")
    weight = ((1 - (-loss.detach()).exp()) ** 2 + 1e-4) * known
    return ((weight * loss).sum((1, 2)) / weight.sum((1, 2)).clamp_min(1e-6)).mean()


def soft_dice(
    probs: Float[Tensor, "B C H W"], labels: Int64[Tensor, "B H W"], valid: Bool[Tensor, "B K"]
) -> Float[Tensor, ""]:
    """Returns 1 − dice, averaged over each picture's objects, then over pictures.

    Small and large objects have the same weight.

    Args:
        probs: probabilities, background first.
        labels: true class of each pixel; 255 is ignored.
        valid: which of the C − 1 objects exist; a picture without any has loss 0.
    """
    truth = (labels[:, None] == torch.arange(1, probs.shape[1], device=labels.device)[:, None, None]).float()
    guess = probs[:, 1:] * (labels != VOID)[:, None]
    overlap = 2 * (guess * truth).sum((2, 3)) + 1
    return mean_over_objects(1 - overlap / (guess.sum((2, 3)) + truth.sum((2, 3)) + 1), valid)


@torch.no_grad()
def mean_iou(probs: Float[Tensor, "B C H W"], labels: Int64[Tensor, "B H W"], valid: Bool[Tensor, "B K"]) -> float:
    """Returns the IoU after the argmax, averaged over each picture's objects, then over pictures.

    It is 1 if both masks are empty. The arguments are those of `soft_dice`.
    """
    guess = torch.where(labels == VOID, VOID, probs.max(1).indices)
    scores = []
    for row in range(1, probs.shape[1]):
        union = ((guess == row) | (labels == row)).sum((1, 2))
        overlap = ((guess == row) & (labels == row)).sum((1, 2))
        scores.append(torch.where(union > 0, overlap / union.clamp_min(1), 1.0))
    return float(mean_over_objects(torch.stack(scores, dim=1), valid))


def mean_over_objects(scores: Float[Tensor, "B K"], valid: Bool[Tensor, "B K"]) -> Float[Tensor, ""]:
    """Returns the mean over pictures of the mean over their valid objects, 0 for a picture without any."""
    return ((scores * valid).sum(1) / valid.sum(1).clamp_min(1)).mean()


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """The fraction of the pixels, the hardest ones, that the loss counts (thesis 4.2.3; the defaults are its values).

    Attributes:
        start: number of steps in which all pixels count.
        end: step from which only the fraction `hardest` counts; from `start` to `end` the fraction falls linearly.
        hardest: final fraction, above 0 and at most 1.

    Raises:
        InputError: a value is out of range.
    """

    start: int = 20_000
    end: int = 70_000
    hardest: float = 0.15

    def __post_init__(self) -> None:
        if not (0 <= self.start <= self.end and 0 < self.hardest <= 1):
            raise InputError(
                f"the hardest {self.hardest} of the pixels from step {self.start} to {self.end} cannot be trained on",
                "expected a fraction above 0 and at most 1, and ascending steps from 0",
            )

    def fraction(self, step: int) -> float:
        """Returns the fraction of pixels that count at a step, counted from 0."""
        if step <= self.start:
            return 1.0
        if step >= self.end:
            return self.hardest
        return 1 - (1 - self.hardest) * (step - self.start) / (self.end - self.start)


@dataclass(frozen=True, slots=True)
class StepDecay:
    """The rate is multiplied by `factor` once, after the fraction `at` of the steps (thesis 3.4: 0.1, halfway)."""

    at: float = 0.5
    factor: float = 0.1

    def rate(self, step: int, steps: int) -> float:
        """Returns the factor on the learning rate at a step, counted from 0."""
        return self.factor if step >= self.at * steps else 1.0


@dataclass(frozen=True, slots=True)
class Cosine:
    """The rate rises linearly over `warm_up` steps, then falls along a half cosine to `final`."""

    warm_up: int = 60
    final: float = 0.02

    def rate(self, step: int, steps: int) -> float:
        """Returns the factor on the learning rate at a step, counted from 0."""
        falling = self.final + (1 - self.final) * (1 + math.cos(math.pi * min(step / steps, 1))) / 2
        return min(1.0, (step + 1) / max(self.warm_up, 1)) * falling


@dataclass(frozen=True, slots=True)
class WarmUpStable:
    """The rate rises linearly over `warm_up` steps, then is constant: a trunk from which decays can branch off.

    Warm-up, stable, decay: Hu et al., "MiniCPM", 2024; Hägele et al., "Scaling Laws and Compute-Optimal Training Beyond
    Fixed Training Durations", NeurIPS 2024.
    """

    warm_up: int = 30

    def rate(self, step: int, steps: int) -> float:
        """Returns the factor on the learning rate at a step, counted from 0."""
        return min(1.0, (step + 1) / max(self.warm_up, 1))


@dataclass(frozen=True, slots=True)
class RootDecay:
    """The rate falls as 1 − √progress to `final`, which turns the weights of a trunk into usable ones.

    Hägele et al. (see `WarmUpStable`) find 1 − √progress better than a linear decay.
    """

    final: float = 0.02

    def rate(self, step: int, steps: int) -> float:
        """Returns the factor on the learning rate at a step, counted from 0."""
        return max(self.final, 1 - math.sqrt(step / steps))


Schedule = StepDecay | Cosine | WarmUpStable | RootDecay


def make_optimizer(recipe: "Recipe", trained: Mapping[str, nn.Parameter], *, fused: bool) -> torch.optim.Optimizer:
    """Returns the recipe's optimizer; each group's `factor` multiplies the learning rate.

    Args:
        recipe: recipe with the rates.
        trained: parameters to train, by name.
        fused: whether to use one kernel for a whole update, see `can_fuse`.
    """
    rates = {"key_encoder.": recipe.key_encoder_rate, "value_encoder.resnet.": recipe.value_encoder_rate}
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in trained.items():
        factor = next((rate for prefix, rate in rates.items() if name.startswith(prefix)), 1.0)
        groups.setdefault(factor, []).append(parameter)
    chosen = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
    return chosen(
        [{"params": groups[factor], "factor": factor} for factor in sorted(groups)],
        lr=recipe.learning_rate,
        betas=recipe.betas,
        weight_decay=recipe.weight_decay,
        fused=fused,
    )


def can_fuse(fabric: "Fabric") -> bool:
    """Returns whether to update all weights in one kernel: on a CPU, where Adam otherwise takes a tenth of a step.

    Not under float16, since Fabric refuses to clip scaled gradients of a fused optimizer.
    """
    return fabric.device.type == "cpu" and not fabric.strategy.precision.state_dict()


class EMA:
    """The exponential moving average of weights: smoother than the last weights, and usually better.

    Args:
        weights: weights by name.
        decay: fraction of the average that remains after a step, below 1; None keeps no average.
    """

    def __init__(self, weights: Mapping[str, nn.Parameter], decay: float | None) -> None:
        self.decay = decay
        self.weights: dict[str, Tensor] = {}
        if decay is not None:
            self.weights = {name: weight.detach().clone() for name, weight in weights.items()}

    @torch.no_grad()
    def update(self, weights: Mapping[str, nn.Parameter], step: int) -> None:
        """Moves the average, in place, towards the weights after a step, counted from 0."""
        if self.decay is None:
            return
        # A shorter average at first: the initial weights are not worth keeping.
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.weights.values()), [weight.detach() for weight in weights.values()], 1 - decay)
