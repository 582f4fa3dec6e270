"""What moves the weights, and their moving average."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mnemask.training.recipes import Recipe


def make_optimizer(recipe: Recipe, trained: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
    """Returns the recipe's optimizer; each group's `factor` is its part of the learning rate."""
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
    )


class Average:
    """The exponential moving average of weights: smoother than the last ones, and mostly better.

    Args:
        weights: by name.
        decay: how much of the average is left after a step, below 1; None keeps no average.
    """

    def __init__(self, weights: Mapping[str, nn.Parameter], decay: float | None) -> None:
        self.decay = decay
        self.weights: dict[str, Tensor] = {}
        if decay is not None:
            self.weights = {name: weight.detach().clone() for name, weight in weights.items()}

    @torch.no_grad()
    def follow(self, weights: Mapping[str, nn.Parameter], step: int) -> None:
        """Moves the average, in place, towards the weights that a step, counted from 0, has left."""
        if self.decay is None:
            return
        # Early on a shorter memory: the first weights are not worth remembering.
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.weights.values()), [weight.detach() for weight in weights.values()], 1 - decay)
