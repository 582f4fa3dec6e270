"""Tests whether one policy is better than another, by paired differences of the same objects in the same sequences.

The unit of sampling is the sequence: its objects share its difficulty, and its frames even more so. An interval comes
from a bootstrap of sequences and, within each, of objects (Davison and Hinkley 1997, 3.8), and of runs, such as seeds,
if there are several. A p-value comes from exchanging A and B within whole sequences (Fisher 1935; Nichols and Holmes
2002).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, inf, log2, sqrt
from statistics import NormalDist

import numpy as np
from jaxtyping import Float

from mnemask.errors import InputError
from mnemask.metrics.report import Report

EXACT = 12  # most sequences for which all exchanges are counted
EXCHANGES = 99_999
SAMPLES = 10_000
TIE = 0.0005  # of a score from 0 to 1: equal in a table of percentages with one decimal
ALPHA, POWER = 0.05, 0.8  # the level at which a difference counts as shown, and the probability that it is
Scores = Mapping[str, Mapping[int, float]]
"""Scores from 0 to 1 by sequence and object."""


@dataclass(frozen=True, slots=True)
class Difference:
    """The difference between the scores of A and B, which are from 0 to 1, means over objects as in DAVIS.

    Attributes:
        mean_a: the mean of A over all objects and runs.
        mean_b: the mean of B.
        low, high: the interval of `gain`.
        p: the two-sided probability of a difference at least as large as this, if A and B were the same.
        exact: whether `p` counts all exchanges instead of random ones.
        sequences: the names of the sequences, in order.
        by_sequence: A minus B in each sequence, mean over its objects and runs.
        num_objects: the number of objects in all sequences.
        by_run: A minus B in each run.
        spread: standard deviation of a sequence's contribution to `gain`, used by `sequences_needed` and `visible`.
    """

    mean_a: float
    mean_b: float
    low: float
    high: float
    p: float
    exact: bool
    sequences: tuple[str, ...]
    by_sequence: tuple[float, ...]
    num_objects: int
    by_run: tuple[float, ...]
    spread: float

    @property
    def gain(self) -> float:
        """A minus B."""
        return self.mean_a - self.mean_b

    @property
    def outcomes(self) -> tuple[int, int, int]:
        """The numbers of sequences in which A is better, equal and worse; equal means within 0.05 points."""
        wins = sum(value > TIE for value in self.by_sequence)
        losses = sum(value < -TIE for value in self.by_sequence)
        return wins, len(self.by_sequence) - wins - losses, losses

    def sequences_needed(self, gain: float) -> int:
        """Returns how many sequences like these show a difference of this size, at two-sided level 0.05, power 0.8.

        Guenther (1981): n = (z₁₋α/₂ + z_power)² σ² / gain² + z²₁₋α/₂ / 2, σ the spread of paired differences; and at
        least as many as `p` needs to fall below 0.05 at all.

        Raises:
            InputError: if the difference is not above 0.
        """
        if not 0 < gain < inf:
            raise InputError(f"a difference of {gain} cannot be shown", "give one above 0")
        z, beyond = NormalDist().inv_cdf(1 - ALPHA / 2), NormalDist().inv_cdf(POWER)
        return max(fewest(), ceil(((z + beyond) * self.spread / gain) ** 2 + z**2 / 2))

    def visible(self) -> float:
        """Returns the smallest difference that this number of sequences shows, at the same level and power."""
        z, beyond = NormalDist().inv_cdf(1 - ALPHA / 2), NormalDist().inv_cdf(POWER)
        return (z + beyond) * self.spread / sqrt(len(self.sequences))


def difference(
    a: Sequence[Scores],
    b: Sequence[Scores],
    *,
    level: float = 0.95,
    samples: int = SAMPLES,
    seed: int = 0,
) -> Difference:
    """Returns the difference between A and B, which is the same for the same seed.

    Args:
        a: scores of A in each run; one run, or as many as in `b`, in the same order.
        b: scores of B. If the numbers of runs differ, the means over runs are compared.
        level: the level of the interval.
        samples: the number of bootstrap samples.
        seed: the seed of the random numbers.

    Raises:
        InputError: if A and B have fewer than two sequences in common, or different objects in one of them.
    """
    names = _common(a, b)
    if not 0 < level < 1 or samples < 1:
        raise InputError(f"samples {samples} and level {level} make no interval", "use samples >= 1 and 0 < level < 1")
    theirs = [[_of_objects(scores, names) for scores in runs] for runs in (a, b)]
    if len(a) != len(b):
        theirs = [[np.mean(runs, axis=0)] for runs in theirs]
    runs_a, runs_b = (np.array(runs) for runs in theirs)  # [runs, objects]
    counts = np.array([len(a[0][name]) for name in names])
    ends = np.cumsum(counts)
    parts = np.split(runs_a - runs_b, ends[:-1], axis=1)
    by_object = (runs_a - runs_b).mean(0)
    sums = np.array([part.sum() for part in np.split(by_object, ends[:-1])])
    low, high = _interval(parts, level, samples, seed)
    p, exact = exchange_p(sums, seed)
    # The residuals of a ratio, since the number of objects differs between sequences.
    residuals = (sums - by_object.mean() * counts) / counts.mean()
    return Difference(
        float(runs_a.mean()),
        float(runs_b.mean()),
        low,
        high,
        p,
        exact,
        tuple(names),
        tuple((sums / counts).tolist()),
        int(counts.sum()),
        tuple((runs_a - runs_b).mean(1).tolist()),
        float(residuals.std(ddof=1)),
    )


def fewest() -> int:
    """Returns the fewest sequences with which a p-value of at most 0.05 is possible: 2 of 2ⁿ exchanges."""
    return ceil(log2(2 / ALPHA))


def report_difference(a: Report, b: Report) -> Difference | None:
    """Returns the difference between the J&F of two reports; None if they share fewer than two sequences."""
    mine, theirs = a.object_scores(), b.object_scores()
    return difference([mine], [theirs]) if len(mine.keys() & theirs.keys()) > 1 else None


def _common(a: Sequence[Scores], b: Sequence[Scores]) -> list[str]:
    """Returns the sequences that all runs of both have; raises InputError if these cannot be compared."""
    runs = [*a, *b]
    names = [name for name in (a[0] if a else ()) if all(name in scores for scores in runs)]
    if not a or not b or len(names) < 2:
        raise InputError(
            f"{len(names)} sequence in common does not show how much differences vary", "compare on two or more"
        )
    for name in names:
        if any(sorted(scores[name]) != sorted(a[0][name]) for scores in runs):
            raise InputError(f"{name} has different objects in one of the results", "score both against the same masks")
    return names


def _of_objects(scores: Scores, names: Sequence[str]) -> Float[np.ndarray, " O"]:
    return np.array([scores[name][key] for name in names for key in sorted(scores[name])], np.float64)


def _interval(parts: Sequence[Float[np.ndarray, "R _"]], level: float, samples: int, seed: int) -> tuple[float, float]:
    """Returns the percentile interval of the mean over objects when runs, sequences and objects are resampled.

    The counts of n draws from m items are multinomial, so they are drawn directly instead of one by one.
    """
    rng = np.random.default_rng((seed, len(parts)))
    num_runs, num_sequences = parts[0].shape[0], len(parts)
    runs = rng.multinomial(num_runs, np.full(num_runs, 1 / num_runs), size=samples) / num_runs
    sequences = rng.multinomial(num_sequences, np.full(num_sequences, 1 / num_sequences), size=samples)
    total, count = np.zeros(samples), np.zeros(samples)
    for number, part in enumerate(parts):
        num_objects = part.shape[1]
        drawn = sequences[:, number] * num_objects
        objects = rng.multinomial(drawn, np.full(num_objects, 1 / num_objects))
        total += (objects * (runs @ part)).sum(1)
        count += drawn
    low, high = np.quantile(total / count, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def exchange_p(sums: Float[np.ndarray, " S"], seed: int = 0) -> tuple[float, bool]:
    """Returns the two-sided p-value of a sum of paired differences, and whether it counts all exchanges.

    Args:
        sums: the sum of A minus B over the objects of each sequence; up to 12 sequences are exchanged in all ways, more
            in 99,999 random ones, to which the observed one is added (Phipson and Smyth 2010).
        seed: the seed of the random numbers.
    """
    observed = abs(sums.sum()) * (1 - 1e-9) - 1e-12
    if len(sums) <= EXACT:
        codes = np.arange(2 ** len(sums))[:, None] >> np.arange(len(sums)) & 1
        return float(np.mean(np.abs((1 - 2 * codes) @ sums) >= observed)), True
    rng, as_large, done = np.random.default_rng((seed, 1)), 0, 0
    while done < EXCHANGES:
        count = min(10_000, EXCHANGES - done)
        signs = 1.0 - 2.0 * rng.integers(2, size=(count, len(sums)), dtype=np.int8)
        as_large += int((np.abs(signs @ sums) >= observed).sum())
        done += count
    return (1 + as_large) / (1 + EXCHANGES), False


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns p-values adjusted for multiple comparisons (Holm 1979), in the same order.

    Example:
        >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted, least = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = least
    return adjusted


def p_text(p: float) -> str:
    """Returns a p-value as papers print it."""
    return "< 0.0001" if p < 0.0001 else f"{p:.4f}" if p < 0.01 else f"{p:.3f}"
