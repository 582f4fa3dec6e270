"""When a frame is written to memory: the write interval, what brings a write forward, and what puts it off."""

import base64
import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from mnemask.config import TrackerConfig
from mnemask.model.stcn import STRIDE

SOONEST = 2  # frames from one write to an early one: masks that flicker are not to be written in every frame


def is_due(
    config: TrackerConfig,
    since: int,
    probs: Float[Tensor, "K1 Hp Wp"],
    written: UInt8[Tensor, "K h w"] | None,
) -> bool:
    """Returns whether a frame without given masks is to be written.

    It is where the write interval is over, or the objects have changed more than `write_below_iou` allows, unless the
    masks are less certain than `write_above_certainty`; then the first frame is written whose masks are. Where either
    is on, the host waits for a GPU.

    Args:
        config: in which nothing is left to the policy.
        since: frames from the last write to this one.
        probs: of the background and of each object.
        written: the masks of the frame written last, from `rounded`; None where they are not known.
    """
    assert config.write_every is not None, "a tracker's config is filled"
    due = since >= config.write_every
    if not due and config.write_below_iou and since >= SOONEST and written is not None:
        due = bool(least_iou(rounded(probs[1:]), written) < config.write_below_iou)
    if due and config.write_above_certainty:
        due = bool(certainty(probs) >= config.write_above_certainty)
    return due


def rounded(masks: Float[Tensor, "K Hp Wp"]) -> UInt8[Tensor, "K h w"]:
    """Returns how much of each cell each object fills, in 255ths, so that it is the same once it was saved."""
    return (F.avg_pool2d(masks.float(), STRIDE) * 255).round().to(torch.uint8)


def least_iou(now: UInt8[Tensor, "K h w"], before: UInt8[Tensor, "K h w"]) -> Float[Tensor, ""]:
    """Returns the lowest IoU of an object's masks in two frames, from 0 to 1.

    It is the soft IoU, Σ min / Σ max over cells, with one more cell in both: an object of less than a cell, or one that
    neither frame shows, has not moved.
    """
    now, before = now.float(), before.float()
    overlap = torch.minimum(now, before).sum((1, 2)) + 255
    return (overlap / (torch.maximum(now, before).sum((1, 2)) + 255)).amin()


def certainty(probs: Float[Tensor, "K1 Hp Wp"]) -> Float[Tensor, ""]:
    """Returns the mean probability of the pixels in masks, each of its own object, from 0 to 1; 0 without a mask."""
    best = probs[1:].amax(0)
    shown = best > probs[0]
    return (best * shown).sum() / shown.sum().clamp_min(1)


def to_json(written: UInt8[Tensor, "K h w"] | None) -> dict[str, Any] | None:
    """Returns masks as JSON holds them."""
    if written is None:
        return None
    content = base64.b64encode(written.contiguous().cpu().numpy().tobytes()).decode()
    return {"shape": list(written.shape), "content": content}


def from_json(saved: Mapping[str, Any] | None, device: torch.device) -> UInt8[Tensor, "K h w"] | None:
    """Returns the masks that `to_json` made this of; raises ValueError or the like where it did not."""
    if saved is None:
        return None
    content = bytearray(base64.b64decode(saved["content"], validate=True))
    shape = tuple(map(int, saved["shape"]))
    if len(shape) != 3 or min(shape) < 1 or math.prod(shape) != len(content):
        raise ValueError(f"{len(content)} bytes of masks of the shape {shape}"[:120])
    return torch.frombuffer(content, dtype=torch.uint8).reshape(shape).to(device)
