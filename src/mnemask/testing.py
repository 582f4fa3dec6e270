"""Checks for the tests of what you wrote yourself: ``check_policy(Newest())`` in a test of yours, and nothing else.

What passes works in every command of this package: registration and the command line run the same checks.
"""

from collections.abc import Callable

from mnemask.memory.policies.contract import check_policy
from mnemask.training.custom import LOSSES, REGULARIZERS

__all__ = ["check_loss", "check_policy", "check_regularizer"]


def check_loss(loss: Callable[..., object]) -> None:
    """Returns where a loss gives one finite number with a finite gradient; unknown pixels and missing objects too.

    Args:
        loss: takes probs [B C H W] of a softmax, background first, labels [B H W], 255 where unknown, and valid
            [B C−1], which objects a picture has.

    Raises:
        InputError: it does not.
    """
    LOSSES.accepted(loss, getattr(loss, "__name__", type(loss).__name__))


def check_regularizer(regularizer: object) -> None:
    """Returns where the `weights` of a regularizer have the shape of the affinity, and are finite with their gradient.

    Args:
        regularizer: has `weights(affinity [B K P N], inside [B K N])`.

    Raises:
        InputError: they do not.
    """
    REGULARIZERS.accepted(regularizer, type(regularizer).__name__)
