"""Checks for the tests of your own plugins: ``check_policy(Newest())`` is all that a test needs.

A plugin that passes works in every command of this package: registration and the command line run the same checks.
"""

from collections.abc import Callable

from mnemask.memory.policies.contract import check_policy
from mnemask.training.custom import LOSSES, REGULARIZERS

__all__ = ["check_loss", "check_policy", "check_regularizer"]


def check_loss(loss: Callable[..., object]) -> None:
    """Raises InputError unless a loss is one finite number with a finite gradient, also with void pixels and no object.

    Args:
        loss: a function of probs [B C H W] from a softmax, background first; labels [B H W], 255 for void; and valid
            [B C−1], whether a picture has each object.
    """
    LOSSES.accepted(loss, getattr(loss, "__name__", type(loss).__name__))


def check_regularizer(regularizer: object) -> None:
    """Raises InputError unless `weights` have the shape of the affinity, and are finite with a finite gradient.

    Args:
        regularizer: an object with a method `weights(affinity [B K P N], inside [B K N])`.
    """
    REGULARIZERS.accepted(regularizer, type(regularizer).__name__)
