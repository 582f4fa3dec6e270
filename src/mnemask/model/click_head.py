"""Predicts the mask of one object from clicks, a box and an earlier mask, on the key encoder's features of the frame.

Interactive segmentation as in RITM (Sofiiuk et al. 2021: disks of the clicks and the last mask are further inputs), but
with the tracker's own backbone, which has already run: what depends on the frame alone is computed once by `prepare`,
and each click costs `forward` only. A head works on the features of one key encoder, which its file names.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mnemask.errors import CheckpointError, InputError
from mnemask.model.checkpoints import check_state, key_encoder_id, read_tensors, write_weights
from mnemask.model.stcn import STCN

FORMAT = "mnemask-clicks-1"
PACKAGED = "clicks.safetensors"
DISK_RADIUS = 8.0  # pixels; a disk is 1 at the click and falls to 0 here, two cells of the finest plane away
NUM_PLANES = 4  # positive disks, negative disks, the earlier mask, the inside of the box
EMBEDDING = 64
ATTENTION_HEADS = 4


@dataclass(frozen=True, slots=True)
class ClickHeadConfig:
    """Sizes of the head.

    Attributes:
        features: channels of the key encoder at strides 4, 8 and 16.
        channels: channels of the head at strides 2, 4, 8 and 16.
    """

    features: tuple[int, int, int] = (64, 128, 256)
    channels: tuple[int, int, int, int] = (8, 40, 80, 160)

    def __post_init__(self) -> None:
        widths = (*self.features, *self.channels)
        if len(self.features) != 3 or len(self.channels) != 4 or any(type(width) is not int for width in widths):
            raise InputError(f"{self} is not a click head", "give 3 features and 4 channels, in whole numbers")
        if not all(1 <= width <= 4096 for width in widths) or self.channels[3] % ATTENTION_HEADS:
            raise InputError(
                f"{self} is not a click head", f"give widths from 1 to 4096, the last a multiple of {ATTENTION_HEADS}"
            )


class PreparedFrame(NamedTuple):
    """The head's features of B frames, computed before the first click."""

    stride2: Float[Tensor, "B C2 h2 w2"]
    stride4: Float[Tensor, "B C4 h4 w4"]
    stride8: Float[Tensor, "B C8 h8 w8"]
    stride16: Float[Tensor, "B C16 h w"]
    embedding: Float[Tensor, "B E h w"]  # of unit length

    def repeat(self, times: int) -> "PreparedFrame":
        """Returns each frame `times` times in a row, for several objects in it."""
        return PreparedFrame(*(part.repeat_interleave(times, 0) for part in self))


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels at each position, independent of the size of the frame."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
        return self.norm(x.movedim(1, -1)).movedim(-1, 1)


class NormalizedBlock(nn.Module):
    """x + conv(relu(conv(norm(x)))), both 3×3, the first one dilated."""

    def __init__(self, channels: int, dilation: int = 1, norm: bool = True) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels) if norm else nn.ReLU()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
        return x + self.conv2(F.relu(self.conv1(self.norm(x))))


class GlobalMixing(nn.Module):
    """Self-attention over all cells: a click in one part of an object reaches the others (Vaswani et al. 2017)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
        tokens = x.flatten(2).transpose(1, 2)
        query, key, value = self.qkv(self.norm(tokens)).unflatten(-1, (3, ATTENTION_HEADS, -1)).permute(2, 0, 3, 1, 4)
        if torch.is_grad_enabled():  # on a CPU, the backward pass of torch's fused attention takes 4 times as long
            weights = torch.softmax(query * query.shape[-1] ** -0.5 @ key.transpose(2, 3), dim=-1)
            mixed = weights.to(value.dtype) @ value
        else:
            mixed = F.scaled_dot_product_attention(query, key, value)
        return x + self.out(mixed.transpose(1, 2).flatten(2)).transpose(1, 2).unflatten(2, x.shape[2:])


class ClickHead(nn.Module):
    """The network that predicts a mask from clicks; it has no state."""

    def __init__(self, config: ClickHeadConfig = ClickHeadConfig()) -> None:
        super().__init__()
        self.config = config
        (f4, f8, f16), (c2, c4, c8, c16) = config.features, config.channels
        self.frame2 = nn.Sequential(
            nn.Conv2d(3, c2, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(c2, c2, 3, padding=1)
        )
        self.frame4 = nn.Sequential(ChannelNorm(f4), nn.Conv2d(f4, c4, 1))
        self.frame8 = nn.Sequential(ChannelNorm(f8), nn.Conv2d(f8, c8, 1))
        self.frame16 = nn.Sequential(ChannelNorm(f16), nn.Conv2d(f16, c16, 1))
        self.embedding = nn.Sequential(ChannelNorm(f16), nn.Conv2d(f16, EMBEDDING, 1))
        self.prompt4 = nn.Conv2d(NUM_PLANES, c4, 3, padding=1)
        self.prompt8 = nn.Conv2d(c4, c8, 3, stride=2, padding=1)
        self.prompt16 = nn.Conv2d(c8, c16, 3, stride=2, padding=1)
        self.similarity = nn.Conv2d(2, c16, 1)
        self.deep = nn.Sequential(NormalizedBlock(c16, 2), GlobalMixing(c16), NormalizedBlock(c16, 3))
        self.up8 = nn.Conv2d(c16, c8, 1)
        self.block8 = NormalizedBlock(c8)
        self.up4 = nn.Conv2d(c8, c4, 1)
        self.block4 = NormalizedBlock(c4, norm=False)  # the largest plane: a norm would cost as much as a convolution
        self.coarse = nn.Conv2d(c4, 1, 3, padding=1)
        self.up2 = nn.Conv2d(c4, c2, 1)
        self.block2 = nn.Conv2d(2 * c2, c2, 3, padding=1)
        self.fine = nn.Conv2d(c2, 1, 3, padding=1)
        nn.init.zeros_(self.fine.weight)  # outlines start as those of stride 4, and are learnt from there

    def prepare(
        self,
        image: Float[Tensor, "B 3 H W"],
        stride4: Float[Tensor, "B F4 h4 w4"],
        stride8: Float[Tensor, "B F8 h8 w8"],
        stride16: Float[Tensor, "B F16 h w"],
    ) -> PreparedFrame:
        """Returns the features of frames for `forward`, computed once for all clicks.

        Args:
            image: the normalised images, whose sides are multiples of 16.
            stride4: the key encoder's features of the same images at stride 4.
            stride8: the same at stride 8.
            stride16: the same at stride 16.
        """
        return PreparedFrame(
            self.frame2(image),
            self.frame4(stride4),
            self.frame8(stride8),
            self.frame16(stride16),
            F.normalize(self.embedding(stride16).float(), dim=1),
        )

    def forward(
        self, frame: PreparedFrame, clicks: Float[Tensor, "B N 3"], planes: Float[Tensor, "B 2 h4 w4"]
    ) -> Float[Tensor, "B H W"]:
        """Returns the logit of the object at each pixel, float32.

        Args:
            frame: the features of B frames.
            clicks: x and y in pixels of the prepared image, and 1 for a click on the object, −1 for one on the
                background, 0 for none.
            planes: probabilities of the earlier mask and of the inside of the box at stride 4; zero where not given.
        """
        prompts = torch.cat((disks(clicks, planes.shape[2:]), planes), 1).to(frame.stride4.dtype)
        at4 = F.relu(self.prompt4(prompts))
        at8 = F.relu(self.prompt8(at4))
        at16 = self.prompt16(at8) + self.similarity(similarities(frame.embedding, clicks).to(prompts.dtype))
        deep = self.deep(frame.stride16 + at16)
        x = self.block8(double(self.up8(deep)) + frame.stride8 + at8)
        x = self.block4(double(self.up4(x)) + frame.stride4 + at4)
        coarse = self.coarse(F.relu(x))
        edges = F.relu(self.block2(torch.cat((double(self.up2(x)), frame.stride2), 1)))
        return double((double(coarse) + self.fine(edges)).float())[:, 0]


def double(x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C H W"]:
    """Returns the planes at twice the size, bilinear."""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def disks(clicks: Float[Tensor, "B N 3"], size: tuple[int, int] | torch.Size) -> Float[Tensor, "B 2 h4 w4"]:
    """Returns a plane of soft disks at stride 4 around the clicks on the object, and one for the background."""
    rows, columns = (4 * torch.arange(n, dtype=torch.float32, device=clicks.device) + 1.5 for n in size)
    x, y, sign = clicks.unbind(-1)
    distance = torch.hypot(columns - x[..., None, None], rows[:, None] - y[..., None, None])  # [B N h4 w4]
    soft = (1 - distance / DISK_RADIUS).clamp_min(0)
    return torch.stack([(soft * (sign == wanted)[..., None, None]).amax(1) for wanted in (1, -1)], 1)


def similarities(embedding: Float[Tensor, "B E h w"], clicks: Float[Tensor, "B N 3"]) -> Float[Tensor, "B 2 h w"]:
    """Returns each cell's similarity to the most similar clicked cell, of object and background; −1 without clicks."""
    height, width = embedding.shape[2:]
    x, y, sign = clicks.unbind(-1)
    cell = (y / 16).long().clamp(0, height - 1) * width + (x / 16).long().clamp(0, width - 1)  # [B N]
    flat = embedding.flatten(2)
    chosen = flat.gather(2, cell[:, None].expand(-1, flat.shape[1], -1))
    cosine = torch.einsum("ben,bep->bnp", chosen, flat)
    return torch.stack(
        [
            cosine.masked_fill((sign != wanted)[..., None], -1).amax(1).unflatten(1, (height, width))
            for wanted in (1, -1)
        ],
        1,
    )


def save_click_head(head: ClickHead, key_encoder: str, path: Path, *, note: str = "") -> None:
    """Writes a head in half precision as safetensors, atomically, with the id of its key encoder.

    Raises:
        OutputError: if the place cannot be written to.
    """
    metadata = {
        "format": FORMAT,
        "config": json.dumps(asdict(head.config)),
        "key_encoder": key_encoder,
        "note": note,
    }
    write_weights(path, head.state_dict(), torch.float16, metadata)


def load_click_head(model: STCN, path: Path | None = None) -> ClickHead:
    """Returns the head for a model's key features, on the model's device.

    Args:
        model: the network that encodes the frames.
        path: a file of `mnemask train-clicks`; by default `clicks.safetensors` next to the model's own file, or, if
            there is none, the one in the package.

    Raises:
        CheckpointError: if the file is missing or damaged, or was trained for another key encoder.
    """
    beside = None if model.path is None else model.path.with_name(PACKAGED)
    place = path or (beside if beside is not None and beside.is_file() else packaged_click_head())
    head, wanted = read_click_head(place)
    found = key_encoder_id(model)
    if wanted != found:
        raise CheckpointError(
            f"the click head {place.name} is for the key encoder {wanted[:12]}, but this model has {found[:12]}",
            f"train one for it (mnemask train-clicks DATA --model {model.path or 'MODEL'} -o RUN) and put "
            f"RUN/{PACKAGED} next to the model, or give a mask",
        )
    return head.to(model.device, model.dtype, memory_format=torch.channels_last).eval().requires_grad_(False)  # type: ignore[call-overload]


def packaged_click_head() -> Path:
    """Returns the file of the packaged head, which is for `compact`."""
    return Path(str(files("mnemask.model") / "weights" / PACKAGED))


def read_click_head(path: Path) -> tuple[ClickHead, str]:
    """Returns a head in float32 on the CPU, ready for further training, and the id of its key encoder.

    Raises:
        CheckpointError: if the file is missing or damaged.
    """
    metadata, state = read_tensors(path)
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"{str(path)!r} is not a click head of mnemask ({FORMAT})", "train one: mnemask train-clicks"
        )
    head = ClickHead(_read_config(metadata.get("config", ""), path)).float()  # whatever the default dtype is
    check_state(head, state, str(path))
    head.load_state_dict({name: value.float() for name, value in state.items()})
    return head, metadata.get("key_encoder", "")


def _read_config(text: str, path: Path) -> ClickHeadConfig:
    try:
        values: Mapping[str, list[int]] = json.loads(text)
        return ClickHeadConfig(tuple(values["features"]), tuple(values["channels"]))  # type: ignore[arg-type]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise CheckpointError(f"{str(path)!r} does not describe a click head of mnemask", "train it again") from error
