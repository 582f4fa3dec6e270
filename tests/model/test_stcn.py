import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mnemask.errors import InputError
from mnemask.model.stcn import COMPACT, STCN, STCN_SIZE, STCNConfig, most_probable, soft_aggregate


@pytest.mark.parametrize(("config", "millions"), [(STCN_SIZE, 54.4), (COMPACT, 10.6)])
def test_the_two_sizes_have_the_parameters_they_are_known_for(config, millions):
    with torch.device("meta"):
        model = STCN(config)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.05)


@pytest.mark.parametrize(
    "wrong",
    [
        {"key_depth": 34},
        {"shortcut_kernel": 2},
        {"key_channels": 0},
        {"decoder_channels": (8, 8)},
        {"value_channels": 8},
    ],
)
def test_a_network_of_impossible_sizes_is_refused(wrong, as_users_call_it):
    with pytest.raises(InputError):
        STCNConfig(**wrong)


def test_the_network_keeps_no_state_and_its_parts_fit(tiny_model):
    image, masks = torch.randn(2, 3, 32, 48), torch.rand(2, 3, 32, 48)
    before = {name: value.clone() for name, value in tiny_model.state_dict().items()}
    features = tiny_model.encode_key(image)
    assert features.key.shape == (2, 8, 2, 3)
    values = tiny_model.encode_value(image, features, masks)
    assert values.shape == (2, 3, 32, 2, 3)
    logits = tiny_model.decode(values, features)
    assert logits.shape == (2, 3, 32, 48)
    assert torch.equal(logits, tiny_model.decode(values, tiny_model.encode_key(image)))
    assert all(torch.equal(value, before[name]) for name, value in tiny_model.state_dict().items())


def test_each_object_and_image_is_decoded_on_its_own(tiny_model):
    image, readout = torch.randn(2, 3, 32, 48), torch.randn(2, 3, 32, 2, 3)
    together = tiny_model.decode(readout, tiny_model.encode_key(image))
    for b in range(2):
        for k in range(3):
            alone = tiny_model.decode(readout[b : b + 1, k : k + 1], tiny_model.encode_key(image[b : b + 1]))
            torch.testing.assert_close(together[b, k], alone[0, 0], atol=1e-4, rtol=1e-4)


def test_keys_stay_float32_in_a_network_of_lower_precision(tiny_model):
    model = STCN(tiny_model.config).eval().bfloat16()
    model.key_projection.float()
    features = model.encode_key(torch.randn(1, 3, 32, 48, dtype=torch.bfloat16))
    assert (features.key.dtype, features.compressed.dtype) == (torch.float32, torch.bfloat16)
    value = model.encode_value(torch.randn(1, 3, 32, 48).bfloat16(), features, torch.rand(1, 1, 32, 48).bfloat16())
    assert model.decode(value, features).dtype == torch.float32


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=3))
def test_soft_aggregation_is_the_formula_and_sums_to_one(probabilities):
    found = soft_aggregate(torch.tensor(probabilities).view(-1, 1, 1))
    background = math.prod(1 - p for p in probabilities)
    clamped = [min(max(p, 1e-7), 1 - 1e-7) for p in (background, *probabilities)]
    odds = [p / (1 - p) for p in clamped]
    expected = torch.tensor([odd / sum(odds) for odd in odds])
    assert float(found.sum()) == pytest.approx(1, abs=1e-6)
    # A float32 next to 1 says little of its distance from 1, and the odds are all about that distance.
    spacing = 2**-24 / min(1 - p for p in clamped)
    torch.testing.assert_close(found[:, 0, 0], expected, atol=1e-6 + 4 * spacing, rtol=0)


@pytest.mark.parametrize("num_objects", [1, 3])
def test_soft_aggregation_works_pixel_by_pixel(num_objects):
    probs = torch.rand(num_objects, 4, 5)
    together = soft_aggregate(probs)
    assert together.shape == (num_objects + 1, 4, 5)
    torch.testing.assert_close(together.sum(0), torch.ones(4, 5))
    torch.testing.assert_close(together[:, 2, 3], soft_aggregate(probs[:, 2, 3]))


def test_without_objects_all_is_background():
    assert torch.equal(soft_aggregate(torch.zeros(0, 2, 3)), torch.ones(1, 2, 3))


@pytest.mark.parametrize("num_objects", [0, 1, 3, 300])
def test_the_most_probable_class_names_a_pixel_the_first_among_equals(num_objects):
    torch.manual_seed(num_objects)
    probs = torch.rand(num_objects + 1, 8, 9).mul(20).round() / 20  # of which many are equal
    ids = (0, *(65_535 - 7 * row for row in range(num_objects)))
    labels = most_probable(probs, ids)
    assert labels.dtype == torch.int32
    assert torch.equal(labels, torch.tensor(ids, dtype=torch.int32)[probs.argmax(0)])
