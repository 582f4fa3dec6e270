"""Losses and regularizers by name: the built-in regularizers with arguments, and user-defined ones.

A run's settings contain the name, the arguments and a digest of the source, so that it is resumed only with the same.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from mnemask.errors import InputError
from mnemask.plugins import Registry, describe_error, source_digest
from mnemask.training.regularizers import Dropout, Reallocation

LOSS_IS = "give a function of probs [B C H W], labels [B H W] and valid [B K] that returns one number to minimise"
REGULARIZER_IS = "give a class with weights(affinity [B K P N], inside [B K N]) that returns weights of shape [B K P N]"


@dataclass(frozen=True)
class CustomLoss:
    """A loss that replaces the recipe's cross-entropy and dice.

    Attributes:
        name: name as given, with arguments.
        source: digest of the source.
        compute: function of soft-aggregated probabilities (background first), labels (255 is ignored) and which of the
            C − 1 objects exist; returns the number to minimise.
    """

    name: str
    source: str
    compute: Callable[..., object] = field(repr=False, compare=False)

    def __call__(
        self, probs: Float[Tensor, "B C H W"], labels: Int64[Tensor, "B H W"], valid: Bool[Tensor, "B K"]
    ) -> Float[Tensor, ""]:
        """Returns the loss of a batch of pictures; raises InputError if it fails or is not a number."""
        value = _called(f"loss {self.name}", LOSS_IS, self.compute, probs, labels, valid)
        if not isinstance(value, Tensor) or value.shape != () or not value.is_floating_point():
            raise InputError(f"loss {self.name} returned {_short(value)}", LOSS_IS)
        return value


@dataclass(frozen=True)
class CustomRegularizer:
    """A regularizer that weights tokens in place of the softmax, in training only.

    Attributes:
        name: name as given, with arguments.
        source: digest of the source.
        compute: the regularizer's method `weights`.
    """

    name: str
    source: str
    compute: Callable[..., object] = field(repr=False, compare=False)

    def weights(self, affinity: Float[Tensor, "*B P N"], inside: Bool[Tensor, "*B N"]) -> Float[Tensor, "*B P N"]:
        """Returns the weight of each token at each query; raises InputError if it fails or has another shape.

        Args:
            affinity: the complete affinity −‖m − q‖² / √Ck, which is never positive.
            inside: which tokens belong to the object.
        """
        value = _called(f"regularizer {self.name}", REGULARIZER_IS, self.compute, affinity, inside)
        if not isinstance(value, Tensor) or value.shape != affinity.shape:
            raise InputError(f"regularizer {self.name} returned {_short(value)}", REGULARIZER_IS)
        return value


def _called(what: str, remedy: str, compute: Callable[..., object], *args: Tensor) -> object:
    try:
        return compute(*args)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        raise InputError(f"{what} failed: {describe_error(error)}", remedy) from error


def _short(value: object) -> str:
    return f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)[:80]


def _accepted_loss(made: object, label: str) -> CustomLoss:
    """Returns a loss after checking that value and gradient are finite for random pictures, one entirely unknown."""
    if not callable(made):
        raise InputError(f"loss {label} is a {type(made).__name__}", LOSS_IS)
    loss = CustomLoss(label, source_digest(made), made)
    with torch.enable_grad(), torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        logits = torch.randn(3, 3, 8, 8, requires_grad=True)
        labels = torch.randint(3, (3, 8, 8))
        labels[0, :2], labels[1], labels[2] = 255, 255, labels[2].clamp_max(1)
        valid = torch.tensor([[True, True], [True, True], [True, False]])
        value = loss(logits.softmax(1), labels, valid)
        _check_gradient(f"loss {label}", value, logits)
    return loss


def _accepted_regularizer(made: object, label: str) -> Dropout | Reallocation | CustomRegularizer:
    """Returns a regularizer after checking that its weights and gradients are finite for random affinities."""
    if isinstance(made, Dropout | Reallocation) and type(made) in (Dropout, Reallocation):
        return made  # but not a subclass, whose weights are the user's
    weights = getattr(made, "weights", None)
    if not callable(weights):
        raise InputError(f"regularizer {label} is a {type(made).__name__} without `weights`", REGULARIZER_IS)
    regularizer = CustomRegularizer(label, source_digest(made), weights)
    with torch.enable_grad(), torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        affinity = (-torch.rand(2, 3, 4, 5)).requires_grad_()
        value = regularizer.weights(affinity, torch.rand(2, 3, 5) < 0.5)
        _check_gradient(f"regularizer {label}", (value * torch.rand_like(value)).sum(), affinity)
    return regularizer


def _check_gradient(what: str, value: Tensor, of: Tensor) -> None:
    if not bool(value.isfinite()):
        raise InputError(f"{what} is {value.detach().item()} for random values", "keep it finite on unknown pixels too")
    if not value.requires_grad:
        raise InputError(f"{what} has no gradient", "compute it with PyTorch, without detaching anything it depends on")
    (gradient,) = torch.autograd.grad(value, of, allow_unused=True)
    if gradient is None or not bool(gradient.isfinite().all()):
        raise InputError(f"{what} has no finite gradient for random values", "clamp before log, sqrt and division")


LOSSES: Registry[CustomLoss] = Registry("loss", "mnemask.losses", {}, _accepted_loss)
REGULARIZERS: Registry[Dropout | Reallocation | CustomRegularizer] = Registry(
    "regularizer",
    "mnemask.regularizers",
    {"dropout": Dropout(), "reallocation": Reallocation()},
    _accepted_regularizer,
)
