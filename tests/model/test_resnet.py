import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mnemask.model.resnet import ResNet, fold_batch_norm

# torchvision's names and shapes, with the bias that comes from folding.
SPOT_CHECKS = {
    18: {
        "conv1.weight": (64, 3, 7, 7),
        "conv1.bias": (64,),
        "layer1.1.conv2.weight": (64, 64, 3, 3),
        "layer2.0.conv1.weight": (128, 64, 3, 3),
        "layer2.0.downsample.0.weight": (128, 64, 1, 1),
        "layer2.0.downsample.0.bias": (128,),
        "layer3.1.conv2.weight": (256, 256, 3, 3),
    },
    50: {
        "conv1.weight": (64, 3, 7, 7),
        "layer1.0.conv1.weight": (64, 64, 1, 1),
        "layer1.0.downsample.0.weight": (256, 64, 1, 1),
        "layer1.2.conv3.weight": (256, 64, 1, 1),
        "layer2.3.conv2.weight": (128, 128, 3, 3),
        "layer3.0.downsample.0.weight": (1024, 512, 1, 1),
        "layer3.5.conv3.bias": (1024,),
    },
}
NUM_CONVOLUTIONS = {18: 1 + 12 + 2, 50: 1 + 3 * (3 + 4 + 6) + 3}


@pytest.mark.parametrize("depth", [18, 50])
def test_parameters_have_torchvisions_names_and_shapes(depth):
    with torch.device("meta"):
        state = ResNet(depth).state_dict()
    assert {name: tuple(state[name].shape) for name in SPOT_CHECKS[depth]} == SPOT_CHECKS[depth]
    assert len(state) == 2 * NUM_CONVOLUTIONS[depth]


@pytest.mark.parametrize(("depth", "channels"), [(18, (64, 128, 256)), (50, (256, 512, 1024))])
def test_features_have_strides_4_8_and_16(depth, channels):
    features = ResNet(depth, in_channels=5)(torch.randn(2, 5, 48, 64))
    shapes = [(2, c, 48 // stride, 64 // stride) for c, stride in zip(channels, (4, 8, 16), strict=True)]
    assert [tuple(feature.shape) for feature in features] == shapes


class Normed(nn.Module):
    """A convolution and its BatchNorm, a shortcut with its own, and one convolution without."""

    def __init__(self, bias):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 6, 3, padding=1, bias=bias), nn.BatchNorm2d(6)
        self.downsample = nn.Sequential(nn.Conv2d(3, 6, 1, bias=bias), nn.BatchNorm2d(6))
        self.plain = nn.Conv2d(6, 2, 1)
        for norm in (self.bn1, self.downsample[1]):
            nn.init.uniform_(norm.weight, -2, 2)
            nn.init.normal_(norm.bias)
            nn.init.normal_(norm.running_mean)
            nn.init.uniform_(norm.running_var, 1e-4, 3)

    def forward(self, x):
        return self.plain(torch.relu(self.bn1(self.conv1(x))) + self.downsample(x))


@pytest.mark.parametrize("bias", [True, False])
def test_a_folded_convolution_equals_convolution_and_batch_norm(bias):
    torch.manual_seed(0)
    network, x = Normed(bias).eval(), torch.randn(2, 3, 9, 7)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    folded = fold_batch_norm(network.state_dict())
    assert set(folded) == {
        f"{layer}.{part}" for layer in ("conv1", "downsample.0", "plain") for part in ("weight", "bias")
    }
    first = F.conv2d(x, folded["conv1.weight"], folded["conv1.bias"], padding=1)
    second = F.conv2d(x, folded["downsample.0.weight"], folded["downsample.0.bias"])
    found = F.conv2d(torch.relu(first) + second, folded["plain.weight"], folded["plain.bias"])
    torch.testing.assert_close(found, network(x), atol=1e-5, rtol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_weights_without_batch_norm_pass_through_unchanged():
    state = {"conv1.weight": torch.randn(4, 3, 1, 1), "conv1.bias": torch.randn(4)}
    folded = fold_batch_norm(state)
    assert folded.keys() == state.keys()
    assert all(folded[name] is state[name] for name in state)
