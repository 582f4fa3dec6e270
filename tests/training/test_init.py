"""Where training starts."""

import pytest
import torch
from refusals import refusal
from safetensors.torch import save_file

import mnemask as mm
from mnemask.errors import CheckpointError
from mnemask.model.resnet import ResNet
from mnemask.training.init import init_from_imagenet, init_from_weights


@pytest.fixture(scope="module")
def resnets(tmp_path_factory):
    """Files of a ResNet-18 and a ResNet-50, with a classifier that is not wanted."""
    folder = tmp_path_factory.mktemp("resnets")
    torch.manual_seed(0)
    for depth in (18, 50):
        state = {name: value.clone() for name, value in ResNet(depth).state_dict().items()}
        save_file(state | {"fc.weight": torch.zeros(2, 2)}, folder / f"{depth}.safetensors")
        torch.save(state, folder / f"{depth}.pth")
    return folder


def test_compact_takes_one_resnet_for_both_encoders_and_sees_the_mask_from_the_start(resnets):
    model = init_from_imagenet("compact", [resnets / "18.safetensors"])
    first = model.value_encoder.resnet.conv1.weight
    assert torch.equal(model.key_encoder.conv1.weight, first[:, :3])
    assert torch.equal(first[:, 3], first[:, :3].sum(1))
    assert torch.equal(first[:, 4], -first[:, 3] / 2)
    assert torch.equal(model.key_encoder.layer3[1].conv2.weight, model.value_encoder.resnet.layer3[1].conv2.weight)


def test_paper_takes_a_deep_one_for_keys_and_a_shallow_one_for_values(resnets):
    model = init_from_imagenet("stcn", [resnets / "18.pth", resnets / "50.pth"])
    assert torch.equal(model.key_encoder.conv1.weight, torch.load(resnets / "50.pth")["conv1.weight"])
    first = model.value_encoder.resnet.conv1.weight
    assert torch.equal(first[:, :3], torch.load(resnets / "18.pth")["conv1.weight"])
    # Thesis 3.3.1; and as STCN's, the projection starts with singular values of 1.
    assert not first[:, 3:].any()
    torch.testing.assert_close(torch.linalg.svdvals(model.key_projection.weight.flatten(1)), torch.ones(64))


def test_a_resnet_that_fits_nowhere_is_refused(resnets, tmp_path):
    with refusal(CheckpointError, r"50.pth'", r"ResNet-18"):
        init_from_imagenet("compact", [resnets / "50.pth"])
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with refusal(CheckpointError, r"conv1.weight"):
        init_from_imagenet("compact", [tmp_path / "other.safetensors"])


def test_the_weights_in_the_package_can_be_trained_further():
    model, loaded = init_from_weights("compact", "compact"), mm.load_model("compact", dtype=torch.float32)
    assert torch.equal(model.key_projection.weight, loaded.key_projection.weight)
    with refusal(CheckpointError, "choose"):
        init_from_weights("compact", "stcn")
