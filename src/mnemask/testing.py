"""Checks for the tests of what you wrote yourself: ``check_policy(Newest())`` in a test of yours, and nothing else.

What passes works in every command of this package: registration and the command line run the same checks.
"""

from collections.abc import Callable

from mnemask.memory.policies.contract import check_policy
from mnemask.training.custom import LOSSES, REGULARIZERS

__all__ = ["check_loss", "check_policy", "check_regularizer"]


def check_loss(loss: Callable[..., object]) -> None:
    """Raises InputError unless a loss is one finite number with a finite gradient, also with void pixels and no object.

    Args:
        loss: takes probs [B C H W] of a softmax, background first, labels [B H W], 255 where void, and valid
            [B C−1], which objects a picture has.
    """
    LOSSES.accepted(loss, getattr(loss, "__name__", type(loss).__name__))


def check_regularizer(regularizer: object) -> None:
    """Raises InputError unless `weights` have the shape of the affinity, and are finite with a finite gradient.

    Args:
        regularizer: has `weights(affinity [B K P N], inside [B K N])`.
    """
    REGULARIZERS.accepted(regularizer, type(regularizer).__name__)
