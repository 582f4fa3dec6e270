"""A single-object stage and the 4-channel network are one and the same, and lead to several objects."""

import pytest
import torch
from drawn_clip import drawn_clip

from mnemask.model.checkpoints import FIRST_CONVOLUTION, with_others_channel
from mnemask.model.preprocess import normalize
from mnemask.model.resnet import ResNet
from mnemask.model.stcn import STCN
from mnemask.training.clip_tracker import ClipTracker


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


@torch.no_grad()
def test_one_object_is_to_five_channels_what_it_is_to_four(tiny_model, stage0, scene):
    image, masks = scene
    model = loaded(tiny_model, with_others_channel(stage0))
    features = model.encode_key(image)
    expected = four_channels(model, stage0, image, features, masks[:, :1])
    found = model.encode_value(image, features, masks[:, :1])
    assert expected.std() > 0.01
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_with_zero_weights_several_objects_do_not_see_each_other_and_with_others_they_do(tiny_model, stage0, scene):
    image, masks = scene
    for state, apart in ((with_others_channel(stage0), True), (tiny_model.state_dict(), False)):
        model = loaded(tiny_model, state)
        features = model.encode_key(image)
        expected = four_channels(model, stage0, image, features, masks)
        found = model.encode_value(image, features, masks)
        assert torch.allclose(found, expected, atol=1e-4, rtol=1e-4) == apart


def test_training_on_one_object_leaves_the_weights_for_others_without_a_gradient(tiny_model):
    frames, masks = drawn_clip(3)
    model = loaded(tiny_model, tiny_model.state_dict())
    probs = ClipTracker(model)(normalize(frames)[None], masks[:1].float(), torch.ones(1, 1, dtype=torch.bool))
    probs[:, :, 1].mean().backward()
    gradient = model.value_encoder.resnet.conv1.weight.grad
    assert gradient[:, 4].abs().max() == 0
    assert (gradient[:, :4].abs().amax((0, 2, 3)) > 0).all()


def test_only_the_weights_for_others_are_new(tiny_model, stage0):
    before = {name: value.clone() for name, value in stage0.items()}
    grown = with_others_channel(stage0)
    assert all(torch.equal(stage0[name], before[name]) for name in before)
    assert all(torch.equal(grown[name], before[name]) for name in before if name != FIRST_CONVOLUTION)
    assert torch.equal(grown[FIRST_CONVOLUTION][:, :4], before[FIRST_CONVOLUTION])
    assert grown[FIRST_CONVOLUTION][:, 4].abs().max() == 0
    trained = tiny_model.state_dict()
    assert torch.equal(with_others_channel(trained)[FIRST_CONVOLUTION], trained[FIRST_CONVOLUTION])
