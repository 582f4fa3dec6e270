"""Curves and pictures of a run for TensorBoard."""

from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from mnemask.errors import missing_extra
from mnemask.io.visualize import draw_overlay
from mnemask.training.data import Batch


class Board:
    """Writes to a folder that `tensorboard --logdir` shows; on all processes but the first it does nothing.

    Args:
        folder: where to.
        from_step: what an earlier start of the run wrote for later steps is hidden.
        active: whether this process writes.

    Raises:
        MissingExtraError: tensorboard is not installed.
    """

    def __init__(self, folder: Path, from_step: int, active: bool) -> None:
        self._writer = None
        if active:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise missing_extra("training writes TensorBoard files", "train") from error
            self._writer = SummaryWriter(str(folder), purge_step=from_step or None)

    def __enter__(self) -> "Board":
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer:
            self._writer.close()

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Adds a point to each named curve."""
        if self._writer:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def pictures(self, step: int, batch: Batch, probs: Float[Tensor, "B t C H W"]) -> None:
        """Adds the batch's first clip: what the network said, above what is true."""
        if self._writer:
            self._writer.add_image("clip", strip(batch, probs), step, dataformats="HWC")


def strip(batch: Batch, probs: Float[Tensor, "B t C H W"]) -> UInt8[np.ndarray, "H2 W2 3"]:
    """Returns the frames of a batch's first clip in a row with the predicted masks, and below with the true ones."""
    frames, truth = batch.frames[0].cpu().numpy(), batch.labels[0].cpu().numpy()
    known = np.where(truth == 255, 0, truth)
    said = np.concatenate((known[:1], probs[0].argmax(1).byte().cpu().numpy()))
    rows = [
        np.concatenate([draw_overlay(frame, label) for frame, label in zip(frames, labels, strict=True)], axis=1)
        for labels in (said, known)
    ]
    return np.concatenate(rows)
