"""Rounding to 8 bits: what it changes, what it leaves alone."""

import pytest
import torch
from torch import nn

from mnemask.engines.openvino import (
    FakeQuantizer,
    InputRange,
    RangeObserver,
    calibrate,
    read_ranges,
    rounded_filters,
    write_ranges,
)


@pytest.fixture
def two_convolutions():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3)).requires_grad_(False)


def test_each_filter_is_rounded_to_steps_of_its_own():
    weight = torch.randn(5, 3, 3, 3) * torch.tensor([1e-3, 1.0, 5.0, 100.0, 0.0])[:, None, None, None]
    rounded = rounded_filters(weight)
    largest = weight.abs().amax((1, 2, 3))
    assert ((rounded - weight).abs().amax((1, 2, 3)) <= largest / 127 / 2 * 1.01).all()
    assert all(len(one.unique()) <= 255 for one in rounded)


def test_values_in_the_range_move_by_half_a_step_at_most_and_zero_does_not_move():
    seen = InputRange((1,))
    for x in (torch.tensor([0.5, 3.0]), torch.tensor([-1.0, 0.2])):
        seen.add(x)
    assert (seen.low, seen.high) == (-1.0, 3.0)
    x = torch.linspace(-1, 3, 1001)
    assert float((seen.rounded(x) - x).abs().max()) <= 4 / 255 / 2 * 1.01
    assert float(seen.rounded(torch.zeros(1))) == 0
    assert float(seen.rounded(torch.tensor([9.0]))) == pytest.approx(3, abs=4 / 255)


def test_an_input_that_was_only_ever_zero_stays_so():
    assert float(InputRange((1,)).rounded(torch.zeros(1))) == 0


def test_watching_changes_nothing_and_rounding_little(two_convolutions):
    x, ranges = torch.rand(1, 3, 9, 9), []
    expected = two_convolutions(x)
    with RangeObserver(ranges, ()):
        assert torch.equal(two_convolutions(x), expected)
    assert [one.weight for one in ranges] == [(4, 3, 3, 3), (2, 4, 3, 3)]
    with FakeQuantizer(ranges, ()):
        found = two_convolutions(x)
    assert 0 < float((found - expected).abs().max()) < 0.02 * float(expected.abs().max())


def test_a_precise_convolution_stays_as_it_is(two_convolutions):
    x, ranges = torch.rand(1, 3, 9, 9), []
    precise = [part for part in two_convolutions if isinstance(part, nn.Conv2d)]
    with RangeObserver(ranges, precise), FakeQuantizer(ranges, precise):
        assert torch.equal(two_convolutions(x), two_convolutions(x))
    assert ranges == []


def test_ranges_of_another_network_are_refused(two_convolutions):
    ranges = [InputRange((4, 3, 5, 5))]
    with pytest.raises(AssertionError, match="calibrated"), FakeQuantizer(ranges, ()):
        two_convolutions(torch.rand(1, 3, 9, 9))


def test_calibration_sees_every_convolution_but_the_precise_ones_and_survives_a_file(tiny_model, tmp_path):
    ranges = calibrate(tiny_model, size=(48, 64))
    assert set(ranges) == {"key", "value", "decode"}
    assert len(ranges["key"]) == 10 + 2 + 1  # the blocks, without stem and first ones; their shortcuts; compression
    assert all(one.low <= 0 <= one.high and one.low < one.high for found in ranges.values() for one in found)
    write_ranges(ranges, tmp_path / "ranges.json")
    assert read_ranges(tmp_path / "ranges.json") == ranges
