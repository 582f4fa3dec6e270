"""Several sources of clips as one."""

from collections.abc import Sequence

import numpy as np

from mnemask.datasets.clips import ClipShape, ClipSource, TrainingClip
from mnemask.errors import InputError


class Mixture:
    """Clips without end, each from one of several sources, as often as the source's weight beside the others' says.

    Args:
        sources: each with its weight, of any unit: for a set that an epoch is to hold five times, 5 × its length.

    Raises:
        InputError: there are no sources, or no weights to choose by.

    Example:
        Mixture([(big, 5 * len(big)), (duts, len(duts))])
    """

    def __init__(self, sources: Sequence[tuple[ClipSource, int | float]]) -> None:
        weights = np.array([weight for _, weight in sources], float)
        if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.sum() > 0):
            raise InputError(
                f"sources of clips with the weights {weights.tolist()}; expected at least one source, all weights at "
                "least 0 and one above"
            )
        self.sources = tuple(source for source, _ in sources)
        self.shares = weights / weights.sum()

    def draw(self, rng: np.random.Generator, shape: ClipShape) -> TrainingClip:
        """Returns a clip of one of the sources; raises what the source raises."""
        return self.sources[int(rng.choice(len(self.sources), p=self.shares))].draw(rng, shape)
