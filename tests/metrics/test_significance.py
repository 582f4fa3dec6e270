"""Paired differences: intervals, p-values against scipy's and by hand, corrections, and how many sequences it takes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import refusal
from scipy import stats

from mnemask.errors import InputError
from mnemask.metrics.significance import difference, exchange_p, holm


def drawn(sequences, gain, spread=0.05, runs=1, seed=0):
    """Scores of A and B in some runs: one to three objects a sequence, A higher by about `gain`."""
    rng = np.random.default_rng(seed)
    a, b = [{} for _ in range(runs)], [{} for _ in range(runs)]
    for number in range(sequences):
        base, above = rng.uniform(0.5, 0.9, rng.integers(1, 4)), rng.normal(gain, spread)
        for mine, theirs in zip(a, b, strict=True):
            noise = rng.normal(0, 0.01, (2, len(base)))
            mine[f"s{number}"] = dict(enumerate((base + above + noise[0]).tolist(), 1))
            theirs[f"s{number}"] = dict(enumerate((base + noise[1]).tolist(), 1))
    return a, b


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=9))
def test_up_to_twelve_sequences_all_exchanges_are_counted_as_scipy_does(sums):
    values = np.array(sums).round(3)
    ours, exact = exchange_p(values)
    theirs = stats.permutation_test(
        (values,), lambda x, axis: x.sum(axis), permutation_type="samples", n_resamples=1_000, vectorized=True
    )
    assert exact
    assert ours == pytest.approx(min(theirs.pvalue, 1))


def test_of_more_sequences_exchanges_are_drawn_and_agree_with_the_normal_law():
    values = np.random.default_rng(3).normal(0.3, 1, 60)
    p, exact = exchange_p(values)
    z = values.sum() / np.sqrt((values**2).sum())
    assert not exact
    assert p == pytest.approx(2 * stats.norm.sf(abs(z)), rel=0.15)
    assert exchange_p(values) == (p, exact)
    assert exchange_p(values + 5)[0] == 1 / 100_000


def test_the_difference_is_that_of_the_means_over_objects():
    a, b = drawn(9, 0.03)
    found = difference(a, b)
    values = [list(scores[0][name].values()) for scores in (a, b) for name in a[0]]
    assert found.mean_a == pytest.approx(np.mean(np.concatenate(values[:9])))
    assert found.mean_b == pytest.approx(np.mean(np.concatenate(values[9:])))
    assert found.low < found.gain < found.high
    assert found.num_objects == sum(map(len, a[0].values()))
    back = difference(b, a)
    assert (back.p, back.gain) == pytest.approx((found.p, -found.gain))
    assert back.outcomes == found.outcomes[::-1]


def test_the_same_scores_are_no_difference():
    a, _ = drawn(6, 0.0)
    found = difference(a, a)
    assert (found.gain, found.low, found.high, found.p, found.outcomes) == (0, 0, 0, 1, (0, 6, 0))


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    held = 0
    for seed in range(100):
        found = difference(*drawn(12, 0.02, seed=seed), samples=400)
        held += found.low <= 0.02 <= found.high
    assert 86 <= held <= 99


def test_runs_are_paired_where_there_are_equally_many_and_averaged_otherwise():
    a, b = drawn(8, 0.02, runs=3)
    paired, alone = difference(a, b), difference(a[:1], b[:1])
    assert len(paired.by_run) == 3
    assert paired.gain == pytest.approx(np.mean(paired.by_run))
    assert paired.by_run[0] == pytest.approx(alone.gain)
    assert difference(a, b[:2]).gain == pytest.approx(paired.mean_a - difference(a[:2], b[:2]).mean_b)


def test_what_cannot_be_compared_is_refused():
    a, b = drawn(3, 0.1)
    with refusal(InputError, "1 sequence"):
        difference([{"s0": a[0]["s0"]}], b)
    with refusal(InputError, "s1.*objects"):
        difference(a, [b[0] | {"s1": {9: 0.5}}])
    with refusal(InputError, "level"):
        difference(a, b, level=1.0)
    with refusal(InputError, "difference of 0"):
        difference(a, b).sequences_needed(0.0)


def test_as_many_sequences_as_are_needed_find_the_difference_four_times_out_of_five():
    needed = difference(*drawn(200, 0.03)).sequences_needed(0.03)
    assert 15 <= needed <= 45
    assert difference(*drawn(8, 0.03)).sequences_needed(0.9) == 6  # with five no p-value is below 0.05
    found = sum(difference(*drawn(needed, 0.03, seed=seed), samples=1).p < 0.05 for seed in range(1, 31))
    assert 18 <= found <= 30


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_corrected_p_values_are_in_the_order_of_the_others_and_never_smaller(values):
    corrected = holm(values)
    assert all(before <= after <= 1 for before, after in zip(values, corrected, strict=True))
    pairs = sorted(zip(values, corrected, strict=True))
    assert [after for _, after in pairs] == sorted(corrected)
