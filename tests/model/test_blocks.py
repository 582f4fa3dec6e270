import math

import pytest
import torch

from mnemask.model.stcn import Attention, ResidualBlock, ValueEncoder


def convolve(x, conv):
    """A 2-D convolution with zero padding, written out as sums."""
    weight, size = conv.weight, conv.kernel_size[0]
    padded = torch.zeros(x.shape[0], x.shape[1] + size - 1, x.shape[2] + size - 1)
    half = size // 2
    padded[:, half : half + x.shape[1], half : half + x.shape[2]] = x
    out = torch.zeros(weight.shape[0], *x.shape[1:])
    for i in range(x.shape[1]):
        for j in range(x.shape[2]):
            patch = padded[:, i : i + size, j : j + size]
            out[:, i, j] = (weight * patch).sum((1, 2, 3)) + conv.bias
    return out


@pytest.mark.parametrize(("out_channels", "shortcut_kernel"), [(3, 3), (5, 3), (5, 1)])
@torch.no_grad()
def test_a_residual_block_is_two_convolutions_of_rectified_input_and_a_shortcut(out_channels, shortcut_kernel):
    torch.manual_seed(0)
    block, x = ResidualBlock(3, out_channels, shortcut_kernel), torch.randn(3, 5, 6)
    residual = convolve(convolve(x.clamp_min(0), block.conv1).clamp_min(0), block.conv2)
    shortcut = x if out_channels == 3 else convolve(x, block.downsample)
    torch.testing.assert_close(block(x[None])[0], residual + shortcut, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("out_channels", [5, 7])
@pytest.mark.parametrize("num_objects", [1, 3])
def test_channels_that_objects_share_count_as_if_each_object_had_them(out_channels, num_objects):
    torch.manual_seed(0)
    block = ResidualBlock(5, out_channels, 3)
    own, shared = torch.randn(2 * num_objects, 2, 5, 6), torch.randn(2, 3, 5, 6)
    joined = torch.cat((own, shared.repeat_interleave(num_objects, 0)), 1)
    found, expected = block(own, shared), block(joined)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    parameters = list(block.parameters())
    gradients = zip(*(torch.autograd.grad(out.square().sum(), parameters) for out in (found, expected)), strict=True)
    for each, other in gradients:
        torch.testing.assert_close(each, other, atol=1e-3, rtol=1e-4)


def test_inputs_of_a_block_are_left_as_they_are():
    block, own, shared = ResidualBlock(5, 5, 3), torch.randn(2, 2, 5, 6), torch.randn(2, 3, 5, 6)
    before = own.clone(), shared.clone()
    block(own, shared)
    block(torch.cat((own, shared), 1))
    assert torch.equal(own, before[0])
    assert torch.equal(shared, before[1])


@torch.no_grad()
def test_attention_gates_channels_and_then_places():
    torch.manual_seed(0)
    attention, x = Attention(32), torch.randn(32, 9, 8)

    def mlp(vector):
        hidden = [max(0.0, float(row @ vector + bias)) for row, bias in zip(*two(attention.squeeze), strict=True)]
        return [float(row @ torch.tensor(hidden) + bias) for row, bias in zip(*two(attention.excite), strict=True)]

    def two(linear):
        return linear.weight, linear.bias

    average, highest = mlp(x.mean((1, 2))), mlp(x.amax((1, 2)))
    gate = torch.tensor([1 / (1 + math.exp(-a - b)) for a, b in zip(average, highest, strict=True)])
    gated = x * gate[:, None, None]
    places = convolve(torch.stack((gated.amax(0), gated.mean(0))), attention.spatial)
    torch.testing.assert_close(attention(x[None])[0], gated / (1 + torch.exp(-places)), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_value_sees_the_image_its_own_mask_and_the_sum_of_the_other_masks():
    torch.manual_seed(0)
    encoder, seen = ValueEncoder(7, 16, 3), []
    encoder.resnet.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    image, stride16 = torch.randn(2, 3, 32, 48), torch.randn(2, 7, 2, 3)
    masks = torch.rand(2, 3, 32, 48)
    values = encoder(image, stride16, masks)
    assert values.shape == (2, 3, 16, 2, 3)
    for b in range(2):
        for k in range(3):
            others = sum(masks[b, j] for j in range(3) if j != k)
            expected = torch.cat((image[b], masks[b, k][None], others[None]))
            torch.testing.assert_close(seen[0][3 * b + k], expected, atol=1e-6, rtol=0)
            alone = encoder.resnet(expected[None])[-1]
            fused = encoder.fuser(alone, stride16[b : b + 1])
            torch.testing.assert_close(values[b, k], fused[0], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_single_object_sees_no_others():
    encoder, seen = ValueEncoder(7, 16, 1), []
    encoder.resnet.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    encoder(torch.randn(1, 3, 32, 32), torch.randn(1, 7, 2, 2), torch.rand(1, 1, 32, 32))
    assert torch.count_nonzero(seen[0][:, 4]) == 0
