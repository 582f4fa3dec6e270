"""A single-object stage and the 4-channel network are one and the same, and lead to several objects."""

import pytest
import torch
from drawn_clip import drawn_clip
from refusals import refusal

from mnemask.errors import CheckpointError, InputError
from mnemask.model.checkpoints import FIRST_CONVOLUTION
from mnemask.model.preprocess import normalize
from mnemask.model.resnet import ResNet
from mnemask.model.stcn import STCN
from mnemask.training.clip_tracker import ClipTracker
from mnemask.training.init import expand_input_channels


@pytest.fixture
def stage0(tiny_model):
    """Weights of a network that knows one object only."""
    state = {name: value.clone() for name, value in tiny_model.state_dict().items()}
    return {**state, FIRST_CONVOLUTION: state[FIRST_CONVOLUTION][:, :4].clone()}


def loaded(tiny_model, state):
    model = STCN(tiny_model.config)
    model.load_state_dict(state)
    return model


def four_channels(model, stage0, image, features, masks):
    """The values that the network of stage 0 gives each object, unaware of the others."""
    resnet = ResNet(18, in_channels=4)
    prefix = "value_encoder.resnet."
    resnet.load_state_dict({name.removeprefix(prefix): v for name, v in stage0.items() if name.startswith(prefix)})
    own = [resnet(torch.cat((image, masks[:, [k]]), dim=1))[-1] for k in range(masks.shape[1])]
    return torch.stack([model.value_encoder.fuser(x, features.stride16) for x in own], dim=1)


@pytest.fixture
def scene():
    frames, masks = drawn_clip(1, num_objects=2)
    return normalize(frames), masks.float()


@pytest.mark.parametrize("gain", [0.0, 1.0])
@torch.no_grad()
def test_one_object_is_to_five_channels_what_it_is_to_four(tiny_model, stage0, scene, gain):
    image, masks = scene
    model = loaded(tiny_model, expand_input_channels(stage0, gain))
    features = model.encode_key(image)
    expected = four_channels(model, stage0, image, features, masks[:, :1])
    found = model.encode_value(image, features, masks[:, :1])
    assert expected.std() > 0.01
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_with_zero_weights_several_objects_do_not_see_each_other_and_with_others_they_do(tiny_model, stage0, scene):
    image, masks = scene
    for gain in (0.0, 1.0):
        model = loaded(tiny_model, expand_input_channels(stage0, gain))
        features = model.encode_key(image)
        expected = four_channels(model, stage0, image, features, masks)
        found = model.encode_value(image, features, masks)
        assert torch.allclose(found, expected, atol=1e-4, rtol=1e-4) == (gain == 0)


def test_training_on_one_object_leaves_the_weights_for_others_without_a_gradient(tiny_model):
    frames, masks = drawn_clip(3)
    model = loaded(tiny_model, tiny_model.state_dict())
    probs = ClipTracker(model)(normalize(frames)[None], masks[:1].float(), torch.ones(1, 1, dtype=torch.bool))
    probs[:, :, 1].mean().backward()
    gradient = model.value_encoder.resnet.conv1.weight.grad
    assert gradient[:, 4].abs().max() == 0
    assert (gradient[:, :4].abs().amax((0, 2, 3)) > 0).all()


def test_only_the_weights_for_others_are_new(stage0):
    before = {name: value.clone() for name, value in stage0.items()}
    grown = expand_input_channels(stage0, 1.0)
    assert all(torch.equal(stage0[name], before[name]) for name in before)
    assert all(torch.equal(grown[name], before[name]) for name in before if name != FIRST_CONVOLUTION)
    first = grown[FIRST_CONVOLUTION]
    assert torch.equal(first[:, :4], before[FIRST_CONVOLUTION])
    matrix = first[:, 4].flatten(1)  # [64 49]
    torch.testing.assert_close(matrix.T @ matrix, torch.eye(49), atol=1e-5, rtol=1e-5)


def test_a_channel_padded_with_zeros_can_still_be_filled_but_a_trained_one_is_kept(tiny_model, stage0):
    padded = expand_input_channels(stage0)
    assert padded[FIRST_CONVOLUTION][:, 4].abs().max() == 0
    assert expand_input_channels(padded, 0.5)[FIRST_CONVOLUTION][:, 4].abs().max() > 0
    trained = tiny_model.state_dict()
    assert torch.equal(expand_input_channels(trained)[FIRST_CONVOLUTION], trained[FIRST_CONVOLUTION])
    with refusal(InputError, r"1\.0"):
        expand_input_channels(trained, 1.0)


def test_weights_of_another_shape_and_an_impossible_gain_are_refused(stage0):
    with refusal(CheckpointError, r"conv1\.weight"):
        expand_input_channels({"key_projection.bias": torch.zeros(8)})
    with refusal(CheckpointError, r"conv1\.weight", r"\(64"):
        expand_input_channels({**stage0, FIRST_CONVOLUTION: stage0[FIRST_CONVOLUTION][:, :3]})
    with refusal(InputError, r"-1\.0"):
        expand_input_channels(stage0, -1.0)
