"""A mask from clicks on and off an object, optionally with a box or an earlier mask to correct.

The frame is encoded once, by the tracker's own key encoder; each mask then costs only a pass of the small head of
`mnemask.model.click_head`.
"""

import logging
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int32, Int64
from torch import Tensor
from torch.nn import functional as F

from mnemask.errors import MaskError
from mnemask.io.shapes import pieces_of
from mnemask.model.checkpoints import load_model
from mnemask.model.click_head import ClickHead, PreparedFrame, load_click_head
from mnemask.model.devices import isolated_torch_modes, out_of_memory_named
from mnemask.model.preprocess import (
    MAX_WORKING_SIDE,
    normalize,
    pad,
    padding,
    refuse_too_long,
    resize,
    unpad,
    working_size,
)
from mnemask.model.stcn import STCN, STRIDE, require_network
from mnemask.prompts.box import Box, clip_box
from mnemask.types import Frame, Picture, describe

log = logging.getLogger(__name__)

Place = tuple[float, float]  # x, y in pixels from the frame's top left corner
Clicks = Sequence[Sequence[int | float]]  # x, y of each
Mask = Tensor | np.ndarray  # bool [H W], checked here
MAX_CLICKS = 1000
STRAY = 0.25  # of the largest piece's area; parts of an object may be separate, but are hardly ever smaller than this
SURELY_NOT = -20.0  # logit of pieces that were found but not pointed at
MOST_PASSES = 8  # to add clicks that are given all at once


class ClickSegmenter:
    """Opens frames for click prompts.

    Args:
        model: the model whose key encoder encodes the frames.
        head: a file of `mnemask train-clicks`; by default the one in the package, for the model "compact".
        short_side: short side in pixels to which frames are resized; less if the long side would exceed 16,384.

    Raises:
        CheckpointError: the head was trained for another key encoder, or its file is damaged.

    Example:
        >>> import numpy as np
        >>> import mnemask as mm
        >>> picture = np.full((120, 160, 3), 40, np.uint8)
        >>> picture[30:90, 50:110] = (220, 60, 40)
        >>> session = ClickSegmenter(mm.load_model()).open(picture)
        >>> mask = session.mask(positive=[(80, 60)])
        >>> bool(mask[60, 80]), bool(mask[5, 5])
        (True, False)
    """

    @isolated_torch_modes()
    def __init__(self, model: STCN, head: Path | None = None, short_side: int = 480) -> None:
        require_network(model)
        self.model, self.short_side = model, short_side
        self.head = load_click_head(model, head)

    @isolated_torch_modes()
    def open(self, frame: Picture) -> "ClickSession":
        """Encodes a frame and returns a session on it: a tensor [3 H W] or an array [H W 3], uint8 RGB.

        Raises:
            FrameError: the frame is not such a picture, or even a short side of 16 would make its long side too long.
            BudgetError: the device ran out of memory.
        """
        picture = Frame.from_picture(frame, 0)
        longest, shortest = max(picture.size), min(picture.size)
        short_side = min(self.short_side, max(MAX_WORKING_SIDE * shortest // longest, STRIDE))
        refuse_too_long(picture.size, short_side, "the frame")
        working = working_size(picture.size, short_side)
        with out_of_memory_named(picture.size, num_objects=1):
            image = pad(resize(normalize(picture.image.to(self.model.device).float()), working))[None]
            image = image.to(self.model.dtype, memory_format=torch.channels_last)
            features = self.model.encode_key(image)
            prepared = self.head.prepare(image, features.stride4, features.stride8, features.stride16)
        return ClickSession(self.head, prepared, picture.size, working)


class ClickSession:
    """Click prompts on one frame. Only the frame's features are cached: each mask depends on its arguments alone.

    Attributes:
        size: height and width of the frame.
        probs: probability that each pixel belongs to the object, [H W], 0 to 1, of the last mask; None before it.
    """

    def __init__(
        self, head: ClickHead, prepared: PreparedFrame, size: tuple[int, int], working: tuple[int, int]
    ) -> None:
        self._head, self._prepared, self._working = head, prepared, working
        self.size = size
        self.probs: Float[Tensor, "H W"] | None = None

    @isolated_torch_modes()
    def mask(
        self,
        positive: Clicks = (),
        negative: Clicks = (),
        box: tuple[int, int, int, int] | None = None,
        previous: Mask | None = None,
    ) -> Bool[Tensor, "H W"]:
        """Returns the object's mask, which may be empty.

        Args:
            positive: x, y of each click on the object, in pixels of the frame from its top left corner.
            negative: x, y of each click off the object.
            box: x, y, width and height around the object; parts outside the frame are cut off, with a warning.
            previous: the mask to correct, such as the last one of this session or a tracker's.

        Raises:
            MaskError: there is no click on the object, no box and no earlier mask to correct, or only an earlier mask;
                or a click lies outside the frame, or is given as both on and off the object; or the box or mask does
                not fit the frame.
        """
        inside = None if box is None else self._checked_box(Box.of(box))
        earlier = None if previous is None else self._checked_mask(previous)
        on, beside = check_clicks(positive, negative, self.size)
        if inside is None and earlier is None and not on:
            raise MaskError("no click is on the object", "give at least one on it, or a box around it")
        if inside is None and not on and not beside:
            raise MaskError("an earlier mask is given without clicks", "click where it is wrong")
        points = [*((x, y, 1) for x, y in on), *((x, y, -1) for x, y in beside)]
        clicks, planes = self._clicks(points), self._planes(earlier, inside)
        for count in passes(len(points), has_mask=earlier is not None):
            logits = self._head(self._prepared, clicks[:, : max(1, count)], planes)
            stray = ~pointed_at(logits[0] > 0, clicks[0, :count], planes[0])
            logits = logits.masked_fill(stray & (logits > 0), SURELY_NOT)
            planes = torch.cat((F.avg_pool2d((logits > 0).float(), 4)[:, None], planes[:, 1:]), 1)
        found = resize(unpad(logits, self._working), self.size)[0]
        self.probs = torch.sigmoid(found).cpu()
        return self.probs > 0.5

    def _checked_box(self, box: Box) -> Box:
        inside, doubts = clip_box(box, self.size)
        for doubt in doubts:
            log.warning("%s", doubt)
        return inside

    def _checked_mask(self, mask: object) -> Bool[Tensor, "H W"]:
        checked = torch.as_tensor(np.array(mask)) if isinstance(mask, np.ndarray) else mask
        if not isinstance(checked, Tensor) or checked.dtype != torch.bool or tuple(checked.shape) != self.size:
            what = f"{checked.dtype} {tuple(checked.shape)}" if isinstance(checked, Tensor) else type(mask).__name__
            raise MaskError(f"the mask to correct is {what}", f"give a bool mask of the frame's size {self.size}")
        return checked

    def _clicks(self, points: Sequence[tuple[float, float, int]]) -> Float[Tensor, "1 N 3"]:
        """Returns the clicks in pixels of the padded, resized image."""
        (height, width), (tall, wide) = self.size, self._working
        left, _, top, _ = padding(self._working)
        rows = [((x + 0.5) * wide / width - 0.5 + left, (y + 0.5) * tall / height - 0.5 + top, s) for x, y, s in points]
        return torch.tensor([rows or [(0.0, 0.0, 0)]], dtype=torch.float32, device=self._prepared.stride4.device)

    def _planes(self, mask: Bool[Tensor, "H W"] | None, box: Box | None) -> Float[Tensor, "1 2 h4 w4"]:
        planes = torch.zeros(2, *self.size, dtype=torch.float32)
        if mask is not None:
            planes[0] = mask
        if box is not None:
            planes[1, box.y : box.y + box.height, box.x : box.x + box.width] = 1
        return F.avg_pool2d(pad(resize(planes, self._working)).to(self._prepared.stride4.device), 4)[None]


def mask_from_clicks(
    frame: Picture,
    positive: Clicks,
    negative: Clicks = (),
    previous: Mask | None = None,
    *,
    box: tuple[int, int, int, int] | None = None,
    model: STCN | None = None,
) -> Bool[Tensor, "H W"]:
    """Returns the mask of the object that was clicked on. Deterministic.

    For several masks of one frame, open it once with `ClickSegmenter`: encoding takes most of the time.

    Args:
        frame: a tensor [3 H W] or an array [H W 3], uint8 RGB.
        positive: x, y of each click on the object, in pixels.
        negative: x, y of each click off it.
        previous: the mask to correct.
        box: x, y, width and height around the object.
        model: the model whose key encoder encodes the frame; by default "compact".

    Raises:
        MaskError: a prompt does not fit the frame, or nothing was found.
        CheckpointError: there is no click head for this model.
    """
    session = ClickSegmenter(load_model() if model is None else model).open(frame)
    mask = session.mask(positive, negative, box, previous)
    if not bool(mask.any()):
        raise MaskError("nothing was found where you clicked", "click again on the middle of the object, or give a box")
    return mask


def pointed_at(
    mask: Bool[Tensor, "H W"], clicks: Float[Tensor, "N 3"], planes: Float[Tensor, "C h4 w4"]
) -> Bool[Tensor, "H W"]:
    """Returns the pieces of a mask that contain a click on the object, or lie mostly in the earlier mask or the box.

    This drops lookalikes elsewhere in the frame: IoU is 0.78 instead of 0.66 after one click, 0.88 instead of 0.86
    after five (measured as for `passes`). A click off the object removes the whole piece of the earlier mask that it
    lies in, if that is small compared to the largest piece; of a large piece, only what the network removed.

    Args:
        mask: the mask as found.
        clicks: x and y in pixels of `mask`, and 1 for a click on the object or −1 for one off it.
        planes: probabilities at stride 4 of the earlier mask and, if there is one, of the inside of the box.
    """
    on, beside = (clicks[clicks[:, 2] == sign, :2].round().long().cpu().numpy() for sign in (1, -1))
    near = planes.cpu().numpy()
    earlier, sizes = pieces_of(near[0] > 0.5)
    strays = set(np.flatnonzero(sizes <= STRAY * sizes.max()).tolist())
    gone = (set(_at(earlier, beside // 4)) & strays) - set(_at(earlier, on // 4)) - {0}
    near = np.where(np.isin(earlier, list(gone)), 0, near.max(0))
    pieces, areas = pieces_of(mask.cpu().numpy())
    inside = np.bincount(pieces[1::4, 1::4].ravel(), weights=near.ravel(), minlength=len(areas))
    kept = 16 * inside > areas / 2
    kept[_at(pieces, on)] = True
    kept[0] = False  # the background
    return torch.from_numpy(kept[pieces]).to(mask.device)


def _at(pieces: Int32[np.ndarray, "h w"], places: Int64[np.ndarray, "N 2"]) -> list[int]:
    """Returns the numbers of the pieces at positions x, y."""
    height, width = pieces.shape
    found: list[int] = pieces[places[:, 1].clip(0, height - 1), places[:, 0].clip(0, width - 1)].tolist()
    return found


def passes(num_clicks: int, *, has_mask: bool) -> list[int]:
    """Returns how many of the clicks each pass of the head sees; each pass corrects the mask of the previous one.

    A second pass over its own mask gains 1 % of IoU. Clicks that are given all at once, without a mask, are added one
    by one (in `MOST_PASSES` steps if there are more), as in training: 0.82 instead of 0.75 with five clicks (six videos
    of DAVIS-2016-train that no weights saw).
    """
    if has_mask or num_clicks < 2:
        return [num_clicks, num_clicks]
    added = min(num_clicks, MOST_PASSES)
    return [*(math.ceil(num_clicks * (number + 1) / added) for number in range(added)), num_clicks]


def check_clicks(
    positive: Clicks, negative: Clicks, size: tuple[int, int] | None = None
) -> tuple[list[Place], list[Place]]:
    """Returns the clicks on and off an object as pairs of floats.

    Args:
        positive: x, y of each click on the object, in pixels.
        negative: x, y of each click off it.
        size: height and width of the frame; None if not known yet.

    Raises:
        MaskError: a click is not a position, lies outside the frame, or is in both lists; or there are too many.
    """
    on, beside = ([_checked_click(click, size) for click in _each(clicks)] for clicks in (positive, negative))
    if len(on) + len(beside) > MAX_CLICKS:
        raise MaskError(f"{len(on) + len(beside)} clicks are more than {MAX_CLICKS}", "give a mask instead")
    if both := sorted(
        {(math.floor(x), math.floor(y)) for x, y in on} & {(math.floor(x), math.floor(y)) for x, y in beside}
    ):
        x, y = both[0]
        raise MaskError(f"{x},{y} is clicked as both object and background", "remove one of the two clicks")
    return on, beside


def _each(clicks: Clicks) -> Clicks:
    try:
        return () if clicks is None else list(clicks)
    except TypeError:
        raise MaskError(
            f"{clicks!r:.60} is not a list of clicks", "give x, y of each in pixels, [(320, 200)]"
        ) from None


def _checked_click(click: Sequence[int | float], size: tuple[int, int] | None) -> Place:
    try:
        x, y = (float(number) for number in click)
    except (TypeError, ValueError, OverflowError):
        raise MaskError(f"click {click!r:.60} is not a position in the frame", "give x,y in pixels") from None
    if 0 < x < 1 and 0 < y < 1:
        raise MaskError(
            f"click {x:g},{y:g} is in fractions of the frame's sides, or within its first pixel",
            "give pixels: 320,200 is 320 from the left and 200 from the top",
        )
    if size is not None and not (0 <= x < size[1] and 0 <= y < size[0]):  # NaN is neither
        raise MaskError(
            f"click {x:g},{y:g} lies outside the frame of {describe(size)}",
            f"give x from 0 to {size[1] - 1} from the left, y from 0 to {size[0] - 1} from the top",
        )
    return x, y
