"""STCN's evaluation written a second time, plainly: BatchNorm as modules, the memory dense, one object after another.

Modules carry the names of the published checkpoints. Everything follows the paper (Cheng, Tai and Tang, 2021) and has
nothing in common with the package's code; `test_matches_stcn.py` compares the two.
"""

import torch
from torch import nn
from torch.nn import functional as F

MEAN = torch.tensor((0.485, 0.456, 0.406)).view(3, 1, 1)
STD = torch.tensor((0.229, 0.224, 0.225)).view(3, 1, 1)


class BasicBlock(nn.Module):
    def __init__(self, before, width, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(before, width, 3, stride, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, 1, 1), nn.BatchNorm2d(width)
        self.downsample = None
        if stride > 1 or before != width:
            self.downsample = nn.Sequential(nn.Conv2d(before, width, 1, stride), nn.BatchNorm2d(width))

    def forward(self, x):
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    def __init__(self, before, width, stride):
        super().__init__()
        after = 4 * width
        self.conv1, self.bn1 = nn.Conv2d(before, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, after, 1, bias=False), nn.BatchNorm2d(after)
        self.downsample = None
        if stride > 1 or before != after:
            self.downsample = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x):
        y = torch.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(torch.relu(self.bn2(self.conv2(y)))))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class KeyEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        self.res2 = nn.Sequential(Bottleneck(64, 64, 1), *[Bottleneck(256, 64, 1) for _ in range(2)])
        self.layer2 = nn.Sequential(Bottleneck(256, 128, 2), *[Bottleneck(512, 128, 1) for _ in range(3)])
        self.layer3 = nn.Sequential(Bottleneck(512, 256, 2), *[Bottleneck(1024, 256, 1) for _ in range(5)])

    def forward(self, image):
        stride4 = self.res2(F.max_pool2d(torch.relu(self.bn1(self.conv1(image))), 3, 2, 1))
        stride8 = self.layer2(stride4)
        return stride4, stride8, self.layer3(stride8)


class PreActivation(nn.Module):
    def __init__(self, before, after):
        super().__init__()
        if before != after:
            self.downsample = nn.Conv2d(before, after, 3, padding=1)
        self.conv1, self.conv2 = nn.Conv2d(before, after, 3, padding=1), nn.Conv2d(after, after, 3, padding=1)

    def forward(self, x):
        y = self.conv2(torch.relu(self.conv1(torch.relu(x))))
        return y + (self.downsample(x) if hasattr(self, "downsample") else x)


class ChannelGate(nn.Module):
    def __init__(self, channels):
        super().__init__()
        hidden = channels // 16
        self.mlp = nn.Sequential(nn.Flatten(), nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))

    def forward(self, x):
        average = self.mlp(F.avg_pool2d(x, x.shape[2:]))
        highest = self.mlp(F.max_pool2d(x, x.shape[2:]))
        return x * torch.sigmoid(average + highest)[:, :, None, None]


class SpatialGate(nn.Module):
    def __init__(self):
        super().__init__()
        self.spatial = nn.Module()
        self.spatial.conv = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x):
        summary = torch.cat((x.max(1, keepdim=True).values, x.mean(1, keepdim=True)), 1)
        return x * torch.sigmoid(self.spatial.conv(summary))


class Fuser(nn.Module):
    def __init__(self):
        super().__init__()
        self.block1 = PreActivation(256 + 1024, 512)
        self.attention = nn.Module()
        self.attention.ChannelGate, self.attention.SpatialGate = ChannelGate(512), SpatialGate()
        self.block2 = PreActivation(512, 512)

    def forward(self, x):
        x = self.block1(x)
        return self.block2(x + self.attention.SpatialGate(self.attention.ChannelGate(x)))


class ValueEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(5, 64, 7, 2, 3), nn.BatchNorm2d(64)
        self.layer1 = nn.Sequential(BasicBlock(64, 64, 1), BasicBlock(64, 64, 1))
        self.layer2 = nn.Sequential(BasicBlock(64, 128, 2), BasicBlock(128, 128, 1))
        self.layer3 = nn.Sequential(BasicBlock(128, 256, 2), BasicBlock(256, 256, 1))
        self.fuser = Fuser()

    def forward(self, image, mask, others, stride16):
        x = torch.cat((image, mask, others), 1)
        x = F.max_pool2d(torch.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fuser(torch.cat((x, stride16), 1))


class Up(nn.Module):
    def __init__(self, skip, before, after):
        super().__init__()
        self.skip_conv = nn.Conv2d(skip, before, 3, padding=1)
        self.out_conv = PreActivation(before, after)

    def forward(self, skip, x):
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        return self.out_conv(self.skip_conv(skip) + x)


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.compress = PreActivation(1024, 512)
        self.up_16_8, self.up_8_4 = Up(512, 512, 256), Up(256, 256, 256)
        self.pred = nn.Conv2d(256, 1, 3, padding=1)

    def forward(self, readout, compressed, stride8, stride4):
        x = self.compress(torch.cat((readout, compressed), 1))
        x = self.up_8_4(stride4, self.up_16_8(stride8, x))
        return F.interpolate(self.pred(torch.relu(x)), scale_factor=4, mode="bilinear", align_corners=False)


class ReferenceSTCN(nn.Module):
    def __init__(self):
        super().__init__()
        self.key_encoder = KeyEncoder()
        self.value_encoder = ValueEncoder()
        self.key_proj = nn.Module()
        self.key_proj.key_proj = nn.Conv2d(1024, 64, 3, padding=1)
        self.key_comp = nn.Conv2d(1024, 512, 3, padding=1)
        self.decoder = Decoder()

    def look(self, image):
        stride4, stride8, stride16 = self.key_encoder(image)
        return self.key_proj.key_proj(stride16), self.key_comp(stride16), stride4, stride8, stride16


def aggregate(masks):
    """Soft aggregation: independent probabilities [K H W] to classes [K+1 H W] that sum to one."""
    background = torch.ones_like(masks[0])
    for mask in masks:
        background = background * (1 - mask)
    p = torch.stack((background, *masks)).clamp(1e-7, 1 - 1e-7)
    return torch.softmax(torch.log(p / (1 - p)), 0)


def framed(planes):
    """Zeros around [... H W] up to a multiple of 16, half on each side and the smaller half first."""
    height, width = planes.shape[-2:]
    top, left = (-height % 16) // 2, (-width % 16) // 2
    out = planes.new_zeros((*planes.shape[:-2], height + -height % 16, width + -width % 16))
    out[..., top : top + height, left : left + width] = planes
    return out, (slice(top, top + height), slice(left, left + width))


def read(query, keys, values, top_k):
    """Each query's top-k softmax over all memory features, as a dense matrix that is zero elsewhere."""
    distance = ((keys[:, None, :] - query[None, :, :]) ** 2).sum(-1)  # [N P]
    affinity = -distance / keys.shape[1] ** 0.5
    best, index = torch.topk(affinity, min(top_k, len(keys)), dim=0)
    weight = torch.zeros_like(affinity).scatter(0, index, torch.softmax(best, 0))
    return [value @ weight for value in values]  # [Cv N] @ [N P]


@torch.no_grad()
def evaluate(network, frames, masks, every=5, top_k=20):
    """Returns the class probabilities [K+1 H W] of every frame.

    frames: uint8 [T 3 H W]. masks: bool [K H W], of the first frame. every: frames from one memory write to the next;
    None remembers the first frame and, for one step, the latest.
    """
    network.eval()
    results, keys, values, latest = [], [], [[] for _ in masks], None
    for t, frame in enumerate(frames):
        image, inside = framed((frame.float() / 255 - MEAN) / STD)
        image = image[None]
        key, compressed, stride4, stride8, stride16 = network.look(image)
        height, width = key.shape[-2:]
        query = key[0].flatten(1).T
        if t == 0:
            probs = aggregate(framed(masks.float())[0])
        else:
            temporary = [] if every or latest is None else [latest]
            all_keys = torch.cat(keys + [k for k, _ in temporary])
            all_values = [torch.cat(values[k] + [v[k] for _, v in temporary], 1) for k in range(len(masks))]
            logits = [
                network.decoder(readout.view(1, 512, height, width), compressed, stride8, stride4)[0, 0]
                for readout in read(query, all_keys, all_values, top_k)
            ]
            probs = aggregate(torch.sigmoid(torch.stack(logits)))
        results.append(probs[:, inside[0], inside[1]])

        objects = probs[1:]
        encoded = []
        for k in range(len(objects)):
            others = torch.zeros_like(objects[k])
            for j in range(len(objects)):
                if j != k:
                    others = others + objects[j]
            value = network.value_encoder(image, objects[k][None, None], others[None, None], stride16)
            encoded.append(value[0].flatten(1))
        if t == 0 or (every and t % every == 0):
            keys.append(query)
            for k, value in enumerate(encoded):
                values[k].append(value)
        else:
            latest = query, encoded
    return results


def random_weights(seed=0):
    """Returns a state dict with a published checkpoint's names and shapes; activations stay of order one."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, like in ReferenceSTCN().state_dict().items():
        noise = torch.randn(like.shape, generator=generator)
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(1234)
        elif name.endswith("running_var"):
            state[name] = 1 + 0.3 * noise.abs()
        elif name.endswith(("running_mean", "bias")):
            state[name] = 0.1 * noise
        elif like.ndim == 1:  # the gain of a BatchNorm; that of a branch's last one is small, so that sums do not grow
            last = "bn3" in name or "bn2" in name.removeprefix("key_encoder.")
            state[name] = (0.4 if last else 1) * (1 + 0.1 * noise)
        else:
            state[name] = noise * (2 / like[0].numel()) ** 0.5
    # Predictions must depend on the masks and lie on both sides of one half, or a comparison could not fail.
    state["value_encoder.conv1.weight"][:, 3:] *= 5
    for block in ("up_16_8", "up_8_4"):
        state[f"decoder.{block}.skip_conv.weight"] *= 0.3
    state["decoder.pred.weight"] -= state["decoder.pred.weight"].mean()
    # Where two objects are sure of a pixel, 1 - p has few digits left in float32 and no comparison is exact.
    state["decoder.pred.weight"] *= 0.3
    state["decoder.pred.bias"].zero_()
    return state
