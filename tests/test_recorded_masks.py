import itertools

import numpy as np
import pytest
from recorded_masks import CLIPS, POLICIES, labels_of, names, num_differing, recorded, runs

import mnemask as mm


def cases():
    """Every recorded run on every clip; of these, each policy once is quick enough for `make fast`."""
    quick = {f"compact, {policy}; {next(iter(CLIPS))}" for policy in POLICIES}
    return [pytest.param(name, marks=() if name in quick else pytest.mark.thorough) for name in names()]


@pytest.mark.parametrize("name", cases())
def test_masks_are_those_that_were_recorded(name):
    # Processors differ in the last bits of the probabilities, and so in a pixel here and there.
    assert num_differing(name) <= 1e-3 * recorded()[name].size


def test_every_policy_is_recorded():
    assert sorted(POLICIES.values()) == sorted(mm.POLICIES)
    assert set(recorded()) == set(names())


@pytest.mark.thorough
@pytest.mark.parametrize("size", ["compact", "paper"])
def test_the_record_tells_policies_apart(size):
    clips = [[recorded()[f"{size}, {policy}; {clip}"] for clip in CLIPS] for policy in POLICIES]
    differ = [
        any((one != other).mean() > 2e-3 for one, other in zip(first, second, strict=True))
        for first, second in itertools.combinations(clips, 2)
    ]
    assert np.mean(differ) > 0.95


def test_a_run_repeats_itself_to_the_pixel():
    run, clip = next(iter(runs())), next(iter(CLIPS))
    assert np.array_equal(labels_of(run, clip), labels_of(run, clip))
